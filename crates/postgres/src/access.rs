//! Reaching a database over the cluster's Unix socket.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// How one role reaches one database.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Folder of the cluster's Unix socket.
    pub socket_directory: PathBuf,
    /// Its port: part of the socket's name.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("socket_directory", &self.socket_directory)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A database could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// No connection, or the server refused it.
    #[error("connecting as `{user}` to database `{database}` at {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The role.
        user: String,
        /// The database.
        database: String,
        /// What went wrong.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
    /// A query failed.
    #[error("asking database `{database}`")]
    Query {
        /// The database.
        database: String,
        /// What went wrong.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
    /// It did not answer in time.
    #[error("PostgreSQL at {} did not answer within {} ms", socket.display(), after.as_millis())]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// The time it was given.
        after: Duration,
        /// The last failure, when there was one.
        #[source]
        source: Option<Box<AccessError>>,
    },
}

/// Connections in use, and how many the server allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionCount {
    /// Client connections at this moment, in all databases of the cluster.
    pub used: u32,
    /// `max_connections`.
    pub max: u32,
}

impl Access {
    /// The socket's file.
    pub fn socket(&self) -> PathBuf {
        self.socket_directory.join(format!(".s.PGSQL.{}", self.port))
    }

    /// The same way in for another role and database.
    pub fn with(&self, database: &str, user: &str, password: &str) -> Self {
        Self {
            database: database.into(),
            user: user.into(),
            password: password.into(),
            ..self.clone()
        }
    }
}

/// Connects. The connection ends when the client is dropped.
pub async fn connect(access: &Access) -> Result<Client, AccessError> {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(&access.socket_directory)
        .port(access.port)
        .dbname(&access.database)
        .user(&access.user)
        .password(&access.password)
        .application_name("astraler")
        .connect_timeout(Duration::from_secs(10));
    let (client, connection) = config
        .connect(NoTls)
        .await
        .map_err(|source| AccessError::Connect {
            socket: access.socket(),
            user: access.user.clone(),
            database: access.database.clone(),
            source: Box::new(source),
        })?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

/// Connects and asks the simplest question.
pub async fn ping(access: &Access, timeout: Duration) -> Result<(), AccessError> {
    let asked = async {
        let client = connect(access).await?;
        client
            .simple_query("SELECT 1")
            .await
            .map_err(|source| query_error(access, source))?;
        Ok(())
    };
    tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| {
        Err(AccessError::Timeout {
            socket: access.socket(),
            after: timeout,
            source: None,
        })
    })
}

/// Pings until the server answers. A server that starts is waited for; one that answers "no" is not.
pub async fn wait_ready(access: &Access, timeout: Duration) -> Result<(), AccessError> {
    const BETWEEN: Duration = Duration::from_millis(25);
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match ping(access, left.max(BETWEEN)).await {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_temporary() => return Err(error),
            Err(error) => error,
        };
        if Instant::now() + BETWEEN >= deadline {
            let source = Some(Box::new(error));
            return Err(AccessError::Timeout {
                socket: access.socket(),
                after: timeout,
                source,
            });
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// How full the server is.
pub async fn connection_count(access: &Access) -> Result<ConnectionCount, AccessError> {
    let client = connect(access).await?;
    let row = client
        .query_one(
            "SELECT (SELECT sum(numbackends) FROM pg_stat_database)::int4, current_setting('max_connections')::int4",
            &[],
        )
        .await
        .map_err(|source| query_error(access, source))?;
    let number = |index| u32::try_from(row.get::<_, i32>(index)).unwrap_or(0);
    Ok(ConnectionCount {
        used: number(0),
        max: number(1),
    })
}

fn query_error(access: &Access, source: tokio_postgres::Error) -> AccessError {
    AccessError::Query {
        database: access.database.clone(),
        source: Box::new(source),
    }
}

impl AccessError {
    /// Whether trying again can help: the socket is not there yet, or the server starts or stops.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Connect { source, .. } | Self::Query { source, .. } => match source.code() {
                Some(code) => [
                    SqlState::CANNOT_CONNECT_NOW,
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::TOO_MANY_CONNECTIONS,
                ]
                .contains(code),
                None => true,
            },
        }
    }
}
