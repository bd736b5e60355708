//! Who may do what: tokens at the API's port, the owner at the admin socket.

use crate::support::small;
use serde_json::json;

/// Every route of the API with a method that it answers.
const ROUTES: [(&str, &str); 15] = [
    ("GET", "/v1/status"),
    ("POST", "/v1/down"),
    ("GET", "/v1/environments/development/credentials/redis_password"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/audit/verify"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("DELETE", "/v1/tokens/reader"),
    ("POST", "/v1/session"),
    ("POST", "/v1/up"),
    ("POST", "/v1/git/decide"),
    ("GET", "/v1/releases"),
    ("GET", "/v1/releases/0123"),
    ("GET", "/v1/releases/0123/verify"),
    ("GET", "/v1/releases/0123/archive"),
];

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

    for (method, path) in ROUTES {
        for token in [None, Some("ast_0000000000000000_nonsense")] {
            let answer = platform.api(method, path, token, b"{}").unwrap();
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
            assert!(answer.header("www-authenticate").is_some());
        }
        let body = match path {
            "/v1/tokens" => json!({ "name": "more", "scopes": ["admin"] }).to_string(),
            _ => "{}".to_owned(),
        };
        let answer = platform
            .api(method, path, Some(&pusher), body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
    }
    let answer = platform.api("GET", "/v1/status", Some(&reader), b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["environments"][0]["environment"], "development");

    let audit = platform
        .run(&["audit", "list", "-n", "50", "--json"])
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
