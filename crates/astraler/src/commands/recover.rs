//! `astraler recover`.

use crate::cli::{Arguments, DrillArguments, RecoverCommand};
use crate::failure::{Failure, Kind, Outcome};
use astraler_control::{DrillRequest, RecoverDatabaseRequest, RecoverServiceRequest, RecoverStorageRequest};

pub(super) fn run(arguments: &Arguments, command: &RecoverCommand) -> Outcome {
    match command {
        RecoverCommand::Database {
            environment,
            to,
            dry_run,
            json,
        } => {
            let request = RecoverDatabaseRequest {
                environment: environment.parse().map_err(|error| Failure::of(&error))?,
                to_ms: time_ms(to)?,
                dry_run: *dry_run,
            };
            let client = super::daemon(arguments)?;
            super::backup::follow(*json, |on_line| {
                super::block_on(async {
                    client
                        .recover_database(&request, on_line)
                        .await
                        .map_err(|error| super::not_up(&error))
                })
            })
        }
        RecoverCommand::Full(full) => super::recover_full::run(arguments, full),
        RecoverCommand::Service {
            environment,
            to,
            dry_run,
            json,
        } => {
            let request = RecoverServiceRequest {
                environment: environment.parse().map_err(|error| Failure::of(&error))?,
                to: to.clone(),
                dry_run: *dry_run,
            };
            let client = super::daemon(arguments)?;
            super::backup::follow(*json, |on_line| {
                super::block_on(async {
                    client
                        .recover_service(&request, on_line)
                        .await
                        .map_err(|error| super::not_up(&error))
                })
            })
        }
        RecoverCommand::Storage {
            environment,
            bucket,
            dry_run,
            json,
        } => {
            let request = RecoverStorageRequest {
                environment: environment.parse().map_err(|error| Failure::of(&error))?,
                bucket: bucket.clone(),
                dry_run: *dry_run,
            };
            let client = super::daemon(arguments)?;
            super::backup::follow(*json, |on_line| {
                super::block_on(async {
                    client
                        .recover_storage(&request, on_line)
                        .await
                        .map_err(|error| super::not_up(&error))
                })
            })
        }
    }
}

pub(super) fn drill(arguments: &Arguments, given: &DrillArguments) -> Outcome {
    let environment = given.environment.as_deref().map(str::parse).transpose();
    let request = DrillRequest {
        environment: environment.map_err(|error| Failure::of(&error))?,
    };
    let client = super::daemon(arguments)?;
    super::backup::follow(given.json, |on_line| {
        super::block_on(async {
            client
                .drill(&request, on_line)
                .await
                .map_err(|error| super::not_up(&error))
        })
    })
}

/// RFC 3339, or the same without a zone, which is UTC: all that we show is.
pub(super) fn time_ms(text: &str) -> Outcome<u64> {
    let parsed = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    });
    parsed
        .and_then(|time| u64::try_from(time.as_millisecond()).ok())
        .ok_or_else(|| {
            Failure::new(Kind::General, format!("`{text}` is no time"))
                .hint("write 2026-11-27T18:50:30Z, or 2026-11-27 18:50:30 for UTC")
        })
}

#[cfg(test)]
mod tests {
    use super::time_ms;

    #[test]
    fn times() {
        let ms = 1_700_000_000_500;
        for good in [
            "2023-11-14T22:13:20.5Z",
            "2023-11-14 22:13:20.5",
            "2023-11-14T23:13:20.5+01:00",
        ] {
            assert_eq!(time_ms(good).unwrap(), ms, "{good}");
        }
        for bad in [
            "",
            "yesterday",
            "1700000000",
            "2023-13-01T00:00:00Z",
            "1900-01-01T00:00:00Z",
        ] {
            assert!(time_ms(bad).is_err(), "{bad}");
        }
    }
}
