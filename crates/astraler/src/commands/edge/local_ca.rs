//! The local CA of an edge that stands alone: kept in its state folder, one for all edges that use it.

use crate::commands::tls;
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use astraler_host::file;
use astraler_host::lock::FileLock;
use astraler_tls::{Authority, Issued};
use std::io;
use std::path::{Path, PathBuf};

/// In the state folder: the CA's certificate and key, and the certificate alone, for clients.
const AUTHORITY: &str = "local-ca.key.pem";
pub(super) const ROOT: &str = "local-ca.pem";
/// A root with less time left is replaced: what it issues must not outlive it.
const LEAST_LEFT_MS: u64 = 60 * 86_400_000;
/// What `astraler tls trust` calls such a root in trust stores.
const STORE_NAME: &str = "astraler-edge";

/// An opened CA.
pub(super) struct LocalCa {
    folder: PathBuf,
    authority: Authority,
    /// No client can trust it yet.
    is_new: bool,
}

impl LocalCa {
    /// The one that was opened before, or that of the folder.
    pub(super) fn open(before: Option<Self>, folder: &Path, now_ms: u64) -> Outcome<Self> {
        let serves = |ca: &Self| ca.folder == folder && lives(&ca.authority, now_ms);
        before.filter(serves).map_or_else(|| open(folder, now_ms), Ok)
    }

    pub(super) fn issue(&self, names: &[String], now_ms: u64) -> Outcome<Issued> {
        let issued = self.authority.issue(names, now_ms);
        issued.map_err(|error| Failure::of(&error))
    }

    /// Says which CA has issued.
    pub(super) fn tell(&self) {
        let root = self.folder.join(ROOT);
        if self.is_new {
            line(&format!("\n{}", tls::instructions(&root, STORE_NAME)));
        } else {
            let root = root.display();
            line(&format!(
                "names without a certificate of their own have one of a local CA: curl --cacert {root} …"
            ));
        }
    }
}

fn lives(authority: &Authority, now_ms: u64) -> bool {
    authority.not_after_ms() > now_ms + LEAST_LEFT_MS
}

/// The CA of this folder; a new one where there is none, or it ends soon. Two edges that begin together have one.
fn open(folder: &Path, now_ms: u64) -> Outcome<LocalCa> {
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
    let (authority, is_new) = match kept.filter(|kept| lives(kept, now_ms)) {
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
    Ok(LocalCa {
        folder: folder.to_owned(),
        authority,
        is_new,
    })
}
