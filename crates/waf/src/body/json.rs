//! JSON: every scalar becomes an argument, named by where it stands, as ModSecurity 3 names it: `json.user.tags.array_0`.
//! An array under a key is one too, `json.user.tags`, as Coraza has it: the number of its elements.
//!
//! No tree is built. Strings without escapes, numbers and words are borrowed from the body.

use std::borrow::Cow;
use std::io::Write as _;

use memchr::memchr3;

use super::{BodyError, Item, Limit, Limits, Outcome, Sink};

/// A JSON document. An empty body is none, and no fault.
pub fn json<'b>(body: &'b [u8], limits: &Limits, sink: Sink<'_, 'b>) -> Outcome {
    if body.is_empty() {
        return Outcome::default();
    }
    let valid = match std::str::from_utf8(body) {
        Ok(_) => body.len(),
        Err(error) => error.valid_up_to(),
    };
    let mut reader = Reader {
        text: &body[..valid],
        whole: valid == body.len(),
        at: 0,
        path: b"json".to_vec(),
        stack: Vec::new(),
        arguments: 0,
        arrays: Vec::new(),
        limits,
        sink,
    };
    let error = reader.document().err();
    reader.arrays();
    Outcome {
        error,
        ..Outcome::default()
    }
}

struct Reader<'r, 'b> {
    /// Up to the first byte that is no UTF-8.
    text: &'b [u8],
    /// Whether that is all of the body.
    whole: bool,
    at: usize,
    /// The name of what comes next.
    path: Vec<u8>,
    stack: Vec<Container>,
    arguments: usize,
    /// The arrays under a key, and how many elements they have.
    arrays: Vec<(Vec<u8>, u32)>,
    limits: &'r Limits,
    sink: Sink<'r, 'b>,
}

struct Container {
    /// How long its own name is.
    path: usize,
    /// How many elements were seen; an object does not count.
    elements: Option<u32>,
}

impl<'b> Reader<'_, 'b> {
    fn document(&mut self) -> Result<(), BodyError> {
        if self.text.starts_with("\u{feff}".as_bytes()) {
            self.at = 3;
        }
        loop {
            // A value begins here, unless a container ends at once.
            match self.next()? {
                b'{' => {
                    self.open(None)?;
                    if self.peek()? == b'}' {
                        self.at += 1;
                        self.stack.pop();
                    } else {
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.open(Some(0))?;
                    if self.peek()? == b']' {
                        self.at += 1;
                        self.close();
                    } else {
                        self.element()?;
                        continue;
                    }
                }
                b'"' => {
                    let value = self.string()?;
                    self.argument(value)?;
                }
                first @ (b'-' | b'0'..=b'9') => {
                    let value = self.number(first)?;
                    self.argument(Cow::Borrowed(value))?;
                }
                b't' => self.word(b"true", b"true")?,
                b'f' => self.word(b"false", b"false")?,
                b'n' => self.word(b"null", b"")?,
                _ => return Err(self.fault_before("a value was expected")),
            }
            if self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Goes on behind a value, out of containers that end. `true`: the document has ended.
    fn after_value(&mut self) -> Result<bool, BodyError> {
        loop {
            let Some(container) = self.stack.last() else {
                self.space();
                return match (self.at == self.text.len(), self.whole) {
                    (true, true) => Ok(true),
                    (true, false) => Err(self.fault("invalid bytes in UTF-8")),
                    (false, _) => Err(self.fault("something follows the document")),
                };
            };
            self.path.truncate(container.path);
            let array = container.elements.is_some();
            match (self.next()?, array) {
                (b',', true) => return self.element().map(|()| false),
                (b',', false) => return self.key().map(|()| false),
                (b']', true) | (b'}', false) => self.close(),
                (_, true) => return Err(self.fault_before("',' or ']' was expected")),
                (_, false) => return Err(self.fault_before("',' or '}' was expected")),
            }
        }
    }

    fn open(&mut self, elements: Option<u32>) -> Result<(), BodyError> {
        if self.stack.len() == self.limits.depth {
            return Err(Limit::Depth(self.limits.depth).into());
        }
        self.stack.push(Container {
            path: self.path.len(),
            elements,
        });
        Ok(())
    }

    fn close(&mut self) {
        let Some(Container {
            elements: Some(seen), ..
        }) = self.stack.pop()
        else {
            return;
        };
        let under_key = self.stack.last().is_some_and(|outer| outer.elements.is_none());
        if under_key && self.arrays.len() + self.arguments < self.limits.arguments {
            self.arrays.push((self.path.clone(), seen));
        }
    }

    /// An array under a key is an argument too, as Coraza has it: its number of elements. Otherwise no rule would see a key
    /// where its elements' names have it within them. They come last, and never make too many of the arguments.
    fn arrays(&mut self) {
        let room = self.limits.arguments.saturating_sub(self.arguments + 1);
        for (name, seen) in std::mem::take(&mut self.arrays).into_iter().take(room) {
            (self.sink)(Item::Argument {
                name: Cow::Owned(name),
                value: Cow::Owned(seen.to_string().into_bytes()),
            });
        }
    }

    /// Names the next member of an object, up to the colon.
    fn key(&mut self) -> Result<(), BodyError> {
        if self.next()? != b'"' {
            return Err(self.fault_before("a key was expected"));
        }
        let key = self.string()?;
        self.path.push(b'.');
        self.path
            .extend_from_slice(if key.is_empty() { b"empty-key" } else { &key });
        if self.path.len() > self.limits.name_bytes {
            return Err(Limit::NameBytes(self.limits.name_bytes).into());
        }
        if self.next()? != b':' {
            return Err(self.fault_before("':' was expected"));
        }
        Ok(())
    }

    /// Names the next element of an array.
    fn element(&mut self) -> Result<(), BodyError> {
        if let Some(Container {
            elements: Some(seen), ..
        }) = self.stack.last_mut()
        {
            // Writing into a vector does not fail.
            let _ = write!(self.path, ".array_{seen}");
            *seen = seen.saturating_add(1);
        }
        if self.path.len() > self.limits.name_bytes {
            return Err(Limit::NameBytes(self.limits.name_bytes).into());
        }
        Ok(())
    }

    fn argument(&mut self, value: Cow<'b, [u8]>) -> Result<(), BodyError> {
        if self.arguments == self.limits.arguments {
            return Err(Limit::Arguments(self.limits.arguments).into());
        }
        self.arguments += 1;
        (self.sink)(Item::Argument {
            name: Cow::Owned(self.path.clone()),
            value,
        });
        Ok(())
    }

    fn word(&mut self, word: &'static [u8], value: &'static [u8]) -> Result<(), BodyError> {
        if !self.text[self.at - 1..].starts_with(word) {
            return Err(self.fault_before("a value was expected"));
        }
        self.at += word.len() - 1;
        self.argument(Cow::Borrowed(value))
    }

    /// Behind its first byte. `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self, first: u8) -> Result<&'b [u8], BodyError> {
        let text = self.text;
        let start = self.at - 1;
        if first != b'-' {
            self.at = start;
        }
        let whole = self.digits()?;
        if whole.len() > 1 && whole[0] == b'0' {
            return Err(self.fault("a number begins with 0"));
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&text[start..self.at])
    }

    fn digits(&mut self) -> Result<&'b [u8], BodyError> {
        let text = self.text;
        let start = self.at;
        while matches!(text.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if start == self.at {
            Err(self.fault("a digit was expected"))
        } else {
            Ok(&text[start..self.at])
        }
    }

    /// Behind the opening quote.
    fn string(&mut self) -> Result<Cow<'b, [u8]>, BodyError> {
        let text = self.text;
        let mut decoded: Option<Vec<u8>> = None;
        loop {
            let start = self.at;
            let stop = memchr3(b'"', b'\\', b'\n', &text[start..]).map(|found| start + found);
            let Some(stop) = stop else {
                self.at = text.len();
                return Err(self.ended());
            };
            let piece = &text[start..stop];
            self.at = stop;
            if text[stop] == b'\n' || piece.iter().fold(false, |found, byte| found | (*byte < b' ')) {
                return Err(self.fault("a control character in a string"));
            }
            self.at = stop + 1;
            match (&mut decoded, text[stop]) {
                (None, b'"') => return Ok(Cow::Borrowed(piece)),
                (Some(decoded), b'"') => {
                    decoded.extend_from_slice(piece);
                    return Ok(Cow::Owned(std::mem::take(decoded)));
                }
                (decoded, _) => {
                    let decoded = decoded.get_or_insert_default();
                    decoded.extend_from_slice(piece);
                    self.escape(decoded)?;
                }
            }
        }
    }

    /// Behind a backslash.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let Some(byte) = self.text.get(self.at).copied() else {
            return Err(self.ended());
        };
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let first = self.unit()?;
                let low = self.text[self.at..]
                    .strip_prefix(b"\\u")
                    .filter(|_| (0xd800..0xdc00).contains(&first));
                let mut second = None;
                if low.is_some() {
                    let back = self.at;
                    self.at += 2;
                    second = Some(self.unit()?).filter(|unit| (0xdc00..0xe000).contains(unit));
                    if second.is_none() {
                        self.at = back;
                    }
                }
                // Half of a pair is no character.
                let character = char::decode_utf16([first].into_iter().chain(second))
                    .next()
                    .and_then(Result::ok)
                    .unwrap_or('?');
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.fault_before("an unknown escape")),
        });
        Ok(())
    }

    fn unit(&mut self) -> Result<u16, BodyError> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(unit) = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) else {
            return Err(self.fault("four hexadecimal digits were expected"));
        };
        self.at += 4;
        Ok(unit)
    }

    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Result<u8, BodyError> {
        self.space();
        self.text.get(self.at).copied().ok_or_else(|| self.ended())
    }

    fn next(&mut self) -> Result<u8, BodyError> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn ended(&self) -> BodyError {
        self.fault(if self.whole {
            "the document ends too early"
        } else {
            "invalid bytes in UTF-8"
        })
    }

    fn fault(&self, what: &'static str) -> BodyError {
        BodyError::Json { at: self.at, what }
    }

    /// At the byte that was just taken.
    fn fault_before(&self, what: &'static str) -> BodyError {
        BodyError::Json {
            at: self.at - 1,
            what,
        }
    }
}
