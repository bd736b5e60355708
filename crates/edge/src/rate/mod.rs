//! Rate rules: which requests they are about, what makes two requests one client's, and what happens above.

mod table;

use crate::fault::{Fault, Kind};
use crate::policy::{Asked, Deadline, Matcher, loosely};
use crate::record::Access;
use astraler_model::{Characteristic, EdgePolicy, Environment, RateAction, RateRule, RuleName};
use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use table::{Decision, Rate, Table, Verdict};
use tokio::sync::Semaphore;

/// Answers of one rule that may wait at once; one more gets 429.
const MAX_WAITING: usize = 1024;
/// The rule that is added under attack.
const UNDER_ATTACK: &str = "under-attack";

/// The counts of all rules. They outlive a snapshot: to deploy does not forgive anybody.
#[derive(Debug)]
pub(crate) struct Rates {
    begun: Instant,
    counts: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    environment: Environment,
    rule: RateRule,
    count: Weak<Count>,
}

/// The clients of a rule, and those who wait.
#[derive(Debug)]
struct Count {
    table: Table,
    waiting: Semaphore,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            counts: Mutex::default(),
        }
    }
}

impl Rates {
    /// The same for the same rule, for as long as a snapshot has it.
    fn count(&self, environment: Environment, rule: &RateRule) -> Arc<Count> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|known| known.count.strong_count() > 0);
        let known = counts
            .iter()
            .find(|known| known.environment == environment && known.rule == *rule);
        if let Some(count) = known.and_then(|known| known.count.upgrade()) {
            return count;
        }
        let count = Arc::new(Count {
            table: Table::new(rule.max_clients),
            waiting: Semaphore::new(MAX_WAITING),
        });
        counts.push(Known {
            environment,
            rule: rule.clone(),
            count: Arc::downgrade(&count),
        });
        count
    }

    /// Never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX - 1) + 1
    }
}

/// The rate rules of one environment.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    attack: Option<(Deadline, Rule)>,
}

#[derive(Debug)]
struct Rule {
    said: RateRule,
    about: Matcher,
    count: Arc<Count>,
    usual: Rate,
    /// Under attack.
    tight: Rate,
    divisor: u32,
}

/// A request, as far as rules can tell it from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) client: IpAddr,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
}

impl Rules {
    pub(crate) fn of(policy: &EdgePolicy, environment: Environment, rates: &Rates) -> Self {
        let divisor = policy.under_attack.rate_divisor.max(1);
        let rule = |said: &RateRule| Rule {
            about: Matcher::new(&said.hosts, &said.paths, &said.methods),
            count: rates.count(environment, said),
            usual: rate(said, 1),
            tight: rate(said, divisor),
            said: said.clone(),
            divisor,
        };
        let attack = policy.attack.as_ref().and_then(|attack| {
            let name = RuleName::try_from(UNDER_ATTACK.to_owned()).ok()?;
            let said = RateRule::new(name, policy.under_attack.requests_per_s.max(1), 1);
            let mut added = rule(&said);
            (added.tight, added.divisor) = (added.usual, 1);
            Some((Deadline::of(attack), added))
        });
        Self {
            rules: policy.rate_rules.iter().map(rule).collect(),
            attack,
        }
    }

    /// Counts the request with every rule that is about it; the first that blocks ends it.
    pub(crate) async fn count(
        &self,
        rates: &Rates,
        request: Request<'_>,
        skips: bool,
        asked: &mut Asked,
        access: &mut Access,
    ) -> Result<(), Fault> {
        let attack = self.attack.as_ref().filter(|(end, _)| !end.is_over());
        // What an operator has switched on is nobody's to pass over.
        let rules = if skips { &[] } else { &self.rules[..] };
        if rules.is_empty() && attack.is_none() {
            return Ok(());
        }
        let tight = attack.is_some();
        let mut fields = Fields::default();
        let mut result = Ok(());
        for rule in rules.iter().chain(attack.map(|(_, rule)| rule)) {
            if !rule.about.concerns(request.host, request.path, request.method) {
                continue;
            }
            let rate = if tight { &rule.tight } else { &rule.usual };
            let client = ClientKey {
                characteristics: &rule.said.characteristics,
                request,
            };
            let decision = rule.count.table.ask(client, rate, rates.now());
            let name = rule.said.name.as_str();
            if rule.said.action == RateAction::Log {
                if matches!(decision.verdict, Verdict::Over { .. }) {
                    access.decided(name, "log");
                }
                continue;
            }
            fields.add(rule, tight, &decision);
            let retry = match decision.verdict {
                Verdict::Pass { wait: 0 } => continue,
                Verdict::Pass { wait } => match rule.count.waiting.try_acquire() {
                    Ok(_place) => {
                        access.decided(name, "delay");
                        tokio::time::sleep(Duration::from_nanos(wait)).await;
                        continue;
                    }
                    Err(_) => wait,
                },
                Verdict::Over { retry } => retry,
            };
            access.decided(name, "block");
            asked.retry_after_s = Some(seconds(retry).max(1));
            result = Err(Kind::TooManyRequests.because("too many requests from this client"));
            break;
        }
        asked.rates = fields.values();
        result
    }
}

fn rate(rule: &RateRule, divisor: u32) -> Rate {
    let requests = u64::from((rule.requests / divisor).max(1));
    let burst = rule.burst.unwrap_or(rule.requests).min(rule.requests) / divisor;
    let period = u64::from(rule.period_s.max(1)) * 1_000_000_000;
    let delay = match rule.action {
        RateAction::Delay => u64::from(rule.max_delay_ms) * 1_000_000,
        RateAction::Block | RateAction::Log => 0,
    };
    Rate {
        interval: (period / requests).max(1),
        burst: burst.max(1),
        mitigation: u64::from(rule.mitigation_timeout_s) * 1_000_000_000,
        max_delay: delay,
    }
}

fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): lists of structured fields, an item for each
/// rule that is about the request.
#[derive(Debug, Default)]
struct Fields {
    limits: String,
    policies: String,
}

impl Fields {
    fn add(&mut self, rule: &Rule, tight: bool, decision: &Decision) {
        let name = &rule.said.name;
        let comma = if self.limits.is_empty() { "" } else { ", " };
        let divisor = if tight { rule.divisor } else { 1 };
        let requests = (rule.said.requests / divisor).max(1);
        let reset = seconds(decision.reset);
        let _ = write!(
            self.limits,
            "{comma}\"{name}\";r={};t={reset}",
            decision.remaining
        );
        let _ = write!(
            self.policies,
            "{comma}\"{name}\";q={requests};w={}",
            rule.said.period_s
        );
    }

    fn values(self) -> Option<[HeaderValue; 2]> {
        if self.limits.is_empty() {
            return None;
        }
        let value = |text: String| HeaderValue::try_from(text).ok();
        Some([value(self.limits)?, value(self.policies)?])
    }
}

/// Hashes to what makes the request its client's. What a client does not send counts as the same for all who do not.
#[derive(Clone, Copy)]
struct ClientKey<'a> {
    characteristics: &'a [Characteristic],
    request: Request<'a>,
}

impl Hash for ClientKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let request = &self.request;
        for characteristic in self.characteristics {
            match characteristic {
                Characteristic::Ip => match request.client.to_canonical() {
                    IpAddr::V4(address) => (4_u8, u64::from(address.to_bits())).hash(state),
                    // A network has so many addresses that each request could have its own.
                    IpAddr::V6(address) => (6_u8, (address.to_bits() >> 64) as u64).hash(state),
                },
                Characteristic::Host => request.host.hash(state),
                // Spelled otherwise it is the same to some workers, and must not be another count.
                Characteristic::Path => match loosely(request.path) {
                    Some(path) => path.hash(state),
                    None => request.path.hash(state),
                },
                Characteristic::Header(name) => {
                    for value in request.headers.get_all(name) {
                        value.as_bytes().hash(state);
                    }
                    0xff_u8.hash(state);
                }
                Characteristic::Cookie(name) => cookie(request.headers, name).hash(state),
            }
        }
    }
}

/// The value of the first cookie of that name.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'))
        .find_map(|pair| {
            pair.trim_ascii()
                .strip_prefix(name.as_bytes())?
                .strip_prefix(b"=")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(characteristics: &[&str], client: &str, path: &str, fields: &[(&'static str, &str)]) -> u64 {
        let characteristics: Vec<_> = characteristics
            .iter()
            .map(|text| Characteristic::try_from((*text).to_owned()).unwrap())
            .collect();
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect();
        let mut hasher = std::hash::DefaultHasher::new();
        let key = ClientKey {
            characteristics: &characteristics,
            request: Request {
                client: client.parse().unwrap(),
                host: "a.example",
                path,
                method: &Method::GET,
                headers: &headers,
            },
        };
        key.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn who_is_one_client() {
        let ip = |client| key(&["ip"], client, "/", &[]);
        assert_eq!(ip("192.0.2.1"), ip("::ffff:192.0.2.1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1:2:3"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        let path = |path| key(&["ip", "path"], "192.0.2.1", path, &[]);
        assert_ne!(path("/a"), path("/b"));
        let header = |fields: &[(&'static str, &str)]| key(&["header:x-key"], "192.0.2.1", "/", fields);
        assert_eq!(
            header(&[("x-key", "1")]),
            header(&[("x-key", "1"), ("x-other", "2")])
        );
        assert_ne!(header(&[("x-key", "1")]), header(&[("x-key", "2")]));
        assert_ne!(header(&[("x-key", "1")]), header(&[]));
        let cookie = |value: &str| key(&["cookie:sid"], "192.0.2.1", "/", &[("cookie", value)]);
        assert_eq!(cookie("sid=1"), cookie("a=b; sid=1"));
        assert_ne!(cookie("sid=1"), cookie("sid=2"));
        assert_ne!(cookie("sid=1"), cookie("xsid=1"));
    }

    #[test]
    fn a_count_lives_as_long_as_its_rule_is_in_a_snapshot() {
        let rates = Rates::default();
        let rule = RateRule::new("a".to_owned().try_into().unwrap(), 1, 1);
        let first = rates.count(Environment::Staging, &rule);
        assert!(Arc::ptr_eq(&first, &rates.count(Environment::Staging, &rule)));
        assert!(!Arc::ptr_eq(&first, &rates.count(Environment::Production, &rule)));
        let changed = RateRule {
            requests: 2,
            ..rule.clone()
        };
        assert!(!Arc::ptr_eq(&first, &rates.count(Environment::Staging, &changed)));
        drop(first);
        drop(rates.count(Environment::Staging, &rule));
        assert_eq!(rates.counts.lock().unwrap().len(), 1);
    }
}
