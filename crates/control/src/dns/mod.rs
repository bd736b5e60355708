//! DNS: what the edge serves for the manifest's domain, kept as it should be.
//!
//! The daemon makes the zone and the keys, and publishes; the edge signs and serves, and needs nobody for it.

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
use astraler_dns::{Aliases, Proofs, TooMany, client, proof_name, serial_after};
use astraler_host::file::{self, FileError};
use astraler_host::snapshot::{self, SnapshotError};
use astraler_manifest::Config;
use astraler_model::{DnsName, DnsSnapshot, TransferKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The service that keys of secondaries are granted to.
pub(crate) const SERVICE: &str = "dns";
/// The key that signs, as a credential of the platform.
const SIGNING_KEY: &str = "dns-signing-key";
/// Whether everything is as it should be is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the edge may take to serve a change.
const CONFIRM: Duration = Duration::from_secs(10);

/// What is known beside the manifest.
#[derive(Debug, Default)]
pub(crate) struct Dns {
    /// What proves to a certificate authority whose the names are.
    proofs: Proofs,
    aliases: Aliases,
    wake: Notify,
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
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("no DNS is served: edge.dns.port is 0, or nothing is deployed")]
    Off,
}

/// Whether a proof for this host can be given here.
pub(crate) fn can_prove(platform: &Platform, host: &str) -> bool {
    let published: Option<DnsSnapshot> = read(&platform.installation.layout.snapshot("dns"));
    let served = published.into_iter().flat_map(|snapshot| snapshot.zones);
    let name = proof_name(host);
    platform.installation.ports.dns != 0
        && name.is_some_and(|name| served.into_iter().any(|zone| name.is_at_or_below(&zone.origin)))
}

/// Serves a proof (ACME DNS-01) for a host; returns when it is there for everybody.
pub(crate) async fn present(platform: &Platform, host: &str, value: &str) -> Result<(), DnsError> {
    let not_ours = || DnsError::NotOurs(host.to_owned());
    let name = proof_name(host)
        .filter(|_| can_prove(platform, host))
        .ok_or_else(not_ours)?;
    platform.dns.proofs.add(name, value)?;
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
    if let Some(name) = proof_name(host) {
        platform.dns.proofs.remove(&name, value);
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
        zone.serial = serial_after(before, zone, (now_ms() / 1_000) as u32);
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
    let mut zone = zone::zone(&config, &origin, &platform.installation.listen_addresses);
    let before = published.zones.iter().find(|zone| zone.origin == origin);
    zone.records = platform.dns.aliases.flatten(&origin, &zone.records, before);
    zone.records.extend(platform.dns.proofs.records(&origin));
    zone.signing_key = dns.dnssec.then(|| signing_key(platform)).transpose()?;
    Ok(DnsSnapshot {
        version: 0,
        zones: vec![zone],
        transfer_keys: transfer_keys(platform, &config)?,
        rate: astraler_manifest::zone::response_rate(dns),
    })
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

/// Asks for what is due; says when the next is.
async fn ask_for_aliases(platform: &Platform) -> Duration {
    let Ok(Some(config)) = governing(platform) else {
        return LOOK_EVERY;
    };
    let (Some(resolver), Ok(origin)) = (config.edge.dns.resolver, config.domain.parse::<DnsName>()) else {
        return LOOK_EVERY;
    };
    let records = config.edge.dns.records(&origin);
    let next = platform.dns.aliases.ask(resolver.0, &origin, &records).await;
    next.unwrap_or(LOOK_EVERY)
}
