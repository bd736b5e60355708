//! Cache directives of requests and responses (RFC 9111 section 5.2, RFC 5861, RFC 9213).

use crate::field::{self, Quotes};
use crate::structured::{self, Value};
use http::header::{self, HeaderMap, HeaderName};
use std::time::Duration;

/// What a client asks of caches (RFC 9111 section 5.2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// No older than this (section 5.2.1.1).
    pub max_age: Option<Duration>,
    /// Stale by up to this, [`Duration::MAX`] for any (section 5.2.1.2).
    pub max_stale: Option<Duration>,
    /// Fresh for at least this long (section 5.2.1.3).
    pub min_fresh: Option<Duration>,
    /// Nothing without validation (section 5.2.1.4), or `Pragma: no-cache` where there is no `Cache-Control` (section
    /// 5.4).
    pub no_cache: bool,
    /// Nothing of this exchange is stored (section 5.2.1.5).
    pub no_store: bool,
    /// Nothing from the origin (section 5.2.1.7).
    pub only_if_cached: bool,
    /// Stale by up to this where the origin fails (RFC 5861 section 4).
    pub stale_if_error: Option<Duration>,
}

impl RequestDirectives {
    /// Reads the fields of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        if !headers.contains_key(header::CACHE_CONTROL) {
            found.no_cache = field::list(headers, header::PRAGMA, Quotes::Escaped)
                .any(|member| member.eq_ignore_ascii_case(b"no-cache"));
            return found;
        }
        let readable = each(headers, &mut |name, argument| match name {
            "max-age" => first(&mut found.max_age, argument),
            "max-stale" => match argument {
                Argument::None => found.max_stale = found.max_stale.or(Some(Duration::MAX)),
                _ => first(&mut found.max_stale, argument),
            },
            "min-fresh" => first(&mut found.min_fresh, argument),
            "stale-if-error" => first(&mut found.stale_if_error, argument),
            "no-cache" => found.no_cache = true,
            "no-store" => found.no_store = true,
            "only-if-cached" => found.only_if_cached = true,
            _ => {}
        });
        found.no_store |= !readable;
        found
    }
}

/// Whom or what a directive concerns that can name header fields: `no-cache` and `private`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Restriction {
    /// The directive is not there.
    #[default]
    None,
    /// Only these fields; at least one.
    Fields(Vec<HeaderName>),
    /// The whole response.
    Response,
}

impl Restriction {
    fn add(&mut self, argument: &[u8]) {
        let names: Option<Vec<HeaderName>> = field::members(argument, Quotes::Escaped)
            .map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        match (names, &mut *self) {
            // A list that cannot be read protects the whole response.
            (None, _) | (_, Self::Response) => *self = Self::Response,
            (Some(names), _) if names.is_empty() => *self = Self::Response,
            (Some(names), Self::Fields(fields)) => fields.extend(names),
            (Some(names), Self::None) => *self = Self::Fields(names),
        }
    }

    /// The fields named.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(fields) => fields,
            Self::None | Self::Response => &[],
        }
    }
}

/// What an origin asks of caches (RFC 9111 section 5.2.2). A number that cannot be read counts as 0, so that the
/// response is stale (section 4.2.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// Section 5.2.2.1.
    pub max_age: Option<Duration>,
    /// Section 5.2.2.10.
    pub s_maxage: Option<Duration>,
    /// RFC 5861 section 3.
    pub stale_while_revalidate: Option<Duration>,
    /// RFC 5861 section 4.
    pub stale_if_error: Option<Duration>,
    /// Section 5.2.2.4.
    pub no_cache: Restriction,
    /// Section 5.2.2.7.
    pub private: Restriction,
    /// Section 5.2.2.2.
    pub must_revalidate: bool,
    /// Section 5.2.2.3.
    pub must_understand: bool,
    /// Section 5.2.2.5.
    pub no_store: bool,
    /// Section 5.2.2.8.
    pub proxy_revalidate: bool,
    /// Section 5.2.2.9.
    pub public: bool,
    /// They come from a targeted field, so that `Expires` is void (RFC 9213 section 2.2).
    pub targeted: bool,
}

impl ResponseDirectives {
    /// The directives that count: those of the first field of `targets` that is there, valid and not empty (RFC 9213
    /// section 2.2), else those of `Cache-Control`.
    pub fn of(headers: &HeaderMap, targets: &[HeaderName]) -> Self {
        targets
            .iter()
            .find_map(|target| Self::of_targeted(headers, target))
            .unwrap_or_else(|| Self::of_cache_control(headers))
    }

    /// The fields that are for one user or need validation, by qualified `private` or `no-cache`.
    pub(crate) fn restricted(&self) -> impl Iterator<Item = &HeaderName> {
        self.private.fields().iter().chain(self.no_cache.fields())
    }

    fn of_cache_control(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let readable = each(headers, &mut |name, argument| match name {
            "max-age" => first(&mut found.max_age, argument),
            "s-maxage" => first(&mut found.s_maxage, argument),
            "stale-while-revalidate" => first(&mut found.stale_while_revalidate, argument),
            "stale-if-error" => first(&mut found.stale_if_error, argument),
            "no-cache" | "private" => {
                let restriction = if name == "private" {
                    &mut found.private
                } else {
                    &mut found.no_cache
                };
                match argument {
                    Argument::Text(text) => restriction.add(text),
                    Argument::None | Argument::Malformed => *restriction = Restriction::Response,
                }
            }
            _ => found.flag(name),
        });
        // A quote without end may hide anything.
        if !readable {
            found.no_store = true;
            found.must_understand = false;
        }
        found
    }

    fn of_targeted(headers: &HeaderMap, target: &HeaderName) -> Option<Self> {
        let mut lines = headers.get_all(target).iter();
        let mut text = lines.next()?.as_bytes().to_vec();
        for line in lines {
            text.extend_from_slice(b", ");
            text.extend_from_slice(line.as_bytes());
        }
        let mut last = std::collections::BTreeMap::new();
        structured::dictionary(&text, &mut |key, value| {
            last.insert(key.to_owned(), value);
        })
        .ok()?;
        if last.is_empty() {
            return None;
        }
        let mut found = Self {
            targeted: true,
            ..Self::default()
        };
        for (key, value) in last {
            found.typed(&key, value);
        }
        Some(found)
    }

    /// A directive with the type that RFC 9213 section 2.1 gives it.
    fn typed(&mut self, name: &str, value: Value) {
        let seconds = match value {
            Value::Integer(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(1 << 31)),
            _ => Duration::ZERO,
        };
        match (name, value) {
            (_, Value::Boolean(false)) => {}
            ("max-age", _) => self.max_age = Some(seconds),
            ("s-maxage", _) => self.s_maxage = Some(seconds),
            ("stale-while-revalidate", _) => self.stale_while_revalidate = Some(seconds),
            ("stale-if-error", _) => self.stale_if_error = Some(seconds),
            ("no-cache", Value::Text(names)) => self.no_cache.add(&names),
            ("no-cache", _) => self.no_cache = Restriction::Response,
            ("private", Value::Text(names)) => self.private.add(&names),
            ("private", _) => self.private = Restriction::Response,
            // Nobody is allowed anything by a value that is not true.
            ("public" | "must-understand", value) if value != Value::Boolean(true) => {}
            (name, _) => self.flag(name),
        }
    }

    fn flag(&mut self, name: &str) {
        match name {
            "must-revalidate" => self.must_revalidate = true,
            "must-understand" => self.must_understand = true,
            "no-store" => self.no_store = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "public" => self.public = true,
            _ => {}
        }
    }
}

#[derive(Clone, Copy)]
enum Argument<'a> {
    None,
    Text(&'a [u8]),
    Malformed,
}

/// Of a directive that is there more than once the first one counts (RFC 9111 section 4.2.1).
fn first(slot: &mut Option<Duration>, argument: Argument<'_>) {
    if slot.is_none() {
        let seconds = match argument {
            Argument::Text(text) => field::seconds(text).unwrap_or(0),
            Argument::None | Argument::Malformed => 0,
        };
        *slot = Some(Duration::from_secs(seconds.into()));
    }
}

/// The longest name of a directive that means something here is shorter.
const MAX_NAME: usize = 24;

/// Calls `directive` with each directive of `Cache-Control`, its name in lower case, its argument from either form
/// (RFC 9111 section 5.2). False where a quote has no end.
fn each(headers: &HeaderMap, directive: &mut dyn FnMut(&str, Argument<'_>)) -> bool {
    let mut readable = true;
    for member in field::list(headers, header::CACHE_CONTROL, Quotes::Escaped) {
        let equals = member.iter().position(|&byte| byte == b'=');
        let (name, argument) = match equals {
            Some(at) => (&member[..at], Some(&member[at + 1..])),
            None => (member, None),
        };
        let quoted = argument.is_some_and(|argument| argument.starts_with(b"\""));
        let unquoted = argument.filter(|_| quoted).map(field::unquote);
        readable &= field::balanced(member);
        // Space before the equals sign is an error, and must not make a known directive unknown.
        let spaced = name.trim_ascii_end();
        let mut lower = [0_u8; MAX_NAME];
        let Some(lower) = lower.get_mut(..spaced.len()) else {
            continue;
        };
        lower.copy_from_slice(spaced);
        lower.make_ascii_lowercase();
        let Ok(lower) = std::str::from_utf8(lower) else {
            continue;
        };
        let argument = match (argument, &unquoted) {
            _ if spaced.len() != name.len() => Argument::Malformed,
            (None, _) => Argument::None,
            (_, Some(Some(text))) => Argument::Text(text),
            (_, Some(None)) => Argument::Malformed,
            (Some(text), None) if text.is_empty() || text.contains(&b'"') => Argument::Malformed,
            (Some(text), None) => Argument::Text(text),
        };
        directive(lower, argument);
    }
    readable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fields;
    use proptest::prelude::*;

    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

    fn response(lines: &[(&str, &str)]) -> ResponseDirectives {
        ResponseDirectives::of(&fields(lines), &[CDN])
    }

    fn age_of(value: &str) -> Option<u64> {
        response(&[("cache-control", value)])
            .max_age
            .map(|age| age.as_secs())
    }

    #[test]
    fn max_age_in_all_its_spellings() {
        for (value, seconds) in [
            ("max-age=60", Some(60)),
            ("MAX-AGE=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("public,max-age=60 , x=\"max-age=1\"", Some(60)),
            ("x=\"a, max-age=1\"", None),
            ("max-age=99999999999999", Some(1 << 31)),
            ("max-age=1, max-age=60", Some(1)),
            ("max-age=60, max-age=1", Some(60)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age =60", Some(0)),
            ("max-age= 60", Some(0)),
            ("max-age=-60", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age='60'", Some(0)),
            ("max-age=60s", Some(0)),
            ("xmax-age=60", None),
            ("max-age-x=60", None),
        ] {
            assert_eq!(age_of(value), seconds, "{value}");
        }
    }

    #[test]
    fn restrictions_name_fields_or_everything() {
        let private = |value: &str| response(&[("cache-control", value)]).private;
        let named = |names: &[&'static str]| {
            Restriction::Fields(names.iter().map(|name| HeaderName::from_static(name)).collect())
        };
        for (value, restriction) in [
            ("public", Restriction::None),
            ("private", Restriction::Response),
            ("private=\"\"", Restriction::Response),
            ("private=\"a b\"", Restriction::Response),
            ("private=\"X-A, x-b\"", named(&["x-a", "x-b"])),
            ("private=x-a", named(&["x-a"])),
            ("private=\"x-a\", private", Restriction::Response),
            ("private, private=\"x-a\"", Restriction::Response),
        ] {
            assert_eq!(private(value), restriction, "{value}");
        }
    }

    #[test]
    fn a_quote_without_end_forbids_storing() {
        assert!(response(&[("cache-control", "max-age=60, x=\"a, no-cache")]).no_store);
        assert!(!response(&[("cache-control", "max-age=60, x=\"a, no-store\"")]).no_store);
    }

    #[test]
    fn must_understand_does_not_excuse_it() {
        let found = response(&[("cache-control", "must-understand, max-age=60, x=\"a")]);
        assert!(found.no_store && !found.must_understand);
    }

    #[test]
    fn a_targeted_field_wins_where_it_is_valid() {
        for (targeted, seconds, by_target) in [
            ("max-age=10", Some(10), true),
            ("max-age=\"10\"", Some(0), true),
            ("max-age=10.5", Some(0), true),
            ("max-age=10;x=1", Some(10), true),
            ("max-age=1, max-age=10", Some(10), true),
            ("no-store=?0, max-age=10", Some(10), true),
            ("private", None, true),
            ("", Some(60), false),
            ("max-age=10,", Some(60), false),
            ("Max-Age=10", Some(60), false),
            ("max-age= 10", Some(60), false),
        ] {
            let found = response(&[
                ("cache-control", "max-age=60, no-store"),
                ("cdn-cache-control", targeted),
            ]);
            assert_eq!(found.max_age.map(|age| age.as_secs()), seconds, "{targeted}");
            assert_eq!(found.targeted, by_target, "{targeted}");
            assert_eq!(found.no_store, !by_target, "{targeted}");
        }
        let two = response(&[
            ("cdn-cache-control", "max-age=1"),
            ("cdn-cache-control", "public"),
        ]);
        assert!(two.public && two.max_age == Some(Duration::from_secs(1)));
    }

    #[test]
    fn requests() {
        let of = |lines: &[(&str, &str)]| RequestDirectives::of(&fields(lines));
        assert!(of(&[("pragma", "x, No-Cache")]).no_cache);
        assert!(!of(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]).no_cache);
        assert_eq!(
            of(&[("cache-control", "max-stale")]).max_stale,
            Some(Duration::MAX)
        );
        assert_eq!(
            of(&[("cache-control", "max-stale=5")]).max_stale,
            Some(Duration::from_secs(5))
        );
        assert_eq!(
            of(&[("cache-control", "max-stale=x")]).max_stale,
            Some(Duration::ZERO)
        );
        let all = of(&[
            ("cache-control", "min-fresh=3, no-store"),
            ("cache-control", "only-if-cached"),
        ]);
        assert!(all.no_store && all.only_if_cached && all.min_fresh == Some(Duration::from_secs(3)));
    }

    proptest! {
        #[test]
        fn nothing_panics(value in "[ -~\u{80}-\u{ff}]{0,60}", mixed in "(max-age|private|no-cache|=|\"|\\\\|,| |1){0,12}") {
            for value in [value, mixed] {
                let lines = fields(&[("cache-control", &value), ("cdn-cache-control", &value)]);
                let _ = (RequestDirectives::of(&lines), ResponseDirectives::of(&lines, &[CDN]));
            }
        }

        #[test]
        fn no_store_is_never_lost(before in "[a-z=,\"\\\\ ]{0,20}") {
            // Unless it is inside of quotes that do end.
            let value = format!("{before},no-store");
            prop_assert!(response(&[("cache-control", &value)]).no_store, "{}", value);
        }
    }
}
