//! Settings of a running Redis: read for a comparison, and set back where somebody changed them.

use crate::client::{ClientError, Connection, Login};
use crate::instance::CONTROL_USER;
use crate::resp::{RespError, Value, encode_command};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A running Redis answers such a question at once; it may be busy with a script, though.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The control plane's way to a Redis.
pub struct Control {
    socket: PathBuf,
    password: String,
}

impl Control {
    /// Through this socket, as [`CONTROL_USER`].
    pub fn new(socket: &Path, password: &str) -> Self {
        Self {
            socket: socket.to_owned(),
            password: password.to_owned(),
        }
    }

    /// Values in force, by name (`CONFIG GET`).
    pub async fn settings(&self, names: &[&str]) -> Result<BTreeMap<String, String>, ClientError> {
        let mut command = vec!["CONFIG", "GET"];
        command.extend(names);
        let answer = self.ask(&command).await?;
        let (Value::Array(words) | Value::Map(words)) = answer else {
            return Err(RespError::Malformed("CONFIG GET was answered with something else").into());
        };
        Ok(words
            .chunks_exact(2)
            .filter_map(|pair| Some((text(&pair[0])?, text(&pair[1])?)))
            .collect())
    }

    /// Changes a setting until the next start (`CONFIG SET`): the file says what it is then.
    pub async fn set(&self, name: &str, value: &str) -> Result<(), ClientError> {
        self.ask(&["CONFIG", "SET", name, value]).await.map(|_| ())
    }

    /// The server's version, from `INFO server`.
    pub async fn version(&self) -> Result<String, ClientError> {
        let answer = self.ask(&["INFO", "server"]).await?;
        let info = text(&answer).unwrap_or_default();
        let version = info
            .lines()
            .find_map(|line| {
                line.strip_prefix("valkey_version:")
                    .or_else(|| line.strip_prefix("redis_version:"))
            })
            .unwrap_or_default();
        Ok(version.trim().to_owned())
    }

    async fn ask(&self, command: &[&str]) -> Result<Value, ClientError> {
        let login = Login {
            socket: self.socket.clone(),
            user: CONTROL_USER.to_owned(),
            password: self.password.clone(),
        };
        let asked = async {
            let mut connection = Connection::open(&login).await?;
            let mut out = BytesMut::new();
            encode_command(command, &mut out);
            match connection.ask(&out).await? {
                Value::Error(reply) => Err(ClientError::Refused {
                    socket: login.socket.clone(),
                    reply: String::from_utf8_lossy(&reply).into_owned(),
                }),
                answer => Ok(answer),
            }
        };
        tokio::time::timeout(TIMEOUT, asked)
            .await
            .unwrap_or(Err(ClientError::Timeout(TIMEOUT)))
    }
}

fn text(value: &Value) -> Option<String> {
    let (Value::Bulk(bytes) | Value::Simple(bytes) | Value::Verbatim { text: bytes, .. }) = value else {
        return None;
    };
    String::from_utf8(bytes.to_vec()).ok()
}
