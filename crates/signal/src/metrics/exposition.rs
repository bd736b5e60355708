//! Prometheus' text format, version 0.0.4, by its own document ("Exposition formats").

use super::schema::cell;
use super::{Metrics, MetricsError, SLOW_US};
use std::fmt::Write;

/// The media type of [`Metrics::exposition`].
pub const EXPOSITION_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds in microseconds, as they are written in seconds.
const BOUNDS: [(u64, &str); 11] = [
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (SLOW_US, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

impl Metrics {
    /// All numbers as they are now.
    pub fn exposition(&self) -> Result<String, MetricsError> {
        let mut text = String::new();
        self.requests(&mut text)?;
        self.environments(&mut text);
        self.records(&mut text);
        Ok(text)
    }

    fn requests(&self, text: &mut String) -> Result<(), MetricsError> {
        let mut statement = self.database.prepare_cached(
            "SELECT environment, route, requests, client_errors, errors, slow, latency FROM total",
        )?;
        let totals = statement
            .query_map([], |row| {
                let (environment, route): (String, String) = (row.get(0)?, row.get(1)?);
                let labels = format!(
                    "environment=\"{}\",route=\"{}\"",
                    escaped(&environment),
                    escaped(&route)
                );
                Ok((labels, cell(row, 2)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        head(
            text,
            "astraler_requests_total",
            "counter",
            "Requests that ended, by outcome.",
        );
        for (labels, cell) in &totals {
            let well = cell.requests.saturating_sub(cell.client_errors + cell.errors);
            let outcomes = [
                ("ok", well),
                ("client_error", cell.client_errors),
                ("server_error", cell.errors),
            ];
            for (outcome, count) in outcomes {
                let labels = format!("{labels},outcome=\"{outcome}\"");
                sample(text, "astraler_requests_total", &labels, count);
            }
        }
        let name = "astraler_request_duration_seconds";
        head(
            text,
            name,
            "histogram",
            "From the first byte of a request to the last of its answer.",
        );
        for (labels, cell) in &totals {
            for (bound, seconds) in BOUNDS {
                // The threshold of the rule for slow requests is exact; the others are off by a bucket at most.
                let count = match bound {
                    SLOW_US => cell.requests.saturating_sub(cell.slow),
                    bound => cell.latency.at_most(bound),
                };
                sample(
                    text,
                    &format!("{name}_bucket"),
                    &format!("{labels},le=\"{seconds}\""),
                    count,
                );
            }
            sample(
                text,
                &format!("{name}_bucket"),
                &format!("{labels},le=\"+Inf\""),
                cell.requests,
            );
            let micros = cell.latency.sum_us();
            let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            sample(text, &format!("{name}_sum"), labels, seconds);
            sample(text, &format!("{name}_count"), labels, cell.requests);
        }
        Ok(())
    }

    fn environments(&self, text: &mut String) {
        let labels = |environment: &str| format!("environment=\"{}\"", escaped(environment));
        head(
            text,
            "astraler_up",
            "gauge",
            "Whether the environment answers: 0 after three failed probes.",
        );
        for (environment, now) in &self.now {
            if let Some(up) = now.is_up() {
                sample(text, "astraler_up", &labels(environment), u64::from(up));
            }
        }
        let name = "astraler_database_connections";
        head(
            text,
            name,
            "gauge",
            "Database connections of the pool that are in use.",
        );
        for (environment, now) in self.now.iter().filter(|(_, now)| now.size > 0) {
            sample(text, name, &labels(environment), now.active);
        }
        let name = "astraler_database_connections_limit";
        head(
            text,
            name,
            "gauge",
            "Database connections that the pool may have.",
        );
        for (environment, now) in self.now.iter().filter(|(_, now)| now.size > 0) {
            sample(text, name, &labels(environment), now.size);
        }
        let name = "astraler_replication_waiting_objects";
        let help = "Objects of buckets that wait to be sent to their second location.";
        head(text, name, "gauge", help);
        for (environment, (waiting, _)) in &self.replicated {
            sample(text, name, &labels(environment), *waiting);
        }
        let name = "astraler_replication_lag_seconds";
        let help = "How long the oldest of them has waited.";
        head(text, name, "gauge", help);
        for (environment, (_, lag_ms)) in &self.replicated {
            let seconds = format!("{}.{:03}", lag_ms / 1_000, lag_ms % 1_000);
            sample(text, name, &labels(environment), seconds);
        }
    }

    fn records(&self, text: &mut String) {
        let kept = |text: &mut String, name: &str, kind: &str, help: &str, of: &dyn Fn(&Kept) -> u64| {
            head(text, name, kind, help);
            for (stream, kept) in &self.stores {
                sample(text, name, &format!("stream=\"{stream}\""), of(kept));
            }
        };
        kept(
            text,
            "astraler_records_bytes",
            "gauge",
            "Space that records take.",
            &|kept| kept.1,
        );
        let help = "Records that were dropped because the space was used up.";
        kept(text, "astraler_records_dropped_total", "counter", help, &|kept| {
            kept.0.dropped
        });
        let help = "Times that a log was rotated away before it was read.";
        kept(text, "astraler_records_gaps_total", "counter", help, &|kept| {
            kept.0.gaps
        });
        let help = "Lines of logs that are no record.";
        kept(
            text,
            "astraler_records_unreadable_total",
            "counter",
            help,
            &|kept| kept.0.unreadable,
        );
        let name = "astraler_edge_dropped_records_total";
        head(
            text,
            name,
            "counter",
            "Access records that the edge could not write.",
        );
        sample(text, name, "", self.edge_dropped);
    }
}

type Kept = (crate::store::Counts, u64);

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// A label's value: `\`, `"` and the newline are escaped.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
