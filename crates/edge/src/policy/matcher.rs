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

    /// For rules that restrict: also by what a worker may read into the path and the method. Some take `//internal`,
    /// `/x%2F..%2Finternal` and `/internal;a` for `/internal`, and `post` for POST; who asks so must not slip through.
    pub(crate) fn concerns(&self, host: &str, path: &str, method: &Method) -> bool {
        if self.matches(host, path, method) {
            return true;
        }
        // Mostly there is no other spelling, and nothing to look at again.
        let is_odd = method.as_str().bytes().any(|byte| byte.is_ascii_lowercase());
        let upper = is_odd.then(|| method.as_str().to_ascii_uppercase());
        let upper = upper.and_then(|upper| Method::from_bytes(upper.as_bytes()).ok());
        upper
            .as_ref()
            .is_some_and(|upper| self.matches(host, path, upper))
            || loosely(path).is_some_and(|loose| self.matches(host, &loose, upper.as_ref().unwrap_or(method)))
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

/// The path as the most lenient of workers reads it: escaped slashes and backslashes are slashes, several are one, and
/// parameters of segments are none of the path. `None` where that is the path itself.
pub(crate) fn loosely(path: &str) -> Option<String> {
    if !(path.contains("//") || path.contains(';') || path.contains("%2F") || path.contains("%5C")) {
        return None;
    }
    let path = path.replace("%2F", "/").replace("%5C", "/");
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    Some(format!("/{}{end}", kept.join("/")))
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

    #[test]
    fn what_restricts_reads_a_path_as_the_most_lenient_worker() {
        let rule = Matcher::new(
            &[],
            &["/internal".to_owned(), "/*.sql".to_owned()],
            &["POST".to_owned()],
        );
        for (path, concerned) in [
            ("/internal", true),
            ("//internal", true),
            ("/x//y/internal", false),
            ("/x%2F..%2Finternal/y", true),
            ("/%5Cinternal", true),
            ("/internal;jsessionid=1/x", true),
            ("/;x/internal", true),
            ("/internal%2Fx", true),
            ("/dump.sql;x", true),
            ("/a/.;/internal", false),
            ("/a/..;/internal", true),
            ("/internalx;/y", false),
            ("/other;/x", false),
        ] {
            assert_eq!(rule.concerns("x", path, &Method::POST), concerned, "{path}");
        }
        let lower = Method::from_bytes(b"post").unwrap();
        assert!(rule.concerns("x", "/internal", &lower) && !rule.matches("x", "/internal", &lower));
        assert!(!rule.concerns("x", "//internal", &Method::GET));
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
