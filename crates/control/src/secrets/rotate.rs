//! Keys that wrap keys are replaced: each environment's, or the root key. Everything below is wrapped anew, no secret's
//! text is touched, and no process notices.
//!
//! The root key is a file, the keys of scopes are in the database: the new root key is written beside the old one first,
//! then all keys are under it in one transaction, then it takes the old one's place. A kill at any point leaves one of
//! two files under which everything is, and [`settle`] finds out which.

use super::SecretError;
use crate::credentials::CredentialError;
use crate::installation::Layout;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::words::{Fault, StepOutcome};
use crate::{ApplyEvent, words};
use astraler_secrets::{EnvironmentKey, RootKey, Sealed, Vault, WrappedKey};
use astraler_store::{OperationId, Outcome, Rewrapped, SealedRecord, StepDescription, Store};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Instant;

/// Which keys are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyRotation {
    /// The root key.
    Root,
    /// The key of each environment, and the platform's own.
    Scopes,
}

/// How far a step has come. A test kills at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Intended,
    Done,
    Recorded,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    NewRoot,
    UnderNewRoot,
    RootInPlace,
    Scope(String),
}

impl Step {
    fn name(&self) -> String {
        match self {
            Self::NewRoot => "a new root key beside the old one".into(),
            Self::UnderNewRoot => "every key under the new root key".into(),
            Self::RootInPlace => "the new root key in the place of the old one".into(),
            Self::Scope(scope) => format!("a new key of {scope}"),
        }
    }
}

impl Platform {
    /// Replaces keys, step by step; answers how many steps there were. Blocking. Whoever seals or opens waits.
    pub(crate) fn rotate_keys(
        &self,
        actor: &str,
        rotation: &KeyRotation,
        mut events: impl FnMut(ApplyEvent),
    ) -> Result<usize, Fault> {
        let mut began = Instant::now();
        self.rotate(actor, rotation, &mut |step, point| {
            let part = step.to_owned();
            match point {
                Point::Intended => {
                    began = Instant::now();
                    events(ApplyEvent::Begin { part });
                }
                Point::Done => {}
                Point::Recorded => events(ApplyEvent::End {
                    part,
                    outcome: StepOutcome::Changed,
                    detail: String::new(),
                    elapsed_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                }),
            }
        })
    }

    pub(super) fn rotate(
        &self,
        actor: &str,
        rotation: &KeyRotation,
        at: &mut dyn FnMut(&str, Point),
    ) -> Result<usize, Fault> {
        let fault = |error: &dyn std::error::Error| Fault::of("keys", error);
        let mut vault = self.credentials.vault();
        let scopes = self.store.scope_keys().map_err(|error| fault(&error))?;
        let steps: Vec<Step> = match rotation {
            KeyRotation::Root => vec![Step::NewRoot, Step::UnderNewRoot, Step::RootInPlace],
            KeyRotation::Scopes => scopes.into_iter().map(|(scope, _)| Step::Scope(scope)).collect(),
        };
        let plan: Vec<StepDescription> = steps
            .iter()
            .map(|step| StepDescription {
                name: step.name(),
                detail: json!(null),
            })
            .collect();
        self.audit(actor, "keys rotate", "keys", &json!({ "rotation": rotation }))
            .map_err(|error| fault(&error))?;
        let operation = self
            .begin("keys rotate", "keys", &plan)
            .map_err(|error| fault(&error))?;
        let result = self.take_steps(&mut vault, operation, &steps, at);
        let end = match &result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed {
                error: words::chain(error),
            },
        };
        self.end(operation, &end);
        result.map(|()| steps.len()).map_err(|error| {
            let mut fault = fault(&error);
            fault.hint = Some("every secret is readable as before; the same command begins anew".into());
            fault
        })
    }

    fn take_steps(
        &self,
        vault: &mut Vault,
        operation: OperationId,
        steps: &[Step],
        at: &mut dyn FnMut(&str, Point),
    ) -> Result<(), SecretError> {
        for (index, step) in steps.iter().enumerate() {
            let name = step.name();
            self.intent(operation, index)?;
            at(&name, Point::Intended);
            let done = self.take_step(vault, step);
            at(&name, Point::Done);
            let outcome = match &done {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed {
                    error: words::chain(error),
                },
            };
            let recorded = self.result(operation, index, &outcome, &json!(null));
            done?;
            recorded?;
            at(&name, Point::Recorded);
        }
        Ok(())
    }

    fn take_step(&self, vault: &mut Vault, step: &Step) -> Result<(), SecretError> {
        let layout = &self.installation.layout;
        match step {
            Step::NewRoot => {
                // What an attempt before left is put right: under it is everything, or nothing.
                settle(layout, &self.store)?;
                let next = RootKey::generate();
                next.save_new(&layout.next_root_key())
                    .map_err(PlatformError::RootKey)?;
            }
            Step::UnderNewRoot => {
                let next = RootKey::load(&layout.next_root_key()).map_err(PlatformError::RootKey)?;
                let keys = self.store.scope_keys()?;
                let keys = keys
                    .iter()
                    .map(|(scope, wrapped)| {
                        let wrapped = WrappedKey::from_bytes(wrapped.as_slice());
                        let rewrapped = vault.rewrap_key(scope, &wrapped, &next)?;
                        Ok((scope.clone(), rewrapped.as_bytes().to_vec()))
                    })
                    .collect::<Result<Vec<_>, astraler_secrets::EnvelopeError>>()
                    .map_err(CredentialError::from)?;
                self.store.scope_keys_rewrap(&keys)?;
                // From here on a new scope's key goes under it too, whatever becomes of the file's name.
                vault.replace_root(next);
            }
            Step::RootInPlace => settle(layout, &self.store).map(drop)?,
            Step::Scope(scope) => self.rotate_scope(vault, scope)?,
        }
        Ok(())
    }

    fn rotate_scope(&self, vault: &mut Vault, scope: &str) -> Result<(), SecretError> {
        self.credentials.unlock(vault, scope, false)?;
        let envelope = |error| SecretError::from(CredentialError::from(error));
        let (wrapped, key) = vault.new_key(scope).map_err(envelope)?;
        let mut rewrapped = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.sealed_list(Some(scope), after.as_ref())?;
            for one in &page {
                let record = self.store.sealed_get(scope, &one.name, Some(one.version))?;
                // Whoever seals or deletes holds the vault: the list is whole.
                if let Some(record) = record {
                    rewrapped.push(anew(vault, &key, record).map_err(envelope)?);
                }
            }
            match page.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        self.store
            .scope_key_rotate(scope, wrapped.as_bytes(), &rewrapped, now_ms())?;
        vault.add_key(scope, &wrapped).map_err(envelope)
    }
}

fn anew(
    vault: &Vault,
    key: &EnvironmentKey,
    record: SealedRecord,
) -> Result<Rewrapped, astraler_secrets::EnvelopeError> {
    let SealedRecord {
        scope,
        name,
        version,
        ciphertext,
        ..
    } = record;
    let sealed = vault.rewrap(&scope, &name, version, &Sealed::from_bytes(ciphertext), key)?;
    Ok(Rewrapped {
        name,
        version,
        ciphertext: sealed.as_bytes().to_vec(),
    })
}

/// The root key under which the keys of scopes are, in its place. What a rotation that was killed left beside it takes its
/// place, or goes.
pub(crate) fn settle(layout: &Layout, store: &Store) -> Result<RootKey, PlatformError> {
    let (present, next) = (layout.root_key(), layout.next_root_key());
    RootKey::clear(&next)?;
    if next.exists() {
        let key = RootKey::load(&next)?;
        let keys = store.scope_keys()?;
        let under = |(_, wrapped): &(String, Vec<u8>)| {
            WrappedKey::from_bytes(wrapped.as_slice()).wrapped_by() == Some(key.id())
        };
        if !keys.is_empty() && keys.iter().all(under) {
            RootKey::replace(&next, &present)?;
        } else {
            RootKey::remove(&next)?;
        }
    }
    Ok(RootKey::load(&present)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::SecretPlace;
    use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
    use astraler_model::{Cluster, Environment};
    use astraler_secrets::Secret;
    use std::collections::BTreeMap;
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;

    const FOLDER: &str = "ASTRALER_ROTATE_FOLDER";
    const ROOT: &str = "ASTRALER_ROTATE_ROOT";
    const AT: &str = "ASTRALER_ROTATE_AT";

    fn platform(folder: &Path) -> Platform {
        let supervisor = SimSupervisor::new(1, SimFaults::NONE, SimClock::automatic(1_000));
        Platform::simulated(folder, Arc::new(supervisor))
    }

    /// Secrets of every kind: generated ones, and the user's in several versions.
    fn filled(folder: &Path) -> BTreeMap<(String, String, u64), String> {
        let platform = platform(folder);
        for environment in [Environment::Staging, Environment::Production] {
            platform.credentials.environment(environment).unwrap();
        }
        platform.credentials.cluster_superuser(Cluster::Shared).unwrap();
        for (place, value) in [
            (SecretPlace::Staging, "one"),
            (SecretPlace::Staging, "two"),
            (SecretPlace::Preview, "three"),
            (SecretPlace::Platform, "four"),
        ] {
            platform
                .secret_set("test", place, "KEY", &Secret::new(value), false)
                .unwrap();
        }
        let all = values(&platform);
        assert!(
            all.len() > 20 && all.values().any(|value| value == "two"),
            "{all:?}"
        );
        all
    }

    /// Everything that is sealed, opened.
    fn values(platform: &Platform) -> BTreeMap<(String, String, u64), String> {
        let mut all = BTreeMap::new();
        let mut vault = platform.credentials.vault();
        for one in platform.store.sealed_list(None, None).unwrap() {
            platform
                .credentials
                .unlock(&mut vault, &one.scope, false)
                .unwrap();
            let record = platform
                .store
                .sealed_get(&one.scope, &one.name, Some(one.version))
                .unwrap()
                .unwrap();
            let sealed = Sealed::from_bytes(record.ciphertext);
            let open = vault.open(&one.scope, &one.name, one.version, &sealed).unwrap();
            all.insert((one.scope, one.name, one.version), open.expose().to_owned());
        }
        all
    }

    fn files(platform: &Platform) -> Vec<String> {
        let folder = std::fs::read_dir(&platform.installation.layout.config).unwrap();
        let mut names: Vec<String> = folder
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Every key, as the database has it.
    fn keys(platform: &Platform) -> Vec<(String, Vec<u8>)> {
        platform.store.scope_keys().unwrap()
    }

    /// Kills itself when the rotation has come so far.
    fn victim(folder: &Path, rotation: &KeyRotation, last: usize) {
        let platform = platform(folder);
        let mut passed = 0;
        let rotated = platform.rotate("test", rotation, &mut |_, _| {
            if passed == last {
                let own = std::process::id().to_string();
                Command::new("kill").args(["-9", &own]).status().unwrap();
                loop {
                    std::thread::park();
                }
            }
            passed += 1;
        });
        panic!("it was to be killed: {rotated:?}");
    }

    #[test]
    fn a_kill_at_any_point_of_a_rotation_leaves_every_secret_readable() {
        if let (Ok(folder), Ok(root), Ok(at)) =
            (std::env::var(FOLDER), std::env::var(ROOT), std::env::var(AT))
        {
            let rotation = match root.as_str() {
                "true" => KeyRotation::Root,
                _ => KeyRotation::Scopes,
            };
            return victim(Path::new(&folder), &rotation, at.parse().unwrap());
        }
        for rotation in [KeyRotation::Root, KeyRotation::Scopes] {
            // The points are those of the journal: before, within and after each of its steps.
            let folder = tempfile::tempdir().unwrap();
            let all = filled(folder.path());
            let platform = platform(folder.path());
            let before = keys(&platform);
            let steps = platform.rotate("test", &rotation, &mut |_, _| {}).unwrap();
            assert_eq!(values(&platform), all);
            assert_eq!(files(&platform), ["root.key"]);
            let moved = before
                .iter()
                .zip(keys(&platform))
                .filter(|(one, other)| **one != *other);
            assert_eq!(
                moved.count(),
                before.len(),
                "{rotation:?}: every key is another, or under another"
            );
            drop(platform);
            let again = self::platform(folder.path());
            assert_eq!(values(&again), all, "{rotation:?}: after a restart");
            drop(again);
            assert!(steps >= 3, "{rotation:?}: {steps} steps");
            for at in 0..steps * 3 {
                killed(&rotation, at);
            }
        }
    }

    fn killed(rotation: &KeyRotation, at: usize) {
        let folder = tempfile::tempdir().unwrap();
        let all = filled(folder.path());
        let name = "secrets::rotate::tests::a_kill_at_any_point_of_a_rotation_leaves_every_secret_readable";
        let output = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(ROOT, (*rotation == KeyRotation::Root).to_string())
            .env(AT, at.to_string())
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), Some(9), "{rotation:?} {at}: {output:?}");
        let platform = platform(folder.path());
        assert_eq!(values(&platform), all, "{rotation:?} killed at {at}");
        assert_eq!(files(&platform), ["root.key"], "{rotation:?} killed at {at}");
        platform.note_interrupted().unwrap();
        // It begins anew, whatever was left.
        platform.rotate("test", rotation, &mut |_, _| {}).unwrap();
        assert_eq!(
            values(&platform),
            all,
            "{rotation:?} killed at {at}, and rotated again"
        );
        assert!(platform.interrupted().unwrap().is_empty());
        platform.audit_verify().unwrap();
        drop(platform);
        assert_eq!(values(&self::platform(folder.path())), all);
    }

    #[test]
    fn what_cannot_be_put_in_place_now_is_with_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let all = filled(folder.path());
        let platform = platform(folder.path());
        let layout = platform.installation.layout.clone();
        let (key, aside) = (layout.root_key(), folder.path().join("aside"));
        let failed = platform.rotate("test", &KeyRotation::Root, &mut |step, point| {
            // Where the key stands there is a folder now: no file takes its place.
            if step.contains("every key") && point == Point::Recorded {
                std::fs::rename(&key, &aside).unwrap();
                std::fs::create_dir_all(key.join("in the way")).unwrap();
            }
        });
        let fault = failed.unwrap_err();
        assert!(fault.message.contains("root key"), "{fault:?}");
        assert_eq!(values(&platform), all, "the process goes on");
        platform
            .credentials
            .environment(Environment::Development)
            .unwrap();
        drop(platform);
        std::fs::remove_dir_all(&key).unwrap();
        std::fs::rename(&aside, &key).unwrap();
        let after = self::platform(folder.path());
        let mut now = values(&after);
        now.retain(|(scope, ..), _| scope != "development");
        assert_eq!(now, all);
        assert_eq!(files(&after), ["root.key"]);
    }
}
