//! TLS: what a handshake needs, and what follows for HTTP from a host having a certificate.
//!
//! Certificates come with the snapshots and change without a restart: connections that are open keep the one that they
//! began with. Nothing here knows who issued them.

mod certificate;
mod http;
mod resolver;
#[cfg(test)]
mod tests;

pub(crate) use http::{answer, promise};

use crate::client::Agreed;
use arc_swap::ArcSwap;
use astraler_model::{TlsCertificate, TlsSnapshot, TlsVersion};
use resolver::Resolver;
use rustls::ProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::server::{ProducesTickets, ServerConfig, ServerSessionMemoryCache, StoresServerSessions};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Sessions of TLS 1.2 clients that know no tickets. A client that falls out makes a whole handshake.
const SESSIONS: usize = 4_096;
/// The protocol in which nothing but a challenge is answered (RFC 8737 section 4).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// What all handshakes share. It lives as long as the edge: so do sessions, whatever snapshots come.
#[derive(Debug)]
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    resolver: Arc<Resolver>,
    /// Its keys change every six hours; a ticket is taken for twice as long.
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
    now: ArcSwap<Now>,
}

/// What the newest snapshot says.
#[derive(Debug)]
struct Now {
    tcp: Arc<ServerConfig>,
    quic: Arc<ServerConfig>,
    min_version: TlsVersion,
    https_port: u16,
    names: Names<Arc<TlsCertificate>>,
    http_challenges: BTreeMap<String, String>,
}

impl Tls {
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(provider());
        let resolver = Arc::new(Resolver::default());
        let tickets = aws_lc_rs::Ticketer::new()?;
        let sessions: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(SESSIONS);
        let shared = Shared {
            provider: &provider,
            resolver: &resolver,
            tickets: &tickets,
            sessions: &sessions,
        };
        let now = Now::of(&shared, &TlsSnapshot::default())?;
        Ok(Self {
            now: ArcSwap::from_pointee(now),
            provider,
            resolver,
            tickets,
            sessions,
        })
    }

    /// Takes a snapshot over. What it names and cannot be read is told, and served as before.
    pub(crate) fn take(&self, snapshot: &TlsSnapshot) {
        self.resolver.take(&self.provider, snapshot);
        let shared = Shared {
            provider: &self.provider,
            resolver: &self.resolver,
            tickets: &self.tickets,
            sessions: &self.sessions,
        };
        let present = self.now.load();
        let next = if present.min_version == snapshot.min_version {
            Ok(Now::words(snapshot, &present.tcp, &present.quic))
        } else {
            Now::of(&shared, snapshot)
        };
        match next {
            Ok(next) => self.now.store(Arc::new(next)),
            Err(error) => tracing::error!(%error, "the versions of TLS stay as they are"),
        }
    }

    /// For a connection over TCP: HTTP/2 or HTTP/1.1, or a challenge. Asked for at each handshake.
    pub(crate) fn tcp(&self) -> Arc<ServerConfig> {
        self.now.load().tcp.clone()
    }

    /// For QUIC.
    #[allow(dead_code, reason = "HTTP/3 takes it")]
    pub(crate) fn quic(&self) -> Arc<ServerConfig> {
        self.now.load().quic.clone()
    }

    fn certificate(&self, host: &str) -> Option<Arc<TlsCertificate>> {
        self.now.load().names.find(host).cloned()
    }
}

/// What a handshake has agreed on.
pub(crate) fn agreed(connection: &rustls::ServerConnection) -> Option<Agreed> {
    let version = match connection.protocol_version()? {
        ProtocolVersion::TLSv1_2 => "1.2",
        ProtocolVersion::TLSv1_3 => "1.3",
        _ => return None,
    };
    let cipher = connection.negotiated_cipher_suite()?.suite().as_str();
    Some(Agreed { version, cipher })
}

/// Whether a connection was for a challenge only: nothing is said on it (RFC 8737 section 3).
pub(crate) fn is_challenge(protocol: Option<&[u8]>) -> bool {
    protocol == Some(ACME_TLS)
}

struct Shared<'a> {
    provider: &'a Arc<CryptoProvider>,
    resolver: &'a Arc<Resolver>,
    tickets: &'a Arc<dyn ProducesTickets>,
    sessions: &'a Arc<dyn StoresServerSessions>,
}

impl Shared<'_> {
    fn config(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocols: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(self.resolver.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.ticketer = self.tickets.clone();
        config.session_storage = self.sessions.clone();
        // Ours is the order: a client may prefer what it should not.
        config.ignore_client_order = true;
        // Early data can be replayed: none is taken.
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }
}

impl Now {
    fn of(shared: &Shared<'_>, snapshot: &TlsSnapshot) -> Result<Self, rustls::Error> {
        const BOTH: &[&rustls::SupportedProtocolVersion] =
            &[&rustls::version::TLS13, &rustls::version::TLS12];
        const NEWEST: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
        let versions = match snapshot.min_version {
            TlsVersion::V1_2 => BOTH,
            TlsVersion::V1_3 => NEWEST,
        };
        let tcp = shared.config(versions, &[b"h2", b"http/1.1", ACME_TLS])?;
        let quic = shared.config(NEWEST, &[b"h3"])?;
        Ok(Self::words(snapshot, &tcp, &quic))
    }

    fn words(snapshot: &TlsSnapshot, tcp: &Arc<ServerConfig>, quic: &Arc<ServerConfig>) -> Self {
        let mut names = Names::default();
        for certificate in &snapshot.certificates {
            let certificate = Arc::new(certificate.clone());
            names.add(&certificate.names, &certificate);
        }
        Self {
            tcp: tcp.clone(),
            quic: quic.clone(),
            min_version: snapshot.min_version,
            https_port: snapshot.https_port,
            names,
            http_challenges: snapshot.http_challenges.clone(),
        }
    }
}

/// The post-quantum hybrid first: what is recorded today may be read in ten years. Clients without it cost one of the
/// others, which they sent a share for as well.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    }
}

/// Something for each host name, exact ones before wildcards. Of two for one name the first is meant.
#[derive(Debug)]
struct Names<T> {
    exact: HashMap<String, T>,
    /// By what follows the first label.
    wild: HashMap<String, T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wild: HashMap::new(),
        }
    }
}

impl<T: Clone> Names<T> {
    fn add(&mut self, names: &[String], what: &T) {
        for name in names {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(parent) => self.wild.entry(parent.to_owned()).or_insert_with(|| what.clone()),
                None => self.exact.entry(name).or_insert_with(|| what.clone()),
            };
        }
    }

    /// `name` is in lower case. A wildcard stands for one label (RFC 9525 section 6.3).
    fn find(&self, name: &str) -> Option<&T> {
        let wild = || self.wild.get(name.split_once('.')?.1);
        self.exact.get(name).or_else(wild)
    }
}
