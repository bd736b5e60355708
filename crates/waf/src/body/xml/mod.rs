//! XML: the text of a document, and its attributes' values.
//!
//! Well-formedness is checked as rules mean it: what one parser would refuse and another mend is a fault. Nothing outside of
//! the body is ever read, and entities that a document declares are not expanded: its declarations are part of the text
//! instead, so that rules see what stands in them, once.

use std::borrow::Cow;

use memchr::{memchr2, memmem};

use super::{BodyError, Item, Limit, Limits, Outcome, Sink};

mod lex;

/// An XML document.
pub fn xml<'b>(body: &'b [u8], limits: &Limits, sink: Sink<'_, 'b>) -> Outcome {
    let mut reader = Reader {
        text: body,
        cut: false,
        at: 0,
        open: Vec::new(),
        found: Text::default(),
        fault: None,
        declares: false,
        attributes: 0,
        limits,
        sink,
    };
    let ended = reader.document().err();
    let error = reader.fault.take().or(ended);
    let found = std::mem::take(&mut reader.found);
    if let Some(text) = found.0 {
        (reader.sink)(Item::XmlText(text));
    }
    Outcome {
        error,
        ..Outcome::default()
    }
}

/// What was found so far: borrowed, as long as it is one piece.
#[derive(Default)]
struct Text<'b>(Option<Cow<'b, [u8]>>);

impl<'b> Text<'b> {
    fn push(&mut self, piece: &'b [u8]) {
        match &mut self.0 {
            None => self.0 = Some(Cow::Borrowed(piece)),
            Some(text) => text.to_mut().extend_from_slice(piece),
        }
    }

    fn owned(&mut self) -> &mut Vec<u8> {
        self.0.get_or_insert_default().to_mut()
    }
}

struct Reader<'r, 'b> {
    text: &'b [u8],
    /// Whether the text ends where a byte was no character.
    cut: bool,
    at: usize,
    /// The names of the elements that are open.
    open: Vec<&'b [u8]>,
    found: Text<'b>,
    /// The first fault, where it does not end the reading.
    fault: Option<BodyError>,
    /// Whether the document has declarations of its own, among them perhaps entities.
    declares: bool,
    attributes: usize,
    limits: &'r Limits,
    sink: Sink<'r, 'b>,
}

impl<'b> Reader<'_, 'b> {
    fn document(&mut self) -> Result<(), BodyError> {
        self.declaration()?;
        self.around(true)?;
        if self.rest().first() != Some(&b'<') {
            return Err(self.error("an element was expected"));
        }
        self.element()?;
        while !self.open.is_empty() {
            self.content()?;
        }
        self.around(false)?;
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(self.error("something follows the document"))
        }
    }

    /// The byte order mark, the XML declaration, and whether all bytes are of its encoding.
    fn declaration(&mut self) -> Result<(), BodyError> {
        let text = self.text;
        if text.starts_with("\u{feff}".as_bytes()) {
            self.at = 3;
        }
        let mut one_byte = false;
        if self.rest().starts_with(b"<?xml") && self.rest().get(5).copied().is_some_and(lex::is_space) {
            let start = self.at;
            self.skip_past(b"?>", "the XML declaration has no end")?;
            if !lex::is_declaration(&text[start..self.at]) {
                self.fault = Some(self.error("the XML declaration is malformed"));
            }
            let encoding = lex::encoding(&text[start..self.at]);
            one_byte = encoding.is_some_and(lex::is_one_byte);
            if !one_byte && encoding.is_some_and(|name| !name.eq_ignore_ascii_case(b"utf-8")) {
                return Err(self.error("an encoding that is not read here"));
            }
        }
        if !one_byte && let Err(error) = std::str::from_utf8(text) {
            // Up to here it is read all the same.
            self.text = &text[..error.valid_up_to()];
        }
        if let Some(at) = self
            .text
            .iter()
            .position(|byte| *byte < b' ' && !lex::is_space(*byte))
        {
            self.text = &self.text[..at];
        }
        self.cut = self.text.len() < text.len();
        Ok(())
    }

    /// White space, comments and instructions before and behind the document; its type before it.
    fn around(&mut self, before: bool) -> Result<(), BodyError> {
        let mut typed = !before;
        loop {
            self.space();
            let rest = self.rest();
            if rest.starts_with(b"<!--") {
                self.comment()?;
            } else if rest.starts_with(b"<?") {
                self.instruction()?;
            } else if rest.starts_with(b"<!DOCTYPE") && !typed {
                self.document_type()?;
                typed = true;
            } else {
                return Ok(());
            }
        }
    }

    /// The next piece of an element's content.
    fn content(&mut self) -> Result<(), BodyError> {
        let rest = self.rest();
        let end = memchr2(b'<', b'&', rest).unwrap_or(rest.len());
        let piece = &rest[..end];
        if let Some(at) = memmem::find(piece, b"]]>") {
            self.at += at;
            return Err(self.error("']]>' outside of CDATA"));
        }
        if !piece.is_empty() {
            self.found.push(piece);
        }
        self.at += end;
        let rest = self.rest();
        if rest.is_empty() {
            Err(self.error("the document ends too early"))
        } else if rest[0] == b'&' {
            let (character, used) = self.reference(rest)?;
            match character {
                Some(character) => {
                    self.found
                        .owned()
                        .extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                None => self.found.push(&rest[..used]),
            }
            self.at += used;
            Ok(())
        } else if rest.starts_with(b"</") {
            self.close()
        } else if rest.starts_with(b"<!--") {
            self.comment()
        } else if rest.starts_with(b"<![CDATA[") {
            let start = self.at + 9;
            self.at = start;
            self.skip_past(b"]]>", "a CDATA section has no end")?;
            self.found.push(&self.text[start..self.at - 3]);
            Ok(())
        } else if rest.starts_with(b"<?") {
            self.instruction()
        } else {
            self.element()
        }
    }

    /// A start tag, at its `<`.
    fn element(&mut self) -> Result<(), BodyError> {
        self.at += 1;
        let name = self.name()?;
        let mut names = Vec::new();
        loop {
            let spaced = self.space();
            match self.rest() {
                [b'>', ..] => {
                    self.at += 1;
                    if self.open.len() == self.limits.depth {
                        return Err(Limit::Depth(self.limits.depth).into());
                    }
                    self.open.push(name);
                    break;
                }
                [b'/', b'>', ..] => {
                    self.at += 2;
                    break;
                }
                [] => return Err(self.error("a tag has no end")),
                _ if !spaced => return Err(self.error("white space was expected before an attribute")),
                _ => names.push(self.attribute()?),
            }
        }
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.error("an element has an attribute twice"));
        }
        Ok(())
    }

    /// An attribute; its name.
    fn attribute(&mut self) -> Result<&'b [u8], BodyError> {
        let name = self.name()?;
        self.space();
        if self.rest().first() != Some(&b'=') {
            return Err(self.error("'=' was expected behind an attribute's name"));
        }
        self.at += 1;
        self.space();
        let quote = match self.rest().first() {
            Some(quote @ (b'"' | b'\'')) => *quote,
            _ => return Err(self.error("an attribute's value is not in quotes")),
        };
        let start = self.at + 1;
        self.at = start;
        let Some(length) = memchr2(quote, b'<', self.rest()) else {
            return Err(self.error("an attribute's value has no end"));
        };
        self.at = start + length;
        if self.rest()[0] == b'<' {
            return Err(self.error("'<' in an attribute's value"));
        }
        let value = self.value(start, self.at)?;
        self.at += 1;
        // Where names come from is no attribute to XPath.
        if name != b"xmlns" && !name.starts_with(b"xmlns:") {
            if self.attributes == self.limits.arguments {
                return Err(Limit::Arguments(self.limits.arguments).into());
            }
            self.attributes += 1;
            (self.sink)(Item::XmlAttribute(value));
        }
        Ok(name)
    }

    /// The value between two places: references replaced, ends of lines and tabs being spaces.
    fn value(&self, start: usize, end: usize) -> Result<Cow<'b, [u8]>, BodyError> {
        let raw = &self.text[start..end];
        let plain = |byte: &u8| !matches!(byte, b'&' | b'\n' | b'\r' | b'\t');
        let Some(first) = raw.iter().position(|byte| !plain(byte)) else {
            return Ok(Cow::Borrowed(raw));
        };
        let mut value = raw[..first].to_vec();
        let mut rest = &raw[first..];
        while let Some(byte) = rest.first() {
            if *byte == b'&' {
                let (character, used) = self.reference(rest)?;
                match character {
                    Some(character) => value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => value.extend_from_slice(&rest[..used]),
                }
                rest = &rest[used..];
            } else {
                value.push(if plain(byte) { *byte } else { b' ' });
                rest = &rest[1..];
            }
        }
        Ok(Cow::Owned(value))
    }

    /// What `&…;` at the beginning of `text` means, and how long it is. `None`: the document may have declared it.
    fn reference(&self, text: &[u8]) -> Result<(Option<char>, usize), BodyError> {
        match lex::reference(text) {
            Some((lex::Reference::Character(character), used)) => Ok((Some(character), used)),
            Some((lex::Reference::Declared, used)) if self.declares => Ok((None, used)),
            Some(_) => Err(self.error("an entity that nobody declared")),
            None => Err(self.error("'&' begins no reference")),
        }
    }

    /// An end tag.
    fn close(&mut self) -> Result<(), BodyError> {
        self.at += 2;
        let name = self.name()?;
        self.space();
        if self.open.pop() != Some(name) {
            return Err(self.error("an end tag is not of the element that is open"));
        }
        if self.rest().first() != Some(&b'>') {
            return Err(self.error("an end tag has no end"));
        }
        self.at += 1;
        Ok(())
    }

    fn comment(&mut self) -> Result<(), BodyError> {
        self.at += 4;
        self.skip_past(b"--", "a comment has no end")?;
        if self.rest().first() != Some(&b'>') {
            return Err(self.error("'--' within a comment"));
        }
        self.at += 1;
        Ok(())
    }

    fn instruction(&mut self) -> Result<(), BodyError> {
        self.at += 2;
        let name = self.name()?;
        if name.eq_ignore_ascii_case(b"xml") {
            return Err(self.error("an XML declaration that is not at the beginning"));
        }
        if !matches!(self.rest().first(), Some(b'?' | b' ' | b'\t' | b'\r' | b'\n')) {
            let fault = self.error("white space was expected behind an instruction's name");
            self.fault.get_or_insert(fault);
        }
        self.skip_past(b"?>", "an instruction has no end")
    }

    /// `<!DOCTYPE … [ … ]>`. What it names outside of the document is text to rules; all else stands in every ordinary
    /// document of its type (property lists, drawings) and looks like markup in a place where none should be.
    fn document_type(&mut self) -> Result<(), BodyError> {
        let start = self.at;
        let Some(length) = lex::document_type(self.rest()) else {
            return Err(self.error("the document type has no end"));
        };
        self.at += length;
        self.declares = true;
        for piece in lex::outside(&self.text[start..self.at]) {
            self.found.push(piece);
            self.found.push(b"\n");
        }
        Ok(())
    }

    fn name(&mut self) -> Result<&'b [u8], BodyError> {
        let text = &self.text[self.at..];
        let length = lex::name(text);
        if length == 0 {
            return Err(self.error("a name was expected"));
        }
        self.at += length;
        Ok(&text[..length])
    }

    fn skip_past(&mut self, end: &[u8], missing: &'static str) -> Result<(), BodyError> {
        match memmem::find(self.rest(), end) {
            Some(at) => self.at += at + end.len(),
            None => {
                self.at = self.text.len();
                return Err(self.error(missing));
            }
        }
        Ok(())
    }

    /// Whether there was any.
    fn space(&mut self) -> bool {
        let count = self
            .rest()
            .iter()
            .take_while(|byte| lex::is_space(**byte))
            .count();
        self.at += count;
        count > 0
    }

    fn rest(&self) -> &'b [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: &'static str) -> BodyError {
        let cut = self.cut && self.rest().is_empty();
        BodyError::Xml {
            at: self.at,
            what: if cut { "bytes that are no character" } else { what },
        }
    }
}
