//! Values out of what people read: log lines of workers, errors that quote what an engine or a worker said.

use super::SecretError;
use crate::credentials::{CredentialError, Credentials};
use crate::platform::Platform;
use crate::words::Fault;
use astraler_secrets::{Redactor, Sealed};
use std::sync::{Arc, PoisonError};

/// In place of what cannot be masked.
const NOT_SHOWN: &str = "(not shown: its secrets cannot be masked now)";

impl Credentials {
    /// Masks every value that is sealed, in all its versions: the user's and those that were generated.
    fn redactor(&self) -> Result<Arc<Redactor>, CredentialError> {
        // The vault first, as whoever seals does: what is sealed meanwhile is in the next one.
        let mut vault = self.vault();
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = &*masks {
            return Ok(Arc::clone(present));
        }
        let mut values = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.sealed_list(None, after.as_ref())?;
            for one in &page {
                self.unlock(&mut vault, &one.scope, false)?;
                let record = self.store.sealed_get(&one.scope, &one.name, Some(one.version))?;
                if let Some(record) = record {
                    let sealed = Sealed::from_bytes(record.ciphertext);
                    values.push(vault.open(&one.scope, &one.name, one.version, &sealed)?);
                }
            }
            match page.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        let redactor = Arc::new(Redactor::of(&values));
        *masks = Some(Arc::clone(&redactor));
        Ok(redactor)
    }

    /// Another value is sealed: what masks is made anew when it is needed next.
    pub(crate) fn sealed_another(&self) {
        *self.masks.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Platform {
    /// Lines without any secret's value.
    pub(crate) fn mask_lines(&self, lines: &[String]) -> Result<Vec<String>, SecretError> {
        let redactor = self.credentials.redactor()?;
        Ok(lines
            .iter()
            .map(|line| redactor.mask(line).into_owned())
            .collect())
    }

    /// An error as it may be shown and recorded.
    pub(crate) fn masked(&self, mut fault: Fault) -> Fault {
        match self.credentials.redactor() {
            Ok(redactor) => {
                fault.message = redactor.mask(&fault.message).into_owned();
                for line in &mut fault.log {
                    *line = redactor.mask(line).into_owned();
                }
            }
            Err(error) => {
                tracing::warn!(error = crate::words::chain(&error), "secrets cannot be masked");
                NOT_SHOWN.clone_into(&mut fault.message);
                fault.log = vec![];
            }
        }
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::SecretPlace;
    use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
    use astraler_model::Environment;
    use astraler_secrets::Secret;

    #[test]
    fn an_error_that_quotes_a_secret_shows_none_of_it_old_or_new() {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = SimSupervisor::new(1, SimFaults::NONE, SimClock::automatic(1_000));
        let platform = Platform::simulated(folder.path(), Arc::new(supervisor));
        let password = platform
            .credentials
            .named(Environment::Staging, "redis_password")
            .unwrap();
        let set = |value: &str| {
            let value = Secret::new(value);
            let place = SecretPlace::Staging;
            platform.secret_set("test", place, "KEY", &value, false).unwrap();
        };
        let fault = || {
            platform.masked(Fault {
                part: "start staging".into(),
                message: format!("it said first-canary, second-canary and {}", password.expose()),
                log: vec!["{\"message\":\"second-canary\"}".into()],
                hint: None,
            })
        };
        set("first-canary");
        assert_eq!(fault().message, "it said ***, second-canary and ***");
        set("second-canary");
        assert_eq!(fault().message, "it said ***, *** and ***");
        assert_eq!(fault().log, ["{\"message\":\"***\"}"]);
    }
}
