//! The rules of an environment, ready to be asked: who the client is ([`address`]), whether it may come, how often
//! ([`crate::rate`]), and what answers carry. Made once for each snapshot; a request keeps those it started with.

mod address;
mod matcher;

pub(crate) use matcher::{Matcher, loosely};

use crate::client::Client;
use crate::compress::Wish;
use crate::fault::{Fault, Kind};
use crate::rate::{Rates, Rules};
use crate::record::Access;
use crate::route::Site;
use crate::waf::Elsewhere;
use astraler_model::{
    AccessRule, Attack, EdgePolicy, Environment, ErrorPages, ErrorStatus, Maintenance, PagePath, RuleName,
    any_contains,
};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The rules of one environment.
#[derive(Debug)]
pub(crate) struct Policy {
    said: EdgePolicy,
    access: Vec<Matcher>,
    pub(crate) rates: Rules,
    headers: Vec<HeaderRule>,
}

/// A header rule, with its fields in their own types.
#[derive(Debug)]
struct HeaderRule {
    about: Matcher,
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// What an attack is over at; wall-clock jumps after the snapshot came do not move it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn of(attack: &Attack) -> Self {
        Self(attack.until_ms.map(|until| {
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            Instant::now() + Duration::from_millis(until).saturating_sub(now)
        }))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

impl Policy {
    pub(crate) fn of(said: &EdgePolicy, environment: Environment, rates: &Rates) -> Self {
        let access = said.access.iter();
        let headers = said.header_rules.iter();
        Self {
            access: access
                .map(|rule| Matcher::new(&rule.hosts, &rule.paths, &[]))
                .collect(),
            rates: Rules::of(said, environment, rates),
            headers: headers.map(HeaderRule::of).collect(),
            said: said.clone(),
        }
    }

    /// The client: the other end, or whom a trusted proxy there names.
    pub(crate) fn client(&self, headers: &HeaderMap, client: &Client) -> Client {
        let said = &self.said;
        let peer = client.address.ip().to_canonical();
        let mut client = client.clone();
        client.address.set_ip(peer);
        if any_contains(&said.trusted_proxies, peer) {
            let header = said.client_ip_header;
            let address = address::address(headers, peer, &said.trusted_proxies, header);
            client.address.set_ip(address);
            client.scheme = address::scheme(headers).unwrap_or(client.scheme);
        }
        client
    }

    /// Allow-lists, then maintenance.
    pub(crate) fn admit(
        &self,
        client: IpAddr,
        host: &str,
        path: &str,
        method: &Method,
        access: &mut Access,
    ) -> Result<(), Fault> {
        if let Some(rule) = self.refusing(client, host, path, method) {
            access.decided(rule.as_str(), "deny");
            return Err(Kind::Forbidden.because("this address may not come here"));
        }
        match &self.said.maintenance {
            Some(maintenance) if !any_contains(&maintenance.allow, client) => {
                Err(Kind::Maintenance.because("maintenance is under way"))
            }
            _ => Ok(()),
        }
    }

    /// The first allow-list that is about the request and does not have its client.
    fn refusing(&self, client: IpAddr, host: &str, path: &str, method: &Method) -> Option<&RuleName> {
        let rules = self.said.access.iter().zip(&self.access);
        rules
            .filter(|(_, about)| about.concerns(host, path, method))
            .find(|(rule, _): &(&AccessRule, _)| !any_contains(&rule.allow, client))
            .map(|(rule, _)| &rule.name)
    }

    pub(crate) fn maintenance(&self) -> Option<&Maintenance> {
        self.said.maintenance.as_ref()
    }

    /// The header rules for a request: found when it comes, applied when its answer goes.
    pub(crate) fn headers_for(&self, host: &str, path: &str, method: &Method) -> Vec<usize> {
        let rules = self.headers.iter().enumerate();
        rules
            .filter(|(_, rule)| rule.about.matches(host, path, method))
            .map(|(index, _)| index)
            .collect()
    }

    pub(crate) fn apply_headers(&self, rules: &[usize], headers: &mut HeaderMap) {
        for rule in rules.iter().filter_map(|&index| self.headers.get(index)) {
            for name in &rule.remove {
                headers.remove(name);
            }
            for (name, value) in &rule.set {
                headers.insert(name, value.clone());
            }
            for (name, value) in &rule.add {
                headers.append(name, value.clone());
            }
        }
    }

    /// The file that stands in for the edge's own page: the status's, else its class's.
    pub(crate) fn error_page(&self, status: StatusCode) -> Option<&str> {
        page_of(&self.said.error_pages, status).map(PagePath::as_str)
    }
}

fn page_of(pages: &ErrorPages, status: StatusCode) -> Option<&PagePath> {
    let class = format!("{}xx", status.as_u16() / 100);
    let find = |text: String| {
        ErrorStatus::try_from(text)
            .ok()
            .and_then(|status| pages.get(&status))
    };
    if pages.is_empty() {
        return None;
    }
    find(status.as_str().to_owned()).or_else(|| find(class))
}

impl HeaderRule {
    fn of(rule: &astraler_model::HeaderRule) -> Self {
        let field = |(name, value): (&astraler_model::FieldName, &astraler_model::FieldValue)| {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.as_str()).ok()?))
        };
        Self {
            about: Matcher::new(&rule.hosts, &rule.paths, &[]),
            remove: rule
                .remove
                .iter()
                .filter_map(|name| HeaderName::from_bytes(name.as_str().as_bytes()).ok())
                .collect(),
            set: rule.set.iter().filter_map(field).collect(),
            add: rule.add.iter().filter_map(field).collect(),
        }
    }
}

/// What the answer needs of the request, once its site is known.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) site: Option<Arc<Site>>,
    /// As the environment sees it.
    pub(crate) client: Option<Client>,
    /// Header rules that are about it.
    pub(crate) headers: Vec<usize>,
    /// `RateLimit` and `RateLimit-Policy`.
    pub(crate) rates: Option<[HeaderValue; 2]>,
    /// When a client that came too often may come again.
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) wish: Wish,
    /// Where a rule of the firewall sends whom it refuses.
    pub(crate) elsewhere: Option<Elsewhere>,
}

impl Asked {
    pub(crate) fn about(
        &mut self,
        site: &Arc<Site>,
        host: &str,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) {
        self.headers = site.policy.headers_for(host, path, method);
        self.wish = Wish::of(method, headers, &site.policy.said.compression);
        self.site = Some(site.clone());
    }
}
