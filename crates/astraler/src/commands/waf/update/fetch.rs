//! One file from a server, within bounds: of size, of time, of redirects.

use bytes::Bytes;
use http::{StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// All of one file, redirects included.
const DONE_WITHIN: Duration = Duration::from_secs(180);
const MAX_REDIRECTS: usize = 5;
/// GitHub answers nobody without a name.
const USER_AGENT: &str = concat!("astraler/", env!("CARGO_PKG_VERSION"));

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{url}` is no address of the form https://HOST/PATH")]
    Url { url: String },
    #[error("`{url}` is neither https nor on this machine")]
    Plain { url: String },
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("the roots in {path} cannot be read: {reason}")]
    Roots { path: PathBuf, reason: String },
    #[error("{host} does not answer")]
    Connect {
        host: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{host} broke off")]
    Broken {
        host: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{url} answers with {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url} leads elsewhere more than {MAX_REDIRECTS} times")]
    Redirects { url: String },
    #[error("{url} is larger than {limit} bytes")]
    TooLarge { url: String, limit: usize },
    #[error("{url} was not there within {} s", DONE_WITHIN.as_secs())]
    Slow { url: String },
}

/// How much a plain connection is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// What comes is only as good as who sends it: https, or this machine.
    Sender,
    /// A checksum that the user gave says what may come.
    Checksum,
}

/// Fetches what is there, at most so many bytes.
pub(super) async fn get(url: &str, limit: usize, trust: Trust) -> Result<Bytes, FetchError> {
    let slow = || FetchError::Slow { url: url.to_owned() };
    tokio::time::timeout(DONE_WITHIN, follow(url, limit, trust))
        .await
        .map_err(|_| slow())?
}

async fn follow(first: &str, limit: usize, trust: Trust) -> Result<Bytes, FetchError> {
    let mut url = first.to_owned();
    for _ in 0..=MAX_REDIRECTS {
        let response = ask(&url, trust).await?;
        let status = response.status();
        if status.is_redirection()
            && let Some(location) = response.headers().get(header::LOCATION)
        {
            url = joined(&url, location.to_str().unwrap_or_default())?;
            continue;
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status { url, status });
        }
        let body = Limited::new(response.into_body(), limit).collect().await;
        return match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(FetchError::TooLarge { url, limit })
            }
            Err(source) => Err(FetchError::Broken { host: url, source }),
        };
    }
    Err(FetchError::Redirects {
        url: first.to_owned(),
    })
}

/// Where a redirect leads: another address, or another path of the same one.
fn joined(url: &str, location: &str) -> Result<String, FetchError> {
    let wrong = || FetchError::Url {
        url: location.to_owned(),
    };
    let to: Uri = location.parse().map_err(|_| wrong())?;
    if to.scheme().is_some() {
        return Ok(location.to_owned());
    }
    let from: Uri = url.parse().map_err(|_| wrong())?;
    match (from.scheme_str(), from.authority(), location.starts_with('/')) {
        (Some(scheme), Some(authority), true) => Ok(format!("{scheme}://{authority}{location}")),
        _ => Err(wrong()),
    }
}

async fn ask(url: &str, trust: Trust) -> Result<http::Response<hyper::body::Incoming>, FetchError> {
    let wrong = || FetchError::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri.authority().ok_or_else(wrong)?.clone();
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") if trust == Trust::Checksum || is_here(&host) => false,
        Some("http") => return Err(FetchError::Plain { url: url.to_owned() }),
        _ => return Err(wrong()),
    };
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let failed = |source| FetchError::Connect {
        host: host.clone(),
        source,
    };
    let connected = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect((host.as_str(), port))).await;
    let stream = connected
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
        .map_err(failed)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::get(path)
        .header(header::HOST, authority.as_str())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| wrong())?;
    if secure {
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        let stream = tls()?.connect(name, stream).await.map_err(failed)?;
        exchange(stream, request, &host).await
    } else {
        exchange(stream, request, &host).await
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: http::Request<Empty<Bytes>>,
    host: &str,
) -> Result<http::Response<hyper::body::Incoming>, FetchError> {
    let broken = |source: hyper::Error| FetchError::Broken {
        host: host.to_owned(),
        source: source.into(),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer, and with this process's work in any case.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

/// The web's roots, and those that the user's tools trust besides (`SSL_CERT_FILE`).
fn tls() -> Result<TlsConnector, FetchError> {
    let mut roots: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from) {
        let failed = |reason: String| FetchError::Roots {
            path: path.clone(),
            reason,
        };
        let pem = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        roots.add_parsable_certificates(found.map_err(|error| failed(error.to_string()))?);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(FetchError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}
