//! `astraler logs` with a question: records of all environments, from the files alone. The platform need not be up.

use super::Printer;
use crate::cli::LogsArguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;
use astraler_signal::{Filter, Follow, Query, Reader, Row, Stream};
use jiff::{Span, Timestamp};
use std::time::Duration;

const DEFAULT_LINES: usize = 100;
const POLL: Duration = Duration::from_millis(250);

pub(super) fn run(place: &Place, wanted: &LogsArguments) -> Outcome {
    let stream = match wanted.stream.as_deref() {
        Some("audit") => return super::audit::run(place, wanted),
        Some(name) => name
            .parse()
            .map_err(|error: astraler_signal::StreamError| Failure::new(Kind::General, error.to_string()))?,
        None => Stream::Access,
    };
    let query = query(wanted, stream)?;
    let layout = &place.layout;
    let reader = Reader::new(stream, &layout.signal(), &layout.logs());
    let mut printer = Printer::new(place);
    if wanted.by_minute {
        return minutes(&reader, &query, wanted.json);
    }
    // Before what is shown, so that nothing is missed between the two.
    let follow = wanted.follow.then(|| reader.follow(query.clone())).transpose()?;
    match wanted.lines.unwrap_or(DEFAULT_LINES) {
        0 => {
            let mut printed = Ok(());
            reader.each(&query, |row| {
                printed = printer.line(shown(stream, &row, wanted.json));
                printed.is_ok()
            })?;
            printed?;
        }
        count => {
            for row in reader.last(&query, count)? {
                printer.line(shown(stream, &row, wanted.json))?;
            }
        }
    }
    printer.flush()?;
    match follow {
        Some(follow) => self::follow(follow, printer, |row| shown(stream, row, wanted.json)),
        None => Ok(()),
    }
}

/// Prints new records as they arrive, until Ctrl-C.
fn follow(mut follow: Follow, mut printer: Printer, shown: impl Fn(&Row) -> String) -> Outcome {
    crate::commands::block_on(async {
        loop {
            printer.pending.extend(follow.new_rows()?.iter().map(&shown));
            printer.now().await;
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    })
}

fn query(wanted: &LogsArguments, stream: Stream) -> Outcome<Query> {
    let now = Timestamp::now();
    let time = |option: &str, text: &Option<String>| -> Outcome<Option<i64>> {
        let Some(text) = text else { return Ok(None) };
        match moment(text, now) {
            Some(moment) => Ok(Some(moment.as_millisecond())),
            None => Err(Failure::new(Kind::General, format!("--{option} {text}: no time"))
                .hint("write 90s, 30m, 12h, 3d, 2026-11-27 or 2026-11-27T14:00:00Z")),
        }
    };
    let environment = match &wanted.env {
        Some(name) => {
            let environment: astraler_model::Environment = name.parse()?;
            Some(Filter::environment(&environment.to_string()))
        }
        None => None,
    };
    let condition = match &wanted.condition {
        Some(text) => Some(
            Filter::parse(text, stream)
                .map_err(|error| Failure::new(Kind::General, format!("--where: {error}")))?,
        ),
        None => None,
    };
    Ok(Query {
        since_ms: time("since", &wanted.since)?,
        until_ms: time("until", &wanted.until)?,
        filter: match (environment, condition) {
            (Some(left), Some(right)) => Some(left.and(right)),
            (left, right) => left.or(right),
        },
        grep: wanted.grep.clone(),
    })
}

/// A time of day (UTC), a day, or how long ago.
pub(crate) fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        return Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp());
    }
    let (digits, factor) = match text.as_bytes().last()? {
        b's' => (text.strip_suffix('s')?, 1),
        b'm' => (text.strip_suffix('m')?, 60),
        b'h' => (text.strip_suffix('h')?, 3_600),
        b'd' => (text.strip_suffix('d')?, 86_400),
        _ => return None,
    };
    let count: i64 = digits.parse().ok()?;
    let seconds = count.checked_mul(factor).filter(|seconds| *seconds >= 0)?;
    now.checked_sub(Span::new().try_seconds(seconds).ok()?).ok()
}

fn minutes(reader: &Reader, query: &Query, json: bool) -> Outcome {
    let percentile = |minute: &astraler_signal::Minute, share| {
        let latency = minute.latency.quantile_us(share);
        latency.map_or_else(|| "-".to_owned(), milliseconds)
    };
    let all = reader.minutes(query)?;
    let time = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    if json {
        for (at, minute) in &all {
            let object = serde_json::json!({
                "minute": time(*at).to_string(),
                "records": minute.records,
                "errors": minute.errors,
                "p50_us": minute.latency.quantile_us(0.5),
                "p95_us": minute.latency.quantile_us(0.95),
                "p99_us": minute.latency.quantile_us(0.99),
            });
            line(&object.to_string());
        }
        return Ok(());
    }
    table::print(
        &["minute", "records", "errors", "p50", "p95", "p99"],
        all.iter().map(|(at, minute)| {
            vec![
                time(*at).strftime("%F %H:%M").to_string(),
                minute.records.to_string(),
                minute.errors.to_string(),
                percentile(minute, 0.5),
                percentile(minute, 0.95),
                percentile(minute, 0.99),
            ]
        }),
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(crate) fn milliseconds(micros: u64) -> String {
    format!("{:.1}ms", micros as f64 / 1e3)
}

pub(crate) fn shown(stream: Stream, row: &Row, json: bool) -> String {
    if json {
        return serde_json::to_string(&row.fields).unwrap_or_default();
    }
    let or_dash = |name| match row.text(name) {
        "" => "-",
        text => text,
    };
    match stream {
        Stream::Access => {
            let query = row.text("query");
            let mark = if query.is_empty() { "" } else { "?" };
            let error = row.text("error");
            let rules = row.text("rules");
            let rules = match rules.is_empty() {
                true => String::new(),
                false => format!(" [{rules}]"),
            };
            format!(
                "{} {} {} {} {}{}{mark}{query} {} {} {} {}{}{error}{rules}",
                row.text("ts"),
                or_dash("environment"),
                row.number("status").unwrap_or_default(),
                row.text("method"),
                row.text("host"),
                row.text("path"),
                milliseconds(row.number("duration_us").unwrap_or_default()),
                row.text("route"),
                row.text("client_ip"),
                row.text("request_id"),
                if error.is_empty() { "" } else { " " },
            )
        }
        Stream::Application | Stream::Error => format!(
            "{} {} {:>5} {}",
            row.text("ts"),
            row.text("part"),
            row.text("level"),
            astraler_signal::exception_words(row.text("message"))
                .unwrap_or_else(|| row.text("message").to_owned()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("90s", "2026-11-27T11:58:30Z"),
            ("30m", "2026-11-27T11:30:00Z"),
            ("12h", "2026-11-27T00:00:00Z"),
            ("3d", "2026-11-24T12:00:00Z"),
            ("2026-11-26", "2026-11-26T00:00:00Z"),
            ("2026-11-27T13:00:00+02:00", "2026-11-27T11:00:00Z"),
        ] {
            assert_eq!(moment(text, now), Some(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "h", "-1h", "1w", "yesterday", "99999999999999999d"] {
            assert_eq!(moment(text, now), None, "{text}");
        }
    }
}
