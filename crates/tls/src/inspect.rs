//! What a certificate says of itself.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// No certificate.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The armour.
    #[error("there is no PEM of a certificate")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// What is in it.
    #[error("the certificate is not X.509: {0}")]
    X509(String),
}

/// The leaf of a chain, as far as its keeper needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Who issued it, in words.
    pub issuer: String,
    /// From when on it holds, in milliseconds since the Unix epoch.
    pub not_before_ms: u64,
    /// Until when.
    pub not_after_ms: u64,
    /// Host names, as routes have them.
    pub names: Vec<String>,
}

/// Reads the first certificate of a PEM.
pub fn inspect(pem: &str) -> Result<Facts, InspectError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())?;
    let (_, leaf) = X509Certificate::from_der(&der).map_err(|error| InspectError::X509(error.to_string()))?;
    let validity = leaf.validity();
    let ms = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000);
    let names = leaf.subject_alternative_name().ok().flatten();
    Ok(Facts {
        issuer: issuer_of(&leaf),
        not_before_ms: ms(validity.not_before.timestamp()),
        not_after_ms: ms(validity.not_after.timestamp()),
        names: names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(name_of)
            .collect(),
    })
}

fn issuer_of(leaf: &X509Certificate<'_>) -> String {
    let issuer = leaf.issuer();
    let first = |mut all: Box<dyn Iterator<Item = &str> + '_>| all.next().map(str::to_owned);
    let organisation = first(Box::new(
        issuer.iter_organization().filter_map(|name| name.as_str().ok()),
    ));
    let common = first(Box::new(
        issuer.iter_common_name().filter_map(|name| name.as_str().ok()),
    ));
    match (organisation, common) {
        (Some(organisation), Some(common)) if !common.contains(&organisation) => {
            format!("{organisation} {common}")
        }
        (_, Some(common)) => common,
        (Some(organisation), None) => organisation,
        (None, None) => issuer.to_string(),
    }
}

fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
            let v6 = <[u8; 16]>::try_from(*bytes).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
            match v4.or(v6).ok()? {
                IpAddr::V4(address) => Some(address.to_string()),
                IpAddr::V6(address) => Some(format!("[{address}]")),
            }
        }
        _ => None,
    }
}
