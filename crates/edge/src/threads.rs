//! Threads: each has a runtime of its own, accept queues of its own and connections to upstreams of its own, so that a
//! request is served from accept to record by one thread and waits for no other.
//!
//! Several listeners with one address are shards of it (`SO_REUSEPORT`): the kernel spreads connections over their
//! queues, and each thread takes from its own. Where an address has fewer sockets than there are threads, threads share
//! the sockets. No queue is ever without a thread.

use crate::accept;
use crate::http3;
use crate::run::{Edge, EdgeError};
use crate::serve::Scheme;
use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::num::NonZero;
use std::sync::Arc;
use tokio::sync::oneshot;

/// More are of no use: a thread serves thousands of connections.
const MAX_THREADS: usize = 64;

/// A thread that serves.
pub(crate) struct Thread {
    pub(crate) edge: Arc<Edge>,
    end: oneshot::Receiver<()>,
}

impl Thread {
    /// Waits until it has drained.
    pub(crate) async fn ended(self) {
        if self.end.await.is_err() {
            tracing::error!("a thread of the edge ended without having drained");
        }
    }
}

/// Starts as many as the limits say, each with its share of the listeners.
pub(crate) fn start(
    edge: &Edge,
    listeners: Vec<(TcpListener, Scheme)>,
    quic: Vec<UdpSocket>,
) -> Result<Vec<Thread>, EdgeError> {
    let count = match edge.limits.threads {
        0 => std::thread::available_parallelism().map_or(2, NonZero::get),
        count => count,
    };
    let shares = share_out(listeners, count.clamp(1, MAX_THREADS));
    let shares = shares.map_err(|source| EdgeError::Listener { source })?;
    // A socket of QUIC has one owner: it knows which packet belongs to which connection.
    let mut quic_shares: Vec<Vec<UdpSocket>> = (0..count.clamp(1, MAX_THREADS)).map(|_| Vec::new()).collect();
    let threads = quic_shares.len();
    for (number, socket) in quic.into_iter().enumerate() {
        quic_shares[number % threads].push(socket);
    }
    shares
        .into_iter()
        .zip(quic_shares)
        .enumerate()
        .map(|(number, (listeners, quic))| {
            let edge = Arc::new(edge.of_a_thread());
            let (ended, end) = oneshot::channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|source| EdgeError::Thread { source })?;
            let of_thread = edge.clone();
            std::thread::Builder::new()
                .name(format!("edge-{number}"))
                .spawn(move || {
                    runtime.block_on(serve(of_thread, listeners, quic));
                    let _ = ended.send(());
                })
                .map_err(|source| EdgeError::Thread { source })?;
            Ok(Thread { edge, end })
        })
        .collect()
}

async fn serve(edge: Arc<Edge>, listeners: Vec<(TcpListener, Scheme)>, quic: Vec<UdpSocket>) {
    let mut acceptors = tokio::task::JoinSet::new();
    for (listener, scheme) in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(acceptors.spawn(accept::accept(edge.clone(), listener, scheme))),
            Err(error) => tracing::error!(%error, "a listening socket cannot be waited for"),
        }
    }
    for socket in quic {
        drop(acceptors.spawn(http3::serve(edge.clone(), socket)));
    }
    let memory = edge.memory.clone();
    let giving_back = tokio::spawn(async move { memory.give_back().await });
    edge.draining.cancelled().await;
    while acceptors.join_next().await.is_some() {}
    accept::drained(&edge).await;
    giving_back.abort();
}

/// For each thread the listeners that it accepts on.
fn share_out(
    listeners: Vec<(TcpListener, Scheme)>,
    threads: usize,
) -> io::Result<Vec<Vec<(TcpListener, Scheme)>>> {
    let mut by_address: BTreeMap<_, Vec<(TcpListener, Scheme)>> = BTreeMap::new();
    for (listener, scheme) in listeners {
        listener.set_nonblocking(true)?;
        by_address
            .entry(listener.local_addr()?)
            .or_default()
            .push((listener, scheme));
    }
    let mut shares: Vec<Vec<(TcpListener, Scheme)>> = (0..threads).map(|_| Vec::new()).collect();
    for shards in by_address.into_values() {
        let count = shards.len();
        for extra in count..threads {
            let (shard, scheme) = &shards[extra % count];
            shares[extra].push((shard.try_clone()?, *scheme));
        }
        for (number, shard) in shards.into_iter().enumerate() {
            shares[number % threads].push(shard);
        }
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::fd::AsFd;

    fn inode(listener: &TcpListener) -> u64 {
        rustix::fs::fstat(listener.as_fd()).unwrap().st_ino
    }

    #[test]
    fn every_queue_has_a_thread_and_every_thread_a_queue() {
        for (sockets, threads) in [(1, 1), (1, 4), (2, 3), (3, 3), (5, 2)] {
            // Shards of one address; only the kernel's view of them is another.
            let first = TcpListener::bind("127.0.0.1:0").unwrap();
            let other = TcpListener::bind("127.0.0.1:0").unwrap();
            let inodes: BTreeSet<u64> = [&first, &other].map(inode).into();
            let mut listeners = vec![first, other];
            for _ in 1..sockets {
                listeners.push(listeners[0].try_clone().unwrap());
            }
            let listeners = listeners.into_iter().map(|listener| (listener, Scheme::Http));
            let shares = share_out(listeners.collect(), threads).unwrap();
            assert_eq!(shares.len(), threads);
            for share in &shares {
                let seen: BTreeSet<u64> = share.iter().map(|(listener, _)| inode(listener)).collect();
                assert_eq!(seen, inodes, "{sockets} sockets, {threads} threads");
            }
            let total: usize = shares.iter().map(Vec::len).sum();
            assert_eq!(total, sockets.max(threads) + threads);
        }
    }
}
