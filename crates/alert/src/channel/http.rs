//! One POST of JSON over HTTPS.

use super::Patience;
use crate::outbox::{Retry, SendError};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const MAX_ANSWER_BYTES: usize = 64 << 10;

#[derive(Clone)]
pub(super) struct HttpClient {
    tls: TlsConnector,
    patience: Patience,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after_s: Option<u64>,
    pub(super) body: String,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    pub(super) fn new(patience: Patience) -> Result<Self, rustls::Error> {
        let roots: rustls::RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            patience,
        })
    }

    /// Errors never name the URL: Slack's is a secret.
    pub(super) async fn post_json(&self, url: &str, body: Vec<u8>) -> Result<Answer, SendError> {
        let uri: http::Uri = url
            .trim()
            .parse()
            .map_err(|_| SendError::again("the channel's URL is no URL"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if is_loopback(&host) => false,
            _ => return Err(SendError::again("the channel's URL must begin with https://")),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let connecting = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            if !secure {
                return Ok::<Box<dyn Stream>, io::Error>(Box::new(stream));
            }
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            Ok(Box::new(self.tls.connect(name, stream).await?))
        };
        // Nothing was said yet: whatever goes wrong here, nobody heard it.
        let stream = tokio::time::timeout(self.patience.connect, connecting)
            .await
            .map_err(|_| SendError::again("no connection in time"))?
            .map_err(|error| SendError::again(format!("no connection: {error}")))?;
        tokio::time::timeout(self.patience.answer, exchange(stream, &uri, body))
            .await
            .map_err(|_| SendError::new(Retry::Unsure, "no answer in time"))?
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn exchange(stream: Box<dyn Stream>, uri: &http::Uri, body: Vec<u8>) -> Result<Answer, SendError> {
    let broken =
        |error: hyper::Error| SendError::new(Retry::Unsure, format!("the connection broke: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = http::Request::post(path)
        .header("host", authority)
        .header("content-type", "application/json")
        .header("user-agent", concat!("astraler/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| SendError::again("the channel's URL is no URL"))?;
    // Both in one task: when this is given up, the connection goes with it.
    let answering = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let retry_after_s = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await;
        let body = body.map_err(|_| SendError::new(Retry::Unsure, "the answer broke off"))?;
        Ok(Answer {
            status,
            retry_after_s,
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    };
    let mut connection = std::pin::pin!(connection);
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        biased;
        answer = &mut answering => answer,
        // The connection may end with the last byte of the answer.
        _ = &mut connection => answering.await,
    }
}

impl Answer {
    /// What an answer that is no success leads to.
    pub(super) fn refused(&self, vendor: &str) -> SendError {
        let line = self.body.lines().next().unwrap_or_default();
        let message = format!(
            "{vendor} answers {}: {}",
            self.status,
            super::shortened(line, 200)
        );
        let retry = match self.status {
            400 | 413 => Retry::Never,
            // A gateway that gave up may have passed it on.
            500 | 502 | 504 => Retry::Unsure,
            _ => Retry::Again {
                after_s: self.retry_after_s,
            },
        };
        SendError::new(retry, message)
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
