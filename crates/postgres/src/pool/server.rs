//! One connection to PostgreSQL.

use super::wire::{ErrorResponse, Pipe, message, put_text, text};
use astraler_model::PostgresAccess;
use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Settings by name, as a client asks for them or a server reports them.
pub(super) type Settings = BTreeMap<String, String>;

/// What the relay knows of the connection it holds.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Statements prepared here, with the time of their last use as a counter.
    pub(super) prepared: HashMap<u64, u64>,
    pub(super) clock: u64,
    /// Whose statement has no name at present.
    pub(super) unnamed: Option<u64>,
    /// What the server reported last.
    pub(super) statuses: Settings,
    /// What was set for clients, and is not as at the start.
    pub(super) applied: Settings,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) pipe: Pipe,
    pub(super) state: State,
    pub(super) cancel: CancelTarget,
    pub(super) last_used: Instant,
}

/// Where and how a running query is cancelled.
#[derive(Debug, Clone)]
pub(super) struct CancelTarget {
    socket: PathBuf,
    process: i32,
    key: i32,
}

/// Statements kept prepared on one server connection.
pub(super) const MAX_PREPARED: usize = 256;

#[derive(Debug, thiserror::Error)]
pub(super) enum ServerError {
    #[error("reaching PostgreSQL")]
    Io(#[from] io::Error),
    #[error("PostgreSQL refused: {}", .0.message)]
    Refused(ErrorResponse),
    #[error("PostgreSQL asks for a kind of authentication other than SCRAM")]
    Authentication,
}

impl Server {
    pub(super) async fn open(access: &PostgresAccess) -> Result<Self, ServerError> {
        let socket = access.socket_directory.join(format!(".s.PGSQL.{}", access.port));
        let mut pipe = Pipe::new(UnixStream::connect(&socket).await?);
        let parameters = [
            ("user", access.user.as_str()),
            ("database", &access.database),
            ("client_encoding", "UTF8"),
            ("application_name", "astraler-pool"),
        ];
        postgres_protocol::message::frontend::startup_message(parameters, &mut pipe.out)?;
        authenticate(&mut pipe, &access.password).await?;
        let cancel = CancelTarget {
            socket,
            process: 0,
            key: 0,
        };
        let mut server = Self {
            pipe,
            state: State::default(),
            cancel,
            last_used: Instant::now(),
        };
        server.until_ready().await?;
        Ok(server)
    }

    /// Makes the session's settings those that a client asked for.
    pub(super) async fn apply(&mut self, wanted: &Settings) -> Result<(), ServerError> {
        if self.state.applied == *wanted {
            return Ok(());
        }
        let mut sql = String::new();
        for name in self
            .state
            .applied
            .keys()
            .filter(|name| !wanted.contains_key(*name))
        {
            // Writing to a String cannot fail, here and below.
            let _ = write!(sql, "RESET \"{}\";", name.replace('"', "\"\""));
        }
        for (name, value) in wanted
            .iter()
            .filter(|(name, value)| self.state.applied.get(*name) != Some(value))
        {
            let _ = write!(
                sql,
                "SELECT set_config({}, {}, false);",
                literal(name),
                literal(value)
            );
        }
        // All in one implicit transaction: either everything is applied or nothing.
        self.simple(&sql).await?;
        self.state.applied = wanted.clone();
        Ok(())
    }

    /// Ends what a client left behind.
    pub(super) async fn reset(&mut self, whole_session: bool) -> Result<(), ServerError> {
        self.simple("ROLLBACK").await?;
        if whole_session {
            self.simple("DISCARD ALL").await?;
            self.state.prepared.clear();
            self.state.applied.clear();
        }
        Ok(())
    }

    /// Forgets the statements used least recently when there are too many.
    pub(super) async fn tidy(&mut self) -> Result<(), ServerError> {
        if self.state.prepared.len() <= MAX_PREPARED {
            return Ok(());
        }
        let mut by_age: Vec<(u64, u64)> = self
            .state
            .prepared
            .iter()
            .map(|(id, used)| (*used, *id))
            .collect();
        by_age.sort_unstable();
        for (_, id) in by_age.iter().take(self.state.prepared.len() - MAX_PREPARED / 2) {
            self.state.prepared.remove(id);
            message(b'C', &mut self.pipe.out, |out| {
                out.put_u8(b'S');
                put_text(&statement_name(*id), out);
            });
        }
        message(b'S', &mut self.pipe.out, |_| {});
        self.until_ready().await
    }

    /// Runs a query whose rows nobody wants.
    async fn simple(&mut self, sql: &str) -> Result<(), ServerError> {
        message(b'Q', &mut self.pipe.out, |out| put_text(sql.as_bytes(), out));
        self.state.unnamed = None;
        self.until_ready().await
    }

    /// Reads until ReadyForQuery; the first error, if any, is the result.
    async fn until_ready(&mut self) -> Result<(), ServerError> {
        let mut refused = None;
        loop {
            let (tag, body) = self.pipe.conversation().await?;
            match tag {
                b'S' => {
                    self.state.status(&body);
                }
                b'K' => {
                    if let Some((&[a, b, c, d, e, f, g, h], _)) = body.split_first_chunk::<8>() {
                        self.cancel.process = i32::from_be_bytes([a, b, c, d]);
                        self.cancel.key = i32::from_be_bytes([e, f, g, h]);
                    }
                }
                b'E' => {
                    let error = ErrorResponse::read(&body);
                    if error.fatal {
                        return Err(ServerError::Refused(error));
                    }
                    refused.get_or_insert(error);
                }
                b'Z' => return refused.map_or(Ok(()), |error| Err(ServerError::Refused(error))),
                _ => {}
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.pipe.last_word(b"X\0\0\0\x04");
    }
}

impl State {
    /// Takes note of a ParameterStatus.
    pub(super) fn status(&mut self, body: &[u8]) {
        if let Some((name, rest)) = text(body)
            && let Some((value, _)) = text(rest)
        {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            self.statuses.insert(text(name), text(value));
        }
    }
}

impl CancelTarget {
    /// Asks the server to cancel; returns when the server has passed it on.
    pub(super) async fn cancel(&self) {
        let asked = async {
            let mut pipe = Pipe::new(UnixStream::connect(&self.socket).await?);
            postgres_protocol::message::frontend::cancel_request(self.process, self.key, &mut pipe.out);
            pipe.flush_all().await?;
            pipe.exactly(1).await.map(drop)
        };
        // There is no answer: the server closes the connection.
        let _: Result<io::Result<()>, _> = tokio::time::timeout(Duration::from_secs(5), asked).await;
    }
}

/// The name under which a client's statement is prepared on a server: no other statement ever has it.
pub(super) fn statement_name(id: u64) -> Bytes {
    Bytes::from(format!("astraler_{id:x}"))
}

async fn authenticate(pipe: &mut Pipe, password: &str) -> Result<(), ServerError> {
    use postgres_protocol::message::frontend;
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    loop {
        let (tag, body) = pipe.conversation().await?;
        match (
            tag,
            body.split_first_chunk::<4>()
                .map(|(kind, rest)| (u32::from_be_bytes(*kind), rest)),
        ) {
            (b'R', Some((0, _))) => return Ok(()),
            (b'R', Some((10, _))) => {
                frontend::sasl_initial_response("SCRAM-SHA-256", scram.message(), &mut pipe.out)?;
            }
            (b'R', Some((11, data))) => {
                scram.update(data)?;
                frontend::sasl_response(scram.message(), &mut pipe.out)?;
            }
            (b'R', Some((12, data))) => scram.finish(data)?,
            (b'E', _) => return Err(ServerError::Refused(ErrorResponse::read(&body))),
            (b'N', _) => {}
            _ => return Err(ServerError::Authentication),
        }
    }
}

/// Quoted as a literal whatever `standard_conforming_strings` is.
fn literal(value: &str) -> String {
    format!(" E'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Sends a ParameterStatus for each setting.
pub(super) fn write_statuses(statuses: &Settings, out: &mut BytesMut) {
    for (name, value) in statuses {
        message(b'S', out, |out| {
            put_text(name.as_bytes(), out);
            put_text(value.as_bytes(), out);
        });
    }
}
