//! Which requests a stored response answers (RFC 9111 section 4.1).

use crate::field::{self, Quotes};
use http::header::{self, HeaderMap, HeaderName};

/// More names in `Vary` than this, and a response is not stored.
const MAX_NAMES: usize = 32;

/// Fields that are no lists, in which a comma or the space after it may mean something.
const NO_LISTS: [HeaderName; 6] = [
    header::USER_AGENT,
    header::COOKIE,
    header::AUTHORIZATION,
    header::REFERER,
    header::ORIGIN,
    header::HOST,
];

/// What a response's `Vary` named, with the values of the request that it answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Sorted by name, each once; `None` for a field that the request did not have.
    selecting: Vec<(HeaderName, Option<Vec<u8>>)>,
}

impl Variant {
    /// The variant that `response` is, as an answer to `request`. `None` where no request can ever match: `Vary: *`, or
    /// names that cannot be read.
    pub fn of(response: &HeaderMap, request: &HeaderMap) -> Option<Self> {
        let mut selecting = Vec::new();
        for name in field::list(response, header::VARY, Quotes::Escaped) {
            // "*" is a token too, hence a valid name of a field to the parser.
            let name = HeaderName::from_bytes(name)
                .ok()
                .filter(|name| name.as_str() != "*")?;
            if selecting.len() == MAX_NAMES {
                return None;
            }
            if selecting.iter().all(|(known, _)| *known != name) {
                let value = value_of(request, &name);
                selecting.push((name, value));
            }
        }
        selecting.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        Some(Self { selecting })
    }

    /// Whether a request selects this variant.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.selecting.iter().all(|(name, value)| {
            // Mostly the bytes are the same, and nothing has to be spelled anew.
            let mut lines = request.get_all(name).iter();
            match (lines.next(), lines.next(), value) {
                (None, _, value) => value.is_none(),
                (Some(_), _, None) => false,
                (Some(line), None, Some(value)) if line.as_bytes() == &**value => true,
                (Some(_), _, Some(_)) => value_of(request, name) == *value,
            }
        })
    }

    /// The names that select, sorted.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.selecting.iter().map(|(name, _)| name)
    }

    /// Names and values as storage writes them: what [`of`](Self::of) would need to make the same variant.
    pub fn request_fields(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        self.selecting
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// One spelling for values that mean the same: lines combined, optional whitespace removed, and, for the fields of
/// content negotiation, letter case (and for codings order) that has no meaning.
fn value_of(request: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines = request.get_all(name);
    let first = lines.iter().next()?;
    if NO_LISTS.contains(name) {
        let mut value = first.as_bytes().trim_ascii().to_vec();
        for line in lines.iter().skip(1) {
            value.extend_from_slice(b", ");
            value.extend_from_slice(line.as_bytes().trim_ascii());
        }
        return Some(value);
    }
    let mut members: Vec<_> = field::list(request, name.clone(), Quotes::Escaped).collect();
    if *name == header::ACCEPT_ENCODING {
        members.sort_unstable_by_key(|member| member.to_ascii_lowercase());
    }
    let mut value = members.join(&b","[..]);
    if matches!(
        *name,
        header::ACCEPT_ENCODING | header::ACCEPT_LANGUAGE | header::ACCEPT_CHARSET
    ) {
        value.retain(|&byte| byte != b' ' && byte != b'\t');
        value.make_ascii_lowercase();
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fields;
    use proptest::prelude::*;

    #[test]
    fn variants_match() {
        for (vary, first, second, same) in [
            ("", &[("a", "1")][..], &[("a", "2")][..], true),
            ("A", &[("a", "1")], &[("a", "1"), ("b", "2")], true),
            ("a", &[("a", "1")], &[("a", "2")], false),
            ("a", &[], &[], true),
            ("a", &[], &[("a", "")], false),
            ("a", &[("a", "")], &[], false),
            (
                "a, b",
                &[("a", "1"), ("b", "1")],
                &[("a", "1"), ("b", "2")],
                false,
            ),
            ("a, b", &[("a", "1")], &[("a", "1")], true),
            ("a", &[("a", "1, 2")], &[("a", "1"), ("a", "2")], true),
            ("a", &[("a", "1,2")], &[("a", " 1 ,\t2")], true),
            ("a", &[("a", "1,2")], &[("a", "2,1")], false),
            ("a", &[("a", "x")], &[("a", "X")], false),
            (
                "accept-encoding",
                &[("accept-encoding", "gzip, br")],
                &[("accept-encoding", "BR,gzip")],
                true,
            ),
            (
                "accept-language",
                &[("accept-language", "en, de;q=1")],
                &[("accept-language", "EN,de; q=1")],
                true,
            ),
            (
                "accept-language",
                &[("accept-language", "en, de")],
                &[("accept-language", "de, en")],
                false,
            ),
            (
                "user-agent",
                &[("user-agent", "a, b")],
                &[("user-agent", "a,b")],
                false,
            ),
        ] {
            let variant = Variant::of(&fields(&[("vary", vary)]), &fields(first)).unwrap();
            assert_eq!(
                variant.matches(&fields(second)),
                same,
                "{vary}: {first:?} {second:?}"
            );
        }
        for vary in ["*", "a, *", "*, a", "a b", "a;b", "\"a\""] {
            assert_eq!(
                Variant::of(&fields(&[("vary", vary)]), &fields(&[])),
                None,
                "{vary}"
            );
        }
        let many: Vec<_> = (0..40).map(|n| format!("x-{n}")).collect();
        assert_eq!(
            Variant::of(&fields(&[("vary", &many.join(","))]), &fields(&[])),
            None
        );
    }

    proptest! {
        #[test]
        fn a_request_selects_what_it_was_answered_with(value in "[ -~]{0,20}", twice in any::<bool>()) {
            let mut request = fields(&[("a", &value), ("accept-encoding", &value), ("user-agent", &value)]);
            if twice {
                request.append("a", "x".parse().unwrap());
            }
            let response = fields(&[("vary", "a, accept-encoding"), ("vary", "user-agent, absent")]);
            let variant = Variant::of(&response, &request).unwrap();
            prop_assert!(variant.matches(&request));
            // Written by storage and read again, it is the same.
            let mut written = HeaderMap::new();
            for (name, value) in variant.request_fields() {
                written.append(name, http::HeaderValue::from_bytes(value).unwrap());
            }
            let names: Vec<_> = variant.names().map(HeaderName::as_str).collect();
            prop_assert_eq!(Variant::of(&fields(&[("vary", &names.join(","))]), &written).unwrap(), variant);
        }
    }
}
