//! An ACME server (RFC 8555) on loopback, small and strict: each request is verified as the RFC says (nonces, JWS, accounts),
//! each challenge is really looked at, over the ports that the test names. What a CA does to its users, it does when it is
//! told to: bad nonces, refused names, rate limits, an order that fails, its own clock.

mod jws;
mod server;
mod validate;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A running server. It ends with the test's process, or when dropped.
pub struct AcmeServer {
    address: SocketAddr,
    roots: String,
    state: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What the server does to whom asks.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Where HTTP-01 is looked at instead of port 80.
    pub http: SocketAddr,
    /// Where TLS-ALPN-01 is looked at instead of port 443.
    pub tls: SocketAddr,
    /// DNS-01: the server that is asked for TXT records.
    pub dns: Option<SocketAddr>,
    /// Every so many requests are told that their nonce is bad.
    pub bad_nonce_every: u64,
    /// New orders are refused with 429 and this `Retry-After`.
    pub rate_limited_s: Option<u64>,
    /// Every request is answered 503.
    pub down: bool,
    /// How long certificates live.
    pub lifetime: Duration,
    /// What the server takes for now, in milliseconds since the Unix epoch.
    pub now_ms: Option<u64>,
    /// When renewal is suggested (RFC 9773), in milliseconds since the Unix epoch.
    pub renewal_ms: Option<u64>,
    /// Finalisation takes so long.
    pub issue_takes: Duration,
}

impl Default for Behaviour {
    fn default() -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Self {
            http: nowhere,
            tls: nowhere,
            dns: None,
            bad_nonce_every: 0,
            rate_limited_s: None,
            down: false,
            lifetime: Duration::from_secs(90 * 86_400),
            now_ms: None,
            renewal_ms: None,
            issue_takes: Duration::ZERO,
        }
    }
}

/// What the server has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Requests of any kind.
    pub requests: u64,
    /// Accounts that were made.
    pub accounts: usize,
    /// Orders that were made.
    pub orders: usize,
    /// Orders that nobody has finished, or that have not failed.
    pub orders_open: usize,
    /// Certificates that were issued.
    pub certificates: usize,
    /// Challenges that were looked at, and held.
    pub validated: usize,
    /// What was wrong with requests, by the type of the problem.
    pub problems: BTreeMap<String, u64>,
    /// Certificates that were said to be replaced.
    pub replaced: usize,
}

struct Shared {
    base: String,
    authority: CertifiedIssuer<'static, KeyPair>,
    behaviour: Mutex<Behaviour>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    nonces: BTreeSet<String>,
    serial: u64,
    /// By thumbprint: the account's URL and its key.
    accounts: BTreeMap<String, Account>,
    orders: BTreeMap<u64, Order>,
    certificates: BTreeMap<u64, String>,
    seen: Seen,
}

struct Account {
    url: String,
    jwk: Value,
    valid: bool,
}

#[derive(Clone)]
struct Order {
    account: String,
    names: Vec<String>,
    /// `pending`, `ready`, `processing`, `valid` or `invalid`.
    status: &'static str,
    token: String,
    /// Of its authorisation.
    proven: Option<Result<(), String>>,
    certificate: Option<u64>,
    ready_at: Option<std::time::Instant>,
    replaces: Option<String>,
}

impl AcmeServer {
    /// Starts one.
    pub fn start(behaviour: Behaviour) -> std::io::Result<Self> {
        let make = |error: rcgen::Error| std::io::Error::other(error);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut params = CertificateParams::new(vec![]).map_err(make)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut name = rcgen::DistinguishedName::new();
        name.push(rcgen::DnType::CommonName, "Strict Test CA");
        params.distinguished_name = name;
        let key = KeyPair::generate().map_err(make)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(make)?;
        // The server's own certificate, under a root of its own: an ACME server and its CA are two things.
        let mut own = CertificateParams::new(vec![]).map_err(make)?;
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = CertifiedIssuer::self_signed(own, KeyPair::generate().map_err(make)?).map_err(make)?;
        let key = KeyPair::generate().map_err(make)?;
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
            .and_then(|params| params.signed_by(&key, &own))
            .map_err(make)?;
        let state = Arc::new(Shared {
            base: format!("https://127.0.0.1:{}", address.port()),
            authority,
            behaviour: Mutex::new(behaviour),
            book: Mutex::default(),
        });
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let tls = server::tls(leaf.der(), &key)?;
        runtime.spawn(server::serve(listener, tls, Arc::clone(&state)));
        Ok(Self {
            address,
            roots: own.pem(),
            state,
            runtime: Some(runtime),
        })
    }

    /// Its directory.
    pub fn directory_url(&self) -> String {
        format!("https://127.0.0.1:{}/directory", self.address.port())
    }

    /// PEM of the root by which the server itself is trusted.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// PEM of the root of the certificates that it issues.
    pub fn authority(&self) -> String {
        self.state.authority.pem()
    }

    /// Makes it behave otherwise.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.behaviour());
    }

    /// What it has seen.
    pub fn seen(&self) -> Seen {
        let book = self.state.book();
        let open = |order: &&Order| !matches!(order.status, "valid" | "invalid");
        Seen {
            accounts: book.accounts.len(),
            orders: book.orders.len(),
            orders_open: book.orders.values().filter(open).count(),
            certificates: book.certificates.len(),
            ..book.seen.clone()
        }
    }
}

impl Drop for AcmeServer {
    fn drop(&mut self) {
        // A test's own runtime may be around us: nothing is waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
