//! What a shared HTTP cache may store, reuse, validate and must forget: RFC 9111, with RFC 5861 (`stale-while-revalidate`,
//! `stale-if-error`), RFC 9211 (`Cache-Status`), RFC 9213 (`CDN-Cache-Control`), and what RFC 9110 says about conditions
//! and ranges.
//!
//! For: the edge, which has sockets, storage and a clock, and asks this crate at each turn. Everything here is a function
//! of its arguments: time is one of them.
//!
//! It does *not* know where responses are kept, how their content streams, who waits for whom, or what a purge is.
//!
//! # The way of a request
//!
//! | Step | Function |
//! |---|---|
//! | Is it one for the cache? | [`Asked::consult`] |
//! | Under which key? | [`Key::of`] |
//! | Which of the responses under that key? | [`choose`] |
//! | May it be used now? | [`decide`] |
//! | How does the origin validate it? | [`condition`], then [`identify`] and [`freshen`] on 304, [`admit()`] on a whole answer, [`stand_in`] on an error |
//! | Is it a part, and of what? | [`admit_part`], [`same_representation`] |
//! | What does the client get of it? | [`answer()`] and [`head`] |
//! | What does the client's tool see? | [`CacheStatus`] |
//! | What did an unsafe request make void? | [`invalidated`] |
//!
//! # Where the RFCs leave a choice
//!
//! - Only GET is stored. Answers to POST could be (RFC 9110 section 9.3.3), and nobody needs them.
//! - Parts are stored where they are one each of something with a strong entity tag and a known length.
//! - What cannot be read is read as the stricter of its meanings: a number as 0, a list of fields as all of them, a quote
//!   without end as `no-store`. A targeted field that cannot be read is not there: RFC 9213 asks for that.
//! - A clock that was set back makes stored responses stale, never fresh again.
//! - All else is in [`Settings`].
//!
//! # A cache around it
//!
//! With a map for storage and a function for the origin. A real one streams; it keeps one request for each key and
//! variant on its way, lets the others wait (their [`Outcome::Forwarded`] is `collapsed`), does
//! [`Grant::WhileRevalidate`]'s validation behind the client's back, and remembers for a while which keys were refused,
//! so that requests for them neither wait nor lose their own conditions and ranges. What an unsafe request voids, it
//! finds by [`Key::url`].
//!
//! ```
//! use astraler_http_cache::*;
//! use http::{HeaderMap, Method, Request, Response, StatusCode};
//! use std::collections::HashMap;
//! use std::time::{Duration, SystemTime};
//!
//! type Content = Vec<u8>;
//! type Storage = HashMap<String, Vec<(Stored, Content)>>;
//! type Origin<'a> = &'a mut dyn FnMut(&Method, HeaderMap) -> Option<Response<Content>>;
//!
//! fn serve(
//!     storage: &mut Storage,
//!     settings: &Settings,
//!     request: &Request<()>,
//!     now: SystemTime,
//!     origin: Origin<'_>,
//! ) -> Response<Content> {
//!     let (method, headers) = (request.method(), request.headers());
//!     let asked = Asked::new(method, headers, settings);
//!     let path_and_query = request.uri().path_and_query().map_or("/", |target| target.as_str());
//!     let target = Target { scheme: "https", authority: "app.example", path_and_query };
//!     let key = |path_and_query: &str| {
//!         let target = Target { scheme: "https", authority: "app.example", path_and_query };
//!         Key::of(&target, headers, &KeyRules::default()).as_str().to_owned()
//!     };
//!     let gateway_timeout = || {
//!         let mut response = Response::new(Content::new());
//!         *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
//!         response
//!     };
//!
//!     // Not for the cache.
//!     if let Consult::PassOn(_) = asked.consult() {
//!         let Some(response) = origin(method, headers.clone()) else { return gateway_timeout() };
//!         for path in invalidated(method, &target, response.status(), response.headers()) {
//!             storage.remove(&key(&path));
//!         }
//!         return response;
//!     }
//!
//!     // Look it up.
//!     let entries = storage.entry(key(path_and_query)).or_default();
//!     let chosen = choose(entries.iter().map(|(stored, _)| stored), &asked).cloned();
//!     let use_it = |stored: &Stored, content: &Content, age: Option<Duration>, ttl: i64, outcome| {
//!         let answer = answer(&asked, stored);
//!         let (status, headers) = head(answer, stored, age);
//!         let content = match answer {
//!             _ if *method == Method::HEAD => Content::new(),
//!             Answer::Whole => content.clone(),
//!             Answer::Part { first, last } => content[first as usize..=last as usize].to_vec(),
//!             Answer::Unsatisfiable | Answer::NotModified => Content::new(),
//!         };
//!         let mut response = Response::new(content);
//!         (*response.status_mut(), *response.headers_mut()) = (status, headers);
//!         CacheStatus { cache: "edge", outcome, ttl: Some(ttl), key: None, detail: None }.append_to(response.headers_mut());
//!         response
//!     };
//!     let position = |entries: &[(Stored, Content)]| {
//!         entries.iter().position(|(stored, _)| Some(stored) == chosen.as_ref())
//!     };
//!     let mut why = if entries.is_empty() { Forward::UriMiss } else { Forward::VaryMiss };
//!     if let Some(at) = position(entries) {
//!         let (stored, content) = &entries[at];
//!         match decide(&asked, stored, now) {
//!             Reuse::Fresh(freshness) | Reuse::Stale(freshness, _) => {
//!                 return use_it(stored, content, Some(freshness.age), freshness.ttl, Outcome::Hit);
//!             }
//!             Reuse::GatewayTimeout => return gateway_timeout(),
//!             Reuse::Validate(Reason::Stale) => why = Forward::Stale,
//!             Reuse::Validate(Reason::Request) => why = Forward::Request,
//!         }
//!     } else if asked.directives.only_if_cached {
//!         return gateway_timeout();
//!     }
//!
//!     // Ask the origin: whether what we have still holds, else for the whole.
//!     let mut sent = headers.clone();
//!     let conditional = condition(chosen.as_ref(), &mut sent);
//!     let response = origin(&Method::GET, sent);
//!     let times = Times { requested: now, received: now };
//!     let failure = match &response {
//!         None => Some(Failure::Unreachable),
//!         Some(response) if response.status().is_server_error() => Some(Failure::Status(response.status())),
//!         Some(_) => None,
//!     };
//!     if let (Some(failure), Some(at)) = (failure, position(entries))
//!         && let Some(freshness) = stand_in(&asked, &entries[at].0, failure, now, settings)
//!     {
//!         let (stored, content) = &entries[at];
//!         return use_it(stored, content, Some(freshness.age), freshness.ttl, Outcome::Hit);
//!     }
//!     let Some(response) = response else { return gateway_timeout() };
//!     let outcome = |stored, status| Outcome::Forwarded { why, status, stored, collapsed: false };
//!     let age = received_age(response.headers());
//!     if conditional && response.status() == StatusCode::NOT_MODIFIED && let Some(at) = position(entries) {
//!         let all: Vec<Stored> = entries.iter().map(|(stored, _)| stored.clone()).collect();
//!         let mut fresh = None;
//!         // Had it identified nothing, the request would be repeated without condition.
//!         for index in identify(&all, at, &asked, response.headers()).into_iter().rev() {
//!             let freshened = freshen(&all[index], &asked, response.headers(), times, settings);
//!             let content = entries[index].1.clone();
//!             match freshened.fate {
//!                 Fate::Replace => entries[index].0 = freshened.stored.clone(),
//!                 Fate::Leave => {}
//!                 Fate::Drop(_) => drop(entries.remove(index)),
//!             }
//!             fresh = Some((freshened, content));
//!         }
//!         let Some((Freshened { stored, once, .. }, content)) = fresh else { return gateway_timeout() };
//!         let outcome = outcome(true, Some(StatusCode::NOT_MODIFIED));
//!         let mut response = use_it(&stored, &content, age, stored.freshness(now).ttl, outcome);
//!         response.headers_mut().extend(once);
//!         return response;
//!     }
//!     let (parts, content) = response.into_parts();
//!     let fetched = Asked { method: &Method::GET, ..asked };
//!     let admitted = admit(&fetched, parts.status, &parts.headers, times, settings)
//!         .and_then(|stored| stored.complete(content.len() as u64));
//!     match admitted {
//!         Ok(stored) => {
//!             entries.retain(|(old, _)| old.variant != stored.variant);
//!             let response = use_it(&stored, &content, age, stored.freshness(now).ttl, outcome(true, None));
//!             entries.push((stored, content));
//!             response
//!         }
//!         Err(refusal) => {
//!             if refusal.voids_older(parts.status) && let Some(at) = position(entries) {
//!                 entries.remove(at);
//!             }
//!             Response::from_parts(parts, content)
//!         }
//!     }
//! }
//!
//! // Fresh for a minute, then validated.
//! let (mut storage, settings) = (Storage::new(), Settings::default());
//! let mut requests = 0;
//! let mut origin = |_: &Method, headers: HeaderMap| {
//!     requests += 1;
//!     let known = headers.get("if-none-match").is_some_and(|tag| tag == "\"1\"");
//!     let response = Response::builder().header("etag", "\"1\"").header("cache-control", "max-age=60");
//!     if known { response.status(304).body(vec![]).ok() } else { response.body(b"hello".to_vec()).ok() }
//! };
//! let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
//! let mut get = |seconds, range: Option<&str>| {
//!     let mut request = Request::get("/a");
//!     if let Some(range) = range {
//!         request = request.header("range", range);
//!     }
//!     let request = request.body(()).unwrap();
//!     let response = serve(&mut storage, &settings, &request, start + Duration::from_secs(seconds), &mut origin);
//!     let told = response.headers()["cache-status"].to_str().unwrap().to_owned();
//!     (response.status().as_u16(), response.into_body(), told)
//! };
//! let hello = || b"hello".to_vec();
//! assert_eq!(get(0, None), (200, hello(), "edge; fwd=uri-miss; stored; ttl=60".into()));
//! assert_eq!(get(59, None), (200, hello(), "edge; hit; ttl=1".into()));
//! assert_eq!(get(59, Some("bytes=1-2")), (206, b"el".to_vec(), "edge; hit; ttl=1".into()));
//! assert_eq!(get(60, None), (200, hello(), "edge; fwd=stale; fwd-status=304; stored; ttl=60".into()));
//! assert_eq!(get(119, None), (200, hello(), "edge; hit; ttl=1".into()));
//! assert_eq!(requests, 2);
//! ```

mod admit;
mod answer;
mod directive;
mod field;
mod fresh;
mod invalidate;
mod key;
mod part;
mod request;
mod reuse;
mod settings;
mod status;
mod store;
mod structured;
mod target;
#[cfg(test)]
mod testing;
mod validate;
mod vary;
#[cfg(test)]
mod whole;

pub use admit::{Refusal, admit};
pub use answer::{Answer, answer, head};
pub use directive::{RequestDirectives, ResponseDirectives, Restriction};
pub use fresh::{Source, Times, received_age};
pub use invalidate::invalidated;
pub use key::{Key, KeyRules, Query};
pub use part::{Part, admit_part, same_representation};
pub use request::{Asked, Consult, PassOn};
pub use reuse::{Failure, Freshness, Grant, Reason, Reuse, choose, decide, stand_in};
pub use settings::Settings;
pub use status::{CacheStatus, Forward, Outcome};
pub use store::{OnceStale, Policy, Stored};
pub use target::Target;
pub use validate::{Fate, Freshened, condition, freshen, freshen_by_head, identify};
pub use vary::Variant;
