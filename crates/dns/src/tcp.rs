//! TCP (RFC 7766): for what does not fit, for transfers, and for who is told to come here.

use crate::server::{self, Memory, Outcome, Shared, Transport, answer};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at once, of everybody and of one client.
const MAX_CONNECTIONS: usize = 512;
const MAX_OF_CLIENT: u32 = 32;
/// From one message to the next, and from the first byte of a message to its last.
const IDLE: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(5);
/// For who does not read.
const WRITE: Duration = Duration::from_secs(10);
/// A query is smaller.
const MAX_QUERY: usize = 4_096;
/// After an error to accept, so that it cannot take a core.
const PAUSE: Duration = Duration::from_millis(20);

/// Connections by client.
#[derive(Debug, Default, Clone)]
struct Clients(Arc<Mutex<HashMap<IpAddr, u32>>>);

struct Place {
    clients: Clients,
    client: IpAddr,
}

impl Clients {
    fn enter(&self, client: IpAddr) -> Option<Place> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(client).or_insert(0);
        if *open >= MAX_OF_CLIENT {
            return None;
        }
        *open += 1;
        Some(Place {
            clients: self.clone(),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// Serves until it is told to stop.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, stopping: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let clients = Clients::default();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let client = from.ip().to_canonical();
                let (Ok(permit), Some(place)) = (places.clone().try_acquire_owned(), clients.enter(client))
                else {
                    continue;
                };
                let (shared, stopping) = (shared.clone(), stopping.clone());
                tokio::spawn(async move {
                    let (_permit, _place) = (permit, place);
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        ended = connection(&shared, stream, client) => if let Err(error) = ended {
                            tracing::debug!(%client, %error, "a connection for DNS ended early");
                        },
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection for DNS was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(shared: &Shared, mut stream: TcpStream, client: IpAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = Vec::new();
    let mut out = Vec::new();
    let mut framed = Vec::new();
    while read(&mut stream, &mut message).await? {
        let served = shared.served.load_full();
        let asked = (&message[..], client, Transport::Tcp);
        match answer(shared, &served, &mut Memory::default(), asked, &mut out) {
            Outcome::Silent => return Ok(()),
            Outcome::Send => write(&mut stream, &out, &mut framed).await?,
            Outcome::Transfer(transfer) => {
                let (query, mut transfer, mut session) = *transfer;
                while transfer.next(&query, &mut session, server::now(), &mut out) {
                    write(&mut stream, &out, &mut framed).await?;
                }
            }
        }
    }
    Ok(())
}

/// The next message; false at the end, and for who is idle.
async fn read(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0_u8; 2];
    match tokio::time::timeout(IDLE, stream.read(&mut length[..1])).await {
        Err(_) | Ok(Ok(0)) => return Ok(false),
        Ok(read) => drop(read?),
    }
    let rest = async {
        stream.read_exact(&mut length[1..]).await?;
        let length = usize::from(u16::from_be_bytes(length));
        if length > MAX_QUERY {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        message.resize(length, 0);
        stream.read_exact(message).await?;
        Ok(true)
    };
    tokio::time::timeout(WHOLE, rest)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

async fn write(stream: &mut TcpStream, message: &[u8], framed: &mut Vec<u8>) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    framed.clear();
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    tokio::time::timeout(WRITE, stream.write_all(framed))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}
