//! Which coding a client gets (RFC 9110 section 12.5.3), and which answers are worth one.

use astraler_model::Coding;
use http::HeaderValue;
use http::header::{self, HeaderMap};

/// The first of ours that the client takes. A client may rank them too, but where it takes several, what is smaller and
/// cheaper is ours to know; its weights decide only between a coding and none.
pub(crate) fn coding(headers: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    let accepted = Accepted::of(headers);
    offered.iter().copied().find(|coding| {
        accepted.weight(coding.token()) > 0 && accepted.weight(coding.token()) >= accepted.identity()
    })
}

/// Weights in thousandths.
#[derive(Debug, Default)]
struct Accepted {
    named: Vec<(String, u16)>,
}

impl Accepted {
    fn of(headers: &HeaderMap) -> Self {
        let items = headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .take(32);
        let named = items
            .filter_map(|item| {
                let mut parts = item.split(';');
                let name = parts.next()?.trim().to_ascii_lowercase();
                let weight = match parts.next() {
                    None => 1000,
                    Some(parameter) => weight(parameter)?,
                };
                (!name.is_empty()).then_some((name, weight))
            })
            .collect();
        Self { named }
    }

    fn named(&self, token: &str) -> Option<u16> {
        let alias = if token == "gzip" { "x-gzip" } else { token };
        let found = self.named.iter().find(|(name, _)| name == token || name == alias);
        found.map(|(_, weight)| *weight)
    }

    fn weight(&self, token: &str) -> u16 {
        self.named(token).or_else(|| self.named("*")).unwrap_or(0)
    }

    /// Acceptable unless it is ruled out; preferred only by a weight of its own.
    fn identity(&self) -> u16 {
        self.named("identity").unwrap_or(0)
    }
}

/// `q=0.5`; `None` when it is no weight: the item is passed over.
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.trim().split_once('=')?;
    let valid = name.trim().eq_ignore_ascii_case("q") && value.len() <= 5;
    let weight: f32 = if valid {
        value.trim().parse().ok()?
    } else {
        return None;
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 1000"
    )]
    (0.0..=1.0).contains(&weight).then_some((weight * 1000.0) as u16)
}

/// Types that shrink. What is compressed already, and event streams, whose pieces must not wait, are not among them.
pub(crate) fn is_compressible(content_type: Option<&HeaderValue>) -> bool {
    let Some(text) = content_type.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = text.split(';').next().unwrap_or_default().trim();
    let lower;
    let kind = match kind.bytes().any(|b| b.is_ascii_uppercase()) {
        true => {
            lower = kind.to_ascii_lowercase();
            &*lower
        }
        false => kind,
    };
    match kind.split_once('/') {
        Some(("text", rest)) => rest != "event-stream",
        Some(("application", rest)) => {
            rest.ends_with("+json")
                || rest.ends_with("+xml")
                || matches!(
                    rest,
                    "json"
                        | "javascript"
                        | "x-javascript"
                        | "ecmascript"
                        | "xml"
                        | "wasm"
                        | "x-ndjson"
                        | "graphql"
                        | "rtf"
                        | "vnd.ms-fontobject"
                )
        }
        Some(("image", rest)) => matches!(rest, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
        Some(("font", rest)) => matches!(rest, "ttf" | "otf" | "collection"),
        _ => false,
    }
}

/// Whether one of the field's lists has the token.
pub(crate) fn lists(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| {
            let name = item.split(['=', ';']).next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case(token)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    fn ask(values: &[&str]) -> Option<Coding> {
        let headers: HeaderMap = values
            .iter()
            .map(|value| (header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap()))
            .collect();
        coding(&headers, &ALL)
    }

    #[test]
    fn codings_are_chosen() {
        use Coding::{Br, Gzip, Zstd};
        for (value, chosen) in [
            ("gzip, deflate, br, zstd", Some(Br)),
            ("gzip, zstd", Some(Zstd)),
            ("GZIP", Some(Gzip)),
            ("x-gzip", Some(Gzip)),
            ("*", Some(Br)),
            ("br;q=0, *", Some(Zstd)),
            ("gzip;q=0", None),
            ("identity", None),
            ("identity;q=0, gzip;q=0.1", Some(Gzip)),
            ("identity, gzip;q=0.5", None),
            ("gzip;q=0.5, br;q=0.1", Some(Br)),
            ("gzip;q=1.5", None),
            ("gzip;q=x", None),
            ("gzip;level=1", None),
            ("deflate", None),
            ("", None),
            ("*;q=0", None),
            ("br ; q=0.001", Some(Br)),
        ] {
            assert_eq!(ask(&[value]), chosen, "{value}");
        }
        assert_eq!(ask(&[]), None);
        assert_eq!(ask(&["deflate", "gzip"]), Some(Gzip));
        assert_eq!(coding(&HeaderMap::new(), &[]), None);
    }

    #[test]
    fn types_that_shrink() {
        for (kind, shrinks) in [
            ("text/html; charset=utf-8", true),
            ("Text/CSS", true),
            ("text/event-stream", false),
            ("application/json", true),
            ("application/problem+json", true),
            ("image/svg+xml", true),
            ("application/wasm", true),
            ("image/png", false),
            ("font/woff2", false),
            ("application/octet-stream", false),
            ("application/gzip", false),
            ("video/mp4", false),
            ("nonsense", false),
        ] {
            assert_eq!(
                is_compressible(Some(&HeaderValue::from_static(kind))),
                shrinks,
                "{kind}"
            );
        }
        assert!(!is_compressible(None));
    }
}
