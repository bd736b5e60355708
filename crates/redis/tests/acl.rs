//! What the users may do, asked of the server itself.

use crate::instance::{Instance, PASSWORD, SECOND};
use astraler_redis::resp::{Decoder, Limits, Value, encode_command};
use astraler_redis::{READ_ONLY_USER, USER};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

struct Talk {
    stream: UnixStream,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Talk {
    async fn as_user(instance: &Instance, user: &str) -> Self {
        let stream = UnixStream::connect(&instance.config.socket).await.unwrap();
        let mut talk = Self {
            stream,
            decoder: Decoder::new(Limits::default()),
            buffer: BytesMut::new(),
        };
        assert_eq!(
            talk.ask(&["AUTH", user, PASSWORD]).await,
            Value::Simple("OK".into())
        );
        talk
    }

    async fn ask(&mut self, command: &[&str]) -> Value {
        let mut out = BytesMut::new();
        encode_command(command, &mut out);
        self.stream.write_all(&out).await.unwrap();
        loop {
            if let Some(value) = self.decoder.next(&mut self.buffer).unwrap() {
                return value;
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0);
        }
    }

    async fn denied(&mut self, command: &str) -> bool {
        let words: Vec<&str> = command.split(' ').collect();
        // DEBUG and MODULE are switched off in the configuration already.
        let says = |e: &[u8]| e.starts_with(b"NOPERM") || e.windows(19).any(|w| w == b"command not allowed");
        matches!(self.ask(&words).await, Value::Error(e) if says(&e))
    }
}

#[tokio::test]
async fn rights_are_those_of_a_managed_redis() {
    let mut instance = Instance::running().await;
    let mut anonymous = UnixStream::connect(&instance.config.socket).await.unwrap();
    anonymous.write_all(b"PING\r\n").await.unwrap();
    let mut reply = [0; 64];
    let length = anonymous.read(&mut reply).await.unwrap();
    assert!(
        reply[..length].starts_with(b"-NOAUTH"),
        "{}",
        String::from_utf8_lossy(&reply[..length])
    );

    let mut app = Talk::as_user(&instance, USER).await;
    for command in [
        "CONFIG GET dir",
        "SHUTDOWN",
        "DEBUG SLEEP 0",
        "REPLICAOF localhost 1",
        "MODULE LIST",
        "SAVE",
        "BGSAVE",
        "BGREWRITEAOF",
        "ACL LIST",
        "MONITOR",
        "MIGRATE h 1 k 0 1",
        "CLIENT KILL ID 1",
        "CLIENT LIST",
        "SWAPDB 0 1",
        "FAILOVER",
        "SLOWLOG GET",
        "LATENCY DOCTOR",
    ] {
        assert!(app.denied(command).await, "{command}");
    }
    for command in [
        "SET k v",
        "GET k",
        "KEYS *",
        "SORT l",
        "INFO server",
        "EVAL return(1) 0",
        "CLIENT ID",
        "DBSIZE",
        "FLUSHDB",
        "SET k v",
        "PUBLISH c m",
        "XADD s * a b",
        "SCRIPT FLUSH",
        "ROLE",
    ] {
        assert!(!app.denied(command).await, "{command}");
    }

    let mut reader = Talk::as_user(&instance, READ_ONLY_USER).await;
    assert_eq!(reader.ask(&["GET", "k"]).await, Value::Bulk("v".into()));
    for command in [
        "SET k w",
        "DEL k",
        "FLUSHALL",
        "EVAL return(1) 0",
        "CONFIG GET dir",
        "PUBLISH c m",
        "SCRIPT FLUSH",
        "SORT l STORE m",
    ] {
        assert!(reader.denied(command).await, "{command}");
    }

    // What was acknowledged survives a kill.
    instance.stop("-KILL");
    instance.start();
    astraler_redis::ping(&instance.config.socket, USER, PASSWORD, SECOND * 20)
        .await
        .unwrap();
    let mut app = Talk::as_user(&instance, USER).await;
    assert_eq!(app.ask(&["GET", "k"]).await, Value::Bulk("v".into()));
}
