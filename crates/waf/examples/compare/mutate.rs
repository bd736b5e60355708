//! Requests a little different from written ones: what a reader of bodies, queries and cookies could trip over.

use crate::chance::Chance;

/// What stands between things, in one language or another.
const PIECES: [&[u8]; 46] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\"",
    b"'",
    b"\\",
    b";",
    b":",
    b",",
    b"=",
    b"&",
    b"%",
    b"%00",
    b"%0a",
    b"%u0027",
    b"%25",
    b"%zz",
    b"+",
    b" ",
    b"\t",
    b"--",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"\\u0000",
    b"\\u00e9",
    b"\\ud800",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<a>",
    b"</a>",
    b"&amp;",
    b"&#x27;",
    b"&lt;",
    b"/",
    b"../",
    b"?",
    b"#",
    b"\xc3\xa9",
    b"\xff",
    b"Content-Disposition: form-data; name=x\r\n",
];

/// Bodies of each kind, so that none depends on what somebody has written tests for.
pub(crate) fn bases() -> Vec<Vec<u8>> {
    let part = "--bound\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n--bound\r\nContent-Disposition: form-data; \
                name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\n<script>alert(1)</script>\r\n--bound--\r\n";
    let quoted = part.replace("bound", "b o'u");
    let bodies = [
        ("multipart/form-data; boundary=bound", part.to_owned()),
        ("multipart/form-data; boundary=\"b o'u\"", quoted),
        (
            "application/x-www-form-urlencoded",
            "a=1&b=%27+or+1%3D1--&c[]=2&d=<script>".to_owned(),
        ),
        (
            "application/json",
            r#"{"a":"1' or '1'='1","b":[1,2.5e3,true,null,{"c":"<script>"}],"d":{"e":"\u003cscript\u003e"}}"#.to_owned(),
        ),
        (
            "text/xml",
            "<?xml version=\"1.0\"?><a b=\"1' or 1=1 --\"><c>&lt;script&gt;</c><d><![CDATA[<script>]]></d></a>".to_owned(),
        ),
        ("text/plain", "a=1' or '1'='1".to_owned()),
    ];
    let posted = bodies.into_iter().map(|(kind, body)| {
        format!(
            "POST /a?x=1&y=2 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nCookie: a=1; \
             b=\"2\"\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    });
    let got = "GET /a/b.php?x=1%27+or+1&y[z]=<script>&=3 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0\r\nAccept: \
               */*\r\nCookie: a=1; b=\"2' or 1=1\"; c\r\nReferer: http://x.example/?q=<script>\r\n\r\n";
    posted.chain([got.as_bytes().to_vec()]).collect()
}

/// The request with one to three changes, framed anew; none where it has no head.
pub(crate) fn changed(request: &[u8], chance: &mut Chance) -> Option<Vec<u8>> {
    let end = memchr::memmem::find(request, b"\r\n\r\n")?;
    let (mut head, mut body) = (request[..end].to_vec(), request[end + 4..].to_vec());
    for _ in 0..=chance.below(3) {
        if body.is_empty() || chance.below(4) == 0 {
            change_head(&mut head, chance);
        } else {
            change(&mut body, chance, |_| true);
        }
    }
    let mut lines: Vec<&[u8]> = Vec::new();
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if !is("content-length") && !is("transfer-encoding") && !is("connection") && !is("expect") {
            lines.push(line);
        }
    }
    let length = format!("Content-Length: {}", body.len());
    if !body.is_empty() || request.starts_with(b"POST") {
        lines.push(length.as_bytes());
    }
    Some([lines.join(&b"\r\n"[..]).as_slice(), b"\r\n\r\n", &body].concat())
}

/// A change to the target, or to the value of a header that rules read.
fn change_head(head: &mut Vec<u8>, chance: &mut Chance) {
    let mut spans = Vec::new();
    let mut at = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        let lower = text.to_ascii_lowercase();
        if at == 0 {
            let from = memchr::memchr(b' ', text).map_or(0, |at| at + 2);
            let to = memchr::memrchr(b' ', text).unwrap_or(0);
            spans.extend((from < to).then_some((from, to)));
        } else if ["cookie:", "content-type:", "referer:", "user-agent:"]
            .iter()
            .any(|name| lower.starts_with(name.as_bytes()))
        {
            let from = memchr::memchr(b':', text).map_or(0, |at| at + 2);
            spans.extend((from < text.len()).then_some((at + from, at + text.len())));
        }
        at += line.len();
    }
    let Some((from, to)) = spans.get(chance.below(spans.len())).copied() else {
        return;
    };
    let mut value = head[from..to].to_vec();
    let fits = |byte: u8| byte >= b'!' && byte != 0x7f || from > 20 && byte == b' ';
    change(&mut value, chance, fits);
    head.splice(from..to, value);
}

fn change(text: &mut Vec<u8>, chance: &mut Chance, fits: impl Fn(u8) -> bool) {
    let at = chance.below(text.len() + 1);
    let to = (at + 1 + chance.below(12)).min(text.len());
    match chance.below(5) {
        0 => drop(text.drain(at..to)),
        1 => {
            let again = text[at..to].to_vec();
            let there = chance.below(text.len() + 1);
            text.splice(there..there, again);
        }
        2 if at < text.len() => {
            text[at] = text[at].to_ascii_uppercase() ^ (u8::from(chance.below(2) == 0) << 5);
        }
        _ => {
            let piece = PIECES[chance.below(PIECES.len())];
            if piece.iter().all(|byte| fits(*byte)) {
                text.splice(at..at, piece.iter().copied());
            }
        }
    }
    text.retain(|byte| fits(*byte));
}
