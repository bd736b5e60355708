//! Which certificate a client is shown: by the name it asks for.

use super::certificate::{self, Use};
use super::{ACME_TLS, Names};
use arc_swap::ArcSwap;
use astraler_model::TlsSnapshot;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Certificates that are in force; replaced whole.
#[derive(Debug, Default)]
pub(super) struct Resolver(ArcSwap<Shown>);

#[derive(Debug, Default)]
struct Shown {
    names: Names<Arc<CertifiedKey>>,
    fallback: Option<Arc<CertifiedKey>>,
    challenges: HashMap<String, Arc<CertifiedKey>>,
    /// What was read, by its file: it is read once.
    files: HashMap<PathBuf, Arc<CertifiedKey>>,
    /// By its name, the file that serves it: when the next one cannot be read.
    served: HashMap<String, PathBuf>,
}

impl Resolver {
    /// Takes over what a snapshot names.
    pub(super) fn take(&self, provider: &CryptoProvider, snapshot: &TlsSnapshot) {
        let before = self.0.load();
        let mut next = Shown::default();
        for certificate in &snapshot.certificates {
            let loaded = match next.load(&before, provider, &certificate.file, Use::Serve) {
                Some(loaded) => Some((certificate.file.clone(), loaded)),
                None => before.serving(&certificate.names),
            };
            let Some((file, loaded)) = loaded else {
                continue;
            };
            next.files.insert(file.clone(), loaded.clone());
            next.names.add(&certificate.names, &loaded);
            for name in &certificate.names {
                next.served.entry(name.clone()).or_insert_with(|| file.clone());
            }
            next.fallback.get_or_insert(loaded);
        }
        for (name, file) in &snapshot.alpn_challenges {
            if let Some(loaded) = next.load(&before, provider, file, Use::Prove) {
                next.files.insert(file.clone(), loaded.clone());
                next.challenges.insert(name.to_ascii_lowercase(), loaded);
            }
        }
        self.0.store(Arc::new(next));
    }
}

impl Shown {
    fn load(
        &self,
        before: &Self,
        provider: &CryptoProvider,
        file: &Path,
        purpose: Use,
    ) -> Option<Arc<CertifiedKey>> {
        if let Some(read) = self.files.get(file).or_else(|| before.files.get(file)) {
            return Some(read.clone());
        }
        match certificate::load(provider, file, purpose) {
            Ok(loaded) => Some(Arc::new(loaded)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(file = %file.display(), error, "a certificate cannot be used; the one before stays");
                None
            }
        }
    }

    fn serving(&self, names: &[String]) -> Option<(PathBuf, Arc<CertifiedKey>)> {
        let file = names.iter().find_map(|name| self.served.get(name))?;
        Some((file.clone(), self.files.get(file)?.clone()))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, client: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.load();
        let name = client
            .server_name()
            .map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        // Whoever validates offers this protocol and no other (RFC 8737 section 3).
        let mut protocols = client.alpn().into_iter().flatten();
        if protocols.next() == Some(ACME_TLS) && protocols.next().is_none() {
            return shown.challenges.get(&name?).cloned();
        }
        let named = name.and_then(|name| shown.names.find(&name).cloned());
        named.or_else(|| shown.fallback.clone())
    }
}
