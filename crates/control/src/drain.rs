//! Drain: the edge no longer sends anybody to a deployment; what is under way ends, within a bound.

use crate::platform::Platform;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until no request and no WebSocket of the deployment is under way. False when that took too long, which ends
/// the wait: the process then gets its own grace period.
pub(crate) async fn drain(platform: &Platform, deployment: &str, limit: Duration) -> bool {
    let deadline = tokio::time::Instant::now() + limit;
    // A request that had taken its route just before the switch is counted a moment later: hence two looks.
    let mut quiet = 0;
    loop {
        match in_flight(platform, deployment).await {
            Some(0) | None => quiet += 1,
            Some(_) => quiet = 0,
        }
        if quiet >= 2 {
            return true;
        }
        if tokio::time::Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Requests of a deployment under way; `None` when the edge does not answer: then nobody is served.
async fn in_flight(platform: &Platform, deployment: &str) -> Option<u64> {
    let status = edge_status(platform).await?;
    Some(
        status["deployments"][deployment]["in_flight"]
            .as_u64()
            .unwrap_or(0),
    )
}

/// What the edge says of itself.
pub(crate) async fn edge_status(platform: &Platform) -> Option<serde_json::Value> {
    let socket = platform.installation.layout.status_socket("edge");
    let asked = crate::client::get(&socket, "/status");
    let answer = tokio::time::timeout(Duration::from_secs(2), asked)
        .await
        .ok()?
        .ok()?;
    serde_json::from_slice(&answer.body).ok()
}
