//! Who hears of certificates that are not renewed in time.

use super::{CertificatesError, record, wanted};
use crate::daemon::Daemon;
use crate::words::chain;
use astraler_alert::Severity;
use astraler_tls::{Standing, standing};

/// Name of the alert.
const RULE: &str = "certificates";

/// What was said last, so that it is said once.
#[derive(Debug, Default)]
pub(super) struct Told(Option<Option<(Severity, String)>>);

impl Told {
    /// Raises the alert when a certificate should have been renewed, and lowers it when all are.
    pub(super) fn tell(&mut self, daemon: &Daemon, now: u64) {
        let trouble = match trouble(daemon, now) {
            Ok(trouble) => trouble,
            Err(error) => {
                tracing::warn!(error = chain(&error), "how certificates stand cannot be told");
                return;
            }
        };
        if self.0.as_ref() == Some(&trouble) {
            return;
        }
        let said = match trouble.clone() {
            None => daemon.lower_alert(RULE, None),
            Some((severity, words)) => daemon.raise_alert(RULE, None, severity, words).map(|_| ()),
        };
        match said {
            Ok(()) => self.0 = Some(trouble),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "how certificates stand cannot be told; trying again"
            ),
        }
    }
}

/// The worst that is, in words that stay the same while it stays so.
fn trouble(daemon: &Daemon, now: u64) -> Result<Option<(Severity, String)>, CertificatesError> {
    let records = record::all(&daemon.platform)?;
    let mut worst = Standing::Fine;
    let mut all = Vec::new();
    for wanted in wanted::all(&daemon.platform)? {
        let timing = records.get(&wanted.subject).and_then(|record| record.timing());
        let Some(timing) = timing else { continue };
        let standing = standing(&timing, now);
        worst = worst.max(standing);
        let date = date(timing.not_after_ms);
        match standing {
            Standing::Fine => {}
            Standing::Late => all.push(format!("{} is not renewed; it ends on {date}", wanted.subject)),
            Standing::Ending => all.push(format!("{} ends on {date}", wanted.subject)),
            Standing::Ended => all.push(format!("{} has ended on {date}", wanted.subject)),
        }
    }
    let severity = match worst {
        Standing::Fine => return Ok(None),
        Standing::Late => Severity::High,
        Standing::Ending | Standing::Ended => Severity::Critical,
    };
    let words = format!("certificates: {}; `astraler tls list` says why", all.join(", "));
    Ok(Some((severity, words)))
}

fn date(ms: u64) -> String {
    let at = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| at.strftime("%Y-%m-%d").to_string())
}
