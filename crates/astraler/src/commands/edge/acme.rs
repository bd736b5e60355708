//! What a CA of others issues to an edge that stands alone: who asks for it, when, and who hears of failures. The steps of
//! an order are those of [`astraler_tls::obtain`].

use super::Standing;
use super::state::{State, StateError};
use crate::failure::Failure;
use astraler_host::file::FileError;
use astraler_manifest::{AcmeChallenge, Tls};
use astraler_tls::{
    Acme, AcmeConfig, AcmeError, AttemptError, Challenge, Keeper, Proof, Record, Standing as Stands, Wish,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// It is looked at least so often whether something is due, and at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Another edge with this state folder asks now.
const TAKEN: Duration = Duration::from_secs(5);
/// How long the edge may take to show a proof.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// What went wrong beside the CA.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("edge.tls.acme_roots, {path}, cannot be read", path = .path.display())]
    Roots {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the edge does not show the proof within {} s", SHOWN_WITHIN.as_secs())]
    NotShown,
    #[error("no proof by DNS: {0}")]
    Zone(String),
    #[error(transparent)]
    Proof(#[from] AcmeError),
}

/// What is remembered between two looks.
#[derive(Default)]
struct Memory {
    /// Records that could not be written: a disk that is full does not make a CA be asked without a pause.
    unwritten: BTreeMap<String, Record>,
    /// How each certificate stood when it was last said.
    told: BTreeMap<String, Stands>,
}

/// Looks after certificates for as long as it is polled.
pub(super) async fn keep(standing: &Standing) {
    let mut memory = Memory::default();
    loop {
        let next = Box::pin(look(standing, &mut memory)).await;
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = standing.changed.notified() => {}
        }
    }
}

/// One look, over names one after the other; after how long the next one is due.
async fn look(standing: &Standing, memory: &mut Memory) -> Duration {
    let settings = standing.settings();
    let names = standing.asked_for();
    memory.told.retain(|name, _| names.contains(name));
    memory.unwritten.retain(|name, _| names.contains(name));
    let state = match State::of(&settings) {
        Ok(state) if !names.is_empty() => state,
        Ok(_) => return LOOK_EVERY,
        Err(failure) => {
            say(&failure);
            return LOOK_EVERY;
        }
    };
    let mut next = LOOK_EVERY;
    for name in &names {
        let kept = Kept {
            standing,
            state: &state,
            tls: &settings.edge.tls,
        };
        next = next.min(Box::pin(kept.look_at(name, memory)).await);
    }
    standing.publish_what_changed();
    if let Err(error) = state.sweep(&names, super::now_ms()) {
        tracing::debug!(error = &error as &dyn std::error::Error, "old files stay");
    }
    next
}

/// What this edge keeps of certificates.
struct Kept<'a> {
    standing: &'a Standing,
    state: &'a State,
    tls: &'a Tls,
}

impl Kept<'_> {
    /// Renews one if that is due. After how long it is looked at again.
    async fn look_at(&self, name: &str, memory: &mut Memory) -> Duration {
        let now = super::now_ms();
        let mut record = match self.record(name, memory) {
            Ok(record) => record,
            Err(error) => {
                let error = KeepError::from(error);
                let step = error.next_step(self.state).unwrap_or_default();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    name,
                    error,
                    "a certificate cannot be looked after; next step: {step}"
                );
                return LOOK_EVERY;
            }
        };
        let is_there = |file: &str| self.state.path().join(file).exists();
        let is_due = record.is_due(name, is_there, now);
        if is_due || record.may_ask(now) {
            match self.state.turn() {
                Ok(_turn) => {
                    // Another edge may have had its turn meanwhile.
                    record = self.record(name, memory).unwrap_or(record);
                    if record.is_due(name, is_there, now) {
                        self.obtain(name, &mut record).await;
                    } else if record.may_ask(now)
                        && let Err(error) = astraler_tls::ask(self, name, &mut record, now).await
                    {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(name, error, "when to renew was not said");
                    }
                    self.note(name, record.clone(), memory);
                }
                Err(error) if error.is_taken() => return TAKEN,
                Err(error) if is_due => {
                    self.failed(name, &mut record, &AttemptError::Keeper(error.into()), None);
                    memory.unwritten.insert(name.to_owned(), record.clone());
                }
                Err(_) => {}
            }
        }
        tell(name, &record, memory, super::now_ms());
        let due = record.due_ms(name, now);
        Duration::from_millis(due.saturating_sub(super::now_ms())).clamp(LOOK_AGAIN, LOOK_EVERY)
    }

    /// What is written down, or what could not be, unless another edge has had a certificate since.
    fn record(&self, name: &str, memory: &Memory) -> Result<Record, StateError> {
        let written = self.state.record(name)?;
        Ok(match memory.unwritten.get(name) {
            Some(unwritten) if unwritten.current == written.current => unwritten.clone(),
            _ => written,
        })
    }

    /// Writes a record down, or remembers it.
    fn note(&self, name: &str, record: Record, memory: &mut Memory) {
        match self.state.put(name, &record) {
            Ok(()) => {
                memory.unwritten.remove(name);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    name,
                    error,
                    "the record of a certificate is not written; trying again"
                );
                memory.unwritten.insert(name.to_owned(), record);
            }
        }
    }

    /// One attempt, and what came of it in the record.
    async fn obtain(&self, name: &str, record: &mut Record) {
        let wish = self.wish(name);
        let now = super::now_ms();
        tracing::info!(name, ca = wish.directory_url, "asking for a certificate");
        match Box::pin(astraler_tls::obtain(self, &wish, record, now)).await {
            Ok(current) => {
                record.succeeded(current);
                tracing::info!(name, until = date(record), "a new certificate");
                self.standing.publish_what_changed();
            }
            Err(failed) => self.failed(name, record, &failed.error, failed.retry_after_ms),
        }
    }

    /// Notes it, and says it with the next step.
    fn failed(
        &self,
        name: &str,
        record: &mut Record,
        error: &AttemptError<KeepError>,
        retry_after_ms: Option<u64>,
    ) {
        let now = super::now_ms();
        let next_step = match error {
            AttemptError::Keeper(error) => error.next_step(self.state),
            other => other.next_step(&self.wish(name)),
        };
        let said = Failure::of(error);
        let mut words = said.message;
        words.extend(said.details.iter().flat_map(|detail| [": ", detail]));
        words.extend(next_step.iter().flat_map(|step| ["; next step: ", step]));
        record.failed(name, words.clone(), retry_after_ms, now);
        let again_in_s = record
            .next_try_ms
            .map_or(0, |next| next.saturating_sub(now) / 1_000);
        match &record.current {
            Some(_) => tracing::warn!(
                name,
                again_in_s,
                "no new certificate, the one before stays: {words}"
            ),
            None => tracing::warn!(name, again_in_s, "no certificate yet: {words}"),
        }
    }

    fn wish<'w>(&'w self, name: &'w str) -> Wish<'w> {
        Wish {
            subject: name,
            directory_url: &self.tls.acme_directory_url,
            challenge: self.challenge(),
        }
    }

    /// As the file says. What would be looked at where nobody listens is shown over TLS.
    fn challenge(&self) -> Challenge {
        match self.tls.acme_challenge {
            AcmeChallenge::Http01 if self.standing.has_http() => Challenge::Http01,
            AcmeChallenge::Http01 | AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn01,
            AcmeChallenge::Dns01 => Challenge::Dns01,
        }
    }

    fn prove_by_dns(&self, proof: &Proof) -> Result<(), KeepError> {
        let zone = |why: String| KeepError::Zone(why);
        let dns = self.standing.dns.as_ref();
        let dns = dns.ok_or_else(|| zone("no DNS is served: start the edge anew".to_owned()))?;
        let name = astraler_dns::proof_name(&proof.name);
        let name = name.ok_or_else(|| zone(format!("{} is no name in DNS", proof.name)))?;
        let added = dns.proofs.add(name, &proof.dns_value);
        added.map_err(|error| zone(error.to_string()))
    }

    fn account_key(&self) -> Result<String, KeepError> {
        let digest = hex::encode(Sha256::digest(self.tls.acme_directory_url.as_bytes()));
        let file = format!("account-{}.key", &digest[..16]);
        if let Some(key) = self.state.read(&file)? {
            return Ok(key);
        }
        let key = Acme::generate_key()?;
        self.state.write(&file, key.as_bytes())?;
        Ok(key)
    }
}

impl Keeper for Kept<'_> {
    type Error = KeepError;

    async fn open(&self) -> Result<Acme, AttemptError<KeepError>> {
        let roots = self.tls.acme_roots.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|source| KeepError::Roots {
                path: path.clone(),
                source,
            })
        });
        let config = AcmeConfig {
            directory_url: self.tls.acme_directory_url.clone(),
            roots: roots.transpose().map_err(AttemptError::Keeper)?,
            email: self.tls.email.clone(),
        };
        let key = self.account_key().map_err(AttemptError::Keeper)?;
        Ok(Acme::open(&config, &key).await?)
    }

    fn read(&self, file: &str) -> Option<String> {
        self.state.read(file).ok().flatten()
    }

    fn write(&self, subject: &str, pem: &str) -> Result<String, KeepError> {
        Ok(self.state.write_certificate(subject, pem)?)
    }

    fn write_key(&self, subject: &str, pem: &str) -> Result<String, KeepError> {
        Ok(self.state.write_key(subject, pem)?)
    }

    fn put(&self, subject: &str, record: &Record) -> Result<(), KeepError> {
        Ok(self.state.put(subject, record)?)
    }

    async fn show(&self, challenge: Challenge, proofs: &[Proof]) -> Result<(), KeepError> {
        for proof in proofs {
            match challenge {
                Challenge::Http01 => self.standing.change_proofs(|shown| {
                    let answer = proof.authorisation.clone();
                    shown.http.insert(proof.token.clone(), answer);
                }),
                Challenge::TlsAlpn01 => {
                    let subject = format!("challenge-{}", proof.name);
                    let file = self.state.write_certificate(&subject, &proof.certificate()?)?;
                    let path = self.state.path().join(file);
                    self.standing.change_proofs(|shown| {
                        shown.alpn.insert(proof.name.clone(), path);
                    });
                }
                Challenge::Dns01 => self.prove_by_dns(proof)?,
            }
        }
        if challenge == Challenge::Dns01
            && let Some(dns) = &self.standing.dns
        {
            let published = dns.publish(&self.standing.settings(), &self.standing.sockets);
            let version = published.map_err(|failure| KeepError::Zone(failure.message))?;
            let served = tokio::time::timeout(SHOWN_WITHIN, dns.served(version)).await;
            return served.map_err(|_| KeepError::NotShown);
        }
        let version = self.standing.publish();
        let shown = tokio::time::timeout(SHOWN_WITHIN, self.standing.in_force(version)).await;
        shown.map_err(|_| KeepError::NotShown)
    }

    fn hide(&self, challenge: Challenge, proofs: &[Proof]) {
        if let (Challenge::Dns01, Some(dns)) = (challenge, &self.standing.dns) {
            for proof in proofs {
                if let Some(name) = astraler_dns::proof_name(&proof.name) {
                    dns.proofs.remove(&name, &proof.dns_value);
                }
            }
            if let Err(failure) = dns.publish(&self.standing.settings(), &self.standing.sockets) {
                say(&failure);
            }
            return;
        }
        self.standing.change_proofs(|shown| {
            for proof in proofs {
                shown.http.remove(&proof.token);
                if let Some(file) = shown.alpn.remove(&proof.name) {
                    // It is read already; what cannot be removed is swept up later.
                    let _ = std::fs::remove_file(file);
                }
            }
        });
        self.standing.publish();
    }
}

impl KeepError {
    fn next_step(&self, state: &State) -> Option<String> {
        let folder = state.path().parent().unwrap_or(state.path()).display();
        match self {
            Self::State(StateError::File(FileError { source, .. }))
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                None
            }
            Self::State(_) => Some(format!(
                "let this user write to {folder}, or say another folder with --state-folder"
            )),
            Self::Roots { .. } => Some("bring the file back, or leave edge.tls.acme_roots out".into()),
            Self::NotShown => Some("see what the log says before this".into()),
            Self::Zone(_) | Self::Proof(_) => None,
        }
    }
}

/// Says once how a certificate stands that is not renewed in time; what was said.
fn tell(name: &str, record: &Record, memory: &mut Memory, now: u64) -> Option<Stands> {
    let stands = astraler_tls::standing(&record.timing()?, now);
    if memory.told.insert(name.to_owned(), stands) == Some(stands) || stands == Stands::Fine {
        return None;
    }
    let (until, why) = (date(record), record.error.as_deref().unwrap_or("it is due"));
    match stands {
        Stands::Fine => {}
        Stands::Late => tracing::warn!(name, until, why, "a certificate is not renewed in time"),
        Stands::Ending => tracing::error!(name, until, why, "a certificate ends soon and is not renewed"),
        Stands::Ended => tracing::error!(name, until, why, "a certificate has ended: clients refuse it"),
    }
    Some(stands)
}

/// Until when what is in force holds.
fn date(record: &Record) -> String {
    let until = record.current.as_ref().map(|current| current.facts.not_after_ms);
    let until = until.and_then(|ms| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
    until.map_or_else(String::new, |until| {
        until.strftime("%Y-%m-%d %H:%M UTC").to_string()
    })
}

fn say(failure: &Failure) {
    let hint = failure.hint.as_deref().unwrap_or_default();
    tracing::warn!(hint, "no certificate is asked for: {}", failure.message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use astraler_tls::{Current, Facts};

    #[test]
    fn what_is_not_renewed_in_time_is_said_once_and_louder_and_louder() {
        const DAY_MS: u64 = 86_400_000;
        let begun = 20_000 * DAY_MS;
        let current = |begun: u64| Current {
            file: String::new(),
            local: false,
            facts: Facts {
                issuer: String::new(),
                not_before_ms: begun,
                not_after_ms: begun + 90 * DAY_MS,
                names: vec![],
            },
            suggested_ms: None,
            asked_ms: None,
        };
        let mut record = Record::default();
        let mut memory = Memory::default();
        assert_eq!(
            tell("a.com", &record, &mut memory, begun),
            None,
            "there is none yet"
        );
        record.succeeded(current(begun));
        let mut said = vec![];
        for day in 0..100 {
            if day >= 58 {
                record.failed("a.com", "the CA is away".to_owned(), None, begun + day * DAY_MS);
            }
            let now = begun + day * DAY_MS;
            said.extend(tell("a.com", &record, &mut memory, now).map(|stands| (day, stands)));
        }
        assert_eq!(
            said,
            [(61, Stands::Late), (88, Stands::Ending), (90, Stands::Ended)]
        );
        // Another one, and it is heard of again.
        record.succeeded(current(begun + 100 * DAY_MS));
        assert_eq!(tell("a.com", &record, &mut memory, begun + 100 * DAY_MS), None);
        record.failed("a.com", "away again".to_owned(), None, begun + 161 * DAY_MS);
        let again = tell("a.com", &record, &mut memory, begun + 161 * DAY_MS);
        assert_eq!(again, Some(Stands::Late));
    }
}
