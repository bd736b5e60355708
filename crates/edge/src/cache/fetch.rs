//! What is not answered at once: wait for an equal request that is on its way, or ask the worker.

use super::ask::{Got, ask, stand_in_for};
use super::behind::behind;
use super::entry::{Entry, Now};
use super::flight::{Flight, Role};
use super::memory::Found;
use super::respond::{Told, Word, from_entry, from_fill};
use super::{Cached, Call, Lookup, Rules, key_of, target_of};
use crate::body::Body;
use crate::fault::{Fault, Kind};
use crate::proxy;
use crate::record::Access;
use crate::serve::Interim;
use crate::upstream::Effort;
use astraler_http_cache::{Asked, Forward, Grant, Outcome, Reason, Reuse, decide, invalidated};
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

/// How often a request waits for another one before it goes by itself.
const MAX_WAITS: usize = 3;

/// Answers a request for a worker that [`super::lookup`] did not answer.
pub(crate) async fn serve(
    call: Call<'_>,
    request: Request<Body>,
    lookup: Lookup,
    rules: Option<&Arc<Rules>>,
    interim: &Interim,
    access: &mut Access,
) -> Result<Response<Body>, Fault> {
    match (lookup, rules) {
        (Lookup::Pass(why), Some(rules)) => pass(&call, request, rules, why, interim, access).await,
        (Lookup::Fetch(key), Some(rules)) => {
            let (parts, _) = request.into_parts();
            let request_id = access.request_id();
            let effort = Effort::default();
            let cached = Cached {
                call: &call,
                edge: call.edge,
                request_id: &request_id,
                interim,
                effort: &effort,
                rules,
                key: &key,
            };
            fetch(&cached, &parts, access).await
        }
        (Lookup::Off | Lookup::Answer(_) | Lookup::Pass(_) | Lookup::Fetch(_), _) => {
            let response = forward(&call, request, interim, access).await?;
            call.inspected(response).await
        }
    }
}

async fn forward(
    call: &Call<'_>,
    request: Request<Body>,
    interim: &Interim,
    access: &mut Access,
) -> Result<Response<Body>, Fault> {
    proxy::forward(
        call.edge,
        call.client,
        request,
        call.checked,
        call.worker,
        interim,
        access,
    )
    .await
}

/// A request that is none of the cache's; what it makes void is forgotten.
async fn pass(
    call: &Call<'_>,
    request: Request<Body>,
    rules: &Arc<Rules>,
    why: Forward,
    interim: &Interim,
    access: &mut Access,
) -> Result<Response<Body>, Fault> {
    let method = request.method().clone();
    let response = forward(call, request, interim, access).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let (client, checked, cache) = (call.client, call.checked, &call.edge.cache);
    let target = target_of(client, checked, checked.target().as_str());
    for path in invalidated(&method, &target, response.status(), response.headers()) {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*path, None),
        };
        let Some(path) = crate::path::normalise(path) else {
            continue;
        };
        let spelled = query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"));
        // What fields add to a key is beside its URL.
        let key = key_of(client, checked, &spelled, &HeaderMap::new(), rules);
        cache.forget_url(key.url());
    }
    // Whatever it answers, the worker has done it: that was first.
    let mut response = call.inspected(response).await?;
    let word = match why {
        Forward::Method => Word::Dynamic,
        _ => Word::Bypass,
    };
    cache.counters.count(word);
    access.cache(word);
    Told::forwarded(word, why, None).write(response.headers_mut());
    Ok(response)
}

async fn fetch(call: &Cached<'_>, parts: &Parts, access: &mut Access) -> Result<Response<Body>, Fault> {
    let cache = &call.edge.cache;
    let asked = Asked::new(&parts.method, &parts.headers, &call.rules.settings);
    let mut waits = 0;
    let mut recalled = false;
    loop {
        // Looked up again: whoever was waited for may have stored it.
        let mut found = cache.memory.find(call.key, &asked);
        let lacks = matches!(&found, Found::Entry(entry) if !usable(call, &asked, entry));
        if lacks {
            found = Found::Nothing;
        }
        if !recalled && !matches!(found, Found::Entry(_)) {
            recalled = true;
            if cache.recall(call.key, call.rules).await {
                continue;
            }
        }
        let mut why = match &found {
            Found::Nothing if lacks => Forward::Partial,
            Found::Nothing => Forward::UriMiss,
            Found::OtherVariants => Forward::VaryMiss,
            Found::Entry(_) => Forward::Stale,
        };
        let chosen = match found {
            Found::Entry(entry) => Some(entry),
            Found::Nothing | Found::OtherVariants => None,
        };
        if let Some(entry) = &chosen {
            let mut used = None;
            match reuse(call, &asked, entry) {
                Reuse::Fresh(freshness) => used = Some((freshness, Word::Hit)),
                Reuse::Stale(freshness, Grant::MaxStale) => used = Some((freshness, Word::Stale)),
                Reuse::Stale(freshness, Grant::WhileRevalidate) => {
                    behind(call.call, call.rules, parts, call.key.clone(), entry.clone());
                    used = Some((freshness, Word::Updating));
                }
                Reuse::GatewayTimeout => return Err(ONLY_IF_CACHED),
                Reuse::Validate(Reason::Request) => why = Forward::Request,
                Reuse::Validate(Reason::Stale) => {}
            }
            if let Some((freshness, word)) = used {
                entry.used();
                cache.counters.count(word);
                if waits > 0 {
                    cache.counters.collapsed.fetch_add(1, Ordering::Relaxed);
                }
                access.cache(word);
                let told = Told::hit(word, freshness.ttl);
                return Ok(from_entry(&asked, entry, Some(freshness.age), told));
            }
        } else if asked.directives.only_if_cached {
            return Err(ONLY_IF_CACHED);
        }

        let role = if goes_alone(call, &asked, chosen.as_deref(), waits) {
            Role::Alone
        } else {
            cache.flights.join(&flight_key(call, &asked))
        };
        let lead = match role {
            Role::Alone => None,
            Role::Leader(lead) => Some(lead),
            Role::Follower(flight) => {
                waits += 1;
                let landed = cache.flights.wait(flight).await;
                if let Some(response) = share(call, &asked, chosen.as_ref(), landed, why, access)? {
                    return Ok(response);
                }
                continue;
            }
        };
        let begun = Instant::now();
        let got = ask(call, &asked, chosen, why, lead).await;
        access.upstream_took(begun);
        access.effort(call.effort);
        return Ok(finish(call, &asked, got?, access));
    }
}

const ONLY_IF_CACHED: Fault =
    Kind::NotCached.because("the request wants a stored response, and there is none to use");

/// [`decide`], and what the deployment adds to it.
fn reuse(call: &Cached<'_>, asked: &Asked<'_>, entry: &Entry) -> Reuse {
    if entry.lineage.deployment != call.rules.deployment {
        return if asked.directives.only_if_cached {
            Reuse::GatewayTimeout
        } else {
            Reuse::Validate(Reason::Stale)
        };
    }
    decide(asked, &entry.stored, entry.time(Now::get()))
}

/// Whether a stored response is of any use: one of which there are parts is, while it has what is asked for and needs no
/// validation.
fn usable(call: &Cached<'_>, asked: &Asked<'_>, entry: &Entry) -> bool {
    let valid = || matches!(reuse(call, asked, entry), Reuse::Fresh(_) | Reuse::Stale(..));
    !entry.is_partial() || entry.can_answer(asked) && valid()
}

/// Whether waiting for an equal request, or letting others wait for this one, is of no use.
fn goes_alone(call: &Cached<'_>, asked: &Asked<'_>, chosen: Option<&Entry>, waits: usize) -> bool {
    let never_fresh =
        |entry: &Entry| entry.stored.policy.always_validate || entry.stored.policy.lifetime.is_zero();
    waits >= MAX_WAITS
        || *asked.method != Method::GET
        || asked.directives.no_cache
        || asked.directives.no_store
        || chosen.is_none() && asked.headers.contains_key(header::RANGE)
        || chosen.is_some_and(never_fresh)
        || call.edge.cache.flights.goes_alone(&flight_key(call, asked))
}

/// Requests are equal when they have the same key and, where variants are known, select the same one. Those with
/// credentials are apart: that their answers are mostly for one client only must not make all others go alone.
pub(super) fn flight_key(call: &Cached<'_>, asked: &Asked<'_>) -> String {
    let known = asked.headers.contains_key(header::AUTHORIZATION);
    let apart = if known { "authorization\n" } else { "" };
    let mut text = format!("{apart}{}\n{}", call.rules.deployment, call.key.as_str());
    if let Some(one) = call.edge.cache.memory.variants(call.key).first() {
        for name in one.stored.variant.names() {
            for value in asked.headers.get_all(name) {
                text.push('\n');
                text.push_str(&String::from_utf8_lossy(value.as_bytes()));
            }
            text.push('\n');
        }
    }
    text
}

/// The answer of the one that was waited for; `None`: look again, or ask.
fn share(
    call: &Cached<'_>,
    asked: &Asked<'_>,
    chosen: Option<&Arc<Entry>>,
    landed: Option<Flight>,
    why: Forward,
    access: &mut Access,
) -> Result<Option<Response<Body>>, Fault> {
    let cache = &call.edge.cache;
    let collapsed = |word, ttl| Told {
        word,
        outcome: Outcome::Forwarded {
            why,
            status: None,
            stored: false,
            collapsed: true,
        },
        ttl: Some(ttl),
        detail: None,
    };
    match landed {
        None => cache.flights.go_alone(&flight_key(call, asked)),
        Some(Flight::NotShared | Flight::Abandoned | Flight::Pending | Flight::Stored) => {}
        Some(Flight::Failed(failure, fault)) => {
            let stood_in = chosen.and_then(|entry| {
                let freshness = stand_in_for(call, asked, entry, failure)?;
                Some((entry, freshness))
            });
            if let Some((entry, freshness)) = stood_in {
                cache.counters.count(Word::Stale);
                access.cache(Word::Stale);
                let told = collapsed(Word::Stale, freshness.ttl);
                return Ok(Some(from_entry(asked, entry, Some(freshness.age), told)));
            }
            if let Some(fault) = fault {
                return Err(fault);
            }
        }
        Some(Flight::Fill(fill)) => {
            let usable = fill.stored.variant.matches(asked.headers) && fill.origin.key == *call.key;
            let now = SystemTime::now().max(fill.anchor.wall);
            if usable
                && let Reuse::Fresh(freshness) = decide(asked, &fill.stored, now)
                && let Some(response) = from_fill(
                    asked,
                    &fill,
                    None,
                    Some(freshness.age),
                    collapsed(Word::Hit, freshness.ttl),
                )
            {
                cache.counters.count(Word::Hit);
                cache.counters.collapsed.fetch_add(1, Ordering::Relaxed);
                access.cache(Word::Hit);
                return Ok(Some(response));
            }
        }
    }
    Ok(None)
}

fn finish(call: &Cached<'_>, asked: &Asked<'_>, got: Got, access: &mut Access) -> Response<Body> {
    let (mut response, told) = match got {
        Got::Entry {
            entry,
            age,
            once,
            told,
        } => {
            let mut response = from_entry(asked, &entry, age, told);
            response.headers_mut().extend(once);
            (response, told)
        }
        Got::Fill {
            fill,
            status,
            headers,
            age,
            told,
        } => {
            let response = from_fill(asked, &fill, Some((status, headers)), age, told);
            // It was asked for before anything of it was let go, so it is there.
            (response.unwrap_or_default(), told)
        }
        Got::Pass(mut response, told) => {
            told.write(response.headers_mut());
            (response, told)
        }
    };
    if *asked.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    call.edge.cache.counters.count(told.word);
    access.cache(told.word);
    response
}
