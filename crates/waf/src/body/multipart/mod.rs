//! `multipart/form-data`.
use super::{Limits, Outcome, Sink};

/// What strict readers of multipart bodies refuse. Each is a variable of rules, `MULTIPART_` and its name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MultipartFlags {
    /// The boundary is in quotes. Alone it is no fault, but not what browsers send.
    pub boundary_quoted: bool,
    /// White space before or within the boundary.
    pub boundary_whitespace: bool,
    /// Something stands before the first boundary.
    pub data_before: bool,
    /// Something stands after the last boundary.
    pub data_after: bool,
    /// A part's header is folded.
    pub header_folding: bool,
    /// A folded line begins with something else than a space or a tab.
    pub invalid_header_folding: bool,
    /// A line ends in LF alone.
    pub lf_line: bool,
    /// Some lines end in CRLF, some in LF alone.
    pub crlf_lf_lines: bool,
    /// A parameter of `Content-Type` or `Content-Disposition` without a semicolon before it.
    pub missing_semicolon: bool,
    /// Quotes where none belong, or single ones.
    pub invalid_quoting: bool,
    /// A part that has no name, or two, or headers that are none.
    pub invalid_part: bool,
    /// More files than are taken.
    pub file_limit_exceeded: bool,
    /// A line that looks like a boundary and is not ours.
    pub unmatched_boundary: bool,
}

impl MultipartFlags {
    /// `MULTIPART_STRICT_ERROR`, but for faults that end the reading: those are [`Outcome::error`].
    pub fn strict_error(&self) -> bool {
        self.boundary_quoted
            || self.boundary_whitespace
            || self.data_before
            || self.data_after
            || self.header_folding
            || self.invalid_header_folding
            || self.lf_line
            || self.missing_semicolon
            || self.invalid_quoting
            || self.invalid_part
            || self.file_limit_exceeded
    }
}

/// The boundary that a `Content-Type` names.
pub fn boundary(_content_type: &[u8]) -> Option<&[u8]> {
    None
}

/// A `multipart/form-data` body, by its `Content-Type`.
pub fn multipart<'b>(
    _content_type: &[u8],
    _body: &'b [u8],
    _limits: &Limits,
    _sink: Sink<'_, 'b>,
) -> Outcome {
    Outcome::default()
}
