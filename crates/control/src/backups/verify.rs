//! Reads the newest backups back and compares them with what was written down when they were made; and the replicas of
//! buckets with the buckets.

use super::{Progress, protected, subjects};
use crate::platform::Platform;
use crate::words::Fault;
use std::time::Instant;
use tokio::sync::mpsc;

const PART: &str = "backups";

/// Every cluster's newest base, the newest dump of each of its databases, and every replica: a sample of its objects, or
/// all when `full`. Returns how many.
pub(super) async fn newest(
    platform: &Platform,
    full: bool,
    events: &mpsc::Sender<Progress>,
) -> Result<usize, Fault> {
    let fault = |error: &dyn std::error::Error| Fault::of(PART, error);
    let mut verified = 0;
    for one in protected(platform).map_err(|error| fault(&error))? {
        let destination = one.destination(platform).map_err(|error| fault(&error))?;
        for subject in subjects::of(platform, &one).map_err(|error| fault(&error))? {
            let (kind, subject) = (subject.kind, subject.name);
            let done = platform
                .store
                .backups_done(kind.name(), &subject, 1)
                .map_err(|error| fault(&error))?;
            let Some((location, sha256)) = done
                .into_iter()
                .next()
                .and_then(|record| record.location.zip(record.sha256))
            else {
                continue;
            };
            let part = format!("{} {subject}", kind.name());
            let began = Instant::now();
            let bytes = astraler_recovery::verify(&destination, &location, Some(&sha256))
                .await
                .map_err(|error| Fault::of(&part, &error))?;
            verified += 1;
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let detail = format!("{bytes} bytes are as they were written");
            events
                .send(Progress::End {
                    part,
                    detail,
                    elapsed_ms,
                })
                .await
                .ok();
        }
    }
    Ok(verified + crate::replicas::verify(platform, full, events).await?)
}
