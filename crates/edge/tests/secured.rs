//! An edge that speaks TLS, and the authority whose certificates it shows.

use crate::support::{PATIENCE, TestEdge, route};
use astraler_edge::{EdgeSnapshot, Limits};
use astraler_model::{TlsCertificate, TlsSnapshot};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An edge with one worker, and the authority whose certificates it shows.
pub(crate) struct Secured {
    pub(crate) edge: TestEdge,
    pub(crate) _worker: crate::support::Worker,
    pub(crate) authority: CertifiedIssuer<'static, KeyPair>,
    issued: std::cell::Cell<u32>,
}

impl Secured {
    pub(crate) async fn start() -> Self {
        Self::with(Limits {
            header_timeout_ms: 700,
            ..Limits::default()
        })
        .await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
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
    pub(crate) fn issue(&self, names: &[&str]) -> TlsCertificate {
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

    /// With a certificate for `worker.test`.
    pub(crate) async fn served(limits: Limits) -> Self {
        let secured = Self::with(limits).await;
        let certificates = vec![secured.issue(&["worker.test"])];
        secured
            .publish(TlsSnapshot {
                certificates,
                ..TlsSnapshot::default()
            })
            .await;
        secured
    }

    /// A certificate as RFC 8737 wants it, in a file of its own.
    pub(crate) fn prove(&self, name: &str) -> TlsCertificate {
        let proof = self.issue(&[name]);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(proof.names.clone()).unwrap();
        params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(&[7; 32])];
        let leaf = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(&proof.file, leaf.pem() + &key.serialize_pem()).unwrap();
        proof
    }

    /// For a client that wants to see what is shown, whatever it is.
    pub(crate) fn trusting(config: &ClientConfig) -> Arc<ClientConfig> {
        let mut config = config.clone();
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(anyone::Anyone));
        Arc::new(config)
    }

    pub(crate) async fn publish(&self, tls: TlsSnapshot) {
        let version = self.edge.status().await["snapshot_version"].as_u64().unwrap() + 1;
        let routes = vec![route(
            "worker.test",
            vec![("/", self.edge.folder.path().join("w.sock"))],
        )];
        let snapshot = EdgeSnapshot {
            version,
            routes,
            tls,
            proxy_protocol: vec![crate::support::BALANCER.parse().unwrap()],
            ..EdgeSnapshot::default()
        };
        self.edge.snapshots.send(Arc::new(snapshot)).unwrap();
        let begun = Instant::now();
        while self.edge.status().await["snapshot_version"] != version {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn client(
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

    pub(crate) fn usual(&self) -> Arc<ClientConfig> {
        self.client(rustls::ALL_VERSIONS, &["http/1.1"])
    }

    pub(crate) async fn connect(
        &self,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.edge.https).await?;
        self.over(stream, config, name).await
    }

    /// TLS over a connection that is there.
    pub(crate) async fn over(
        &self,
        stream: TcpStream,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(config.clone()).connect(name, stream).await
    }

    /// The file whose certificate is shown for a name.
    pub(crate) async fn shown(&self, name: &str) -> PathBuf {
        // What is not this name's is shown too: only the test wants to see it.
        let mut config = (*self.usual()).clone();
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(anyone::Anyone));
        let stream = self.connect(&Arc::new(config), name).await.unwrap();
        self.file_of(&stream)
    }

    pub(crate) fn file_of(&self, stream: &TlsStream<TcpStream>) -> PathBuf {
        let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
        (1..=self.issued.get())
            .map(|number| self.edge.folder.path().join(format!("{number}.pem")))
            .find(|file| CertificateDer::from_pem_file(file).unwrap() == *shown)
            .unwrap()
    }
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
