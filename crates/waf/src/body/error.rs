//! What ends the reading of a body.

use thiserror::Error;

/// Why a body was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Too much of something.
    #[error("{0}")]
    Limit(#[from] Limit),
    /// Not JSON.
    #[error("JSON parsing error: {what} at byte {at}")]
    Json {
        /// Offset in the body.
        at: usize,
        /// What was found or missing.
        what: &'static str,
    },
    /// Not well-formed XML.
    #[error("XML parsing error: {what} at byte {at}")]
    Xml {
        /// Offset in the body.
        at: usize,
        /// What was found or missing.
        what: &'static str,
    },
    /// Not a multipart body that any reader would take.
    #[error("Multipart parsing error: {what}")]
    Multipart {
        /// What was found or missing.
        what: &'static str,
    },
}

/// A limit of [`super::Limits`], and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Limit {
    /// Arguments and files.
    #[error("Request body has more than {0} arguments")]
    Arguments(usize),
    /// Depth of a document.
    #[error("Request body is nested deeper than {0}")]
    Depth(usize),
    /// Headers of a part.
    #[error("Multipart: a part has more than {0} headers")]
    PartHeaders(usize),
    /// A part's header.
    #[error("Multipart: a header of a part is longer than {0} bytes")]
    PartHeaderBytes(usize),
    /// A JSON argument's name.
    #[error("JSON: the name of an argument is longer than {0} bytes")]
    NameBytes(usize),
}
