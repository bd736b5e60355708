//! What a request names, and its one spelling.

use std::borrow::Cow;

/// The origin and resource that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host, and port where it is not the scheme's.
    pub authority: &'a str,
    /// Path and query, the path in its one spelling.
    pub path_and_query: &'a str,
}

impl<'a> Target<'a> {
    pub(crate) fn path(&self) -> &'a str {
        split(self.path_and_query).0
    }

    pub(crate) fn query(&self) -> Option<&'a str> {
        split(self.path_and_query).1
    }

    /// Its authority in lower case and without the scheme's own port (RFC 9110 section 4.2.3).
    pub(crate) fn normal_authority(&self) -> Cow<'a, str> {
        normal_authority(self.scheme, self.authority)
    }
}

pub(crate) fn normal_authority<'a>(scheme: &str, authority: &'a str) -> Cow<'a, str> {
    let port = if scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else {
        ":80"
    };
    let bare = authority
        .strip_suffix(port)
        .or_else(|| authority.strip_suffix(':'))
        .unwrap_or(authority);
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

pub(crate) fn split(path_and_query: &str) -> (&str, Option<&str>) {
    match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    }
}
