//! A client's first words: encryption is declined, a cancel request is passed on, a log-in is checked.

use super::server::{Settings, write_statuses};
use super::wire::{ErrorResponse, Pipe, message, put_text, ready_for_query, text};
use super::{Pool, environment::EnvironmentPool};
use astraler_model::{Environment, TokenHash};
use bytes::{Buf, BufMut};
use std::io;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// A client that may come in.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) environment: Environment,
    pub(super) pool: Arc<EnvironmentPool>,
    pub(super) settings: Settings,
    pub(super) key: (i32, i32),
}

/// What the first packet asks for.
enum Opening {
    Login(Login),
    Cancel(i32, i32),
}

struct Login {
    user: String,
    database: String,
    settings: Settings,
}

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// As PostgreSQL's own MAX_STARTUP_PACKET_LENGTH.
const MAX_STARTUP: usize = 10_000;

/// Leads a client in; `None` when it wanted nothing more, or has been told why not.
pub(super) async fn welcome(pool: &Pool, pipe: &mut Pipe) -> io::Result<Option<Client>> {
    let login = match opening(pipe).await? {
        Ok(Opening::Cancel(process, key)) => {
            pool.cancel((process, key)).await;
            return Ok(None);
        }
        Ok(Opening::Login(login)) => login,
        Err(error) => return refuse(pipe, &error).await,
    };
    // The socket is private to the platform: a password in clear crosses no network, and every driver can.
    pipe.out.put_slice(b"R\0\0\0\x08\0\0\0\x03");
    let (tag, body) = pipe.conversation().await?;
    let password = match (tag, text(&body)) {
        (b'p', Some((password, _))) => String::from_utf8_lossy(password).into_owned(),
        _ => return refuse(pipe, &ErrorResponse::new(true, "08P01", "expected a password")).await,
    };
    let Some((environment, environment_pool)) = admit(pool, &login, &password) else {
        let message = format!("password authentication failed for user \"{}\"", login.user);
        return refuse(pipe, &ErrorResponse::new(true, "28P01", message)).await;
    };
    let report = match environment_pool.report(&login.settings).await {
        Ok(report) => report,
        Err(error) => return refuse(pipe, &ErrorResponse { fatal: true, ..error }).await,
    };
    let key = pool.new_key();
    pipe.out.put_slice(b"R\0\0\0\x08\0\0\0\0");
    write_statuses(&report, &mut pipe.out);
    message(b'K', &mut pipe.out, |out| {
        out.put_i32(key.0);
        out.put_i32(key.1);
    });
    ready_for_query(&mut pipe.out);
    Ok(Some(Client {
        environment,
        pool: environment_pool,
        settings: login.settings,
        key,
    }))
}

async fn refuse(pipe: &mut Pipe, error: &ErrorResponse) -> io::Result<Option<Client>> {
    error.write(&mut pipe.out);
    pipe.flush_all().await?;
    Ok(None)
}

/// The environment whose database, role and token these are. Everything is compared before it is told, so
/// that a stranger cannot ask for names.
fn admit(pool: &Pool, login: &Login, password: &str) -> Option<(Environment, Arc<EnvironmentPool>)> {
    let presented = TokenHash::of(password);
    pool.pools().into_iter().find(|(_, pool)| {
        let access = &pool.access;
        let right = access.client_token.0.as_bytes().ct_eq(presented.0.as_bytes());
        access.database == login.database && access.user == login.user && bool::from(right)
    })
}

async fn opening(pipe: &mut Pipe) -> io::Result<Result<Opening, ErrorResponse>> {
    // At most one request for each kind of encryption comes before the real packet.
    for _ in 0..3 {
        let length = pipe.exactly(4).await?.get_u32() as usize;
        if !(8..=MAX_STARTUP).contains(&length) {
            return Ok(Err(ErrorResponse::new(
                true,
                "08P01",
                "invalid length of startup packet",
            )));
        }
        let mut packet = pipe.exactly(length - 4).await?;
        match packet.get_u32() {
            SSL_REQUEST | GSS_REQUEST => pipe.out.put_u8(b'N'),
            CANCEL_REQUEST if packet.len() == 8 => {
                return Ok(Ok(Opening::Cancel(packet.get_i32(), packet.get_i32())));
            }
            version if version >> 16 == 3 => return Ok(login(version, &packet, pipe).map(Opening::Login)),
            version => {
                let message = format!(
                    "unsupported frontend protocol {}.{}",
                    version >> 16,
                    version & 0xffff
                );
                return Ok(Err(ErrorResponse::new(true, "0A000", message)));
            }
        }
    }
    Ok(Err(ErrorResponse::new(
        true,
        "08P01",
        "too many requests for encryption",
    )))
}

fn login(version: u32, packet: &[u8], pipe: &mut Pipe) -> Result<Login, ErrorResponse> {
    let malformed = || ErrorResponse::new(true, "08P01", "invalid startup packet");
    let (mut user, mut database) = (None, None);
    let (mut settings, mut unknown) = (Settings::new(), vec![]);
    let mut rest = packet;
    loop {
        let (name, after) = text(rest).ok_or_else(malformed)?;
        if name.is_empty() {
            break;
        }
        let (value, after) = text(after).ok_or_else(malformed)?;
        let name = std::str::from_utf8(name).map_err(|_| malformed())?.to_owned();
        let value = std::str::from_utf8(value).map_err(|_| malformed())?.to_owned();
        rest = after;
        match name.as_str() {
            "user" => user = Some(value),
            "database" => database = Some(value),
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
            "replication" => {
                return Err(ErrorResponse::new(
                    true,
                    "0A000",
                    "the pool does not pass replication on",
                ));
            }
            "options" => options(&value, &mut settings)?,
            "client_encoding" => {
                let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
                if !["utf8", "unicode", "auto"].contains(&plain.to_ascii_lowercase().as_str()) {
                    return Err(ErrorResponse::new(true, "0A000", "the pool speaks UTF8 only"));
                }
            }
            _ if name.starts_with("_pq_.") => unknown.push(name),
            _ => {
                settings.insert(name, value);
            }
        }
    }
    if version & 0xffff > 0 || !unknown.is_empty() {
        // NegotiateProtocolVersion: 3.0, and none of the extensions.
        message(b'v', &mut pipe.out, |out| {
            out.put_u32(3 << 16);
            out.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
            unknown.iter().for_each(|name| put_text(name.as_bytes(), out));
        });
    }
    let user = user.ok_or_else(|| ErrorResponse::new(true, "28000", "no user name in the startup packet"))?;
    Ok(Login {
        database: database.unwrap_or_else(|| user.clone()),
        user,
        settings,
    })
}

/// `-c name=value` and `--name=value`, as in `PGOPTIONS`; without escapes.
fn options(text: &str, settings: &mut Settings) -> Result<(), ErrorResponse> {
    let refused = || {
        ErrorResponse::new(
            true,
            "0A000",
            "the pool understands -c name=value in options only",
        )
    };
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next().ok_or_else(refused)?,
            Some(setting) => setting,
            None => return Err(refused()),
        };
        let (name, value) = setting.split_once('=').ok_or_else(refused)?;
        settings.insert(name.to_owned(), value.to_owned());
    }
    Ok(())
}
