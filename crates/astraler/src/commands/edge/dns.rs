//! DNS of an edge that stands alone: the zone of its `domain`, in which the hosts of its sites lead here. Its key, and what
//! was served last, lie in the state folder.

use super::sockets::{DNS, HTTP, HTTPS, Sockets};
use super::state::State;
use super::{Standing, now_ms};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use astraler_dns::{Aliases, Proofs, Server, SigningKey, delegation, registrar, serial_after};
use astraler_host::file;
use astraler_manifest::{Resolver, Standalone, zone};
use astraler_model::{DnsName, DnsSnapshot, DnsZone, TransferKey};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Whether everything is as it should be is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether a change is served.
const SERVED_YET: Duration = Duration::from_millis(10);

/// A server of the zone.
pub(super) struct Dns {
    server: Server,
    snapshots: watch::Sender<Arc<DnsSnapshot>>,
    pub(super) proofs: Proofs,
    aliases: Aliases,
    changed: Notify,
}

impl Dns {
    /// Serves what the file says; nothing where no socket is for it.
    pub(super) fn start(settings: &Standalone, sockets: &Sockets) -> Outcome<Option<Self>> {
        let tcp = sockets.tcp(DNS)?;
        if tcp.is_empty() {
            if is_wanted(settings) {
                tracing::warn!(
                    "DNS is served once the edge is started anew: a successor gets the sockets that there are"
                );
            }
            return Ok(None);
        }
        let (proofs, aliases) = (Proofs::default(), Aliases::default());
        let mut first = wanted(settings, sockets, &proofs, &aliases, None)?;
        first.version = 1;
        let (snapshots, snapshot) = watch::channel(Arc::new(first));
        let server = astraler_dns::start(astraler_dns::Config {
            udp: sockets.dns_udp()?,
            tcp,
            snapshot,
        })?;
        let dns = Self {
            server,
            snapshots,
            proofs,
            aliases,
            changed: Notify::new(),
        };
        dns.remember(settings);
        Ok(Some(dns))
    }

    /// Publishes what should be served, where that is something else; the version that has it.
    pub(super) fn publish(&self, settings: &Standalone, sockets: &Sockets) -> Outcome<u64> {
        let present = self.snapshots.borrow().clone();
        let before = present.zones.first();
        let mut next = wanted(settings, sockets, &self.proofs, &self.aliases, before)?;
        next.version = present.version;
        if next != *present {
            next.version += 1;
            self.snapshots.send_replace(Arc::new(next));
            self.remember(settings);
        }
        Ok(self.snapshots.borrow().version)
    }

    /// Says that other aliases may have to be asked for.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Waits until it is served.
    pub(super) async fn served(&self, version: u64) {
        while self.server.version() < version {
            tokio::time::sleep(SERVED_YET).await;
        }
    }

    /// Asks for what is behind aliases; after how long again.
    async fn ask_for_aliases(&self, settings: &Standalone) -> Duration {
        let (Some(resolver), Some(origin)) = (settings.edge.dns.resolver, origin(settings)) else {
            return LOOK_EVERY;
        };
        let Resolver(resolver) = resolver;
        let records = settings.edge.dns.records(&origin);
        let next = self.aliases.ask(resolver, &origin, &records).await;
        next.map_or(LOOK_EVERY, |next| next.min(LOOK_EVERY))
    }

    /// The serial must not go back, and addresses behind aliases should not go away, when the edge is started anew.
    fn remember(&self, settings: &Standalone) {
        let present = self.snapshots.borrow().clone();
        let (Some(zone), Ok(folder)) = (present.zones.first(), folder(settings)) else {
            return;
        };
        let written = serde_json::to_vec(zone)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                file::make_dir(&folder, 0o700, None, None)
                    .and_then(|()| file::replace(folder.join(record(&zone.origin)), &text, 0o600))
                    .map_err(|error| format!("{error}: {}", error.source))
            });
        if let Err(error) = written {
            tracing::warn!(error, "what DNS serves is not written down; it is served");
        }
    }

    /// Says what the registrar must be told.
    pub(super) fn tell(&self) {
        let present = self.snapshots.borrow().clone();
        for zone in &present.zones {
            line(&format!("the zone {} is served; for its registrar:", zone.origin));
            let ds = delegation(zone).ok().flatten();
            for record in registrar(zone, ds.as_deref()) {
                line(&format!("  {record}"));
            }
        }
    }

    /// Answers what is being asked, and ends.
    pub(super) fn stop(self) {
        self.server.stop();
    }
}

/// Keeps what is served as it should be, for as long as it is polled.
pub(super) async fn keep(standing: &Standing) {
    let Some(dns) = &standing.dns else {
        return std::future::pending().await;
    };
    loop {
        let next = dns.ask_for_aliases(&standing.settings()).await;
        if let Err(failure) = dns.publish(&standing.settings(), &standing.sockets) {
            tracing::warn!(
                hint = failure.hint.unwrap_or_default(),
                "the zone stays as it was: {}",
                failure.message
            );
        }
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = dns.changed.notified() => {}
        }
    }
}

/// Whether a zone is to be served.
pub(super) fn is_wanted(settings: &Standalone) -> bool {
    settings.domain.is_some() && settings.edge.dns.port != 0
}

/// The zone's apex.
pub(super) fn origin(settings: &Standalone) -> Option<DnsName> {
    settings.domain.as_ref()?.parse().ok()
}

/// What should be served, with version 0. `before` is the zone of now; without it, what the last edge has served.
fn wanted(
    settings: &Standalone,
    sockets: &Sockets,
    proofs: &Proofs,
    aliases: &Aliases,
    before: Option<&DnsZone>,
) -> Outcome<DnsSnapshot> {
    let (Some(origin), true) = (origin(settings), is_wanted(settings)) else {
        return Ok(DnsSnapshot::default());
    };
    let folder = folder(settings)?;
    let before = before.filter(|zone| zone.origin == origin).cloned();
    let before =
        before.or_else(|| serde_json::from_slice(&std::fs::read(folder.join(record(&origin))).ok()?).ok());
    let dns = &settings.edge.dns;
    let listening: BTreeSet<IpAddr> = [HTTP, HTTPS]
        .iter()
        .flat_map(|kind| sockets.addresses(kind))
        .map(|address| address.ip())
        .collect();
    let addresses = zone::addresses(dns, &listening.into_iter().collect::<Vec<_>>());
    if addresses.is_empty() {
        tracing::warn!(
            "the names of the zone lead nowhere: say edge.dns.addresses, by which the world reaches this machine"
        );
    }
    let hosts = settings.sites.iter().flat_map(|site| &site.hosts);
    let hosts = hosts.filter_map(|host| host.parse().ok()).collect();
    let mut zone = zone::zone(dns, &origin, hosts, &addresses);
    zone.records = aliases.flatten(&origin, &zone.records, before.as_ref());
    zone.records.extend(proofs.records(&origin));
    zone.signing_key = dns.dnssec.then(|| signing_key(&folder, &origin)).transpose()?;
    zone.serial = serial_after(before.as_ref(), &zone, (now_ms() / 1_000) as u32);
    Ok(DnsSnapshot {
        version: 0,
        zones: vec![zone],
        transfer_keys: transfer_keys(settings, &folder),
        rate: zone::response_rate(dns),
    })
}

/// The key that signs the zone; made once, and on disk before anything is signed with it.
fn signing_key(folder: &Path, origin: &DnsName) -> Outcome<PathBuf> {
    let path = folder.join(file_name(origin, "key"));
    // One that cannot be looked at is there: loading it says why.
    if !path.try_exists().unwrap_or(true) {
        let key = astraler_dns::generate().map_err(|error| Failure::of(&error))?;
        let written =
            file::make_dir(folder, 0o700, None, None).and_then(|()| file::replace(&path, &key, 0o600));
        written.map_err(|error| {
            Failure::of(&error)
                .context("the key that signs the zone cannot be kept")
                .hint(format!(
                    "let this user write to {}, say another --state-folder, or edge.dns.dnssec = false",
                    folder.display()
                ))
        })?;
    }
    SigningKey::load(&path).map_err(|error| {
        Failure::new(Kind::General, format!("{}: {error}", path.display()))
            .hint("bring the file back, or delete it for a new key whose DS record the registrar needs")
    })?;
    Ok(path)
}

/// Keys of secondaries lie in the state folder under the name that the file says.
fn transfer_keys(settings: &Standalone, folder: &Path) -> Vec<TransferKey> {
    let mut keys = Vec::new();
    for secondary in &settings.edge.dns.secondaries {
        let Ok(name) = secondary.key_name.parse::<DnsName>() else {
            continue;
        };
        let is_plain = !secondary.key_secret.contains('/') && !secondary.key_secret.starts_with('.');
        let file = folder.join(&secondary.key_secret);
        if is_plain && file.is_file() {
            keys.push(TransferKey { name, file });
        } else {
            tracing::warn!(
                secondary = %name,
                "a secondary cannot transfer the zone: write its key in Base64 to {}",
                file.display()
            );
        }
    }
    keys
}

fn folder(settings: &Standalone) -> Outcome<PathBuf> {
    Ok(State::folder(settings)?.join("dns"))
}

/// What was served last.
fn record(origin: &DnsName) -> String {
    file_name(origin, "json")
}

fn file_name(origin: &DnsName, kind: &str) -> String {
    // Its own dot ends a name.
    format!("zone-{}{kind}", origin.to_string().replace('/', "_"))
}
