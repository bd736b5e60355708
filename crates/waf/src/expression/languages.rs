//! `http.request.accepted_languages`.

/// How many are looked at.
const LANGUAGES: usize = 64;

/// Hands out the languages of `Accept-Language`, the one with the highest weight first, without `*`.
pub(super) fn each(headers: &[(&[u8], &[u8])], to: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
    let own = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"accept-language"));
    let ranges = own.flat_map(|(_, value)| value.split(|byte| *byte == b','));
    let mut all: Vec<(u32, &[u8])> = ranges.filter_map(weighed).take(LANGUAGES).collect();
    // Those of one weight stay in their order.
    all.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    for (_, language) in all {
        if !to(b"", language) {
            return;
        }
    }
}

/// A language and its weight in thousandths (RFC 9110 section 12.4.2).
fn weighed(range: &[u8]) -> Option<(u32, &[u8])> {
    let mut pieces = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let language = pieces
        .next()
        .filter(|language| !matches!(*language, b"" | b"*"))?;
    let weight = pieces.find_map(|piece| {
        let digits = piece.strip_prefix(b"q=").or_else(|| piece.strip_prefix(b"Q="))?;
        let weight: f32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some((weight.clamp(0.0, 1.0) * 1000.0).round() as u32)
    });
    Some((weight.unwrap_or(1000), language))
}
