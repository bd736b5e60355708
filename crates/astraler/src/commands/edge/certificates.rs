//! Certificates of an edge that stands alone: those of its file, for private names those of a local CA, and for public
//! ones those that a CA was asked for.

use super::dns;
use super::local_ca::LocalCa;
use super::state::State;
use crate::failure::{Failure, Kind, Outcome};
use astraler_manifest::{AcmeChallenge, HttpsOnly, Site, Standalone};
use astraler_model::{DnsName, Route, TlsCertificate, TlsSnapshot};
use astraler_tls::{Issued, Timing, due_ms};
use rustix::fs::MemfdFlags;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

const DAY_S: u64 = 86_400;

/// What there is for each site. What was in memory before is held for as long as snapshots may name it: the names must not
/// come again.
#[derive(Default)]
pub(super) struct Certificates {
    sites: Vec<OfSite>,
    before: Vec<OfSite>,
    local: Option<LocalCa>,
    /// Of what the local CA issued, the one that is renewed first.
    issued: Option<Timing>,
    /// What CAs had issued when it was looked last: where that cannot be said now.
    in_force: BTreeMap<String, PathBuf>,
}

#[derive(Default)]
struct OfSite {
    /// In memory, as one file of chain and key.
    held: Option<Held>,
    /// Names that a CA is asked for, each by itself.
    asked_for: Vec<String>,
    redirect: bool,
}

struct Held {
    names: Vec<String>,
    pem: OwnedFd,
}

/// What CAs look at now.
#[derive(Default)]
pub(super) struct Proofs {
    pub(super) http: BTreeMap<String, String>,
    pub(super) alpn: BTreeMap<String, PathBuf>,
}

impl Certificates {
    /// Reads and issues what the sites need. Without `https` nothing is.
    pub(super) fn load(
        &mut self,
        settings: &Standalone,
        routes: &[Route],
        https: &[SocketAddr],
        now_ms: u64,
    ) -> Outcome {
        let mut sites = Vec::new();
        let mut issued: Option<Timing> = None;
        for (site, route) in settings.sites.iter().zip(routes) {
            let mut one = OfSite {
                redirect: site.redirect_to_https,
                ..OfSite::default()
            };
            if let Some(certificate) = &site.certificate {
                let pem = from_files(certificate, site.key.as_deref())?;
                let names = route.hosts.clone();
                one.held = Some(Held { names, pem });
            } else if !https.is_empty() {
                let (private, public) = names(site, settings, https);
                one.asked_for = public;
                if !private.is_empty() {
                    let made = self.issue(settings, &private, now_ms)?;
                    let timing = timing(&made);
                    if issued.is_none_or(|first| timing.not_after_ms < first.not_after_ms) {
                        issued = Some(timing);
                    }
                    let pem = in_memory(made.pem.as_bytes())?;
                    one.held = Some(Held { names: private, pem });
                }
            }
            sites.push(one);
        }
        let has_some = |site: &OfSite| site.held.is_some() || !site.asked_for.is_empty();
        if !https.is_empty() && !sites.iter().any(has_some) {
            let message = "https without a certificate: the local CA vouches for private names only";
            return Err(Failure::new(Kind::General, message).hint(
                "say --certificate FILE --key FILE, or `certificate` in [[sites]]; or ask a CA: --acme --host NAME, or \
                 `acme = true` in [edge.tls]",
            ));
        }
        if settings.edge.tls.acme && sites.iter().all(|site| site.asked_for.is_empty()) {
            let step = match https.is_empty() {
                true => "serve https: --listen-tls 0.0.0.0:443",
                false => "name a public one: --host NAME, or `hosts` in [[sites]]",
            };
            tracing::warn!("acme is on, and there is no name to ask a certificate for; next step: {step}");
        }
        self.before = std::mem::replace(&mut self.sites, sites);
        self.issued = issued;
        Ok(())
    }

    /// What the edge is told, with what CAs have issued by now and what they look at.
    pub(super) fn snapshot(
        &mut self,
        settings: &Standalone,
        https: &[SocketAddr],
        state: Option<&State>,
        proofs: &Proofs,
    ) -> TlsSnapshot {
        let tls = &settings.edge.tls;
        let days = u64::from(tls.hsts_max_age_days);
        let entry = |site: &OfSite, names: &[String], file: PathBuf, is_public: bool| {
            let only = match tls.https_only {
                HttpsOnly::Off => false,
                HttpsOnly::Public => is_public,
                HttpsOnly::All => true,
            };
            // A browser that has heard it from `localhost` refuses what every other program serves there.
            let is_local = names.iter().any(|name| is_of_this_machine(name));
            TlsCertificate {
                names: names.to_vec(),
                file,
                redirect: site.redirect || only,
                hsts_max_age_s: if only && !is_local { days * DAY_S } else { 0 },
            }
        };
        let mut certificates = Vec::new();
        let before = std::mem::take(&mut self.in_force);
        for site in &self.sites {
            if let Some(held) = &site.held {
                let file = format!("/proc/self/fd/{}", held.pem.as_raw_fd()).into();
                certificates.push(entry(site, &held.names, file, false));
            }
            for name in &site.asked_for {
                let known = state.map(|state| state.in_force(name));
                let file = known
                    .and_then(Result::ok)
                    .unwrap_or_else(|| before.get(name).cloned());
                if let Some(file) = file {
                    self.in_force.insert(name.clone(), file.clone());
                    certificates.push(entry(site, std::slice::from_ref(name), file, true));
                }
            }
        }
        TlsSnapshot {
            certificates,
            min_version: tls.min_version,
            https_port: https.first().map_or(0, SocketAddr::port),
            http_challenges: proofs.http.clone(),
            alpn_challenges: proofs.alpn.clone(),
        }
    }

    /// Names that a CA is asked for.
    pub(super) fn asked_for(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .sites
            .iter()
            .flat_map(|site| site.asked_for.iter().cloned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether what the local CA issued is to be issued anew. A clock that was set back makes it so, too.
    pub(super) fn are_due(&self, now_ms: u64) -> bool {
        self.issued
            .is_some_and(|timing| now_ms < timing.not_before_ms || due_ms(&timing, 0) <= now_ms)
    }

    /// Says which local CA has issued, where it has.
    pub(super) fn tell(&self) {
        if let (Some(local), Some(_)) = (&self.local, &self.issued) {
            local.tell();
        }
    }

    fn issue(&mut self, settings: &Standalone, names: &[String], now_ms: u64) -> Outcome<Issued> {
        let folder = State::folder(settings)?;
        let local = LocalCa::open(self.local.take(), &folder, now_ms)?;
        let issued = local.issue(names, now_ms);
        self.local = Some(local);
        issued
    }
}

fn timing(issued: &Issued) -> Timing {
    Timing {
        not_before_ms: issued.facts.not_before_ms,
        not_after_ms: issued.facts.not_after_ms,
        suggested_ms: None,
        failures: 0,
    }
}

fn is_of_this_machine(name: &str) -> bool {
    let is_address = name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok();
    is_address || name == "localhost" || name.ends_with(".localhost")
}

/// Names that the local CA can vouch for, and names that a CA is asked for. For a site of every host, those by which this
/// machine knows itself.
fn names(site: &Site, settings: &Standalone, https: &[SocketAddr]) -> (Vec<String>, Vec<String>) {
    use astraler_tls::{Kind, classify};
    let (mut private, mut public) = (site.hosts.clone(), Vec::new());
    if private.is_empty() {
        private.extend(["localhost", "127.0.0.1", "[::1]"].map(String::from));
        private.extend(https.iter().map(|address| match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        }));
        private.sort_unstable();
        private.dedup();
        private.retain(|name| classify(name) == Kind::Local);
        return (private, public);
    }
    let by_dns = settings.edge.tls.acme_challenge == AcmeChallenge::Dns01;
    let zone = dns::origin(settings).filter(|_| by_dns);
    // Of a wildcard what it is below decides; it is proven by DNS alone (RFC 8555 section 7.1.3).
    private.retain(|name| match classify(name.strip_prefix("*.").unwrap_or(name)) {
        Kind::Local => true,
        Kind::Public if settings.edge.tls.acme => {
            match cannot_be_proven(name, by_dns, zone.as_ref()) {
                None => public.push(name.clone()),
                Some(why) => tracing::warn!(host = name, "no certificate: {why}"),
            }
            false
        }
        Kind::Public => {
            tracing::warn!(
                host = name,
                "no certificate: the local CA vouches for private names only; name a file, or say `acme = true` in \
                 [edge.tls]"
            );
            false
        }
        Kind::Nobody(why) => {
            tracing::warn!(host = name, "no certificate: {why}; name a file");
            false
        }
    });
    (private, public)
}

fn cannot_be_proven(name: &str, by_dns: bool, zone: Option<&DnsName>) -> Option<&'static str> {
    if !by_dns {
        let is_wildcard = name.starts_with("*.");
        return is_wildcard
            .then_some("a wildcard is proven by edge.tls.acme_challenge = \"dns-01\" alone; or name a file");
    }
    let is_ours = |name: DnsName| zone.is_some_and(|zone| name.is_at_or_below(zone));
    let is_proven_here = name.parse::<DnsName>().is_ok_and(is_ours);
    (!is_proven_here)
        .then_some("it is not in the zone that is served here; name a file, or say another acme_challenge")
}

fn from_files(certificate: &Path, key: Option<&Path>) -> Outcome<OwnedFd> {
    let mut pem = Vec::new();
    for path in std::iter::once(certificate).chain(key) {
        let unreadable = |error| Failure::new(Kind::General, format!("{}: {error}", path.display()));
        pem.extend(std::fs::read(path).map_err(unreadable)?);
        pem.push(b'\n');
    }
    in_memory(&pem)
}

fn in_memory(pem: &[u8]) -> Outcome<OwnedFd> {
    let memory = rustix::fs::memfd_create("certificate", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut file = File::from(memory);
    file.write_all(pem)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::super::local_ca::ROOT;
    use super::*;
    use astraler_tls::LEAF_LIFETIME;

    const NOW_MS: u64 = 1_795_000_000_000;
    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn what_the_local_ca_issued_is_renewed_by_any_clock() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[sites]]\nhosts = [\"app.test\", \"shop.com\"]\norigin = \"http://127.0.0.1:1\"\n";
        let mut settings = astraler_manifest::parse_standalone("edge.toml", text).unwrap();
        settings.state_folder = Some(folder.path().join("state"));
        let routes = [Route {
            hosts: settings.sites[0].hosts.clone(),
            environment: astraler_model::Environment::Production,
            deployment: String::new(),
            workers: vec![],
            assets: None,
            wake: None,
            policy: astraler_model::EdgePolicy::default(),
            cache: None,
        }];
        let https = ["127.0.0.1:8443".parse().unwrap()];
        let mut certificates = Certificates::default();
        assert!(!certificates.are_due(NOW_MS));
        certificates.load(&settings, &routes, &https, NOW_MS).unwrap();
        let snapshot = certificates.snapshot(&settings, &https, None, &Proofs::default());
        assert_eq!(snapshot.certificates[0].names, ["app.test"], "no public name");
        let life = u64::try_from(LEAF_LIFETIME.as_millis()).unwrap();
        for (now, due) in [
            (NOW_MS, false),
            (NOW_MS + life / 2, false),
            (NOW_MS + life / 3 * 2 + DAY_MS, true),
            (NOW_MS + 10 * life, true),
            // Set back: by less than what certificates are backdated, and by more.
            (NOW_MS - 60_000, false),
            (NOW_MS - DAY_MS, true),
        ] {
            assert_eq!(certificates.are_due(now), due, "{now}");
        }
        // Renewed by the clock that was set back, and by the same CA.
        let root = std::fs::read(folder.path().join("state").join(ROOT)).unwrap();
        certificates
            .load(&settings, &routes, &https, NOW_MS - DAY_MS)
            .unwrap();
        assert!(!certificates.are_due(NOW_MS - DAY_MS));
        assert_eq!(
            std::fs::read(folder.path().join("state").join(ROOT)).unwrap(),
            root
        );
        // A CA that is about to end is replaced.
        certificates
            .load(&settings, &routes, &https, NOW_MS + 3_600 * DAY_MS)
            .unwrap();
        assert_ne!(
            std::fs::read(folder.path().join("state").join(ROOT)).unwrap(),
            root
        );
    }
}
