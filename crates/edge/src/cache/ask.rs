//! One request to a worker for the cache, and what its answer changes.

use super::Cached;
use super::entry::{Entry, Now, Origin, take_tags};
use super::fetch::flight_key;
use super::flight::{Flight, Lead};
use super::parts;
use super::pump::{self, Fill};
use super::respond::{Told, Word};
use crate::body::Body;
use crate::fault::{Blame, Fault};
use crate::{forward, proxy};
use astraler_http_cache::{
    Asked, Failure, Fate, Forward, Freshness, Outcome, Refusal, Stored, Times, admit, admit_part, condition,
    freshen, freshen_by_head, identify, received_age, stand_in,
};
use http::header::{self, HeaderMap};
use http::{Method, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

/// What is known of an answer besides itself.
pub(super) struct Came {
    /// With the tags of the answer.
    pub(super) origin: Origin,
    /// The tags of the answer, where it has the field.
    pub(super) tags: Option<Box<[Box<str>]>>,
    pub(super) times: Times,
    pub(super) anchor: Now,
    pub(super) why: Forward,
}

/// What came of asking the worker.
pub(super) enum Got {
    /// Something stored is the answer.
    Entry {
        entry: Arc<Entry>,
        age: Option<Duration>,
        /// Fields for this client only.
        once: HeaderMap,
        told: Told,
    },
    /// A new answer, which is being stored.
    Fill {
        fill: Arc<Fill>,
        status: StatusCode,
        headers: HeaderMap,
        age: Option<Duration>,
        told: Told,
    },
    /// A new answer, which is not.
    Pass(Response<Body>, Told),
}

pub(super) fn stand_in_for(
    call: &Cached<'_>,
    asked: &Asked<'_>,
    entry: &Entry,
    failure: Failure,
) -> Option<Freshness> {
    if entry.lineage.deployment != call.rules.deployment {
        return None;
    }
    let now = entry.time(Now::get());
    stand_in(asked, &entry.stored, failure, now, &call.rules.settings)
}

/// Asks the worker.
pub(super) async fn ask(
    call: &Cached<'_>,
    asked: &Asked<'_>,
    mut chosen: Option<Arc<Entry>>,
    why: Forward,
    lead: Option<Lead>,
) -> Result<Got, Fault> {
    let cache = &call.edge.cache;
    let settings = &call.rules.settings;
    let mut beginning = chosen.is_none().then(|| parts::beginning(call, asked)).flatten();
    loop {
        let mut headers = asked.headers.clone();
        // A request for a part of what is not there, or for what was not worth storing, goes as it is.
        let own = chosen.is_none() && (lead.is_none() || asked.headers.contains_key(header::RANGE));
        let conditional = !own && condition(chosen.as_deref().map(|entry| &entry.stored), &mut headers);
        let beginning = beginning.take().filter(|_| !own);
        if let Some(beginning) = &beginning {
            beginning.ask_for_the_rest(&mut headers);
        }
        let origin = Origin {
            key: call.key.clone(),
            lineage: call.rules.lineage(),
            tags: Box::default(),
            epoch: cache.purges.epoch(),
        };
        let requested = SystemTime::now();
        let answer = proxy::fetch(
            call.edge,
            call.call.client,
            call.request_id,
            (asked.method.clone(), headers),
            (call.interim, call.effort),
            call.call.checked,
            call.call.worker,
        )
        .await;
        let anchor = Now::get();
        let times = Times {
            requested,
            received: anchor.wall,
        };

        let failure = match &answer {
            Err(fault) if fault.kind.blame() == Blame::Upstream => Some(Failure::Unreachable),
            Ok(response) if response.status().is_server_error() => Some(Failure::Status(response.status())),
            _ => None,
        };
        if let Some(failure) = failure {
            let fault = answer.as_ref().err().copied();
            if let Some(entry) = &chosen
                && let Some(freshness) = stand_in_for(call, asked, entry, failure)
            {
                publish(lead.as_ref(), Flight::Failed(failure, fault));
                let status = match failure {
                    Failure::Status(status) => Some(status),
                    Failure::Unreachable => None,
                };
                let told = Told {
                    outcome: forwarded(why, status, false),
                    ttl: Some(freshness.ttl),
                    ..Told::hit(Word::Stale, freshness.ttl)
                };
                return Ok(Got::Entry {
                    entry: entry.clone(),
                    age: Some(freshness.age),
                    once: HeaderMap::new(),
                    told,
                });
            }
            if fault.is_some() {
                publish(lead.as_ref(), Flight::Failed(failure, fault));
            }
        }
        let mut response = answer?;
        if let Some(beginning) = beginning
            && matches!(
                response.status(),
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
            )
        {
            match beginning.with_the_rest(response, times, settings) {
                Some(whole) => response = whole,
                // Not the rest of what is there: once more, for all of it.
                None => continue,
            }
        }
        let tags = take_tags(response.headers_mut());
        let came = Came {
            origin: Origin {
                tags: tags.clone().unwrap_or_default(),
                ..origin
            },
            tags,
            times,
            anchor,
            why,
        };

        if conditional
            && response.status() == StatusCode::NOT_MODIFIED
            && let Some(entry) = chosen.take()
        {
            if let Some(got) = not_modified(call, asked, &entry, &came, &response) {
                publish(lead.as_ref(), Flight::Stored);
                return Ok(got);
            }
            // It speaks of nothing that is here: once more, without condition.
            continue;
        }
        let response = match call.call.inspected(response).await {
            Ok(response) => response,
            Err(fault) => {
                cache.flights.go_alone(&flight_key(call, asked));
                publish(lead.as_ref(), Flight::NotShared);
                return Err(fault);
            }
        };
        if *asked.method == Method::HEAD {
            return Ok(headed(call, asked, chosen.as_ref(), came, response));
        }
        let admitted = admit(asked, response.status(), response.headers(), times, settings);
        let refusal = match admitted.and_then(|stored| selectable(&stored).map(|()| stored)) {
            Ok(stored) => {
                let length = content_length(response.headers());
                if length.is_none_or(|length| length <= cache.max_object.load(Ordering::Relaxed)) {
                    return Ok(pump::start(call.edge, stored, came, response, length, lead));
                }
                cache.flights.go_alone(&flight_key(call, asked));
                publish(lead.as_ref(), Flight::NotShared);
                return Ok(Got::Pass(
                    response,
                    Told::forwarded(Word::Bypass, why, Some("too-large")),
                ));
            }
            Err(Refusal::Partial) => {
                let part = admit_part(asked, response.status(), response.headers(), times, settings);
                match part.and_then(|part| selectable(&part.stored).map(|()| part)) {
                    Ok(part) => {
                        publish(lead.as_ref(), Flight::NotShared);
                        return Ok(parts::pass(call, part, came, response));
                    }
                    Err(refusal) => refusal,
                }
            }
            Err(refusal) => refusal,
        };
        if refusal.voids_older(response.status())
            && let Some(entry) = &chosen
        {
            cache.forget(entry);
        }
        // What comes of one client's wishes says nothing about the requests of others.
        let of_client = matches!(refusal, Refusal::Request | Refusal::RequestNoStore)
            || lead.is_none() && asked.headers.contains_key(header::RANGE);
        if !of_client {
            cache.flights.go_alone(&flight_key(call, asked));
        }
        publish(lead.as_ref(), Flight::NotShared);
        let word = match refusal {
            Refusal::NothingAllows | Refusal::Useless => Word::Dynamic,
            _ => Word::Bypass,
        };
        return Ok(Got::Pass(
            response,
            Told::forwarded(word, why, Some(refusal.name())),
        ));
    }
}

/// An answer that varies by what we tell the worker (the client's address, for example) cannot be chosen by what clients
/// send: one client's would be given to all.
fn selectable(stored: &Stored) -> Result<(), Refusal> {
    match stored.variant.names().any(forward::is_written_here) {
        true => Err(Refusal::Vary),
        false => Ok(()),
    }
}

fn publish(lead: Option<&Lead>, flight: Flight) {
    if let Some(lead) = lead {
        lead.publish(flight);
    }
}

pub(super) fn forwarded(why: Forward, status: Option<StatusCode>, stored: bool) -> Outcome {
    Outcome::Forwarded {
        why,
        status,
        stored,
        collapsed: false,
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What was stored still holds. `None` where the 304 speaks of something else.
fn not_modified(
    call: &Cached<'_>,
    asked: &Asked<'_>,
    chosen: &Arc<Entry>,
    came: &Came,
    response: &Response<Body>,
) -> Option<Got> {
    let cache = &call.edge.cache;
    let mut entries = cache.memory.variants(call.key);
    let at = match entries.iter().position(|entry| Arc::ptr_eq(entry, chosen)) {
        Some(at) => at,
        // Evicted or replaced meanwhile; it is as good for this answer.
        None => {
            entries.push(chosen.clone());
            entries.len() - 1
        }
    };
    let all: Vec<Stored> = entries.iter().map(|entry| entry.stored.clone()).collect();
    let identified = identify(&all, at, asked, response.headers());
    let mut answer = None;
    for index in identified {
        let old = &entries[index];
        let freshened = freshen(
            &old.stored,
            asked,
            response.headers(),
            came.times,
            &call.rules.settings,
        );
        let lineage = came.origin.lineage.clone();
        let new = old.freshened(freshened.stored, lineage, came.tags.clone(), came.origin.epoch);
        let new = Arc::new(new);
        match freshened.fate {
            Fate::Replace if selectable(&new.stored).is_err() => cache.forget(old),
            Fate::Replace => cache.store_in_place(old, &new),
            Fate::Leave => {}
            Fate::Drop(_) => cache.forget(old),
        }
        if answer.is_none() && new.can_answer(asked) || index == at {
            answer = Some((new, freshened.once, matches!(freshened.fate, Fate::Replace)));
        }
    }
    let (entry, once, stored) = answer?;
    let freshness = entry.stored.freshness(came.times.received);
    let told = Told {
        word: Word::Revalidated,
        outcome: forwarded(came.why, Some(StatusCode::NOT_MODIFIED), stored),
        ttl: Some(freshness.ttl),
        detail: None,
    };
    Some(Got::Entry {
        entry,
        age: received_age(response.headers()),
        once,
        told,
    })
}

/// The answer to a HEAD; what it says of a stored response counts (RFC 9111 section 4.3.5).
fn headed(
    call: &Cached<'_>,
    asked: &Asked<'_>,
    chosen: Option<&Arc<Entry>>,
    came: Came,
    response: Response<Body>,
) -> Got {
    let cache = &call.edge.cache;
    if response.status() == StatusCode::OK
        && let Some(old) = chosen
    {
        let settings = &call.rules.settings;
        match freshen_by_head(&old.stored, asked, response.headers(), came.times, settings) {
            Some(freshened) => match freshened.fate {
                Fate::Replace if selectable(&freshened.stored).is_err() => cache.forget(old),
                Fate::Replace => {
                    let origin = came.origin;
                    let new = old.freshened(freshened.stored, origin.lineage, came.tags, origin.epoch);
                    cache.store_in_place(old, &Arc::new(new));
                }
                Fate::Leave => {}
                Fate::Drop(_) => cache.forget(old),
            },
            None => {
                let contradicted = Stored {
                    contradicted: true,
                    ..old.stored.clone()
                };
                let new = old.freshened(contradicted, old.lineage.clone(), None, old.epoch);
                cache.store_in_place(old, &Arc::new(new));
            }
        }
    }
    let word = if chosen.is_some() {
        Word::Expired
    } else {
        Word::Miss
    };
    Got::Pass(response, Told::forwarded(word, came.why, None))
}
