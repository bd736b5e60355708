//! From a file to what a handshake shows.

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io::Read;
use std::path::Path;

/// A chain of a few certificates and a key; more is something else.
const MAX_BYTES: u64 = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    #[error("it cannot be read")]
    Read(#[from] std::io::Error),
    #[error("it is longer than any certificate: {MAX_BYTES} bytes")]
    TooLong,
    #[error("it is no PEM with a certificate and a private key")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("its private key cannot be used, or is not the certificate's")]
    Key(#[from] rustls::Error),
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Serve,
    /// It has a critical extension that nobody else knows (RFC 8737 section 3), so that it cannot be looked at as others.
    Prove,
}

/// Reads chain and key, and sees that they belong together.
pub(super) fn load(
    provider: &CryptoProvider,
    path: &Path,
    purpose: Use,
) -> Result<CertifiedKey, CertificateError> {
    let mut pem = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut pem)?;
    if pem.len() as u64 > MAX_BYTES {
        return Err(CertificateError::TooLong);
    }
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&pem)?;
    if purpose == Use::Prove {
        let key = provider.key_provider.load_private_key(key)?;
        return Ok(CertifiedKey::new(chain, key));
    }
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}
