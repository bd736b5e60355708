//! Request bodies: urlencoded, multipart, JSON and XML, each within limits, into what rules can look at.
//!
//! A processor reads a body that lies in memory, once and in linear time, and hands out [`Item`]s that borrow from it
//! where nothing had to be decoded. It never fails as a whole: what it found before a fault stands, and [`Outcome`] says
//! what was wrong, in the terms that rules ask for (`REQBODY_ERROR`, `MULTIPART_STRICT_ERROR` and its parts,
//! `URLENCODED_ERROR`).

use std::borrow::Cow;

mod error;
mod json;
mod multipart;
mod xml;

pub use error::{BodyError, Limit};
pub use json::json;
pub use multipart::{MultipartFlags, boundary, multipart};
pub use xml::xml;

/// One thing that a body brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'b> {
    /// A form field, a scalar of a JSON document: `ARGS_POST`, and its name in `ARGS_POST_NAMES`.
    Argument {
        /// As decoded; of JSON the path, `json.user.tags.array_0`.
        name: Cow<'b, [u8]>,
        /// As decoded.
        value: Cow<'b, [u8]>,
    },
    /// An uploaded file: `FILES`, `FILES_NAMES`, `FILES_SIZES`, `FILES_COMBINED_SIZE`.
    File {
        /// The field's name: what `FILES_NAMES` holds and by what the other three are addressed.
        field: Cow<'b, [u8]>,
        /// The name that the client gave the file: the value in `FILES`.
        name: Cow<'b, [u8]>,
        /// What is in the file; its length is what `FILES_SIZES` holds.
        content: &'b [u8],
    },
    /// A header of a part of a multipart body: `MULTIPART_PART_HEADERS`, addressed by the part's name.
    PartHeader {
        /// The part's field name.
        part: Cow<'b, [u8]>,
        /// The whole line, `Content-Type: text/plain`; folded lines joined.
        line: Cow<'b, [u8]>,
    },
    /// All text of an XML document in its order, joined: `XML:/*`. Once for a document.
    XmlText(Cow<'b, [u8]>),
    /// The value of an attribute: `XML://@*`.
    XmlAttribute(Cow<'b, [u8]>),
}

/// Where items go.
pub type Sink<'s, 'b> = &'s mut dyn FnMut(Item<'b>);

/// How much of a body is looked at. Past a limit a processor stops and says so: [`BodyError::Limit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Arguments and files of a body (`SecArgumentsLimit`).
    pub arguments: usize,
    /// Objects, arrays and elements within each other (`SecRequestBodyJsonDepthLimit`; of XML too).
    pub depth: usize,
    /// Files of a multipart body (`SecUploadFileLimit`): more of them are passed over, and flagged.
    pub files: usize,
    /// Headers of one part of a multipart body.
    pub part_headers: usize,
    /// Bytes of a part's header line, folded lines included.
    pub part_header_bytes: usize,
    /// Bytes of a JSON argument's name.
    pub name_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            arguments: 1000,
            depth: 512,
            files: 100,
            part_headers: 32,
            part_header_bytes: 8192,
            name_bytes: 4096,
        }
    }
}

/// What was wrong with a body.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Why the processor stopped before the end: `REQBODY_ERROR` is 1, and `REQBODY_ERROR_MSG` is its text.
    pub error: Option<BodyError>,
    /// How many `%` did not begin an escape: `URLENCODED_ERROR`.
    pub invalid_escapes: usize,
    /// What strict readers of multipart bodies refuse.
    pub multipart: MultipartFlags,
}

/// An `application/x-www-form-urlencoded` body. `separator` is `&` unless `SecArgumentSeparator` says otherwise.
pub fn urlencoded<'b>(body: &'b [u8], separator: u8, limits: &Limits, sink: Sink<'_, 'b>) -> Outcome {
    let mut outcome = Outcome::default();
    for (found, (name, value)) in crate::url::pairs(body, separator, &mut outcome.invalid_escapes).enumerate()
    {
        if found == limits.arguments {
            outcome.error = Some(BodyError::Limit(Limit::Arguments(limits.arguments)));
            break;
        }
        sink(Item::Argument { name, value });
    }
    outcome
}

#[cfg(test)]
mod tests;
