//! Wake: the workers of an environment sleep; the request waits while they are started.
//!
//! The one place where a request needs the control plane. An environment that is awake never comes here.

use crate::body;
use crate::fault::{Fault, Kind};
use crate::run::Edge;
use astraler_model::{Environment, Origin};
use http::{Method, Request};
use std::time::Duration;
use tokio::sync::Mutex;

/// A request waits so long, with those before it.
const LIMIT: Duration = Duration::from_secs(60);

/// Where to ask.
#[derive(Debug)]
pub(crate) struct Wake {
    pub(crate) origin: Origin,
    /// One asks, the others wait for its answer.
    pub(crate) turn: Mutex<()>,
}

/// Returns when the environment has routes to workers that run.
pub(crate) async fn wake(edge: &Edge, wake: &Wake, environment: Environment) -> Result<(), Fault> {
    let late = Kind::UpstreamTimeout.because("the sleeping workers did not start in time");
    let woken = async {
        let _turn = wake.turn.lock().await;
        if edge.routes.load().is_awake(environment) {
            return Ok(());
        }
        ask(edge, wake, environment).await
    };
    tokio::time::timeout(LIMIT, woken).await.unwrap_or(Err(late))
}

async fn ask(edge: &Edge, wake: &Wake, environment: Environment) -> Result<(), Fault> {
    let failed = Kind::UpstreamUnavailable.because("the workers sleep and could not be woken");
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/v1/wake/{environment}"))
        .header("host", "localhost")
        .body(body::empty())
        .map_err(|_| failed)?;
    let answer = edge.waker.send(&wake.origin, request).await.map_err(|error| {
        tracing::warn!(%environment, error = &error as &dyn std::error::Error, "cannot ask for a wake");
        failed
    })?;
    if answer.status().is_success() && edge.routes.load().is_awake(environment) {
        return Ok(());
    }
    tracing::warn!(%environment, status = answer.status().as_u16(), "not woken");
    Err(failed)
}
