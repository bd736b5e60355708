//! A job's only way out: an HTTP proxy on a unix socket that lets through what is allowed, and names what is not.

use crate::registry::{Place, host_and_port};
use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest head of a request.
const MAX_HEAD: usize = 32 << 10;
/// Connections of one job at once.
const MAX_CONNECTIONS: usize = 512;
/// Hosts that are named in the log before only their number matters.
const MAX_REFUSED: usize = 100;
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What a job may reach.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reach {
    pub(crate) places: Vec<Place>,
    /// Ports of this machine's loopback.
    pub(crate) ports: Vec<u16>,
    /// Names of this machine's loopback, beside the usual ones.
    pub(crate) hosts: Vec<String>,
}

impl Reach {
    /// Whether this is a port of the machine's loopback that may be reached.
    fn is_ours(&self, host: &str, port: u16) -> bool {
        let loopback =
            matches!(host, "127.0.0.1" | "localhost" | "::1") || self.hosts.iter().any(|name| name == host);
        loopback && self.ports.contains(&port)
    }
}

/// A proxy that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on a socket; what is refused is told once for each host.
pub(crate) fn start(
    socket: &Path,
    reach: Reach,
    refused: mpsc::UnboundedSender<String>,
) -> io::Result<Proxy> {
    let listener = listen(socket)?;
    let state = Arc::new(State {
        reach,
        refused,
        told: Mutex::default(),
        connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    });
    let task = tokio::spawn(async move {
        // Connections end with the proxy.
        let mut open = tokio::task::JoinSet::new();
        loop {
            let Ok((client, _)) = listener.accept().await else {
                continue;
            };
            while open.try_join_next().is_some() {}
            let Ok(permit) = Arc::clone(&state.connections).acquire_owned().await else {
                return;
            };
            let state = Arc::clone(&state);
            open.spawn(async move {
                // A connection that breaks is the client's to report.
                let _ = serve(client, &state).await;
                drop(permit);
            });
        }
    });
    Ok(Proxy { task })
}

/// A socket's path has 107 bytes; through its folder's descriptor any path is short enough.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    use std::os::fd::AsRawFd;
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a socket needs a folder",
        ));
    };
    let folder = std::fs::File::open(folder)?;
    UnixListener::bind(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

struct State {
    reach: Reach,
    refused: mpsc::UnboundedSender<String>,
    told: Mutex<HashSet<String>>,
    connections: Arc<Semaphore>,
}

impl State {
    fn allows(&self, host: &str, port: u16) -> bool {
        self.reach.is_ours(host, port) || self.reach.places.iter().any(|place| place.is(host, port))
    }

    fn refuse(&self, host: &str, port: u16) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let shown: String = host.chars().filter(|c| !c.is_control()).take(200).collect();
        let name = format!("{shown}:{port}");
        if told.len() < MAX_REFUSED && told.insert(name.clone()) {
            let _ = self.refused.send(name);
        }
    }
}

async fn serve(mut client: UnixStream, state: &State) -> io::Result<()> {
    let Ok(head) = timeout(HEAD_TIMEOUT, head(&mut client)).await else {
        return Ok(());
    };
    let (head, body) = head?;
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (
        request.next().unwrap_or_default(),
        request.next().unwrap_or_default(),
    );
    if method == "CONNECT" {
        let Some((host, Some(port))) = host_and_port(target) else {
            return answer(&mut client, "400 Bad Request", "CONNECT needs host:port").await;
        };
        let Some(mut server) = reach(&mut client, state, &host, port).await? else {
            return Ok(());
        };
        client
            .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            .await?;
        server.write_all(&body).await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let Some(rest) = target.strip_prefix("http://") else {
        return answer(
            &mut client,
            "400 Bad Request",
            "this is a proxy: ask for a whole URL",
        )
        .await;
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let Some((host, port)) = host_and_port(authority.rsplit('@').next().unwrap_or(authority)) else {
        return answer(&mut client, "400 Bad Request", "the URL has no host").await;
    };
    let Some(mut server) = reach(&mut client, state, &host, port.unwrap_or(80)).await? else {
        return Ok(());
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut request = format!("{method} {slash}{path} HTTP/1.1\r\nConnection: close\r\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        // One request for each connection: the next one may be for somebody else.
        if !matches!(
            name.as_str(),
            "connection" | "keep-alive" | "proxy-connection" | "proxy-authorization"
        ) {
            request.push_str(line);
            request.push_str("\r\n");
        }
    }
    request.push_str("\r\n");
    server.write_all(request.as_bytes()).await?;
    server.write_all(&body).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// The head of a request, and what came after it.
async fn head(client: &mut UnixStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = client.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..count]);
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(at + 4);
            return Ok((bytes, body));
        }
        if bytes.len() > MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
        }
    }
}

async fn reach(
    client: &mut UnixStream,
    state: &State,
    host: &str,
    port: u16,
) -> io::Result<Option<TcpStream>> {
    if !state.allows(host, port) {
        state.refuse(host, port);
        let message = format!("astraler: {host}:{port} is not among pipeline.registries");
        answer(client, "403 Forbidden", &message).await?;
        return Ok(None);
    }
    let address = if state.reach.is_ours(host, port) {
        Ipv4Addr::LOCALHOST.to_string()
    } else {
        host.to_owned()
    };
    match timeout(CONNECT_TIMEOUT, TcpStream::connect((address.as_str(), port))).await {
        Ok(Ok(server)) => Ok(Some(server)),
        _ => {
            answer(client, "502 Bad Gateway", "astraler: no connection to that host").await?;
            Ok(None)
        }
    }
}

async fn answer(client: &mut UnixStream, status: &str, message: &str) -> io::Result<()> {
    let length = message.len() + 1;
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{message}\n"
    );
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    async fn ask(socket: &Path, request: &str) -> String {
        let mut client = UnixStream::connect(socket).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn what_is_allowed_passes_and_the_rest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("proxy.sock");
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let machine = Machine::default();
        let reach = Reach {
            places: crate::registry::places(&[format!("http://127.0.0.1:{port}")], &machine),
            ..Reach::default()
        };
        let (refused, mut told) = mpsc::unbounded_channel();
        let _proxy = start(&socket, reach, refused).unwrap();
        let serving = tokio::spawn(async move {
            let (mut client, _) = server.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let count = client.read(&mut head).await.unwrap();
            client
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await
                .unwrap();
            String::from_utf8_lossy(&head[..count]).into_owned()
        });
        let request = format!(
            "GET http://127.0.0.1:{port}/x?y HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nProxy-Authorization: secret\r\n\r\n"
        );
        assert!(ask(&socket, &request).await.ends_with("ok"));
        let seen = serving.await.unwrap();
        assert!(
            seen.starts_with("GET /x?y HTTP/1.1\r\n") && !seen.contains("secret"),
            "{seen}"
        );
        for request in [
            "CONNECT example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT example.com:443 HTTP/1.1\r\n\r\n",
            "GET http://127.0.0.1:1/ HTTP/1.1\r\n\r\n",
        ] {
            assert!(
                ask(&socket, request).await.starts_with("HTTP/1.1 403"),
                "{request}"
            );
        }
        assert!(
            ask(&socket, "GET / HTTP/1.1\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400")
        );
        assert_eq!(told.recv().await.unwrap(), "example.com:443");
        assert_eq!(told.recv().await.unwrap(), "127.0.0.1:1");
        assert!(told.try_recv().is_err(), "each once");
    }
}
