//! `http.request.body.multipart` and what belongs to it.

use std::borrow::Cow;

use super::field::Collection;
use crate::body::{self, Item, Limits};

/// Hands out the parts of a multipart body: their names, and what is asked of them; empty where a part has none.
pub(super) fn each(
    kept: &[u8],
    content_type: &[u8],
    collection: Collection,
    to: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) {
    let is_multipart = content_type
        .get(..19)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/form-data"));
    if !is_multipart {
        return;
    }
    let mut wanted = true;
    // The lines of a part's head come before it.
    let mut lines: Vec<Cow<'_, [u8]>> = Vec::new();
    let limits = Limits::default();
    let limits = Limits {
        files: limits.arguments,
        ..limits
    };
    body::multipart(content_type, kept, &limits, &mut |item| {
        let (name, value, filename) = match item {
            Item::PartHeader { line, .. } => return lines.push(line),
            Item::Argument { name, value } => (name, value, Cow::Borrowed(&b""[..])),
            Item::File { field, name, content } => (field, Cow::Borrowed(content), name),
            Item::XmlText(_) | Item::XmlAttribute(_) => return,
        };
        let header = |name: &[u8]| {
            let mut values = lines.iter().filter_map(|line| {
                let colon = memchr::memchr(b':', line)?;
                let is_it = line[..colon].trim_ascii().eq_ignore_ascii_case(name);
                is_it.then(|| line[colon + 1..].trim_ascii())
            });
            values.next().unwrap_or_default()
        };
        let value = match collection {
            Collection::MultipartFilenames => &filename,
            Collection::MultipartTypes => header(b"content-type"),
            Collection::MultipartDispositions => header(b"content-disposition"),
            Collection::MultipartEncodings => header(b"content-transfer-encoding"),
            _ => &value,
        };
        wanted = wanted && to(&name, value);
        lines.clear();
    });
}
