//! The ACME client against a strict server on loopback.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use astraler_testkit::acme::{AcmeServer, Behaviour};
use astraler_tls::{Acme, AcmeConfig, AcmeError, Challenge, Proof, inspect};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NAME: &str = "app.shop.test";

/// What answers HTTP-01: by token.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<HashMap<String, String>>>);

impl Files {
    fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 2048];
                let length = stream.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let token = head
                    .split(' ')
                    .nth(1)
                    .unwrap_or_default()
                    .rsplit('/')
                    .next()
                    .unwrap_or_default();
                let found = files.0.lock().unwrap().get(token).cloned();
                let (status, body) = found.map_or((404, String::new()), |body| (200, body));
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        address
    }

    fn show(&self, proof: &Proof) {
        let mut files = self.0.lock().unwrap();
        files.insert(proof.token.clone(), proof.authorisation.clone());
    }
}

fn config(server: &AcmeServer) -> AcmeConfig {
    AcmeConfig {
        directory_url: server.directory_url(),
        roots: Some(server.roots().to_owned()),
        email: Some("ops@shop.test".into()),
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("it hangs")
    })
}

#[test]
fn an_order_goes_on_from_each_step_with_a_server_that_loses_nonces() {
    let files = Files::default();
    let server = AcmeServer::start(Behaviour {
        http: files.serve(),
        bad_nonce_every: 4,
        issue_takes: Duration::from_millis(600),
        ..Behaviour::default()
    })
    .unwrap();
    run(async {
        let key = Acme::generate_key().unwrap();
        // Each step by a process of its own, which knows the account's key and the order's URL.
        let open = async || Acme::open(&config(&server), &key).await.unwrap();
        let url = {
            let order = open().await.begin(NAME, Challenge::Http01, None).await.unwrap();
            order.url().to_owned()
        };
        let resume = async || open().await.resume(&url, Challenge::Http01).await.unwrap();
        let proofs = resume().await.proofs().await.unwrap();
        assert_eq!(proofs.len(), 1);
        assert_eq!(proofs[0].name, NAME);
        proofs.iter().for_each(|proof| files.show(proof));
        let mut order = resume().await;
        order.validate().await.unwrap();
        assert!(
            order.proofs().await.unwrap().is_empty() || resume().await.proofs().await.unwrap().is_empty()
        );

        let leaf_key = Acme::generate_key().unwrap();
        let chain = resume().await.finish(NAME, &leaf_key).await.unwrap();
        let facts = inspect(&chain).unwrap();
        assert_eq!(
            (facts.names, facts.issuer),
            (vec![NAME.to_owned()], "Strict Test CA".to_owned())
        );
        // Whoever was killed before it was written down gets it again.
        assert_eq!(resume().await.finish(NAME, &leaf_key).await.unwrap(), chain);
        let seen = server.seen();
        assert_eq!(
            (seen.accounts, seen.orders, seen.certificates, seen.validated),
            (1, 1, 1, 1)
        );
        assert!(
            seen.problems.keys().all(|kind| kind == "badNonce"),
            "{:?}",
            seen.problems
        );
    });
}

#[test]
fn a_certificate_proves_a_name_where_the_ca_asks_for_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = AcmeServer::start(Behaviour {
        tls: listener.local_addr().unwrap(),
        ..Behaviour::default()
    })
    .unwrap();
    run(async {
        let key = Acme::generate_key().unwrap();
        let acme = Acme::open(&config(&server), &key).await.unwrap();
        let mut order = acme.begin(NAME, Challenge::TlsAlpn01, None).await.unwrap();
        let proof = order.proofs().await.unwrap().remove(0);
        serve_proof(listener, &proof.certificate().unwrap());
        order.validate().await.unwrap();
        let chain = order.finish(NAME, &Acme::generate_key().unwrap()).await.unwrap();
        assert_eq!(inspect(&chain).unwrap().names, [NAME]);
        assert_eq!(server.seen().validated, 1);
    });
}

fn serve_proof(listener: TcpListener, pem: &str) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Its critical extension is unknown to whoever looks at a certificate as usual.
    let key = provider.key_provider.load_private_key(key).unwrap();
    let proof = rustls::sign::CertifiedKey::new(chain, key);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(proof)));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
}

#[test]
fn what_a_ca_refuses_is_told_apart() {
    let files = Files::default();
    let server = AcmeServer::start(Behaviour {
        http: files.serve(),
        ..Behaviour::default()
    })
    .unwrap();
    run(async {
        let key = Acme::generate_key().unwrap();
        let acme = Acme::open(&config(&server), &key).await.unwrap();
        // A name that cannot be proven: the order is lost, and why is known.
        let mut order = acme.begin(NAME, Challenge::Http01, None).await.unwrap();
        order.proofs().await.unwrap();
        let lost = order.validate().await.unwrap_err();
        assert!(
            matches!(&lost, AcmeError::OrderLost(why) if why.contains("404")),
            "{lost}"
        );
        let again = acme
            .resume(order.url(), Challenge::Http01)
            .await
            .unwrap()
            .proofs()
            .await;
        assert!(matches!(again, Err(AcmeError::OrderLost(_))), "{again:?}");
        // Another account's, or one that is gone.
        let other = Acme::open(&config(&server), &Acme::generate_key().unwrap())
            .await
            .unwrap();
        let theirs = other.resume(order.url(), Challenge::Http01).await.err().unwrap();
        assert!(matches!(theirs, AcmeError::OrderLost(_)), "{theirs}");
        let no_wildcard = acme
            .begin("*.shop.test", Challenge::Http01, None)
            .await
            .unwrap()
            .proofs()
            .await;
        assert!(
            matches!(no_wildcard, Err(AcmeError::NoChallenge(..))),
            "{no_wildcard:?}"
        );

        server.behave(|server| server.rate_limited_s = Some(7_200));
        let refused = acme.begin(NAME, Challenge::Http01, None).await.err().unwrap();
        assert!(
            matches!(&refused, AcmeError::Refused(why) if why.contains("too many")),
            "{refused}"
        );
        assert_eq!(acme.retry_after_s(), Some(7_200));
        server.behave(|server| server.down = true);
        let down = Acme::open(&config(&server), &key).await.err().unwrap();
        assert!(matches!(down, AcmeError::Server(_)), "{down}");
        // A server that is not the one that was meant.
        let strangers = AcmeConfig {
            roots: None,
            ..config(&server)
        };
        let stranger = Acme::open(&strangers, &key).await.err().unwrap();
        assert!(matches!(&stranger, AcmeError::Server(_)), "{stranger}");
    });
}

#[test]
fn a_ca_says_when_it_wants_a_certificate_renewed_and_hears_what_is_replaced() {
    let files = Files::default();
    let server = AcmeServer::start(Behaviour {
        http: files.serve(),
        renewal_ms: Some(1_800_000_000_000),
        ..Behaviour::default()
    })
    .unwrap();
    run(async {
        let key = Acme::generate_key().unwrap();
        let acme = Acme::open(&config(&server), &key).await.unwrap();
        let obtain = async |before: Option<String>| {
            let mut order = acme
                .begin(NAME, Challenge::Http01, before.as_deref())
                .await
                .unwrap();
            order
                .proofs()
                .await
                .unwrap()
                .iter()
                .for_each(|proof| files.show(proof));
            order.validate().await.unwrap();
            order.finish(NAME, &Acme::generate_key().unwrap()).await.unwrap()
        };
        let first = obtain(None).await;
        let suggested = acme.suggested_ms(&first, 500).await.unwrap().unwrap();
        assert!(
            (1_800_000_000_000..1_800_000_001_000).contains(&suggested),
            "{suggested}"
        );
        obtain(Some(first)).await;
        assert_eq!((server.seen().replaced, server.seen().certificates), (1, 2));
        server.behave(|server| server.renewal_ms = None);
        let plain = Acme::open(&config(&server), &key).await.unwrap();
        assert_eq!(plain.suggested_ms(&obtain(None).await, 0).await.unwrap(), None);
    });
}
