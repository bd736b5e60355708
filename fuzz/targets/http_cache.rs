//! A request, a response and the seconds between them, from raw bytes: what is stored holds nothing of a connection, is
//! fresh only once, and answers only with bytes that are there.
#![no_main]

use astraler_http_cache::{
    Answer, Asked, CacheStatus, Key, KeyRules, Outcome, Query, Reuse, Settings, Target, Times, admit, answer, choose, decide,
    freshen, head, invalidated,
};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use std::time::{Duration, SystemTime};

fn fields(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

libfuzzer_sys::fuzz_target!(|input: (u16, u32, u32, &[u8], &[u8], &str)| {
    let (status, first, second, request, response, path) = input;
    let Ok(status) = StatusCode::from_u16(status) else { return };
    let (request, response) = (fields(request), fields(response));
    let settings = Settings::default();
    let received = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let times = Times { requested: received, received };
    let after = |seconds: u32| received + Duration::from_secs(seconds.into());
    let asked = Asked::new(&Method::GET, &request, &settings);

    let target = Target { scheme: "https", authority: "app.example", path_and_query: path };
    for void in invalidated(&Method::POST, &target, StatusCode::OK, &response).iter().skip(1) {
        assert!(void.starts_with('/'), "{void:?}");
    }
    let rules = KeyRules { query: Query::Except(vec!["a".into()]), sort_query: true, ..KeyRules::default() };
    let key = Key::of(&target, &request, &rules);
    let mut told = HeaderMap::new();
    CacheStatus { cache: path, outcome: Outcome::Hit, ttl: None, key: Some(key.as_str()), detail: None }.append_to(&mut told);
    assert_eq!(told.len(), 1, "{path:?}");

    let Ok(stored) = admit(&asked, status, &response, times, &settings) else { return };
    for name in ["age", "connection", "transfer-encoding"] {
        assert!(!stored.headers.contains_key(name), "{name}");
    }
    let length = u64::from(second);
    let Ok(stored) = stored.complete(length) else { return };
    assert_eq!(choose([&stored], &asked), Some(&stored), "it answers the request that it answered");
    let fresh = |seconds| matches!(decide(&asked, &stored, after(seconds)), Reuse::Fresh(_));
    assert!(fresh(first.min(second)) || !fresh(first.max(second)), "fresh again");
    let found = answer(&asked, &stored);
    if let Answer::Part { first, last } = found {
        assert!(first <= last && last < length);
    }
    let _ = head(found, &stored, stored.age(after(first)));
    let again = freshen(&stored, &asked, &response, times, &settings);
    assert_eq!(again.stored.length, Some(length));
});
