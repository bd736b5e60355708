//! A server that is asked over the wire, and what it writes to its log.

use crate::failure::{Failure, Kind, Outcome};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a server may take for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// A status line is found in the first bytes, or not at all.
const STATUS_LINE: usize = 64;
/// A log that says nothing for so long has nothing to say: where no rule matches, some do not.
const SILENT: Duration = Duration::from_millis(500);
/// A log that says no more for so long has said all.
const SETTLED: Duration = Duration::from_millis(20);
/// Somebody else writes to a log that goes on for so long.
const LONGEST: Duration = Duration::from_secs(2);
/// Of a log, what is read for one request.
const MOST: u64 = 1 << 20;

pub(super) struct Server {
    address: SocketAddr,
    /// Read up to where it ended when the last request had its answer.
    log: Option<File>,
}

impl Server {
    pub(super) fn new(target: &str, log: Option<&Path>) -> Outcome<Self> {
        let log = log.map(|path| {
            let opened = File::open(path).and_then(|mut file| {
                file.seek(SeekFrom::End(0))?;
                Ok(file)
            });
            opened.map_err(|error| {
                Failure::of(&error)
                    .context(format!("{} cannot be read", path.display()))
                    .hint("--log names a file that the server writes to, on this machine")
            })
        });
        Ok(Self {
            address: address(target)?,
            log: log.transpose()?,
        })
    }

    /// The status that a request is answered, and what the log says of it; within, why there is no answer.
    pub(super) fn ask(&mut self, request: &[u8]) -> Outcome<io::Result<(u16, Option<String>)>> {
        let connection = TcpStream::connect_timeout(&self.address, PATIENCE)
            .map_err(|error| Failure::of(&error).context(format!("{} cannot be reached", self.address)))?;
        let answered = status(connection, request);
        let log = self.log.as_mut().map(said).transpose();
        let log = log.map_err(|error| Failure::of(&error).context("the server's log cannot be read"))?;
        Ok(answered.map(|status| (status, log)))
    }
}

fn address(target: &str) -> Outcome<SocketAddr> {
    let wrong = || {
        Failure::new(Kind::General, format!("{target} is no server that can be asked"))
            .hint("http://HOST:PORT, without a path; tests break HTTP in ways that TLS would only hide")
    };
    let uri: http::Uri = target.parse().map_err(|_| wrong())?;
    let host = uri
        .host()
        .filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/");
    let host = host.ok_or_else(wrong)?.trim_matches(['[', ']']);
    let addresses = (host, uri.port_u16().unwrap_or(80)).to_socket_addrs();
    addresses
        .map_err(|error| wrong().details(vec![error.to_string()]))?
        .next()
        .ok_or_else(wrong)
}

/// The status that a server answers. A server may answer, and close, before it has read everything.
fn status(mut connection: TcpStream, request: &[u8]) -> io::Result<u16> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let sent = connection.write_all(request);
    let mut start = [0; STATUS_LINE];
    let mut length = 0;
    while length < STATUS_LINE && !start[..length].contains(&b'\n') {
        match connection.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(bytes) => length += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return sent.and(Err(error)),
        }
    }
    let words = String::from_utf8_lossy(&start[..length]);
    words
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what came is no HTTP/1.1 answer"))
}

/// What has come to a log.
#[expect(clippy::disallowed_methods, reason = "nothing else runs in this command")]
fn said(log: &mut File) -> io::Result<String> {
    let begun = Instant::now();
    let (mut text, mut grown) = (Vec::new(), begun);
    loop {
        if log.take(MOST - text.len() as u64).read_to_end(&mut text)? > 0 {
            grown = Instant::now();
        }
        let wait = if text.is_empty() { SILENT } else { SETTLED };
        if grown.elapsed() > wait || begun.elapsed() > LONGEST {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
