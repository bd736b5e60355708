//! The Upstash REST API (<https://upstash.com/docs/redis/features/restapi>), for unchanged `@upstash/redis`.
//!
//! A request shares one connection to its environment's Redis with others. So commands that change a
//! connection's state or block it are refused; `/subscribe` and `/monitor` (server-sent events) are not there.

mod commands;
mod reply;
mod request;

use crate::client::{Client, ClientError, Login};
use crate::instance::READ_ONLY_USER;
use crate::resp::{Value, encode_command};
use astraler_model::{DataSnapshot, Environment, RedisAccess, TokenHash};
use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use reply::Format;
use request::{Call, Command};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

/// Bounds of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestLimits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Commands of a pipeline or transaction.
    pub commands: usize,
    /// Time a client has to send its body.
    pub body_timeout: Duration,
}

impl Default for RestLimits {
    fn default() -> Self {
        Self {
            body_bytes: 10 << 20,
            commands: 1_000,
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// Answers HTTP requests; the token says whose Redis is meant.
#[derive(Debug)]
pub struct Service {
    source: watch::Receiver<Arc<DataSnapshot>>,
    limits: RestLimits,
    clients: Mutex<HashMap<(Environment, bool), (Login, Client)>>,
    requests: AtomicU64,
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("ERR method not allowed")]
    Method,
    #[error("{0}")]
    Bad(String),
    #[error("ERR {0}")]
    Engine(#[from] ClientError),
}

impl Service {
    /// A service with the default bounds.
    pub fn new(source: watch::Receiver<Arc<DataSnapshot>>) -> Self {
        Self::with_limits(source, RestLimits::default())
    }

    /// A service with other bounds.
    pub fn with_limits(source: watch::Receiver<Arc<DataSnapshot>>, limits: RestLimits) -> Self {
        Self {
            source,
            limits,
            clients: Mutex::default(),
            requests: AtomicU64::new(1),
        }
    }

    /// Answers one request, whatever comes: every failure is a response.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<BoxBody<Bytes, Infallible>>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let head_only = request.method() == http::Method::HEAD;
        let format = Format::of(request.headers());
        let (status, body) = match self.answer(request, format).await {
            Ok(answer) => answer,
            Err(refusal) => {
                let status = match &refusal {
                    Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
                    Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
                    Refusal::Bad(_) => StatusCode::BAD_REQUEST,
                    Refusal::Engine(ClientError::Timeout(_)) => StatusCode::GATEWAY_TIMEOUT,
                    Refusal::Engine(_) => StatusCode::SERVICE_UNAVAILABLE,
                };
                (status, reply::refusal(&refusal.to_string()))
            }
        };
        let content_type = match (format, status) {
            (Format::Resp2, StatusCode::OK) => "application/octet-stream",
            _ => "application/json",
        };
        // The client sends it back to read its own writes; with one server that is always so.
        let token = self.requests.fetch_add(1, Ordering::Relaxed).to_string();
        let body = if head_only { Bytes::new() } else { body };
        let mut response = Response::new(Full::new(body).boxed());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static(content_type),
        );
        if let Ok(token) = header::HeaderValue::from_str(&token) {
            headers.insert("upstash-sync-token", token);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(
                header::ALLOW,
                header::HeaderValue::from_static("HEAD, GET, POST, PUT"),
            );
        }
        response
    }

    async fn answer<B>(&self, request: Request<B>, format: Format) -> Result<(StatusCode, Bytes), Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let client = self.client(&request::token(&head).ok_or(Refusal::Unauthorized)?)?;
        if !["GET", "HEAD", "POST", "PUT"].contains(&head.method.as_str()) {
            return Err(Refusal::Method);
        }
        if format == Format::Contradiction {
            return Err(Refusal::Bad(
                "ERR base64 encoding and the resp2 format exclude each other".into(),
            ));
        }
        let body = self.body(body).await?;
        match request::parse(&head, &body, self.limits.commands)? {
            Call::Single(command) => {
                commands::check(&command).map_err(Refusal::Bad)?;
                let values = client.send(encode(std::slice::from_ref(&command)), 1).await?;
                let value = values.into_iter().next().unwrap_or(Value::Null);
                let failed = matches!(value, Value::Error(_) | Value::BulkError(_));
                let status = if failed {
                    StatusCode::BAD_REQUEST
                } else {
                    StatusCode::OK
                };
                // A refused command is JSON in either format; its status says so.
                let format = if failed && format == Format::Resp2 {
                    Format::Json
                } else {
                    format
                };
                Ok((status, reply::single(&value, format)))
            }
            Call::Pipeline(commands) => {
                // Commands that may not run here fail one by one, as those that Redis refuses.
                let checked: Vec<_> = commands.iter().map(|command| commands::check(command)).collect();
                let allowed: Vec<&Command> = commands
                    .iter()
                    .zip(&checked)
                    .filter(|(_, c)| c.is_ok())
                    .map(|(command, _)| command)
                    .collect();
                let mut values = match allowed.len() {
                    0 => vec![],
                    count => client.send(encode(&allowed), count).await?,
                }
                .into_iter();
                let results: Vec<Value> = checked
                    .into_iter()
                    .map(|check| match check {
                        Ok(()) => values.next().unwrap_or(Value::Null),
                        Err(message) => Value::Error(message.into()),
                    })
                    .collect();
                Ok((StatusCode::OK, reply::many(&results, format)))
            }
            Call::Transaction(commands) => {
                if format == Format::Resp2 {
                    return Err(Refusal::Bad("ERR /multi-exec has no resp2 format".into()));
                }
                for command in &commands {
                    commands::check(command).map_err(Refusal::Bad)?;
                }
                let mut all: Vec<Command> = Vec::with_capacity(commands.len() + 2);
                all.push(vec![Bytes::from_static(b"MULTI")]);
                all.extend(commands);
                all.push(vec![Bytes::from_static(b"EXEC")]);
                let replies = client.send(encode(&all), all.len()).await?;
                transaction(replies, format)
            }
        }
    }

    async fn body<B>(&self, body: B) -> Result<Bytes, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = self.limits.body_bytes;
        let read = Box::pin(Limited::new(body, limit).collect());
        match tokio::time::timeout(self.limits.body_timeout, read).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::Bad(format!(
                "ERR max request size exceeded. Limit: {limit} bytes"
            ))),
            Ok(Err(_)) => Err(Refusal::Bad("ERR the request's body ended early".into())),
            Err(_) => Err(Refusal::Bad(
                "ERR the request's body did not arrive in time".into(),
            )),
        }
    }

    /// The shared connection of the environment to which the token belongs.
    fn client(&self, token: &str) -> Result<Client, Refusal> {
        let hash = TokenHash::of(token);
        let snapshot = self.source.borrow().clone();
        let mut found = None;
        // All are compared, and hashes only, so that the time says nothing.
        for (environment, access) in redis_of(&snapshot) {
            for (expected, read_only) in [(&access.token, false), (&access.read_only_token, true)] {
                if bool::from(expected.0.as_bytes().ct_eq(hash.0.as_bytes())) {
                    found = Some((environment, access, read_only));
                }
            }
        }
        let (environment, access, read_only) = found.ok_or(Refusal::Unauthorized)?;
        let login = Login {
            socket: access.socket.clone(),
            user: if read_only {
                READ_ONLY_USER.into()
            } else {
                access.user.clone()
            },
            password: access.password.clone(),
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of environments that are gone end with their last request.
        clients.retain(|(environment, _), _| snapshot.environments.contains_key(environment));
        match clients.get(&(environment, read_only)) {
            Some((known, client)) if *known == login => Ok(client.clone()),
            _ => {
                let client = Client::new(login.clone());
                clients.insert((environment, read_only), (login, client.clone()));
                Ok(client)
            }
        }
    }
}

fn redis_of(snapshot: &DataSnapshot) -> impl Iterator<Item = (Environment, &RedisAccess)> {
    snapshot
        .environments
        .iter()
        .filter_map(|(environment, data)| Some((*environment, data.redis.as_ref()?)))
}

/// EXEC's reply holds the results; when a command could not even be queued, its error is the whole answer.
fn transaction(replies: Vec<Value>, format: Format) -> Result<(StatusCode, Bytes), Refusal> {
    let text = |error: &Bytes| String::from_utf8_lossy(error).into_owned();
    let queued_error = replies.iter().find_map(|reply| match reply {
        Value::Error(error) => Some(text(error)),
        _ => None,
    });
    match replies.into_iter().next_back() {
        Some(Value::Array(results)) => Ok((StatusCode::OK, reply::many(&results, format))),
        last => {
            Err(Refusal::Bad(queued_error.unwrap_or_else(|| {
                format!("ERR EXEC was answered with {last:?}")
            })))
        }
    }
}

fn encode<C: AsRef<[Bytes]>>(commands: &[C]) -> Bytes {
    let mut out = BytesMut::new();
    for command in commands {
        encode_command(command.as_ref(), &mut out);
    }
    out.freeze()
}
