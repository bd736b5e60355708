//! One message in, one message out: what every transport has in common.

use crate::answer::{self, Nature};
use crate::cookie;
use crate::query::{self, CLASS_IN, Query, QueryName, Unanswerable, kind, rcode};
use crate::rate::{Table, Verdict};
use crate::transfer::Transfer;
use crate::tsig::{self, Key, Session};
use crate::write::{self, Body, Frame, Opt};
use crate::zone::Zone;
use astraler_model::ResponseRate;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Answers that a thread remembers, and bytes of one.
const CACHED: usize = 2_048;
const CACHED_BYTES: usize = 2 << 10;

/// What is served: replaced as a whole.
#[derive(Debug, Default)]
pub struct Served {
    pub(crate) version: u64,
    zones: HashMap<Box<[u8]>, Arc<Zone>>,
    keys: Vec<Key>,
    rate: ResponseRate,
}

impl Served {
    /// All of it.
    pub fn new(version: u64, zones: Vec<Arc<Zone>>, keys: Vec<Key>, rate: ResponseRate) -> Self {
        let zones = zones.into_iter().map(|zone| (zone.origin.wire().into(), zone));
        Self {
            version,
            zones: zones.collect(),
            keys,
            rate,
        }
    }

    pub(crate) fn zone(&self, origin: &[u8]) -> Option<&Arc<Zone>> {
        self.zones.get(origin)
    }

    /// The zone that a name is in: the closest one above.
    fn zone_of(&self, name: &QueryName, wanted: u16) -> Option<&Arc<Zone>> {
        let mut found = name.suffixes().filter_map(|suffix| self.zones.get(suffix));
        let closest = found.next()?;
        // The parent answers what concerns a delegation, when we are that too.
        match wanted == kind::DS && closest.origin.wire() == name.wire() {
            true => Some(found.next().unwrap_or(closest)),
            false => Some(closest),
        }
    }
}

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) served: arc_swap::ArcSwap<Served>,
    rates: Table,
    secret: cookie::Secret,
    begun: Instant,
    pub(crate) counters: Counters,
}

/// How many there were of each.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages that could be read as such.
    pub queries: AtomicU64,
    /// Answers that were sent.
    pub answers: AtomicU64,
    /// Not sent because of their rate.
    pub limited: AtomicU64,
    /// Sent as "ask over TCP", because of their rate or their length.
    pub truncated: AtomicU64,
    /// No query.
    pub malformed: AtomicU64,
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum Outcome<'m, 's> {
    /// Nothing.
    Silent,
    /// What is in the buffer is sent.
    Send,
    /// Message after message is sent.
    Transfer(Box<(Query<'m>, Transfer, Session<'s>)>),
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            served: arc_swap::ArcSwap::from_pointee(Served::default()),
            rates: Table::new(),
            secret: cookie::Secret::new(),
            begun: Instant::now(),
            counters: Counters::default(),
        }
    }
}

/// Answers that were given before, of one version of what is served. One for each thread.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bodies: HashMap<Box<[u8]>, Arc<Body>>,
    key: Vec<u8>,
    of: Option<Arc<Served>>,
}

impl Memory {
    fn refresh(&mut self, served: &Arc<Served>) {
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, served)) {
            self.bodies.clear();
            self.of = Some(served.clone());
        }
    }

    fn body(&mut self, zone: &Zone, query: &Query<'_>, dnssec: bool) -> Arc<Body> {
        self.key.clear();
        self.key.extend(query.name.wire());
        self.key.extend(query.kind.to_be_bytes());
        self.key.push(dnssec.into());
        if let Some(body) = self.bodies.get(&*self.key) {
            return body.clone();
        }
        let answer = answer::answer(zone, query.name.wire(), query.kind, dnssec);
        let body = Arc::new(Body::of(&answer, query.name.wire()));
        // Only what is in the zone: made-up names would push everything else out.
        if body.is_exact && body.bytes() <= CACHED_BYTES {
            if self.bodies.len() >= CACHED {
                self.bodies.clear();
            }
            self.bodies.insert(self.key.as_slice().into(), body.clone());
        }
        body
    }
}

/// Answers one message into `out`.
pub(crate) fn answer<'m, 's>(
    shared: &Shared,
    served: &'s Arc<Served>,
    memory: &mut Memory,
    (message, client, transport): (&'m [u8], IpAddr, Transport),
    out: &mut Vec<u8>,
) -> Outcome<'m, 's> {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let query = match query::read(message) {
        Ok(query) => query,
        Err(Unanswerable::Silent) => {
            count(&shared.counters.malformed);
            return Outcome::Silent;
        }
        Err(Unanswerable::Error {
            head,
            rcode,
            question,
        }) => {
            count(&shared.counters.malformed);
            let question = question.and_then(|end| message.get(query::HEADER..end));
            write::refusal(head, rcode, question, out);
            return limited(shared, served, client, transport, false, (Nature::Error, &[], 0));
        }
    };
    count(&shared.counters.queries);
    let now = now();

    let mut session = None;
    if let Some(signed) = &query.signed {
        match tsig::verify(&served.keys, message, signed, now) {
            Ok(verified) => session = Some(verified),
            Err(rejected) => {
                write::refusal(query.head, rcode::NOTAUTH, Some(query.question), out);
                rejected.append(out);
                return limited(shared, served, client, transport, false, (Nature::Error, &[], 0));
            }
        }
    }

    let mut known = session.is_some();
    let opt = query.edns.map(|edns| Opt {
        dnssec_ok: edns.dnssec_ok,
        cookie: edns.cookie.map(|cookie| {
            let (is_ours, answer) = shared.secret.answer(cookie, client, now as u32);
            known |= is_ours;
            (&cookie[..8], answer)
        }),
    });
    let frame = Frame {
        head: query.head,
        question: Some(query.question),
        opt,
        limit: match transport {
            Transport::Udp => write::udp_limit(&query),
            Transport::Tcp => write::MAX_TCP,
        },
        reserve: session.as_ref().map_or(0, |_| tsig::RESERVE),
        truncate: false,
    };

    let zone = served.zone_of(&query.name, query.kind);
    let is_transfer = [kind::AXFR, kind::IXFR].contains(&query.kind);
    let body = match (query.edns, zone) {
        (Some(edns), _) if edns.version > 0 => Arc::new(Body::error(rcode::BADVERS)),
        // Other classes, and names that are not ours: nobody is asked on anybody's behalf.
        (_, Some(zone)) if query.class == CLASS_IN => match is_transfer {
            false => {
                memory.refresh(served);
                memory.body(zone, &query, opt.is_some_and(|opt| opt.dnssec_ok))
            }
            true if zone.origin.wire() != query.name.wire() => Arc::new(Body::error(rcode::REFUSED)),
            true => match (session, transport) {
                (Some(session), Transport::Tcp) => {
                    let transfer = Transfer::new(zone.clone());
                    return Outcome::Transfer(Box::new((query, transfer, session)));
                }
                // Over UDP a secondary that asks for changes is told the serial (RFC 1995 section 2): ask over TCP.
                (Some(mut session), Transport::Udp) if query.kind == kind::IXFR => {
                    let soa = answer::answer(zone, query.name.wire(), kind::SOA, false);
                    write::message(&Body::of(&soa, query.name.wire()), &frame, out);
                    session.sign(now, out);
                    count(&shared.counters.answers);
                    return Outcome::Send;
                }
                (returned, _) => {
                    session = returned;
                    Arc::new(Body::error(rcode::REFUSED))
                }
            },
        },
        _ => Arc::new(Body::error(rcode::REFUSED)),
    };

    let subject = match body.nature {
        Nature::Found | Nature::NoData => (query.name.wire(), query.kind),
        Nature::NoName | Nature::Referral => (zone.map_or(&[][..], |zone| zone.origin.wire()), 0),
        Nature::Error => (&[][..], body.rcode),
    };
    // A wildcard's answers are all one, whatever name was made up.
    let subject = match body.nature {
        Nature::Found | Nature::NoData if !body.is_exact => {
            (zone.map_or(&[][..], |zone| zone.origin.wire()), query.kind)
        }
        _ => subject,
    };
    let verdict = match transport == Transport::Udp && !known {
        true => judge(shared, served, client, (body.nature, subject.0, subject.1)),
        false => Verdict::Send,
    };
    if verdict == Verdict::Drop {
        count(&shared.counters.limited);
        return Outcome::Silent;
    }
    let frame = Frame {
        truncate: verdict == Verdict::Truncate,
        ..frame
    };
    if write::message(&body, &frame, out) {
        count(&shared.counters.truncated);
    }
    if let Some(session) = &mut session {
        session.sign(now, out);
    }
    count(&shared.counters.answers);
    Outcome::Send
}

fn judge(shared: &Shared, served: &Served, client: IpAddr, subject: (Nature, &[u8], u16)) -> Verdict {
    let (nature, name, number) = subject;
    let now_ms = shared.begun.elapsed().as_millis() as u32;
    shared
        .rates
        .judge(&served.rate, client, nature, (name, number), now_ms)
}

/// An error that is in the buffer already: it is sent, or not.
fn limited<'m, 's>(
    shared: &Shared,
    served: &Served,
    client: IpAddr,
    transport: Transport,
    known: bool,
    subject: (Nature, &[u8], u16),
) -> Outcome<'m, 's> {
    // Errors are no larger than their queries: an empty one instead gains nothing.
    if transport == Transport::Udp && !known && judge(shared, served, client, subject) != Verdict::Send {
        shared.counters.limited.fetch_add(1, Ordering::Relaxed);
        return Outcome::Silent;
    }
    shared.counters.answers.fetch_add(1, Ordering::Relaxed);
    Outcome::Send
}

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
