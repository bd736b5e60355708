//! One request over HTTPS, and nothing else: an ACME server has no plain address.

use super::Shared;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A chain of certificates is the longest answer.
const MAX_ANSWER_BYTES: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Seconds that the server has last asked to be left alone.
pub(super) type Wait = Shared<Option<u64>>;

pub(super) struct Client {
    tls: TlsConnector,
    wait: Wait,
}

impl Client {
    pub(super) fn new(roots: Option<&str>, wait: Wait) -> Result<Self, String> {
        let mut store = rustls::RootCertStore::empty();
        match roots {
            Some(pem) => {
                for root in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let root = root.map_err(|error| format!("edge.tls.acme_roots: {error}"))?;
                    store
                        .add(root)
                        .map_err(|error| format!("edge.tls.acme_roots: {error}"))?;
                }
            }
            None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            wait,
        })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (tls, wait) = (self.tls.clone(), Arc::clone(&self.wait));
        Box::pin(async move {
            let exchanged = tokio::time::timeout(TIMEOUT, exchange(tls, request)).await;
            let response = match exchanged {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(Error::Other(error)),
                Err(_) => return Err(Error::Other("no answer in time".into())),
            };
            let asked = response.headers().get("retry-after");
            let asked = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            if response.status().is_client_error() || response.status().is_server_error() {
                *wait.lock().unwrap_or_else(PoisonError::into_inner) = asked;
            }
            Ok(BytesResponse::from(response.map(Full::new)))
        })
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    tls: TlsConnector,
    request: http::Request<BodyWrapper<Bytes>>,
) -> Result<http::Response<Bytes>, Broken> {
    let uri = request.uri().clone();
    if uri.scheme_str() != Some("https") {
        return Err(format!("{uri} does not begin with https://").into());
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let stream = tls.connect(ServerName::try_from(host)?, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let (mut parts, body) = request.into_parts();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    parts.headers.insert("host", authority.parse()?);
    parts.uri = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    let body = body.collect().await?.to_bytes();
    let request = http::Request::from_parts(parts, Full::new(body));
    // Both in one task: when this is given up, the connection goes with it.
    let answering = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
        Ok(http::Response::from_parts(parts, body))
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
