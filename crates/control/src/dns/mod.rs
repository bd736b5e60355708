//! DNS: what the edge serves for the manifest's domain, kept as it should be.
//!
//! The daemon makes the zone and the keys, and publishes; the edge signs and serves, and needs nobody for it. Serials are
//! the time of the change in seconds, so that they grow over restarts and lost folders too.

pub(crate) mod api;
mod report;
mod zone;

pub(crate) use api::ChallengeRequest;
pub use report::{DnsCheckReport, DnsReport, Missing};

use crate::credentials::CredentialError;
use crate::daemon::Daemon;
use crate::installation::Installation;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::publish::read;
use crate::secrets::{SecretError, SecretPlace};
use crate::words::chain;
use astraler_dns::client;
use astraler_dns::flatten::{self, Addresses};
use astraler_host::file::{self, FileError};
use astraler_host::snapshot::{self, SnapshotError};
use astraler_manifest::Config;
use astraler_model::{DnsData, DnsName, DnsRecord, DnsSnapshot, DnsZone, ResponseRate, TransferKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The service that keys of secondaries are granted to.
pub(crate) const SERVICE: &str = "dns";
/// The key that signs, as a credential of the platform.
const SIGNING_KEY: &str = "dns-signing-key";
/// Whether everything is as it should be is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the addresses behind an alias hold, whatever their TTL says.
const ALIAS_S: std::ops::RangeInclusive<u32> = 30..=3_600;
/// A resolver has so long to answer, and is asked again so soon when it does not.
const PATIENCE: Duration = Duration::from_secs(6);
const AGAIN: Duration = Duration::from_secs(30);
/// Names that are asked for.
const MAX_ALIASES: usize = 64;
/// How long the edge may take to serve a change.
const CONFIRM: Duration = Duration::from_secs(10);
/// Challenges live as long as it takes to look at them.
const CHALLENGE_TTL_S: u32 = 1;
const MAX_CHALLENGES: usize = 1_000;

/// What is known beside the manifest.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    /// TXT records that prove to a certificate authority whose the names are, by their name.
    challenges: Mutex<BTreeMap<DnsName, BTreeSet<String>>>,
    /// Addresses of names outside, and when they are asked for again.
    found: Mutex<BTreeMap<DnsName, Known>>,
    wake: Notify,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Vec<IpAddr>,
    ttl_s: u32,
    due: Instant,
}

/// DNS is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("the key that signs the zone cannot be had")]
    Credential(#[from] CredentialError),
    #[error("the key that signs the zone cannot be made or used")]
    Key(#[from] astraler_dns::KeyError),
    #[error("a key cannot be handed to the edge")]
    File(#[from] FileError),
    #[error("what the edge shall serve cannot be published")]
    Publish(#[from] SnapshotError),
    #[error("the edge does not serve the change within {after_s} s; `astraler logs edge` may say why")]
    NotServed { after_s: u64 },
    #[error("{0} is not in the zone that is served here; use another way to prove whose it is")]
    NotOurs(String),
    #[error("there are {MAX_CHALLENGES} challenges already")]
    TooMany,
    #[error("no DNS is served: edge.dns.port is 0, or nothing is deployed")]
    Off,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name under which a certificate authority looks for the proof about a host (RFC 8555 section 8.4). A wildcard's is
/// that of the name below it.
fn challenge_name(host: &str) -> Option<DnsName> {
    let host = host.strip_prefix("*.").unwrap_or(host);
    host.parse::<DnsName>().ok()?.child(b"_acme-challenge")
}

/// Whether a proof for this host can be given here.
pub(crate) fn can_prove(platform: &Platform, host: &str) -> bool {
    let published: Option<DnsSnapshot> = read(&platform.installation.layout.snapshot("dns"));
    let served = published.into_iter().flat_map(|snapshot| snapshot.zones);
    let name = challenge_name(host);
    platform.installation.ports.dns != 0
        && name.is_some_and(|name| served.into_iter().any(|zone| name.is_at_or_below(&zone.origin)))
}

/// Serves a proof (ACME DNS-01) for a host; returns when it is there for everybody.
pub(crate) async fn present(platform: &Platform, host: &str, value: &str) -> Result<(), DnsError> {
    let not_ours = || DnsError::NotOurs(host.to_owned());
    let name = challenge_name(host)
        .filter(|_| can_prove(platform, host))
        .ok_or_else(not_ours)?;
    {
        let mut challenges = lock(&platform.dns.challenges);
        if challenges.values().map(BTreeSet::len).sum::<usize>() >= MAX_CHALLENGES {
            return Err(DnsError::TooMany);
        }
        challenges.entry(name).or_default().insert(value.to_owned());
    }
    publish(platform).await?;
    served(platform).await
}

/// Takes a proof away.
pub(crate) async fn withdraw(platform: &Platform, host: &str, value: &str) -> Result<(), DnsError> {
    forget(platform, host, value);
    publish(platform).await
}

/// Takes a proof away; it is gone soon.
pub(crate) fn forget(platform: &Platform, host: &str, value: &str) {
    if let Some(name) = challenge_name(host) {
        let mut challenges = lock(&platform.dns.challenges);
        if let Some(values) = challenges.get_mut(&name) {
            values.remove(value);
            if values.is_empty() {
                challenges.remove(&name);
            }
        }
    }
    wake(platform);
}

/// Where our own server is asked.
fn own_address(platform: &Platform) -> SocketAddr {
    let listening = platform.installation.listen_addresses.iter().copied();
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let address = listening
        .filter(|address| !address.is_unspecified())
        .min_by_key(|address| !address.is_loopback());
    SocketAddr::new(address.unwrap_or(loopback), platform.installation.ports.dns)
}

/// Waits until the edge serves what is published: its serial says so.
async fn served(platform: &Platform) -> Result<(), DnsError> {
    let published: Option<DnsSnapshot> = read(&platform.installation.layout.snapshot("dns"));
    let Some(zone) = published.and_then(|snapshot| snapshot.zones.into_iter().next()) else {
        return Err(DnsError::Off);
    };
    let server = own_address(platform);
    let deadline = Instant::now() + CONFIRM;
    loop {
        let seen = client::serial(server, &zone.origin, Duration::from_secs(3)).await;
        // RFC 1982: signatures may have made it greater.
        if seen.is_ok_and(|seen| seen.wrapping_sub(zone.serial) as i32 >= 0) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(DnsError::NotServed {
                after_s: CONFIRM.as_secs(),
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Publishes what should be served, where it is not published yet.
pub(crate) async fn publish(platform: &Platform) -> Result<(), DnsError> {
    let _publishing = platform.publishing.lock().await;
    let path = platform.installation.layout.snapshot("dns");
    let published: DnsSnapshot = read(&path).unwrap_or_default();
    let mut wanted = wanted(platform, &published)?;
    for zone in &mut wanted.zones {
        let before = published.zones.iter().find(|before| before.origin == zone.origin);
        zone.serial = match before {
            Some(before)
                if *before
                    == (DnsZone {
                        serial: before.serial,
                        ..zone.clone()
                    }) =>
            {
                before.serial
            }
            Some(before) => later(before.serial),
            None => now_s(),
        };
    }
    let version = published.version;
    if (DnsSnapshot {
        version,
        ..wanted.clone()
    }) == published
    {
        return Ok(());
    }
    let version = platform.next_version();
    let group = Installation::group(platform.installation.identities.edge.as_ref());
    snapshot::publish(&path, &DnsSnapshot { version, ..wanted }, 0o640, group)?;
    Ok(())
}

/// A serial after this one: the time, where that is later.
fn later(serial: u32) -> u32 {
    let (now, next) = (now_s(), serial.wrapping_add(1));
    if now.wrapping_sub(next) as i32 > 0 {
        now
    } else {
        next
    }
}

fn now_s() -> u32 {
    (now_ms() / 1_000) as u32
}

/// The manifest that decides, when anything is deployed.
fn governing(platform: &Platform) -> Result<Option<Config>, PlatformError> {
    let live = platform.live()?;
    let first = live.iter().next();
    let config =
        first.map(|(environment, (_, application))| platform.governing(*environment, application, |_| true));
    config.transpose()
}

/// What should be served, with serials of 0 in its zones.
fn wanted(platform: &Platform, published: &DnsSnapshot) -> Result<DnsSnapshot, DnsError> {
    let off = DnsSnapshot::default();
    if platform.installation.ports.dns == 0 {
        return Ok(off);
    }
    let Some(config) = governing(platform)? else {
        return Ok(off);
    };
    let Ok(origin) = config.domain.parse::<DnsName>() else {
        tracing::warn!(
            domain = config.domain,
            "the domain is no name in DNS: no zone is served"
        );
        return Ok(off);
    };
    let dns = &config.edge.dns;
    let mut records = zone::records(&config, &origin, &platform.installation.listen_addresses);
    let before = published.zones.iter().find(|zone| zone.origin == origin);
    records = flatten::flatten(&origin, &records, &found(platform, &origin, &records, before));
    for (name, values) in lock(&platform.dns.challenges)
        .iter()
        .filter(|(name, _)| name.is_at_or_below(&origin))
    {
        records.extend(values.iter().map(|value| DnsRecord {
            name: name.clone(),
            ttl_s: CHALLENGE_TTL_S,
            data: DnsData::Txt(vec![value.as_bytes().into()]),
        }));
    }
    let server = zone::name_servers(&config, &origin).into_iter().next();
    let contact = dns.contact.as_deref().and_then(astraler_manifest::mailbox);
    let notify = dns
        .secondaries
        .iter()
        .flat_map(|secondary| &secondary.notify)
        .map(|server| server.0);
    Ok(DnsSnapshot {
        version: 0,
        zones: vec![DnsZone {
            serial: 0,
            primary: server.unwrap_or_else(|| origin.clone()),
            contact: contact
                .or_else(|| origin.child(b"hostmaster"))
                .unwrap_or_else(|| origin.clone()),
            negative_ttl_s: dns.negative_ttl_s,
            records,
            signing_key: dns.dnssec.then(|| signing_key(platform)).transpose()?,
            notify: notify.collect(),
            origin,
        }],
        transfer_keys: transfer_keys(platform, &config)?,
        rate: ResponseRate {
            per_s: dns.response_rate_per_s,
            exempt: dns.rate_exempt.clone(),
        },
    })
}

/// Addresses of the names outside that aliases lead to: as they were found last, also by a daemon before this one.
fn found(
    platform: &Platform,
    origin: &DnsName,
    records: &[DnsRecord],
    before: Option<&DnsZone>,
) -> Addresses {
    let known = lock(&platform.dns.found);
    let mut found: Addresses = known
        .iter()
        .map(|(name, known)| (name.clone(), (known.addresses.clone(), known.ttl_s)))
        .collect();
    for record in records {
        for target in flatten::outside(origin, std::slice::from_ref(record)) {
            found.entry(target).or_insert_with(|| {
                let same = before
                    .into_iter()
                    .flat_map(|zone| &zone.records)
                    .filter(|other| other.name == record.name);
                let addresses = same.filter_map(|other| match other.data {
                    DnsData::A(address) => Some(IpAddr::from(address)),
                    DnsData::Aaaa(address) => Some(IpAddr::from(address)),
                    _ => None,
                });
                (addresses.collect(), *ALIAS_S.start())
            });
        }
    }
    found
}

/// Hands the signing key to the edge, and makes it first where there is none.
fn signing_key(platform: &Platform) -> Result<PathBuf, DnsError> {
    let fresh = BASE64_STANDARD.encode(astraler_dns::generate()?);
    let secret = platform.credentials.dns_signing_key(SIGNING_KEY, fresh)?;
    let key = BASE64_STANDARD.decode(secret.expose()).unwrap_or_default();
    // Whatever it is, the edge could not sign with it.
    let tag = astraler_dns::SigningKey::from_pkcs8(&key)?.tag();
    hand_over(platform, &format!("zone-{tag}.key"), &key)
}

fn transfer_keys(platform: &Platform, config: &Config) -> Result<Vec<TransferKey>, DnsError> {
    let mut keys = Vec::new();
    for secondary in &config.edge.dns.secondaries {
        let name = match secondary.key_name.parse::<DnsName>() {
            Ok(name) => name,
            Err(_) => continue,
        };
        match transfer_key(platform, &secondary.key_secret) {
            Ok(file) => keys.push(TransferKey { name, file }),
            Err(error) => tracing::warn!(
                secondary = %name,
                error = chain(&error),
                "a secondary cannot transfer the zone: set its key with `astraler secrets set --env platform` and grant it to dns"
            ),
        }
    }
    Ok(keys)
}

/// A file for each version of the secret: that it leaves the store is audited once.
fn transfer_key(platform: &Platform, secret: &str) -> Result<PathBuf, SecretError> {
    let version = platform.granted_secret(SecretPlace::Platform, secret, SERVICE)?;
    let name = format!("transfer-{secret}-{version}.key");
    let path = folder(platform).join(&name);
    if path.exists() {
        return Ok(path);
    }
    let secret = platform.release_secret(SecretPlace::Platform, secret, version, SERVICE)?;
    hand_over(platform, &name, secret.expose().as_bytes()).map_err(|error| match error {
        DnsError::File(error) => CredentialError::from(error).into(),
        other => unreachable!("handing over a file fails as a file: {other}"),
    })
}

fn folder(platform: &Platform) -> PathBuf {
    platform.installation.layout.dns_keys()
}

/// Writes a file that the edge may read, and nobody else.
fn hand_over(platform: &Platform, name: &str, bytes: &[u8]) -> Result<PathBuf, DnsError> {
    let group = Installation::group(platform.installation.identities.edge.as_ref());
    let folder = folder(platform);
    let mode = if group.is_some() { 0o750 } else { 0o700 };
    file::make_dir(&folder, mode, None, group)?;
    let path = folder.join(name);
    if !std::fs::read(&path).is_ok_and(|present| present == bytes) {
        file::replace_owned(&path, bytes, if group.is_some() { 0o640 } else { 0o600 }, group)?;
    }
    Ok(path)
}

/// Keeps what is served as it should be, and asks for the addresses behind aliases.
pub(crate) async fn keep(daemon: Arc<Daemon>) {
    let platform = &daemon.platform;
    loop {
        let next = ask_for_aliases(platform).await;
        if let Err(error) = publish(platform).await {
            tracing::warn!(
                error = chain(&error),
                "what DNS should serve is not published; trying again"
            );
        }
        tokio::select! {
            () = platform.dns.wake.notified() => {}
            () = tokio::time::sleep(next.min(LOOK_EVERY)) => {}
        }
    }
}

/// Says that something may have changed.
pub(crate) fn wake(platform: &Platform) {
    platform.dns.wake.notify_one();
}

/// Asks for what is due; says when the next is. What cannot be found stays as it was.
async fn ask_for_aliases(platform: &Platform) -> Duration {
    let Ok(Some(config)) = governing(platform) else {
        return LOOK_EVERY;
    };
    let (Some(resolver), Ok(origin)) = (config.edge.dns.resolver, config.domain.parse::<DnsName>()) else {
        return LOOK_EVERY;
    };
    let records = config.edge.dns.records(&origin);
    let names: BTreeSet<DnsName> = flatten::outside(&origin, &records)
        .into_iter()
        .take(MAX_ALIASES)
        .collect();
    lock(&platform.dns.found).retain(|name, _| names.contains(name));
    let mut next = LOOK_EVERY;
    for name in names {
        let now = Instant::now();
        let due = lock(&platform.dns.found).get(&name).map(|known| known.due);
        if let Some(due) = due.filter(|due| *due > now) {
            next = next.min(due - now);
            continue;
        }
        let asked = client::addresses(resolver.0, &name, PATIENCE).await;
        let mut found = lock(&platform.dns.found);
        match asked {
            Ok((addresses, ttl_s)) if !addresses.is_empty() => {
                let ttl_s = ttl_s.clamp(*ALIAS_S.start(), *ALIAS_S.end());
                let due = now + Duration::from_secs(ttl_s.into());
                found.insert(
                    name,
                    Known {
                        addresses,
                        ttl_s,
                        due,
                    },
                );
                next = next.min(Duration::from_secs(ttl_s.into()));
            }
            failed => {
                let error = failed
                    .err()
                    .map_or_else(|| "it has no address".to_owned(), |error| chain(&error));
                tracing::warn!(%name, error, "the addresses behind an alias stay as they were");
                if let Some(known) = found.get_mut(&name) {
                    known.due = now + AGAIN;
                }
                next = next.min(AGAIN);
            }
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_looked_for_below_its_host() {
        let name = |host| challenge_name(host).unwrap().to_string();
        assert_eq!(name("app.shop.example"), "_acme-challenge.app.shop.example.");
        assert_eq!(
            name("*.preview.shop.example"),
            "_acme-challenge.preview.shop.example."
        );
        assert_eq!(challenge_name("a..b"), None);
    }

    #[test]
    fn serials_only_grow() {
        let now = now_s();
        assert!(later(now - 100) >= now);
        assert_eq!(later(now + 1_000), now + 1_001, "a clock that went back");
    }
}
