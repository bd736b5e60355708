//! Requests with a text in a place that a rule looks at.

use std::path::Path;

use astraler_waf::seclang::{Collection as C, Selector, Target};

use crate::chance::Chance;

/// A request, and what is answered to it.
pub(crate) struct Asked {
    rule: u64,
    place: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) answer: Option<Vec<u8>>,
    name: String,
}

impl Asked {
    /// A request of a regression file.
    pub(crate) fn written(test: &str, bytes: &[u8]) -> Self {
        Self {
            rule: 0,
            place: test.to_owned(),
            bytes: bytes.to_vec(),
            answer: None,
            name: String::new(),
        }
    }

    /// Writes the answer where nginx finds it.
    pub(crate) fn write_answer(&self, folder: &Path) -> Result<(), String> {
        let Some(answer) = &self.answer else { return Ok(()) };
        let failed = |error: std::io::Error| format!("cannot write an answer: {error}");
        let answers = folder.join("answers");
        std::fs::create_dir_all(&answers).map_err(failed)?;
        std::fs::write(answers.join(&self.name), answer).map_err(failed)
    }

    pub(crate) fn shown(&self) -> String {
        let text = match &self.answer {
            Some(answer) => answer,
            None => &self.bytes,
        };
        format!(
            "made for {} in {}: {}",
            self.rule,
            self.place,
            text.escape_ascii()
        )
    }
}

/// Where a text goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Query,
    QueryName,
    Form,
    Json,
    JsonName,
    Xml,
    XmlAttribute,
    Cookie,
    CookieName,
    Header(String),
    HeaderName,
    Path,
    File,
    FileContent,
    PartHeader,
    PartValue,
    Method,
    Raw,
    Answer,
}

/// The places of a rule's targets.
pub(crate) fn places(targets: &[Target]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for target in targets.iter().filter(|target| !target.exclude && !target.count) {
        let more = match target.variable.collection {
            C::Args | C::ArgsGet | C::QueryString => {
                vec![Place::Query, Place::Form, Place::Json, Place::PartValue]
            }
            C::ArgsNames | C::ArgsGetNames => vec![Place::QueryName, Place::JsonName],
            C::ArgsPost => vec![Place::Form],
            C::RequestCookies => vec![Place::Cookie],
            C::RequestCookiesNames => vec![Place::CookieName],
            C::RequestHeaders => vec![Place::Header(match &target.variable.selector {
                Selector::Name(name) => name.clone(),
                _ => "X-Custom".to_owned(),
            })],
            C::RequestHeadersNames => vec![Place::HeaderName],
            C::RequestFilename | C::RequestUri | C::RequestUriRaw | C::RequestBasename | C::RequestLine => {
                vec![Place::Path]
            }
            C::RequestMethod => vec![Place::Method],
            C::RequestBody => vec![Place::Raw, Place::Json, Place::Form],
            C::Xml => vec![Place::Xml, Place::XmlAttribute],
            C::Files | C::FilesNames => vec![Place::File, Place::FileContent],
            C::MultipartPartHeaders => vec![Place::PartHeader],
            C::ResponseBody => vec![Place::Answer],
            C::Tx | C::MatchedVars | C::MatchedVar => vec![Place::Query, Place::Cookie, Place::Path],
            _ => Vec::new(),
        };
        for place in more {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places
}

impl Place {
    /// A request with a text in this place; none where the text cannot be there.
    pub(crate) fn request(&self, rule: u64, text: &[u8], chance: &mut Chance) -> Option<Asked> {
        let mut method = "POST".to_owned();
        let mut path = "/a/b".as_bytes().to_vec();
        let mut more: Vec<u8> = Vec::new();
        let mut body: Option<(&str, Vec<u8>)> = None;
        let mut answer = None;
        let name = format!("{rule}-{}", chance.below(1 << 30));
        match self {
            Self::Query => path.extend_from_slice(&[b"?q=", escaped(text).as_slice()].concat()),
            Self::QueryName => path.extend_from_slice(&[b"?", escaped(text).as_slice(), b"=1"].concat()),
            Self::Path => {
                path = b"/".to_vec();
                path.extend(text.iter().flat_map(|byte| match byte {
                    0..=0x20 | b'?' | b'#' | b'%' | 0x7f..=0xff => format!("%{byte:02x}").into_bytes(),
                    byte => vec![*byte],
                }));
            }
            Self::Form => {
                body = Some((
                    "application/x-www-form-urlencoded",
                    [b"a=1&q=", escaped(text).as_slice()].concat(),
                ));
            }
            Self::Json | Self::JsonName => {
                let string = serde_json::to_string(std::str::from_utf8(text).ok()?).ok()?;
                let document = match self {
                    Self::Json => format!("{{\"a\":{{\"b\":[1,{string}]}}}}"),
                    _ => format!("{{{string}:{{\"b\":true}}}}"),
                };
                body = Some(("application/json", document.into_bytes()));
            }
            Self::Xml | Self::XmlAttribute => {
                let mut inner = String::new();
                for c in std::str::from_utf8(text).ok()?.chars() {
                    match c {
                        '<' => inner.push_str("&lt;"),
                        '>' => inner.push_str("&gt;"),
                        '&' => inner.push_str("&amp;"),
                        '"' => inner.push_str("&quot;"),
                        c if c < ' ' => return None,
                        c => inner.push(c),
                    }
                }
                let document = match self {
                    Self::Xml => format!("<?xml version=\"1.0\"?><a><b>{inner}</b></a>"),
                    _ => format!("<?xml version=\"1.0\"?><a><b c=\"{inner}\"/></a>"),
                };
                body = Some(("text/xml", document.into_bytes()));
            }
            Self::Cookie => {
                no_control(text, b";,")?;
                more = [b"Cookie: a=1; q=", text, b"\r\n"].concat();
            }
            Self::CookieName => {
                no_control(text, b";,=")?;
                more = [b"Cookie: ", text, b"=1\r\n"].concat();
            }
            Self::Header(header) => {
                no_control(text, b"")?;
                if [
                    "content-length",
                    "transfer-encoding",
                    "host",
                    "connection",
                    "expect",
                    "upgrade",
                ]
                .iter()
                .any(|known| header.eq_ignore_ascii_case(known))
                {
                    return None;
                }
                more = [header.as_bytes(), b": ", text.trim_ascii(), b"\r\n"].concat();
            }
            Self::HeaderName => {
                if text.is_empty()
                    || !text
                        .iter()
                        .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
                {
                    return None;
                }
                more = [text, b": 1\r\n"].concat();
            }
            Self::Method => {
                method = String::from_utf8(text.to_vec()).ok()?;
                if method.is_empty()
                    || !method.bytes().all(|byte| byte.is_ascii_uppercase())
                    || method == "HEAD"
                {
                    return None;
                }
            }
            Self::Raw => body = Some(("text/plain", text.to_vec())),
            Self::File | Self::FileContent | Self::PartHeader | Self::PartValue => {
                if text.windows(2).any(|pair| pair == b"\r\n") {
                    return None;
                }
                no_control(text, if *self == Self::File { b"\"\\" } else { b"" })?;
                let (file, header, content): (&[u8], &[u8], &[u8]) = match self {
                    Self::File => (text, b"Content-Type: text/plain", b"x"),
                    Self::FileContent => (b"a.txt", b"Content-Type: text/plain", text),
                    Self::PartHeader => (b"a.txt", text, b"x"),
                    _ => (b"", b"", text),
                };
                let part: Vec<u8> = if *self == Self::PartValue {
                    [b"Content-Disposition: form-data; name=\"q\"\r\n\r\n", content].concat()
                } else {
                    [
                        b"Content-Disposition: form-data; name=\"f\"; filename=\"",
                        file,
                        b"\"\r\n",
                        header,
                        b"\r\n\r\n",
                        content,
                    ]
                    .concat()
                };
                let whole = [b"--bound\r\n", part.as_slice(), b"\r\n--bound--\r\n"].concat();
                body = Some(("multipart/form-data; boundary=bound", whole));
            }
            Self::Answer => {
                method = "GET".to_owned();
                path = format!("/answers/{name}").into_bytes();
                answer = Some([text, b"\n</html>"].concat());
            }
        }
        let sends_type = |header: &[u8]| {
            header
                .get(..13)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"content-type:"))
        };
        let mut bytes = [
            method.as_bytes(),
            b" ",
            &path,
            b" HTTP/1.1\r\nHost: www.example.com\r\n",
        ]
        .concat();
        for (name, value) in [("User-Agent", "Mozilla/5.0"), ("Accept", "*/*")] {
            let own = format!("{}:", name.to_ascii_lowercase());
            if !more.to_ascii_lowercase().starts_with(own.as_bytes()) {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        bytes.extend_from_slice(&more);
        if let Some((kind, body)) = &body {
            if !sends_type(&more) {
                bytes.extend_from_slice(format!("Content-Type: {kind}\r\n").as_bytes());
            }
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
        } else {
            let length = if method == "POST" {
                "Content-Length: 0\r\n\r\n"
            } else {
                "\r\n"
            };
            bytes.extend_from_slice(length.as_bytes());
        }
        Some(Asked {
            rule,
            place: format!("{self:?}"),
            bytes,
            answer,
            name,
        })
    }
}

fn escaped(text: &[u8]) -> Vec<u8> {
    text.iter()
        .flat_map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => vec![*byte],
            byte => format!("%{byte:02X}").into_bytes(),
        })
        .collect()
}

/// None where a header could not hold the text.
fn no_control(text: &[u8], also: &[u8]) -> Option<()> {
    let wrong = |byte: &u8| *byte < b' ' || *byte == 0x7f || also.contains(byte);
    (!text.iter().any(wrong)).then_some(())
}
