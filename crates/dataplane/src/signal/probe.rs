//! Asks: environments whether they are up, as a user would through the edge; the data role for its connections and
//! what it replicates, the edge for records that it dropped.

use super::now_ms;
use crate::status::RoleStatus;
use astraler_model::{Probe, ReplicationStanding, SignalSnapshot, any_contains};
use astraler_signal::{Metrics, PROBE_AGENT, Shared};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_secs(10);
/// After a failure, until it is known whether it was one.
const IN_DOUBT: Duration = Duration::from_secs(5);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// The PROXY protocol of a balancer that speaks for itself.
const INTRODUCTION: &[u8] = b"PROXY UNKNOWN\r\n";
/// Read of an answer.
const MAX_ANSWER: usize = 1 << 20;

/// Asks every environment until the task is dropped.
pub(super) async fn environments(shared: Shared, snapshot: watch::Receiver<Arc<SignalSnapshot>>) {
    let mut pause = EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let probes = snapshot.borrow().probes.clone();
        let asked = probes.iter().map(|probe| async move { is_up(probe).await });
        let found = futures_util::future::join_all(asked).await;
        let names: Vec<(String, bool)> = probes
            .iter()
            .zip(found)
            .map(|(probe, up)| (probe.environment.to_string(), up))
            .collect();
        let doubt = noted(&shared, move |metrics| {
            metrics.only_probed(&names.iter().map(|(name, _)| name.clone()).collect());
            for (name, up) in &names {
                metrics.probed(name, now_ms(), *up);
            }
            names.iter().any(|(name, _)| metrics.in_doubt(name))
        });
        pause = if doubt.await == Some(true) {
            IN_DOUBT
        } else {
            EVERY
        };
    }
}

/// Asks our own processes until the task is dropped.
pub(super) async fn processes(shared: Shared, data: PathBuf, edge: PathBuf) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let connections = status(&data)
            .await
            .and_then(|body| serde_json::from_slice::<RoleStatus>(&body).ok())
            .map(|status| status.connections)
            .unwrap_or_default();
        let replicated = answer(&data, "/replication")
            .await
            .and_then(|body| serde_json::from_slice::<Vec<ReplicationStanding>>(&body).ok())
            .unwrap_or_default()
            .into_iter()
            .map(|standing| {
                (
                    standing.environment.to_string(),
                    (standing.waiting, standing.lag_ms),
                )
            })
            .collect();
        let dropped = status(&edge)
            .await
            .and_then(|body| serde_json::from_slice::<serde_json::Value>(&body).ok())
            .and_then(|status| status["dropped_log_records"].as_u64());
        noted(&shared, move |metrics| {
            metrics.only_connected(&connections.keys().cloned().collect());
            for (environment, (active, size)) in &connections {
                metrics.connected(environment, now_ms(), *active as u64, *size as u64);
            }
            metrics.replicated(replicated);
            if let Some(dropped) = dropped {
                metrics.edge_dropped(dropped);
            }
        })
        .await;
    }
}

async fn noted<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&mut Metrics) -> T + Send + 'static,
) -> Option<T> {
    let shared = shared.clone();
    tokio::task::spawn_blocking(move || shared.with(work))
        .await
        .ok()?
}

async fn is_up(probe: &Probe) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(probe.address).await.ok()?;
        // As the edge sees us.
        let us = stream.local_addr().ok()?.ip();
        if any_contains(&probe.proxy_protocol, us) {
            stream.write_all(INTRODUCTION).await.ok()?;
        }
        let (status, _) = get(stream, &probe.host, &probe.path).await?;
        Some(status < probe.failing_from)
    };
    matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Some(true)))
}

async fn status(socket: &Path) -> Option<Bytes> {
    answer(socket, "/status").await
}

async fn answer(socket: &Path, path: &str) -> Option<Bytes> {
    let asked = async {
        let stream = UnixStream::connect(socket).await.ok()?;
        let (status, body) = get(stream, "localhost", path).await?;
        (status == 200).then_some(body)
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}

/// One GET on a connection of its own; the answer is read to its end, so that it is one.
async fn get<S>(stream: S, host: &str, path: &str) -> Option<(u16, Bytes)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, PROBE_AGENT)
        .body(Empty::<Bytes>::new())
        .ok()?;
    let answer = sender.send_request(request).await.ok()?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    connection.abort();
    // A page that is larger than what is read is an answer all the same.
    Some((
        status,
        body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use astraler_model::Environment;
    use tokio::io::{AsyncBufReadExt, BufReader};

    #[tokio::test]
    async fn a_probe_introduces_itself_where_the_edge_expects_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let edge = tokio::spawn(async move {
            let mut first_lines = Vec::new();
            for _ in 0..2 {
                let (stream, _) = listener.accept().await.unwrap();
                let mut lines = BufReader::new(stream).lines();
                first_lines.push(lines.next_line().await.unwrap().unwrap());
                while lines
                    .next_line()
                    .await
                    .unwrap()
                    .is_some_and(|line| !line.is_empty())
                {}
                let mut stream = lines.into_inner().into_inner();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
            first_lines
        });
        for networks in [vec!["127.0.0.0/8"], vec!["192.0.2.0/24"]] {
            let probe = Probe {
                environment: Environment::Production,
                address,
                host: "app.example".into(),
                path: "/".into(),
                failing_from: 500,
                proxy_protocol: networks.iter().map(|network| network.parse().unwrap()).collect(),
            };
            assert!(is_up(&probe).await);
        }
        assert_eq!(edge.await.unwrap(), ["PROXY UNKNOWN", "GET / HTTP/1.1"]);
    }
}
