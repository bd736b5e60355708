//! TLS as clients meet it: which certificate, which version, what a restart and a new certificate do to them.

use crate::support::{PATIENCE, TestEdge, route, run};
use astraler_edge::{EdgeSnapshot, Limits};
use astraler_model::{TlsCertificate, TlsSnapshot, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An edge with one worker, and the authority whose certificates it shows.
struct Secured {
    edge: TestEdge,
    _worker: crate::support::Worker,
    authority: CertifiedIssuer<'static, KeyPair>,
    issued: std::cell::Cell<u32>,
}

impl Secured {
    async fn start() -> Self {
        let limits = Limits {
            header_timeout_ms: 700,
            ..Limits::default()
        };
        let (edge, worker) = TestEdge::with_worker(limits).await;
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self {
            edge,
            _worker: worker,
            authority,
            issued: std::cell::Cell::new(0),
        }
    }

    /// A new certificate in a file of its own.
    fn issue(&self, names: &[&str]) -> TlsCertificate {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.clone()).unwrap();
        let leaf = params.signed_by(&key, &self.authority).unwrap();
        let number = self.issued.get() + 1;
        self.issued.set(number);
        let file = self.edge.folder.path().join(format!("{number}.pem"));
        std::fs::write(&file, leaf.pem() + &key.serialize_pem()).unwrap();
        TlsCertificate {
            names,
            file,
            redirect: false,
            hsts_max_age_s: 0,
        }
    }

    async fn publish(&self, tls: TlsSnapshot) {
        let version = self.edge.status().await["snapshot_version"].as_u64().unwrap() + 1;
        let routes = vec![route(
            "worker.test",
            vec![("/", self.edge.folder.path().join("w.sock"))],
        )];
        let snapshot = EdgeSnapshot {
            version,
            routes,
            tls,
            ..EdgeSnapshot::default()
        };
        self.edge.snapshots.send(Arc::new(snapshot)).unwrap();
        let begun = Instant::now();
        while self.edge.status().await["snapshot_version"] != version {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn client(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn usual(&self) -> Arc<ClientConfig> {
        self.client(rustls::ALL_VERSIONS, &["http/1.1"])
    }

    async fn connect(&self, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.edge.https).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(config.clone()).connect(name, stream).await
    }

    /// The file whose certificate is shown for a name.
    async fn shown(&self, name: &str) -> PathBuf {
        // What is not this name's is shown too: only the test wants to see it.
        let mut config = (*self.usual()).clone();
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(anyone::Anyone));
        let stream = self.connect(&Arc::new(config), name).await.unwrap();
        self.file_of(&stream)
    }

    fn file_of(&self, stream: &TlsStream<TcpStream>) -> PathBuf {
        let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
        (1..=self.issued.get())
            .map(|number| self.edge.folder.path().join(format!("{number}.pem")))
            .find(|file| CertificateDer::from_pem_file(file).unwrap() == *shown)
            .unwrap()
    }
}

async fn get(stream: &mut TlsStream<TcpStream>, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// A head and as much as came with it.
async fn answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !all.windows(4).any(|four| four == b"\r\n\r\n") {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn plain(edge: &TestEdge, method: &str, host: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    all
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    run(async {
        let secured = Secured::start().await;
        let first = secured.issue(&["localhost", "127.0.0.1"]);
        let exact = secured.issue(&["worker.test"]);
        let wild = secured.issue(&["*.preview.test", "*.worker.test"]);
        let certificates = vec![first.clone(), exact.clone(), wild.clone()];
        secured
            .publish(TlsSnapshot {
                certificates,
                ..TlsSnapshot::default()
            })
            .await;
        for (name, file) in [
            ("worker.test", &exact.file),
            ("WORKER.test", &exact.file),
            ("pr-7.preview.test", &wild.file),
            ("a.pr-7.preview.test", &first.file),
            ("localhost", &first.file),
            ("elsewhere.test", &first.file),
            // No name is sent for an address.
            ("127.0.0.1", &first.file),
        ] {
            assert_eq!(&secured.shown(name).await, file, "{name}");
        }
        let mut stream = secured.connect(&secured.usual(), "worker.test").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = get(&mut stream, "worker.test", "/echo").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(stream);
        let seen = secured._worker.seen.lock().unwrap().last().unwrap().clone();
        assert_eq!(seen.headers["x-forwarded-proto"], "https");
        assert!(
            seen.headers["forwarded"]
                .to_str()
                .unwrap()
                .ends_with("proto=https")
        );
    });
}

#[test]
fn a_new_certificate_is_shown_to_the_next_client_and_drops_nobody() {
    run(async {
        let secured = Secured::start().await;
        let old = secured.issue(&["worker.test"]);
        let tls = |certificate: &TlsCertificate| TlsSnapshot {
            certificates: vec![certificate.clone()],
            ..TlsSnapshot::default()
        };
        secured.publish(tls(&old)).await;
        let client = secured.usual();
        let mut open = secured.connect(&client, "worker.test").await.unwrap();
        assert!(get(&mut open, "worker.test", "/echo").await.contains(" 200 "));

        let new = secured.issue(&["worker.test"]);
        secured.publish(tls(&new)).await;
        assert_eq!(secured.shown("worker.test").await, new.file);
        assert!(get(&mut open, "worker.test", "/echo").await.contains(" 200 "));
        assert_eq!(secured.file_of(&open), old.file);

        // What cannot be read leaves the one before in force, for these names and as the fallback.
        let mut broken = new.clone();
        broken.file = secured.edge.folder.path().join("broken.pem");
        std::fs::write(&broken.file, std::fs::read(&new.file).unwrap().split_at(300).0).unwrap();
        secured.publish(tls(&broken)).await;
        assert_eq!(secured.shown("worker.test").await, new.file);
        assert_eq!(secured.shown("elsewhere.test").await, new.file);
    });
}

#[test]
fn sessions_are_resumed_over_new_certificates_and_the_oldest_version_is_the_snapshots() {
    run(async {
        let secured = Secured::start().await;
        let mut tls = TlsSnapshot {
            certificates: vec![secured.issue(&["worker.test"])],
            ..TlsSnapshot::default()
        };
        secured.publish(tls.clone()).await;
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let client = secured.client(&[version], &["http/1.1"]);
            let kind = async || {
                let mut stream = secured.connect(&client, "worker.test").await.unwrap();
                // Tickets of TLS 1.3 follow the handshake.
                get(&mut stream, "worker.test", "/echo").await;
                stream.get_ref().1.handshake_kind().unwrap()
            };
            assert_eq!(kind().await, HandshakeKind::Full, "{version:?}");
            assert_eq!(kind().await, HandshakeKind::Resumed, "{version:?}");
            tls.certificates = vec![secured.issue(&["worker.test"])];
            secured.publish(tls.clone()).await;
            assert_eq!(kind().await, HandshakeKind::Resumed, "{version:?}");
        }
        tls.min_version = TlsVersion::V1_3;
        secured.publish(tls).await;
        let old = secured.client(&[&rustls::version::TLS12], &["http/1.1"]);
        let refused = secured.connect(&old, "worker.test").await.unwrap_err();
        assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
        secured.connect(&secured.usual(), "worker.test").await.unwrap();
    });
}

#[test]
fn a_challenge_is_shown_to_whoever_validates_and_to_nobody_else() {
    run(async {
        let secured = Secured::start().await;
        let usual = secured.issue(&["worker.test"]);
        let proof = secured.issue(&["worker.test"]);
        secured
            .publish(TlsSnapshot {
                certificates: vec![usual.clone()],
                alpn_challenges: [("worker.test".to_owned(), proof.file.clone())].into(),
                http_challenges: [("token".to_owned(), "token.thumbprint".to_owned())].into(),
                ..TlsSnapshot::default()
            })
            .await;
        let validator = secured.client(rustls::ALL_VERSIONS, &["acme-tls/1"]);
        let mut stream = secured.connect(&validator, "worker.test").await.unwrap();
        assert_eq!(secured.file_of(&stream), proof.file);
        let _ = stream
            .write_all(b"GET / HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        assert!(all.is_empty(), "no HTTP on it");
        // A name without a challenge has no certificate for it.
        assert!(secured.connect(&validator, "other.test").await.is_err());
        let both = secured.client(rustls::ALL_VERSIONS, &["acme-tls/1", "http/1.1"]);
        let stream = secured.connect(&both, "worker.test").await.unwrap();
        assert_eq!(secured.file_of(&stream), usual.file);

        let token = "/.well-known/acme-challenge/token";
        let answer = plain(&secured.edge, "GET", "any.test", token).await;
        assert!(
            answer.contains(" 200 ") && answer.ends_with("\r\n\r\ntoken.thumbprint"),
            "{answer}"
        );
        let other = plain(
            &secured.edge,
            "GET",
            "worker.test",
            "/.well-known/acme-challenge/echo",
        )
        .await;
        assert!(!other.contains("thumbprint"), "{other}");
    });
}

#[test]
fn plain_http_leads_to_https_where_the_snapshot_says_so() {
    run(async {
        let secured = Secured::start().await;
        let mut public = secured.issue(&["worker.test"]);
        public.redirect = true;
        public.hsts_max_age_s = 31_536_000;
        let mut tls = TlsSnapshot {
            certificates: vec![secured.issue(&["localhost"]), public],
            https_port: 3443,
            ..TlsSnapshot::default()
        };
        secured.publish(tls.clone()).await;
        let moved = plain(&secured.edge, "POST", "worker.test:3000", "/a%20b?c=d").await;
        assert!(moved.starts_with("HTTP/1.1 308 "), "{moved}");
        assert!(
            moved.contains("\r\nlocation: https://worker.test:3443/a%20b?c=d\r\n"),
            "{moved}"
        );
        assert!(!moved.contains("strict-transport-security"), "{moved}");
        let kept = plain(
            &secured.edge,
            "GET",
            "worker.test",
            "/.well-known/acme-challenge/x",
        )
        .await;
        assert!(!kept.contains(" 308 "), "{kept}");
        let local = plain(&secured.edge, "GET", "localhost", "/").await;
        assert!(!local.contains(" 308 "), "{local}");

        let mut stream = secured.connect(&secured.usual(), "worker.test").await.unwrap();
        let answer = get(&mut stream, "worker.test", "/echo").await;
        assert!(
            answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"),
            "{answer}"
        );
        let fault = get(&mut stream, "unknown.test", "/").await;
        assert!(!fault.contains("strict-transport-security"), "{fault}");

        tls.https_port = 443;
        secured.publish(tls).await;
        let moved = plain(&secured.edge, "GET", "worker.test", "/").await;
        assert!(
            moved.contains("\r\nlocation: https://worker.test/\r\n"),
            "{moved}"
        );
    });
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    run(async {
        let secured = Secured::start().await;
        let mut silent = TcpStream::connect(secured.edge.https).await.unwrap();
        let begun = Instant::now();
        let read = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 16]))
            .await
            .unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        assert!(
            (650..3_000).contains(&begun.elapsed().as_millis()),
            "{:?}",
            begun.elapsed()
        );
    });
}

/// Who trusts everybody.
mod anyone {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Anyone;

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}
