//! Certificates of an edge that stands alone: those of its file, and for the other names those of a local CA.

use crate::commands::tls;
use crate::failure::{Failure, Kind, Outcome};
use crate::place;
use crate::progress::line;
use astraler_host::file;
use astraler_host::lock::FileLock;
use astraler_manifest::{Site, Standalone};
use astraler_model::{Route, TlsCertificate, TlsSnapshot};
use astraler_tls::{Authority, Issued, Timing, due_ms};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// In the state folder: the CA's certificate and key, and the certificate alone, for clients.
const AUTHORITY: &str = "local-ca.key.pem";
const ROOT: &str = "local-ca.pem";
/// A root with less time left is replaced: what it issues must not outlive it.
const LEAST_LEFT_MS: u64 = 60 * 86_400_000;
/// What `astraler tls trust` calls such a root in trust stores.
const STORE_NAME: &str = "astraler-edge";

/// What snapshots name is in memory, as one file of chain and key: the newest, and those before, whose names must not
/// come again while they are served.
#[derive(Default)]
pub(super) struct Certificates {
    now: Vec<OwnedFd>,
    before: Vec<OwnedFd>,
    local: Option<Local>,
    /// Of what the local CA issued, the one that is renewed first.
    issued: Option<Timing>,
}

struct Local {
    folder: PathBuf,
    authority: Authority,
    /// No client can trust it yet.
    is_new: bool,
}

impl Certificates {
    /// For every site that has one. Without `https` none is needed.
    pub(super) fn snapshot(
        &mut self,
        settings: &Standalone,
        routes: &[Route],
        https: &[SocketAddr],
        now_ms: u64,
    ) -> Outcome<TlsSnapshot> {
        let mut certificates = Vec::new();
        let mut files = Vec::new();
        let mut issued: Option<Timing> = None;
        for (site, route) in settings.sites.iter().zip(routes) {
            let (names, pem) = if let Some(certificate) = &site.certificate {
                (route.hosts.clone(), from_files(certificate, site.key.as_deref())?)
            } else {
                let names = private_names(site, https);
                if https.is_empty() || names.is_empty() {
                    continue;
                }
                let one = self.issue(settings, &names, now_ms)?;
                let timing = timing(&one);
                if issued.is_none_or(|first| timing.not_after_ms < first.not_after_ms) {
                    issued = Some(timing);
                }
                (names, in_memory(one.pem.as_bytes())?)
            };
            certificates.push(TlsCertificate {
                names,
                file: format!("/proc/self/fd/{}", pem.as_raw_fd()).into(),
                redirect: site.redirect_to_https,
                hsts_max_age_s: 0,
            });
            files.push(pem);
        }
        if certificates.is_empty() && !https.is_empty() {
            let message = "https without a certificate: the local CA vouches for private names only";
            return Err(Failure::new(Kind::General, message)
                .hint("say --certificate FILE --key FILE, or `certificate` in [[sites]]"));
        }
        self.before = std::mem::replace(&mut self.now, files);
        self.issued = issued;
        Ok(TlsSnapshot {
            certificates,
            min_version: settings.edge.tls.min_version,
            https_port: https.first().map_or(0, SocketAddr::port),
            ..TlsSnapshot::default()
        })
    }

    /// Whether what the local CA issued is to be issued anew. A clock that was set back makes it so, too.
    pub(super) fn are_due(&self, now_ms: u64) -> bool {
        self.issued
            .is_some_and(|timing| now_ms < timing.not_before_ms || due_ms(&timing, 0) <= now_ms)
    }

    /// Says which CA has issued, where it has.
    pub(super) fn tell(&self) {
        if let (Some(local), Some(_)) = (&self.local, &self.issued) {
            let root = local.folder.join(ROOT);
            if local.is_new {
                line(&format!("\n{}", tls::instructions(&root, STORE_NAME)));
            } else {
                let root = root.display();
                line(&format!(
                    "names without a certificate of their own have one of a local CA: curl --cacert {root} …"
                ));
            }
        }
    }

    fn issue(&mut self, settings: &Standalone, names: &[String], now_ms: u64) -> Outcome<Issued> {
        let lives = |local: &Local| local.authority.not_after_ms() > now_ms + LEAST_LEFT_MS;
        let local = match self.local.take().filter(lives) {
            Some(local) => local,
            None => open(&state_folder(settings)?, now_ms)?,
        };
        let issued = local.authority.issue(names, now_ms);
        self.local = Some(local);
        issued.map_err(|error| Failure::of(&error))
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

/// Names that the local CA can vouch for: those of the site; for a site of every host, those by which this machine
/// knows itself.
fn private_names(site: &Site, https: &[SocketAddr]) -> Vec<String> {
    let mut names = site.hosts.clone();
    if names.is_empty() {
        names.extend(["localhost", "127.0.0.1", "[::1]"].map(String::from));
        names.extend(https.iter().map(|address| match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        }));
        names.sort_unstable();
        names.dedup();
        names.retain(|name| astraler_tls::classify(name) == astraler_tls::Kind::Local);
        return names;
    }
    names.retain(|name| {
        let is_private = astraler_tls::classify(name) == astraler_tls::Kind::Local;
        if !is_private {
            tracing::warn!(
                host = name,
                "no certificate: the local CA vouches for private names only; name a file"
            );
        }
        is_private
    });
    names
}

fn state_folder(settings: &Standalone) -> Outcome<PathBuf> {
    match &settings.state_folder {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => place::edge_folder(),
    }
}

/// The CA of this folder; a new one where there is none, or it ends soon. Two edges that begin together have one.
fn open(folder: &Path, now_ms: u64) -> Outcome<Local> {
    file::make_dir(folder, 0o700, None, None)?;
    let _turn = FileLock::wait(folder.join("lock"), "an edge that opens its CA")
        .map_err(|error| Failure::of(&error))?;
    let path = folder.join(AUTHORITY);
    let kept = match std::fs::read_to_string(&path) {
        Ok(pem) => Some(Authority::open(&pem).map_err(|error| {
            Failure::new(Kind::General, format!("{}: {error}", path.display()))
                .hint("bring the file back, or delete it for a new CA that clients trust anew")
        })?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(Failure::new(
                Kind::General,
                format!("{}: {error}", path.display()),
            ));
        }
    };
    let (authority, is_new) = match kept.filter(|kept| kept.not_after_ms() > now_ms + LEAST_LEFT_MS) {
        Some(kept) => (kept, false),
        None => {
            let machine = rustix::system::uname();
            let owner = format!("the edge of {}", machine.nodename().to_string_lossy());
            let made = Authority::generate(&owner, now_ms).map_err(|error| Failure::of(&error))?;
            file::replace(&path, made.as_bytes(), 0o600)?;
            let authority = Authority::open(&made).map_err(|error| Failure::of(&error))?;
            (authority, true)
        }
    };
    file::replace(folder.join(ROOT), authority.certificate().as_bytes(), 0o644)?;
    Ok(Local {
        folder: folder.to_owned(),
        authority,
        is_new,
    })
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
        let snapshot = certificates.snapshot(&settings, &routes, &https, NOW_MS).unwrap();
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
            .snapshot(&settings, &routes, &https, NOW_MS - DAY_MS)
            .unwrap();
        assert!(!certificates.are_due(NOW_MS - DAY_MS));
        assert_eq!(
            std::fs::read(folder.path().join("state").join(ROOT)).unwrap(),
            root
        );
        // A CA that is about to end is replaced.
        certificates
            .snapshot(&settings, &routes, &https, NOW_MS + 3_600 * DAY_MS)
            .unwrap();
        assert_ne!(
            std::fs::read(folder.path().join("state").join(ROOT)).unwrap(),
            root
        );
    }
}
