//! `multipart/form-data`, read strictly: whatever two readers could take for two different things is flagged, as ModSecurity
//! flags it.
//!
//! Content is handed out as it lies in the body. The content of a part that is refused is passed over, and the reading goes
//! on behind it.

use std::borrow::Cow;

use memchr::{memchr, memmem};

use super::{BodyError, Item, Limit, Limits, Outcome, Sink};

mod flags;
mod header;

pub use flags::MultipartFlags;
pub use header::boundary;
use header::{Disposition, disposition};

/// A `multipart/form-data` body, by its `Content-Type`. An empty body is none, and no fault.
pub fn multipart<'b>(content_type: &[u8], body: &'b [u8], limits: &Limits, sink: Sink<'_, 'b>) -> Outcome {
    let mut outcome = Outcome::default();
    let marker = match boundary(content_type, &mut outcome.multipart) {
        Ok(boundary) => [b"--", boundary].concat(),
        Err(what) => {
            return Outcome {
                error: Some(BodyError::Multipart { what }),
                ..outcome
            };
        }
    };
    if body.is_empty() {
        return outcome;
    }
    let mut reader = Reader {
        rest: body,
        marker: &marker,
        crlf: false,
        unmatched: false,
        flags: &mut outcome.multipart,
        fault: None,
        taken: 0,
        files: 0,
        limits,
        sink,
    };
    let ended = reader.body();
    let fault = reader.fault;
    outcome.multipart.unmatched_boundary |= reader.unmatched;
    outcome.error = ended.err().or(fault.map(|what| BodyError::Multipart { what }));
    outcome
}

struct Reader<'r, 'b> {
    rest: &'b [u8],
    /// `--` and the boundary.
    marker: &'r [u8],
    /// Whether a line of the frame (not of the content) ended in CRLF.
    crlf: bool,
    /// Whether a line that looks like a boundary was seen since the last that is one.
    unmatched: bool,
    flags: &'r mut MultipartFlags,
    /// The first fault that does not end the reading.
    fault: Option<&'static str>,
    /// Arguments and files.
    taken: usize,
    files: usize,
    limits: &'r Limits,
    sink: Sink<'r, 'b>,
}

/// What is wrong with a part that has a boundary, or the end, where its headers should end.
const CUT: &str = "a part ends within its headers";

enum Headers<'b> {
    Read(Vec<Cow<'b, [u8]>>),
    /// By this boundary.
    Cut(Marker),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marker {
    /// Another part follows.
    Next,
    /// No part follows.
    Last,
}

impl<'b> Reader<'_, 'b> {
    fn body(&mut self) -> Result<(), BodyError> {
        let (before, mut marker) = self.content("no boundary is in the body")?;
        self.flags.data_before = !before.is_empty();
        // What only looks like a boundary and stands before all parts begins a part to some reader.
        self.flags.unmatched_boundary = before.starts_with(b"--") || memmem::find(before, b"\n--").is_some();
        while marker == Marker::Next {
            marker = self.part()?;
        }
        self.flags.data_after = !self.rest.is_empty();
        Ok(())
    }

    /// A part, and the boundary behind it.
    fn part(&mut self) -> Result<Marker, BodyError> {
        let headers = match self.headers()? {
            Headers::Read(headers) => headers,
            Headers::Cut(marker) => return Ok(marker),
        };
        let mut dispositions = headers
            .iter()
            .filter_map(|line| header::value_of(line, b"content-disposition"));
        // A second one is for whoever reads the last.
        let found = match (dispositions.next(), dispositions.next()) {
            (Some(value), None) => disposition(value, self.flags),
            _ => None,
        };
        let part = found.as_ref().map_or(&[][..], |found| found.name.as_slice());
        if self.taken == self.limits.arguments {
            return Err(Limit::Arguments(self.limits.arguments).into());
        }
        self.taken += 1;
        // Of a part that is refused rules still see the headers.
        for line in headers {
            (self.sink)(Item::PartHeader {
                part: Cow::Owned(part.to_vec()),
                line,
            });
        }
        let (content, marker) = self.content("the last boundary is missing")?;
        let Some(Disposition { name, file_name }) = found else {
            self.flags.invalid_part = true;
            self.fault
                .get_or_insert("a part has no valid Content-Disposition");
            return Ok(marker);
        };
        match file_name {
            None => (self.sink)(Item::Argument {
                name: Cow::Owned(name),
                value: Cow::Borrowed(content),
            }),
            Some(_) if self.files == self.limits.files => self.flags.file_limit_exceeded = true,
            Some(file) => {
                self.files += 1;
                (self.sink)(Item::File {
                    field: Cow::Owned(name),
                    name: Cow::Owned(file),
                    content,
                });
            }
        }
        Ok(marker)
    }

    /// The header lines of a part, up to the empty line.
    fn headers(&mut self) -> Result<Headers<'b>, BodyError> {
        let mut headers: Vec<Cow<'b, [u8]>> = Vec::new();
        loop {
            let Some(line) = self.frame_line() else {
                return Err(BodyError::Multipart { what: CUT });
            };
            let Some(first) = line.first() else {
                return Ok(Headers::Read(headers));
            };
            if let Some(marker) = self.marker_in(line) {
                // A boundary where a header should be: the part has no content, and is none.
                self.flags.invalid_part = true;
                self.fault.get_or_insert(CUT);
                return Ok(Headers::Cut(marker));
            }
            let before = headers.last_mut().filter(|_| header::is_space(*first));
            if let Some(before) = before {
                self.flags.header_folding = true;
                self.flags.invalid_header_folding |= !matches!(first, b' ' | b'\t');
                let before = before.to_mut();
                before.push(b' ');
                before.extend_from_slice(header::trim_start(line));
            } else if memchr(b':', line).is_none_or(|at| at == 0) {
                self.fault.get_or_insert("a header of a part has no name");
            } else if headers.len() == self.limits.part_headers {
                return Err(Limit::PartHeaders(self.limits.part_headers).into());
            } else {
                headers.push(Cow::Borrowed(line));
            }
            if headers
                .last()
                .is_some_and(|line| line.len() > self.limits.part_header_bytes)
            {
                return Err(Limit::PartHeaderBytes(self.limits.part_header_bytes).into());
            }
        }
    }

    /// All up to the next boundary, without the end of line that belongs to it.
    fn content(&mut self, missing: &'static str) -> Result<(&'b [u8], Marker), BodyError> {
        let start = self.rest;
        loop {
            let used = start.len() - self.rest.len();
            if self.rest.starts_with(b"--") {
                if let Some(marker) = self.marker()? {
                    let content = &start[..used];
                    let content = content
                        .strip_suffix(b"\n")
                        .map_or(content, |line| line.strip_suffix(b"\r").unwrap_or(line));
                    // Some readers find a boundary in the middle of a line, too.
                    self.flags.unmatched_boundary |= memmem::find(content, self.marker).is_some();
                    return Ok((content, marker));
                }
                self.unmatched = true;
            }
            match memchr(b'\n', self.rest) {
                Some(end) => self.rest = &self.rest[end + 1..],
                None => {
                    self.rest = &[];
                    return Err(BodyError::Multipart { what: missing });
                }
            }
        }
    }

    /// Takes a line that is a boundary.
    fn marker(&mut self) -> Result<Option<Marker>, BodyError> {
        if !self.rest.starts_with(self.marker) {
            return Ok(None);
        }
        let Some(line) = self.frame_line() else {
            return Ok(None);
        };
        let marker = self.marker_in(line);
        // To some readers it is the boundary nevertheless.
        self.unmatched = marker.is_none();
        match marker {
            Some(marker) => Ok(Some(marker)),
            None => Err(BodyError::Multipart {
                what: "a boundary is followed by something else",
            }),
        }
    }

    fn marker_in(&self, line: &[u8]) -> Option<Marker> {
        match line.strip_prefix(self.marker)? {
            b"" => Some(Marker::Next),
            b"--" => Some(Marker::Last),
            _ => None,
        }
    }

    /// A line of the frame: a boundary or a header. Not of the content, where ends of lines may be as they like.
    fn frame_line(&mut self) -> Option<&'b [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(end) = memchr(b'\n', self.rest) else {
            return Some(std::mem::take(&mut self.rest));
        };
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        let line = match line.strip_suffix(b"\r") {
            Some(line) => {
                self.crlf = true;
                line
            }
            None => {
                self.flags.lf_line = true;
                line
            }
        };
        self.flags.crlf_lf_lines = self.crlf && self.flags.lf_line;
        Some(line)
    }
}
