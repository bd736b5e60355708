//! Which requests a rule is about: hosts and paths by patterns, methods by name.

use http::Method;

/// Everything of a kind when a list is empty.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    hosts: Vec<String>,
    paths: Vec<String>,
    methods: Vec<String>,
}

impl Matcher {
    pub(crate) fn new(hosts: &[String], paths: &[String], methods: &[String]) -> Self {
        Self {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            paths: paths.to_vec(),
            methods: methods.iter().map(|method| method.to_ascii_uppercase()).collect(),
        }
    }

    /// `host` in lower case, `path` in its one spelling.
    pub(crate) fn matches(&self, host: &str, path: &str, method: &Method) -> bool {
        let any = |list: &[String], holds: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|pattern| holds(pattern))
        };
        any(&self.methods, &|wanted| wanted == method.as_str())
            && any(&self.hosts, &|pattern| glob(pattern, host))
            && any(&self.paths, &|pattern| path_matches(pattern, path))
    }
}

/// Without `*` a path and what is below it; with `*` the whole path.
fn path_matches(pattern: &str, path: &str) -> bool {
    if pattern.contains('*') {
        return glob(pattern, path);
    }
    path.strip_prefix(pattern.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `*` stands for any characters. Linear in the text for each star: no pattern makes it slow.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, path, matches) in [
            ("/api", "/api", true),
            ("/api", "/api/x", true),
            ("/api/", "/api", true),
            ("/api", "/apix", false),
            ("/", "/anything", true),
            ("/api/*", "/api/x", true),
            ("/api/*", "/api", false),
            ("/*.php", "/a/b.php", true),
            ("/*.php", "/a/b.phpx", false),
            ("/a*b*c", "/axxbxxc", true),
            ("/a*b*c", "/axxcxxb", false),
            ("/a*a", "/a", false),
        ] {
            assert_eq!(path_matches(pattern, path), matches, "{pattern} {path}");
        }
        for (pattern, host, matches) in [
            ("admin.*", "admin.shop.example", true),
            ("*.shop.example", "a.b.shop.example", true),
            ("*.shop.example", "shop.example", false),
            ("shop.example", "shop.example", true),
        ] {
            assert_eq!(glob(pattern, host), matches, "{pattern} {host}");
        }
        let rule = Matcher::new(
            &["A.example".to_owned()],
            &["/login".to_owned()],
            &["post".to_owned()],
        );
        assert!(rule.matches("a.example", "/login", &Method::POST));
        assert!(!rule.matches("a.example", "/login", &Method::GET));
        assert!(!rule.matches("b.example", "/login", &Method::POST));
        assert!(!rule.matches("a.example", "/", &Method::POST));
        assert!(Matcher::default().matches("x", "/", &Method::GET));
    }

    /// By definition, in exponential time.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) if slow(rest, text) => true,
            (Some((b'*', _)), Some((_, text))) => slow(pattern, text),
            (Some((p, rest)), Some((t, text))) if p == t => slow(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_matches_as_the_definition_says(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            prop_assert_eq!(glob(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
