//! What the role tells of its numbers: `GET /metrics` in Prometheus' text format, `GET /summary` and
//! `GET /windows` as JSON.

use super::now_ms;
use crate::status::Further;
use astraler_signal::{Asked, Metrics, MetricsError, Shared};
use http::{Method, StatusCode, Uri};
use std::sync::Arc;

/// What a summary covers when nothing is said.
const HOUR_MS: i64 = 3_600_000;
/// Windows in one question.
const MAX_WINDOWS: usize = 20;

type Answer = (StatusCode, Vec<u8>);

pub(super) fn of(shared: &Shared) -> Further {
    let shared = shared.clone();
    Arc::new(move |method, uri| {
        let shared = shared.clone();
        Box::pin(async move { answer(&shared, &method, &uri).await })
    })
}

async fn answer(shared: &Shared, method: &Method, uri: &Uri) -> Option<Answer> {
    if method != Method::GET {
        return None;
    }
    let query = uri.query().unwrap_or_default().to_owned();
    match uri.path() {
        "/metrics" => Some(asked(shared, |metrics| metrics.exposition().map(String::into_bytes)).await),
        "/windows" => Some(asked(shared, move |metrics| windows(metrics, &query)).await),
        "/summary" => Some(asked(shared, move |metrics| summary(metrics, &query)).await),
        _ => None,
    }
}

fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn time(query: &str, name: &str) -> Option<i64> {
    value(query, name).and_then(|text| text.parse().ok())
}

/// `environment`, `seconds` (several, with commas), `deployment` and `until_ms` where they matter.
fn windows(metrics: &Metrics, query: &str) -> Result<Vec<u8>, MetricsError> {
    let seconds = value(query, "seconds").unwrap_or_default();
    let found = metrics.windows(&Asked {
        environment: value(query, "environment").unwrap_or_default().to_owned(),
        deployment: value(query, "deployment").map(str::to_owned),
        seconds: seconds
            .split(',')
            .take(MAX_WINDOWS)
            .filter_map(|text| text.parse().ok())
            .collect(),
        until_ms: time(query, "until_ms").unwrap_or_else(|| now_ms() + 1),
    })?;
    Ok(serde_json::to_vec(&found).unwrap_or_default())
}

fn summary(metrics: &Metrics, query: &str) -> Result<Vec<u8>, MetricsError> {
    let until = time(query, "until_ms").unwrap_or_else(|| now_ms() + 1);
    let since = time(query, "since_ms").unwrap_or(until - HOUR_MS);
    let found = metrics.summary(value(query, "environment"), since, until)?;
    Ok(serde_json::to_vec(&found).unwrap_or_default())
}

/// The database is no work for an executor's thread.
async fn asked(
    shared: &Shared,
    ask: impl FnOnce(&Metrics) -> Result<Vec<u8>, MetricsError> + Send + 'static,
) -> Answer {
    let shared = shared.clone();
    let answered = tokio::task::spawn_blocking(move || shared.with(|metrics| ask(metrics))).await;
    match answered {
        Ok(Some(Ok(body))) => (StatusCode::OK, body),
        Ok(Some(Err(error))) => {
            tracing::error!(%error, "numbers cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes())
        }
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            b"the numbers are being opened".to_vec(),
        ),
    }
}
