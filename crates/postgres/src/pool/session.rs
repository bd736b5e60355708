//! One client from its first byte to its last.

use super::environment::Lease;
use super::relay::{Broken, Relay, Step};
use super::server::CancelTarget;
use super::startup::{self, Client};
use super::wire::{ErrorResponse, HIGH, Pipe};
use super::{CancelSlot, Pool};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A client that does not read its results for so long loses its server.
const STALL: Duration = Duration::from_secs(60);
/// What is under way when the pool stops may take so long.
const DRAIN: Duration = Duration::from_secs(10);

/// Why a session ended before the client said good-bye.
enum End {
    /// The client is gone.
    Client(io::Error),
    /// The server is gone.
    Server(io::Error),
    /// One of them broke the protocol.
    Broken(Broken),
    /// The client is told and sent away.
    Dismissed(ErrorResponse),
}

pub(super) async fn run(pool: &Pool, stream: UnixStream, shutdown: &CancellationToken) {
    let mut pipe = Pipe::new(stream);
    let welcomed = tokio::select! {
        welcomed = tokio::time::timeout(pool.limits.login, startup::welcome(pool, &mut pipe)) => welcomed,
        () = shutdown.cancelled() => return,
    };
    let client = match welcomed {
        Ok(Ok(Some(client))) => client,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => return tracing::debug!(%error, "a client ended its log-in"),
        Err(_) => return tracing::debug!("a client did not log in in time"),
    };
    let slot = pool.register(client.key);
    client.pool.clients.fetch_add(1, Ordering::Relaxed);
    let counted = Arc::clone(&client.pool);
    let key = client.key;
    let mut session = Session {
        pool,
        client,
        pipe,
        relay: Relay::default(),
        lease: None,
        slot,
    };
    let end = session.serve(shutdown).await;
    session.leave(end).await;
    counted.clients.fetch_sub(1, Ordering::Relaxed);
    pool.unregister(key);
}

struct Session<'a> {
    pool: &'a Pool,
    client: Client,
    pipe: Pipe,
    relay: Relay,
    lease: Option<Lease>,
    slot: Arc<CancelSlot>,
}

impl Session<'_> {
    async fn serve(&mut self, shutdown: &CancellationToken) -> Result<(), End> {
        let mut progress = Instant::now();
        let mut stop_at: Option<Instant> = None;
        loop {
            self.pump_server().await?;
            let (lease, pipe) = (&mut self.lease, &mut self.pipe);
            let server = lease
                .as_mut()
                .map(|lease| (&mut lease.server.state, &mut lease.server.pipe.out));
            let step = self
                .relay
                .client_said(&mut pipe.incoming, server, &mut pipe.out)
                .map_err(End::Broken)?;
            match step {
                Step::Terminate => return Ok(()),
                Step::NeedServer => {
                    self.take_server().await?;
                    continue;
                }
                Step::Wait(needed) => self.pipe.limit = HIGH.max(needed),
            }
            let blocked = self.is_blocked();
            if self.pipe.flush().map_err(End::Client)? || self.pipe.out.is_empty() {
                progress = Instant::now();
            }
            if let Some(lease) = &mut self.lease {
                lease.server.pipe.flush().map_err(End::Server)?;
            } else {
                self.pipe.shrink_unless_partial();
            }
            if blocked && !self.is_blocked() {
                // There is room again for what has been read already.
                continue;
            }

            let stalls = self.lease.is_some() && !self.pipe.out.is_empty();
            let server_reads = self.pipe.out.len() < HIGH;
            let client_reads = self
                .lease
                .as_ref()
                .is_none_or(|lease| lease.server.pipe.out.len() < HIGH);
            let server_ready = async {
                match &self.lease {
                    Some(lease) => lease.server.pipe.ready(server_reads).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.pipe.ready(client_reads) => {
                    ready.map_err(End::Client)?;
                    if client_reads {
                        self.pipe.fill().map_err(End::Client)?;
                    }
                }
                ready = server_ready => {
                    ready.map_err(End::Server)?;
                    if let (Some(lease), true) = (&mut self.lease, server_reads) {
                        lease.server.pipe.fill().map_err(End::Server)?;
                    }
                }
                () = tokio::time::sleep_until(progress + STALL), if stalls => {
                    return Err(End::Client(io::ErrorKind::TimedOut.into()));
                }
                () = shutdown.cancelled(), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + DRAIN);
                }
                () = tokio::time::sleep_until(stop_at.unwrap_or(progress)), if stop_at.is_some() => {
                    return Err(End::Dismissed(stopping()));
                }
            }
            if stop_at.is_some() && self.lease.is_none() {
                return Err(End::Dismissed(stopping()));
            }
        }
    }

    /// Whether what was read stays where it is, because the other side's buffer is full.
    fn is_blocked(&self) -> bool {
        self.pipe.out.len() >= HIGH
            || self
                .lease
                .as_ref()
                .is_some_and(|lease| lease.server.pipe.out.len() >= HIGH)
    }

    /// Passes on what the server said; gives it back when the transaction is over.
    async fn pump_server(&mut self) -> Result<(), End> {
        let Some(lease) = &mut self.lease else {
            return Ok(());
        };
        let server = &mut lease.server;
        let before = self.relay.transactions;
        let moved = self
            .relay
            .server_said(&mut server.pipe.incoming, &mut server.state, &mut self.pipe.out);
        moved.map_err(End::Broken)?;
        self.client
            .pool
            .transactions
            .fetch_add(self.relay.transactions - before, Ordering::Relaxed);
        let unused = server.pipe.out.is_empty() && server.pipe.incoming.is_empty();
        if self.relay.is_free() && self.relay.pinned.is_none() && unused {
            self.slot.set(None).await;
            if let Some(lease) = self.lease.take() {
                self.relay.release();
                self.client.pool.give_back(lease, None);
            }
        }
        Ok(())
    }

    /// Gets a server for the message at the front, or tells the client why there is none.
    async fn take_server(&mut self) -> Result<(), End> {
        self.follow_changes()?;
        let pool = Arc::clone(&self.client.pool);
        let leased = {
            let mut wait = std::pin::pin!(pool.lease(&self.client.settings));
            loop {
                self.pipe.flush().map_err(End::Client)?;
                tokio::select! {
                    leased = &mut wait => break leased,
                    ready = self.pipe.ready(false) => ready.map_err(End::Client)?,
                }
            }
        };
        match leased {
            Ok(lease) => {
                self.slot.set(Some(lease.server.cancel.clone())).await;
                self.relay.hold();
                self.lease = Some(lease);
            }
            Err(error) => self.relay.refuse(&error, &self.pipe.incoming, &mut self.pipe.out),
        }
        Ok(())
    }

    /// The environment may be reached otherwise by now, or no longer with this client's token.
    fn follow_changes(&mut self) -> Result<(), End> {
        let old = &self.client.pool;
        let Some(new) = self.pool.pool_of(self.client.environment) else {
            return Err(End::Dismissed(withdrawn()));
        };
        if Arc::ptr_eq(old, &new) {
            return Ok(());
        }
        let same = |a: &astraler_model::PostgresAccess, b: &astraler_model::PostgresAccess| {
            a.client_token == b.client_token && a.user == b.user && a.database == b.database
        };
        if !same(&old.access, &new.access) {
            return Err(End::Dismissed(withdrawn()));
        }
        self.client.pool = new;
        Ok(())
    }

    /// Tells the client why, and gives back or ends the server it held.
    async fn leave(&mut self, end: Result<(), End>) {
        self.slot.set(None).await;
        let server_lost = matches!(end, Err(End::Server(_) | End::Broken(Broken::Server(_))));
        if let Err(end) = end
            && let Some(error) = last_words(&end)
        {
            error.write(&mut self.pipe.out);
            // A client that does not read hears nothing.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.pipe.flush_all()).await;
        }
        let Some(lease) = self.lease.take() else { return };
        let unused = lease.server.pipe.out.is_empty() && lease.server.pipe.incoming.is_empty();
        if server_lost {
            drop(lease);
        } else if self.relay.is_quiet() && unused {
            self.client
                .pool
                .give_back(lease, Some(self.relay.pinned.is_some()));
        } else {
            lease.abandon();
        }
    }
}

fn last_words(end: &End) -> Option<ErrorResponse> {
    match end {
        End::Client(error) => {
            tracing::debug!(%error, "a client is gone");
            None
        }
        End::Server(error) => {
            tracing::debug!(%error, "a server connection is gone");
            Some(
                ErrorResponse::new(true, "08006", "the connection to PostgreSQL was lost")
                    .hint("The transaction was not committed, unless this was its COMMIT. Connect again."),
            )
        }
        End::Broken(error @ Broken::TooLarge(_)) => {
            Some(ErrorResponse::new(true, "54000", error.to_string()))
        }
        End::Broken(error) => {
            tracing::warn!(%error, "a conversation is out of step");
            Some(ErrorResponse::new(true, "08P01", error.to_string()))
        }
        End::Dismissed(error) => Some(error.clone()),
    }
}

fn withdrawn() -> ErrorResponse {
    ErrorResponse::new(
        true,
        "57P01",
        "access to the database was withdrawn or changed; connect again",
    )
}

fn stopping() -> ErrorResponse {
    ErrorResponse::new(true, "57P01", "the connection pool stops; connect again")
}

impl CancelSlot {
    /// Waits for a cancel request that is under way, so that it cannot reach the next client's query.
    async fn set(&self, target: Option<CancelTarget>) {
        *self.0.lock().await = target;
    }
}
