//! What an unsafe request makes void (RFC 9111 section 4.4).

use crate::target::{Target, normal_authority, split};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

/// The paths, with query, whose stored responses are void after this exchange, all variants of them: the target, and
/// those that `Location` and `Content-Location` name at the same origin. They are spelled as a client could: bring
/// them to their one spelling before you look for them. Empty for a safe method and for an error.
pub fn invalidated(
    method: &Method,
    target: &Target<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Vec<String> {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut paths = vec![target.path_and_query.to_owned()];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let path = headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .and_then(|reference| resolve(target, reference.trim()));
        paths.extend(path.filter(|path| path != target.path_and_query));
    }
    paths
}

/// RFC 9110 section 9.2.1 and the safe methods of its registry that people use. Any other may be unsafe.
fn is_safe(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    ) || matches!(method.as_str(), "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// Path and query of a reference (RFC 3986 section 5.2), where it stays at the origin of its base.
fn resolve(base: &Target<'_>, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    if let Some((scheme, rest)) = scheme_of(reference) {
        if !scheme.eq_ignore_ascii_case(base.scheme) {
            return None;
        }
        return at_origin(base, rest.strip_prefix("//")?);
    }
    if let Some(rest) = reference.strip_prefix("//") {
        return at_origin(base, rest);
    }
    let (path, query) = split(reference);
    let (base_path, base_query) = split(base.path_and_query);
    let path = match path {
        "" if query.is_none() => return Some(with_query(base_path, base_query)),
        "" => return Some(with_query(base_path, query)),
        path if path.starts_with('/') => remove_dot_segments(path),
        path => {
            let folder = base_path.rfind('/').map_or("/", |slash| &base_path[..=slash]);
            remove_dot_segments(&format!("{folder}{path}"))
        }
    };
    Some(with_query(&path, query))
}

fn scheme_of(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let mut bytes = scheme.bytes();
    let valid = bytes.next()?.is_ascii_alphabetic()
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    valid.then_some((scheme, rest))
}

fn at_origin(base: &Target<'_>, rest: &str) -> Option<String> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if normal_authority(base.scheme, authority) != base.normal_authority() {
        return None;
    }
    let (path, query) = split(rest);
    Some(with_query(
        &remove_dot_segments(if path.is_empty() { "/" } else { path }),
        query,
    ))
}

fn with_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// RFC 3986 section 5.2.4, for a path that begins with a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fields;
    use proptest::prelude::*;

    const TARGET: Target<'_> = Target {
        scheme: "https",
        authority: "app.example",
        path_and_query: "/a/b?q=1",
    };

    #[test]
    fn unsafe_methods_void_the_target_unless_they_fail() {
        for (method, status, void) in [
            ("GET", 200, false),
            ("HEAD", 200, false),
            ("OPTIONS", 204, false),
            ("QUERY", 200, false),
            ("POST", 200, true),
            ("PUT", 204, true),
            ("DELETE", 202, true),
            ("PATCH", 303, true),
            ("M-SEARCH", 200, true),
            ("post", 200, true),
            ("POST", 400, false),
            ("POST", 500, false),
        ] {
            let (method, status) = (
                Method::from_bytes(method.as_bytes()).unwrap(),
                StatusCode::from_u16(status).unwrap(),
            );
            let found = invalidated(&method, &TARGET, status, &fields(&[]));
            assert_eq!(
                found,
                if void { vec!["/a/b?q=1"] } else { vec![] },
                "{method} {status}"
            );
        }
    }

    #[test]
    fn locations_of_the_same_origin_are_void_too() {
        for (reference, path) in [
            ("/c", Some("/c")),
            ("/c?x#y", Some("/c?x")),
            ("c", Some("/a/c")),
            ("../c/./d/..", Some("/c/")),
            ("../../../c", Some("/c")),
            ("?x", Some("/a/b?x")),
            ("", None),
            ("#y", None),
            ("https://app.example/c", Some("/c")),
            ("HTTPS://APP.example:443", Some("/")),
            ("https://app.example?x", Some("/?x")),
            ("https://app.example:/c", Some("/c")),
            ("//app.example/c", Some("/c")),
            ("//other.example/c", None),
            ("http://app.example/c", None),
            ("https://app.example:8443/c", None),
            ("https://user@app.example/c", None),
            ("mailto:x", None),
            ("https:/c", None),
        ] {
            for name in ["location", "content-location"] {
                let found = invalidated(
                    &Method::POST,
                    &TARGET,
                    StatusCode::CREATED,
                    &fields(&[(name, reference)]),
                );
                let mut expected = vec!["/a/b?q=1"];
                expected.extend(path);
                assert_eq!(found, expected, "{reference}");
            }
        }
    }

    proptest! {
        #[test]
        fn resolved_paths_are_rooted(reference in "([a-z./?#:@]|//|app.example){0,20}") {
            if let Some(path) = resolve(&TARGET, &reference) {
                prop_assert!(path.starts_with('/'), "{}", path);
            }
        }
    }
}
