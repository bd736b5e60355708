//! The root key, opened with two shares, and the control plane's database that it opens.

use super::sets::Sets;
use super::{Work, failed_at};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use astraler_control::Application;
use astraler_model::{Cluster, Environment};
use astraler_recovery::{Destination, StoredSet, fetch_set, timestamp};
use astraler_release::directory_name;
use astraler_secrets::{RecoveryKey, RecoveryKeyError, RootKey, Vault, WrappedKey};
use astraler_store::{Desired, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Sets of secrets that are tried: each is of another root key or recovery key.
const MAX_TRIED: usize = 20;
/// A sealed root key is shorter.
const MAX_SEALED: u64 = 64 << 10;

/// Fetches and opens; leaves the database, with the folders of this machine in it, in the work folder, and the root key in
/// its place.
pub(super) async fn recover(
    destination: &Destination,
    place: &Place,
    work: &Work,
    sets: &Sets,
    key: &RecoveryKey,
    to_ms: Option<u64>,
) -> Outcome<String> {
    let damaged = |error: astraler_recovery::SetError| {
        Failure::of(&error)
            .kind(Kind::Damaged)
            .hint("nothing of a backup that was changed is used; --to takes an older one")
    };
    let state = sets.newest_state(to_ms);
    if let (None, Some(first), Some(to_ms)) = (state, sets.state.first(), to_ms) {
        return Err(Failure::new(
            Kind::General,
            format!(
                "{} cannot be brought back: what the control plane knew is there from {} on",
                timestamp(to_ms),
                timestamp(first.set.ended_ms)
            ),
        )
        .hint("`--dry-run` shows which times are possible"));
    }
    if let Some(state) = state {
        fetch_set(destination, state, &work.emptied("state")?)
            .await
            .map_err(damaged)?;
    }
    let all = sets.newest_secrets();
    if all.is_empty() {
        return Err(Failure::new(
            Kind::General,
            format!("there is no backup of the secrets at {}", destination.url()),
        )
        .hint("they are made where backups.recovery_recipient names a recovery key; without the root key nothing can be opened"));
    }
    let mut refused = None;
    for stored in all.into_iter().take(MAX_TRIED) {
        let folder = work.emptied("secrets")?;
        fetch_set(destination, stored, &folder).await.map_err(damaged)?;
        let sealed = sealed(&folder.join("root.key.age"))?;
        let id = match key.open_root_key(&sealed) {
            Ok(root) => root.id(),
            Err(error @ RecoveryKeyError::NotFor { .. }) => {
                refused = refused.or(Some(error));
                continue;
            }
            Err(error) => return Err(Failure::of(&error).kind(Kind::Damaged)),
        };
        let Some(from) = database(work, state, stored, key, &sealed)? else {
            continue;
        };
        relocate(work, place)?;
        save(place, &key.open_root_key(&sealed)?)?;
        return Ok(format!("root key {id}, what was known from {from}"));
    }
    Err(match refused {
        Some(error) => Failure::of(&error).hint(format!(
            "the backups at {} need two shares of the key that backups.recovery_recipient named",
            destination.url()
        )),
        None => Failure::new(
            Kind::General,
            "no backup of what the control plane knows is there that the root key opens",
        )
        .hint("an earlier --to may have one"),
    })
}

fn sealed(path: &Path) -> Outcome<Vec<u8>> {
    let mut sealed = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SEALED).read_to_end(&mut sealed))
        .map_err(failed_at(path))?;
    Ok(sealed)
}

/// Puts the newest copy that the root key opens into the work folder; returns which that is.
fn database(
    work: &Work,
    state: Option<&StoredSet>,
    secrets: &StoredSet,
    key: &RecoveryKey,
    sealed: &[u8],
) -> Outcome<Option<String>> {
    let mut copies: Vec<(&StoredSet, bool)> = state.map(|state| (state, false)).into_iter().collect();
    copies.push((secrets, true));
    copies.sort_by_key(|(stored, _)| std::cmp::Reverse(stored.set.started_ms));
    for (stored, is_sealed) in copies {
        let folder = work.emptied("database")?;
        let path = folder.join("control.sqlite");
        if is_sealed {
            let from = work.folder("secrets").join("control.sqlite.age");
            let file = File::open(&from).map_err(failed_at(&from))?;
            let mut opened = key
                .open(file)
                .map_err(|error| Failure::of(&error).kind(Kind::Damaged))?;
            let mut into = File::create(&path).map_err(failed_at(&path))?;
            std::io::copy(&mut opened, &mut into).map_err(failed_at(&from))?;
        } else {
            let from = work.folder("state").join("control.sqlite");
            std::fs::copy(&from, &path).map_err(failed_at(&from))?;
        }
        let mut vault = Vault::new(key.open_root_key(sealed)?);
        let opens = Store::open(&path)?
            .scope_keys()?
            .into_iter()
            .all(|(scope, wrapped)| vault.add_key(&scope, &WrappedKey::from_bytes(wrapped)).is_ok());
        if opens {
            return Ok(Some(stored.key.clone()));
        }
    }
    Ok(None)
}

/// Deployments name folders of their release: on this machine those are others.
fn relocate(work: &Work, place: &Place) -> Outcome {
    let store = Store::open(&work.database())?;
    for environment in store.environments()? {
        for deployment in store.deployments(Some(environment.environment), u32::MAX)? {
            let Ok(mut application) = serde_json::from_value::<Application>(deployment.configuration.clone())
            else {
                continue;
            };
            let folder = place.layout.releases().join(directory_name(&application.release));
            if let Some(assets) = &mut application.assets {
                assets.directory = folder.join("assets");
            }
            if let Some(migrations) = &mut application.migrations {
                *migrations = folder.join("migrations");
            }
            store.deployment_relocate(deployment.id, &serde_json::to_value(&application)?)?;
        }
    }
    let copy = work.installed();
    astraler_host::file::remove_if_present(&copy)?;
    store.copy_to(&copy)?;
    Ok(())
}

/// The key in its place. It is handed to the daemon with the other folders.
fn save(place: &Place, root: &RootKey) -> Outcome {
    let path = place.layout.root_key();
    astraler_host::file::make_dir(&place.layout.config, 0o700, None, None)?;
    if path.exists() && RootKey::load(&path)?.id() == root.id() {
        return Ok(());
    }
    Ok(root.save_new(&path)?)
}

/// What the database says of what was live.
pub(super) struct Known {
    /// In no order that matters, with what each runs.
    pub(super) live: BTreeMap<Environment, Application>,
    /// Those of them that are not asleep.
    pub(super) awake: BTreeSet<Environment>,
    store: Store,
}

impl Known {
    pub(super) fn read(work: &Work) -> Outcome<Self> {
        let store = Store::open(&work.database())?;
        let mut live = BTreeMap::new();
        let mut awake = BTreeSet::new();
        for record in store.environments()? {
            if record.desired != Desired::Up {
                continue;
            }
            let Some(deployment) = store.deployment_live(record.environment)? else {
                continue;
            };
            live.insert(
                record.environment,
                serde_json::from_value(deployment.configuration)?,
            );
            if !record.asleep {
                awake.insert(record.environment);
            }
        }
        if live.is_empty() {
            return Err(Failure::new(
                Kind::General,
                "nothing was live when this backup was made: there is nothing to recover",
            )
            .hint("an earlier or later --to may have what you look for"));
        }
        Ok(Self { live, awake, store })
    }

    /// The application whose manifest decides for all: production's before staging's before development's.
    pub(super) fn governing(&self) -> Outcome<&Application> {
        let rank = |environment: &&Environment| match environment {
            Environment::Production => (0, 0),
            Environment::Staging => (1, 0),
            Environment::Development => (2, 0),
            Environment::Preview(number) => (3, *number),
        };
        let first = self.live.keys().min_by_key(rank);
        first
            .and_then(|first| self.live.get(first))
            .ok_or_else(|| Failure::new(Kind::General, "nothing was live"))
    }

    pub(super) fn clusters(&self) -> Vec<Cluster> {
        let mut all: Vec<Cluster> = self
            .live
            .keys()
            .map(|environment| environment.cluster())
            .collect();
        all.sort_by_key(|cluster| cluster.name());
        all.dedup();
        all
    }

    /// Those whose buckets are at a second location.
    pub(super) fn replicated(&self) -> Vec<Environment> {
        let replicates = |environment: &&Environment| {
            self.live.get(*environment).is_some_and(|application| {
                let config = &application.config;
                config.storage.replication_url.is_some() && config.environments.replicates(**environment)
            })
        };
        self.awake.iter().filter(replicates).copied().collect()
    }

    /// The digest of each release that serves.
    pub(super) fn releases(&self) -> BTreeSet<&str> {
        self.live
            .values()
            .map(|application| application.release.as_str())
            .collect()
    }

    /// Compares a set's description with what was written down here when it was made, where that is known.
    pub(super) fn check(&self, stored: &StoredSet) -> Outcome {
        let done = self
            .store
            .backups_done(stored.set.kind.name(), &stored.set.subject, 1_000)?;
        let known = done
            .into_iter()
            .find(|one| one.location.as_deref() == Some(stored.key.as_str()));
        match known.and_then(|known| known.sha256) {
            Some(sha256) if sha256 != stored.sha256 => Err(Failure::new(
                Kind::Damaged,
                format!(
                    "`{}/set.json` was changed: its SHA-256 is {}, it was {sha256}",
                    stored.key, stored.sha256
                ),
            )
            .hint("nothing of a backup that was changed is used; --to takes an older one")),
            _ => Ok(()),
        }
    }
}
