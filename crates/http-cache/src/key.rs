//! Under which key a response is stored (RFC 9111 section 2): the target URI, and what the rules of a site add or leave
//! out. The method is not in it: only GET is stored, and a HEAD is answered from that.

use crate::target::Target;
use http::header::{self, HeaderMap, HeaderName};
use std::fmt::Write;

/// What makes the key of a site's resources, besides scheme, authority and path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// Which parameters of the query count.
    pub query: Query,
    /// Whether their order does not count.
    pub sort_query: bool,
    /// Fields whose values count.
    pub headers: Vec<HeaderName>,
    /// Cookies whose values count.
    pub cookies: Vec<String>,
}

/// Parameters of the query. A parameter that does not count must not change what the origin answers: whoever sends it
/// first decides what others get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Query {
    /// All of them, the query as it stands.
    #[default]
    All,
    /// None.
    Nothing,
    /// Those of these names.
    Only(Vec<String>),
    /// Those of all other names.
    Except(Vec<String>),
}

/// A key: the URL, then one line for each field and cookie that counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    text: String,
    url: usize,
}

impl Key {
    /// The key of a request.
    pub fn of(target: &Target<'_>, headers: &HeaderMap, rules: &KeyRules) -> Self {
        let (path, query) = (target.path(), target.query());
        let authority = target.normal_authority();
        let length = target.scheme.len() + 3 + authority.len() + target.path_and_query.len();
        let mut text = String::with_capacity(length);
        text.extend(target.scheme.chars().map(|c| c.to_ascii_lowercase()));
        text.push_str("://");
        text.push_str(&authority);
        text.push_str(path);
        if let Some(query) = query {
            push_query(&mut text, query, rules);
        }
        let url = text.len();
        for name in &rules.headers {
            let mut lines = headers.get_all(name).iter();
            if let Some(first) = lines.next() {
                let _ = write!(text, "\n{name}: ");
                push_escaped(&mut text, first.as_bytes());
                for line in lines {
                    text.push_str(", ");
                    push_escaped(&mut text, line.as_bytes());
                }
            }
        }
        for wanted in &rules.cookies {
            for value in cookies(headers, wanted) {
                let _ = write!(text, "\ncookie {wanted}=");
                push_escaped(&mut text, value);
            }
        }
        Self { text, url }
    }

    /// A key as storage kept it: its text, and how much of that is the URL.
    pub fn restore(text: String, url: usize) -> Option<Self> {
        let sound = text.is_char_boundary(url) && (url == text.len() || text.as_bytes()[url] == b'\n');
        sound.then_some(Self { text, url })
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL in it, by which all responses of a resource are purged or made void, and those under a prefix.
    pub fn url(&self) -> &str {
        &self.text[..self.url]
    }
}

fn push_query(text: &mut String, query: &str, rules: &KeyRules) {
    let counts = |parameter: &str| {
        // Some origins separate by `;` too: to them `a;id=1` has an `id`, so it must not be left out with `a`.
        if parameter.contains(';') && rules.query != Query::Nothing {
            return true;
        }
        let name = parameter.split('=').next().unwrap_or_default();
        match &rules.query {
            Query::All => true,
            Query::Nothing => false,
            Query::Only(names) => names.iter().any(|wanted| is_name(name, wanted)),
            Query::Except(names) => !names.iter().any(|wanted| is_name(name, wanted)),
        }
    };
    if rules.query == Query::All && !rules.sort_query {
        text.push('?');
        text.push_str(query);
        return;
    }
    let mut parameters: Vec<&str> = query.split('&').filter(|parameter| counts(parameter)).collect();
    if rules.sort_query {
        // Stable: the order of those with one name may count.
        parameters.sort_by_key(|parameter| parameter.split('=').next());
    }
    for (at, parameter) in parameters.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        text.push_str(parameter);
    }
}

/// Whether an encoded name is this one: origins decode it, so `%69d` is `id`, and must be to us.
fn is_name(encoded: &str, wanted: &str) -> bool {
    let mut bytes = encoded.bytes();
    let mut decoded = std::iter::from_fn(|| {
        let byte = bytes.next()?;
        Some(match byte {
            b'+' => b' ',
            b'%' => {
                let mut ahead = bytes.clone();
                let mut digit = || ahead.next().and_then(|digit| (digit as char).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => {
                        bytes = ahead;
                        u8::try_from(high << 4 | low).unwrap_or(b'%')
                    }
                    _ => b'%',
                }
            }
            byte => byte,
        })
    });
    wanted.bytes().all(|byte| decoded.next() == Some(byte)) && decoded.next().is_none()
}

fn cookies<'a>(headers: &'a HeaderMap, wanted: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'))
        .filter_map(|pair| {
            pair.trim_ascii()
                .strip_prefix(wanted.as_bytes())?
                .strip_prefix(b"=")
        })
}

/// Values may hold any byte but those that end a line; the key is text of one line for each.
fn push_escaped(text: &mut String, value: &[u8]) {
    for &byte in value {
        if byte == b' ' || byte.is_ascii_graphic() && byte != b'%' {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fields;
    use proptest::prelude::*;

    fn key(path_and_query: &str, request: &[(&str, &str)], rules: &KeyRules) -> String {
        let target = Target {
            scheme: "https",
            authority: "App.Example:443",
            path_and_query,
        };
        let key = Key::of(&target, &fields(request), rules);
        assert!(key.as_str().starts_with(key.url()));
        key.as_str()
            .strip_prefix("https://app.example")
            .unwrap()
            .to_owned()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn queries() {
        let rules = |query, sort_query| KeyRules {
            query,
            sort_query,
            ..KeyRules::default()
        };
        let only = Query::Only(names(&["id", "a b"]));
        let except = Query::Except(names(&["utm_source"]));
        for (path, rules, expected) in [
            ("/a?b=2&a=1", rules(Query::All, false), "/a?b=2&a=1"),
            ("/a?", rules(Query::All, false), "/a?"),
            ("/a", rules(Query::All, false), "/a"),
            ("/a?b=2&a=1&b=1", rules(Query::All, true), "/a?a=1&b=2&b=1"),
            ("/a?b=2&a=1", rules(Query::Nothing, false), "/a"),
            (
                "/a?b=2&id=1&%69d=3&a+b=4&a%20b=5&ID=6&idx=7&id",
                rules(only, false),
                "/a?id=1&%69d=3&a+b=4&a%20b=5&id",
            ),
            (
                "/a?utm_source=x&b=1&utm%5Fsource=y",
                rules(except.clone(), false),
                "/a?b=1",
            ),
            ("/a?utm_source=x", rules(except.clone(), false), "/a"),
            // A second parameter may hide behind one that does not count.
            (
                "/a?utm_source=x;id=2",
                rules(except, false),
                "/a?utm_source=x;id=2",
            ),
        ] {
            assert_eq!(key(path, &[], &rules), expected, "{path}");
        }
    }

    #[test]
    fn headers_and_cookies() {
        let rules = KeyRules {
            headers: vec![HeaderName::from_static("x-a"), HeaderName::from_static("x-b")],
            cookies: names(&["lang"]),
            ..KeyRules::default()
        };
        for (request, expected) in [
            (&[][..], "/"),
            (&[("x-a", "1"), ("x-c", "1")], "/\nx-a: 1"),
            (&[("x-a", "")], "/\nx-a: "),
            (
                &[("x-b", "1"), ("x-b", "2"), ("x-a", "%\u{fc}")],
                "/\nx-a: %25%FC\nx-b: 1, 2",
            ),
            (
                &[("cookie", "a=b; lang=de; langx=en"), ("cookie", "lang=fr")],
                "/\ncookie lang=de\ncookie lang=fr",
            ),
        ] {
            assert_eq!(key("/", request, &rules), expected);
        }
    }

    proptest! {
        #[test]
        fn a_sorted_key_knows_no_order(mut parameters in proptest::collection::btree_map("[a-z%]{1,3}", "[0-9=]{0,2}", 0..6)) {
            let rules = KeyRules { sort_query: true, ..KeyRules::default() };
            parameters.remove("");
            let forth: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let back: Vec<_> = forth.iter().rev().cloned().collect();
            prop_assert_eq!(key(&format!("/?{}", forth.join("&")), &[], &rules), key(&format!("/?{}", back.join("&")), &[], &rules));
        }

        #[test]
        fn names_are_read_as_origins_do(name in "\\PC{0,6}") {
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert!(is_name(&encoded, &name));
            let other = format!("{name}x");
            prop_assert!(!is_name(&encoded, &other));
        }
    }
}
