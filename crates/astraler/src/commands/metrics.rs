//! `astraler metrics`.

use super::logs::records::{milliseconds, moment};
use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_model::Environment;
use astraler_signal::Summary;
use jiff::Timestamp;

pub(super) fn run(arguments: &Arguments, environment: Option<&str>, since: &str, json: bool) -> Outcome {
    let environment = environment.map(str::parse::<Environment>).transpose()?;
    let since = moment(since, Timestamp::now()).ok_or_else(|| {
        Failure::new(Kind::General, format!("--since {since}: no time"))
            .hint("write 90s, 30m, 12h, 3d, 2026-11-27 or 2026-11-27T14:00:00Z")
    })?;
    let client = super::daemon(arguments)?;
    let found = super::block_on(async {
        let asked = client.metrics(environment, since.as_millisecond()).await;
        asked.map_err(|error| super::not_up(&error))
    })?;
    if json {
        return Ok(table::print_json(&found)?);
    }
    let found: Vec<Summary> = serde_json::from_value(found)?;
    if found.is_empty() {
        line("nothing was asked for in this time");
        return Ok(());
    }
    table::print(
        &[
            "environment",
            "requests",
            "errors",
            "p50",
            "p95",
            "p99",
            "uptime",
            "connections",
        ],
        found.iter().map(|one| {
            let share = |percent: Option<f64>| {
                percent.map_or_else(|| "-".to_owned(), |share| format!("{share:.2} %"))
            };
            let latency = |micros: Option<u64>| micros.map_or_else(|| "-".to_owned(), milliseconds);
            vec![
                one.environment.clone(),
                one.requests.to_string(),
                format!("{} ({})", one.errors, share(one.error_percent)),
                latency(one.p50_us),
                latency(one.p95_us),
                latency(one.p99_us),
                match one.up {
                    Some(false) => format!("{}, down", share(one.uptime_percent)),
                    _ => share(one.uptime_percent),
                },
                one.connections.map_or_else(
                    || "-".to_owned(),
                    |of| format!("{} of {} (at most {})", of.active, of.limit, of.most),
                ),
            ]
        }),
    );
    Ok(())
}
