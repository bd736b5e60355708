//! Challenges, really looked at: over the ports that the test names.

use super::Behaviour;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use x509_parser::prelude::{FromDer, X509Certificate};

const TIMEOUT: Duration = Duration::from_secs(5);
/// `id-pe-acmeIdentifier` (RFC 8737 section 6.1).
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

pub(super) async fn validate(
    behaviour: &Behaviour,
    kind: &str,
    name: &str,
    token: &str,
    authorisation: &str,
) -> Result<(), String> {
    let looked = async {
        match kind {
            "http-01" => http(behaviour, name, token, authorisation).await,
            "tls-alpn-01" => tls_alpn(behaviour, name, authorisation).await,
            "dns-01" => dns(behaviour, name, authorisation).await,
            _ => Err("no such challenge".to_owned()),
        }
    };
    tokio::time::timeout(TIMEOUT, looked)
        .await
        .unwrap_or_else(|_| Err("nobody answered in time".to_owned()))
}

async fn http(behaviour: &Behaviour, name: &str, token: &str, authorisation: &str) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("{}: {error}", behaviour.http);
    let mut stream = TcpStream::connect(behaviour.http).await.map_err(broken)?;
    let request = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: strict\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    stream
        .take(64 << 10)
        .read_to_end(&mut answer)
        .await
        .map_err(broken)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" || body.trim_end() != authorisation {
        return Err(format!("the answer is {status} and not what was agreed"));
    }
    Ok(())
}

async fn tls_alpn(behaviour: &Behaviour, name: &str, authorisation: &str) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let stream = TcpStream::connect(behaviour.tls)
        .await
        .map_err(|error| error.to_string())?;
    let server = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(server, stream)
        .await;
    let stream = stream.map_err(|error| format!("no handshake: {error}"))?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(b"acme-tls/1") {
        return Err("another protocol was agreed on".into());
    }
    let shown = session
        .peer_certificates()
        .and_then(|all| all.first())
        .ok_or("no certificate")?;
    let (_, shown) = X509Certificate::from_der(shown).map_err(|error| error.to_string())?;
    let names = shown.subject_alternative_name().ok().flatten();
    let names: Vec<String> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .map(|name| format!("{name:?}"))
        .collect();
    if names != [format!("DNSName({name:?})")] {
        return Err(format!("the certificate is for {names:?}"));
    }
    let found = shown
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == ACME_IDENTIFIER)
        .ok_or("no acmeIdentifier")?;
    // An OCTET STRING of 32 bytes.
    let expected = [&[4, 32][..], &Sha256::digest(authorisation.as_bytes())[..]].concat();
    if !found.critical || found.value != expected {
        return Err("acmeIdentifier is not critical, or not what was agreed".into());
    }
    Ok(())
}

/// One question over UDP, by hand: what is asked has no compression, what is answered is searched for the text.
async fn dns(behaviour: &Behaviour, name: &str, authorisation: &str) -> Result<(), String> {
    use base64::Engine;
    let server = behaviour.dns.ok_or("no DNS is asked here")?;
    let broken = |error: std::io::Error| format!("{server}: {error}");
    let name = name.trim_start_matches("*.");
    let mut question = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in format!("_acme-challenge.{name}").split('.') {
        question.push(u8::try_from(label.len()).map_err(|error| error.to_string())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 16, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(broken)?;
    socket.send_to(&question, server).await.map_err(broken)?;
    let mut answer = [0; 1500];
    let (length, _) = socket.recv_from(&mut answer).await.map_err(broken)?;
    let digest = Sha256::digest(authorisation.as_bytes());
    let expected = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(digest);
    let found = answer[..length]
        .windows(expected.len())
        .any(|part| part == expected.as_bytes());
    found
        .then_some(())
        .ok_or_else(|| "the record is not there".to_owned())
}

/// A certificate for a challenge is self-signed: what counts is in it.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
