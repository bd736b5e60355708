//! Who may do what: tokens at the API's port, the owner at the admin socket.

use crate::support::small;
use std::path::Path;

/// Every route of the API with each method that it answers, and what a bearer without the scope sends: `{}` where it is
/// refused before anything is read.
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/v1/status", "{}"),
    ("POST", "/v1/up", "{}"),
    ("POST", "/v1/down", "{}"),
    (
        "POST",
        "/v1/deploy",
        r#"{"environment":"development","release":"0123"}"#,
    ),
    (
        "POST",
        "/v1/promote",
        r#"{"from":"development","to":"production"}"#,
    ),
    ("POST", "/v1/rollback", r#"{"environment":"development"}"#),
    ("GET", "/v1/deployments", "{}"),
    ("DELETE", "/v1/environments/development", "{}"),
    (
        "GET",
        "/v1/environments/development/credentials/redis_password",
        "{}",
    ),
    ("GET", "/v1/environments/development/facts", "{}"),
    ("POST", "/v1/plan", "{}"),
    ("GET", "/v1/drift", "{}"),
    ("POST", "/v1/apply", "{}"),
    ("POST", "/v1/destroy", r#"{"environments":["development"]}"#),
    ("GET", "/v1/audit", "{}"),
    ("GET", "/v1/audit/verify", "{}"),
    ("GET", "/v1/secrets/development", "{}"),
    ("PUT", "/v1/secrets/development/KEY", "{}"),
    ("POST", "/v1/secrets/development/KEY", "{}"),
    ("GET", "/v1/secrets/development/KEY", "{}"),
    ("DELETE", "/v1/secrets/development/KEY", "{}"),
    ("PUT", "/v1/secrets/development/KEY/grants/api", "{}"),
    ("DELETE", "/v1/secrets/development/KEY/grants/api", "{}"),
    ("POST", "/v1/environments/development/secrets/apply", "{}"),
    ("POST", "/v1/keys/rotate", "{}"),
    ("POST", "/v1/mask", "{}"),
    ("GET", "/metrics", "{}"),
    ("GET", "/v1/metrics", "{}"),
    ("GET", "/v1/dns", "{}"),
    ("GET", "/v1/dns/check", "{}"),
    (
        "POST",
        "/v1/dns/challenges",
        r#"{"host":"app.shop.example","value":"x"}"#,
    ),
    ("GET", "/v1/waf", "{}"),
    ("POST", "/v1/waf/reload", "{}"),
    ("GET", "/v1/alerts", "{}"),
    ("POST", "/v1/alerts/1/acknowledge", "{}"),
    ("POST", "/v1/alerts/silences", "{}"),
    ("DELETE", "/v1/alerts/silences/1", "{}"),
    ("POST", "/v1/alerts/test", "{}"),
    ("GET", "/v1/cache", "{}"),
    (
        "POST",
        "/v1/cache/purge",
        r#"{"environment":"development","what":["everything"]}"#,
    ),
    (
        "POST",
        "/client/v4/zones/development/purge_cache",
        r#"{"purge_everything":true}"#,
    ),
    ("PUT", "/v1/environments/development/maintenance", "{}"),
    ("DELETE", "/v1/environments/development/maintenance", "{}"),
    ("PUT", "/v1/environments/development/attack", "{}"),
    ("DELETE", "/v1/environments/development/attack", "{}"),
    ("GET", "/v1/tls", "{}"),
    ("POST", "/v1/tls/renew", "{}"),
    ("GET", "/v1/tokens", "{}"),
    ("POST", "/v1/tokens", r#"{"name":"more","scopes":["admin"]}"#),
    ("DELETE", "/v1/tokens/reader", "{}"),
    ("POST", "/v1/session", "{}"),
    ("POST", "/v1/git/decide", "{}"),
    ("POST", "/v1/git/taken", "{}"),
    ("GET", "/v1/runs", "{}"),
    ("GET", "/v1/runs/1", "{}"),
    ("GET", "/v1/runs/1/events", "{}"),
    ("POST", "/v1/runs/1/cancel", "{}"),
    ("GET", "/git/small.git/info/refs?service=git-upload-pack", "{}"),
    ("POST", "/git/small.git/git-upload-pack", "{}"),
    ("GET", "/v1/releases", "{}"),
    ("POST", "/v1/releases", "{}"),
    ("GET", "/v1/releases/key/0123", "{}"),
    ("GET", "/v1/releases/0123", "{}"),
    ("GET", "/v1/releases/0123/verify", "{}"),
    ("GET", "/v1/releases/0123/archive", "{}"),
    ("GET", "/v1/backups", "{}"),
    ("GET", "/v1/backups/list", "{}"),
    ("POST", "/v1/backups/run", "{}"),
    ("POST", "/v1/backups/verify", "{}"),
    ("POST", "/v1/recover/database", "{}"),
    ("POST", "/v1/recover/storage", "{}"),
    ("POST", "/v1/drill", "{}"),
    ("POST", "/v1/recover/service", "{}"),
];

/// Files whose routes are on a socket of their own, which no token opens.
const OTHER_SOCKETS: [&str; 1] = ["wake.rs"];

/// A route that is added to the daemon is added to [`ROUTES`], where the next test finds out whether it asks for a scope.
#[test]
fn every_route_of_the_api_is_tried_without_its_scope() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/src");
    let declared = declared(&source);
    assert!(declared.len() >= ROUTES.len() - 1, "{declared:?}");
    let listed = |method: &str, path: &str| {
        ROUTES.iter().any(|(tried, address, _)| {
            let address = address.split('?').next().unwrap();
            (method == "ANY" || *tried == method) && fits(path, address)
        })
    };
    let missing: Vec<_> = declared
        .iter()
        .filter(|(method, path)| !listed(method, path))
        .collect();
    assert!(missing.is_empty(), "ROUTES does not list {missing:?}");
}

/// Method and path of each `.route("PATH", method(…))` below a folder.
fn declared(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(declared(&entry.path()));
            continue;
        }
        if OTHER_SOCKETS.contains(&name.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        for route in text.split(".route(").skip(1) {
            let Some((path, rest)) = route.trim_start().trim_start_matches('"').split_once('"') else {
                continue;
            };
            let handlers = rest.split_once('\n').map_or(rest, |(line, after)| {
                // A long route has its handlers on the next line.
                if line.trim() == "," {
                    after.lines().next().unwrap()
                } else {
                    line
                }
            });
            for method in ["get", "post", "put", "patch", "delete", "any"] {
                if handlers.contains(&format!("{method}(")) {
                    found.push((method.to_uppercase(), path.to_owned()));
                }
            }
        }
    }
    found
}

/// Whether an address is one of a path with `{names}`, of which `{*name}` takes the rest.
fn fits(path: &str, address: &str) -> bool {
    let mut address = address.split('/');
    for part in path.split('/') {
        let other = address.next();
        if part.starts_with("{*") {
            return other.is_some();
        }
        if other.is_none_or(|other| !part.starts_with('{') && part != other) {
            return false;
        }
    }
    address.next().is_none()
}

#[test]
fn a_token_opens_what_its_scopes_say_and_every_refusal_is_audited() {
    let platform = small();
    platform.up(&[]).unwrap().ok();
    let create = |name: &str, scope: &str| {
        let made = platform
            .run(&["token", "create", name, "--scope", scope, "--expires", "1h"])
            .unwrap()
            .ok();
        made.out.trim().to_owned()
    };
    let reader = create("reader", "read");
    let pusher = create("pusher", "push:feature/*");

    for (method, path, body) in ROUTES {
        for token in [None, Some("ast_0000000000000000_nonsense")] {
            let answer = platform.api(method, path, token, b"{}").unwrap();
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
            assert!(answer.header("www-authenticate").is_some());
        }
        let answer = platform
            .api(method, path, Some(&pusher), body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
    }
    let answer = platform.api("GET", "/v1/status", Some(&reader), b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["environments"][0]["environment"], "development");

    let audit = platform
        .run(&["audit", "list", "-n", "100", "--json"])
        .unwrap()
        .ok()
        .json();
    let refusals: Vec<&str> = audit
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["action"] == "refused" && entry["actor"] == "token pusher")
        .filter_map(|entry| entry["subject"].as_str())
        .collect();
    assert_eq!(refusals.len(), ROUTES.len(), "{refusals:?}");
    assert!(refusals.contains(&"token create more"), "{refusals:?}");

    let listed = platform.run(&["token", "list", "--json"]).unwrap().ok();
    assert!(!listed.out.contains(&reader), "no token is ever shown again");
    assert_eq!(listed.json().as_array().unwrap().len(), 2);
    platform.run(&["token", "revoke", "reader"]).unwrap().ok();
    let answer = platform.api("GET", "/v1/status", Some(&reader), b"").unwrap();
    assert_eq!(answer.status, 401);
    let again = platform
        .run(&["token", "revoke", "reader"])
        .unwrap()
        .failed_with(1);
    assert!(again.err.contains("there is no token `reader`"), "{}", again.err);
    let odd = platform
        .run(&["token", "create", "x", "--scope", "deploy:nowhere"])
        .unwrap()
        .failed_with(1);
    assert!(odd.err.contains("`deploy:nowhere` is no scope"), "{}", odd.err);
    platform.run(&["down"]).unwrap().ok();
    assert_eq!(platform.processes(), []);
}
