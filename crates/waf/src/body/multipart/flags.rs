//! What strict readers of multipart bodies refuse.

/// Each is a variable of rules: `MULTIPART_` and its name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MultipartFlags {
    /// The boundary is in quotes.
    pub boundary_quoted: bool,
    /// White space beside the boundary's equals sign.
    pub boundary_whitespace: bool,
    /// Something stands before the first boundary.
    pub data_before: bool,
    /// Something stands after the last boundary.
    pub data_after: bool,
    /// A part's header is folded.
    pub header_folding: bool,
    /// A folded line begins with something else than a space or a tab.
    pub invalid_header_folding: bool,
    /// A boundary or a header ends in LF alone.
    pub lf_line: bool,
    /// Some of them end in CRLF, some in LF alone.
    pub crlf_lf_lines: bool,
    /// No semicolon stands before the boundary's parameter.
    pub missing_semicolon: bool,
    /// Single quotes, or quotes within a value that has none around it.
    pub invalid_quoting: bool,
    /// A part without a valid `Content-Disposition`.
    pub invalid_part: bool,
    /// There are more files than are taken.
    pub file_limit_exceeded: bool,
    /// A line looks like a boundary, is not ours, and stands before all of ours or behind the last; or one of ours stands
    /// within a line.
    pub unmatched_boundary: bool,
}

impl MultipartFlags {
    /// `MULTIPART_STRICT_ERROR`, but for faults that are [`super::super::Outcome::error`].
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
