//! The local authority: a root of our own that can vouch for private names and for nothing else.

use crate::inspect::{InspectError, inspect};
use crate::name::{NETWORKS_V4, NETWORKS_V6, PRIVATE};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use std::time::Duration;

/// Of a leaf. Short, because nobody asks whether it was revoked; renewal costs milliseconds.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(30 * 86_400);
/// Of the root: who has installed it should not have to do it again soon.
const ROOT_LIFETIME: Duration = Duration::from_secs(3_650 * 86_400);
/// Clocks of clients may be slow.
const BACKDATED: Duration = Duration::from_secs(3_600);
/// The year from whose beginning a root holds, whenever it was made: before this program was there. A root that was made
/// while the clock was ahead holds when the clock is right again, and nobody has to trust another one.
const ROOT_SINCE: i32 = 2025;

/// Nothing could be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The library refuses.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// What was kept of the authority is no PEM of a certificate and its key.
    #[error("the local authority cannot be opened")]
    Inspect(#[from] InspectError),
    /// What was kept of it is cut short.
    #[error("the local authority's certificate or key is missing")]
    Incomplete,
}

/// A root certificate and its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    not_after_ms: u64,
}

/// A certificate with its key.
pub struct Issued {
    /// PEM: the certificate, then its private key. A secret.
    pub pem: String,
    /// What it says.
    pub facts: crate::Facts,
}

impl Authority {
    /// Makes a new one; PEM of its certificate and its key, which is a secret.
    ///
    /// The name constraints are what makes it safe to trust: whoever steals the key cannot vouch for a name of public DNS.
    pub fn generate(owner: &str, now_ms: u64) -> Result<String, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Astraler");
        // The common name has room for 64 characters (RFC 5280 appendix A.1).
        let name: String = format!("Astraler local CA of {owner}").chars().take(64).collect();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted(),
            excluded_subtrees: vec![],
        });
        validity(&mut params, now_ms, ROOT_LIFETIME);
        params.not_before = params.not_before.min(rcgen::date_time_ymd(ROOT_SINCE, 1, 1));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(certificate.pem() + &key.serialize_pem())
    }

    /// Opens what [`Authority::generate`] made.
    pub fn open(pem: &str) -> Result<Self, AuthorityError> {
        const KEY: &str = "-----BEGIN PRIVATE KEY-----";
        let at = pem.find(KEY).ok_or(AuthorityError::Incomplete)?;
        let (certificate, key) = pem.split_at(at);
        let facts = inspect(certificate)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self {
            issuer,
            certificate: certificate.to_owned(),
            not_after_ms: facts.not_after_ms,
        })
    }

    /// The root certificate, which clients are to trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Until when it can issue.
    pub fn not_after_ms(&self) -> u64 {
        self.not_after_ms
    }

    /// A new key, and a certificate of it for host names as routes have them.
    pub fn issue(&self, names: &[String], now_ms: u64) -> Result<Issued, AuthorityError> {
        let names: Vec<String> = names
            .iter()
            .map(|name| name.trim_matches(['[', ']']).to_owned())
            .collect();
        let mut params = CertificateParams::new(names)?;
        // What a client compares are the alternative names; a subject would be one more thing to be constrained.
        params.distinguished_name = DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        validity(&mut params, now_ms, LEAF_LIFETIME);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let facts = inspect(&certificate)?;
        Ok(Issued {
            pem: certificate + &key.serialize_pem(),
            facts,
        })
    }
}

fn validity(params: &mut CertificateParams, now_ms: u64, lifetime: Duration) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now_ms / 1_000);
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
}

fn permitted() -> Vec<GeneralSubtree> {
    let names = PRIVATE
        .iter()
        .map(|name| GeneralSubtree::DnsName((*name).to_owned()));
    let v4 = NETWORKS_V4
        .iter()
        .map(|(network, bits)| CidrSubnet::from_v4_prefix(*network, *bits));
    let v6 = NETWORKS_V6
        .iter()
        .map(|(network, bits)| CidrSubnet::from_v6_prefix(network.octets(), *bits));
    names.chain(v4.chain(v6).map(GeneralSubtree::IpAddress)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{RootCertStore, client::WebPkiServerVerifier, client::danger::ServerCertVerifier};
    use std::sync::Arc;

    const NOW_MS: u64 = 1_795_000_000_000;

    fn verifies(authority: &str, leaf: &str, name: &str, at_ms: u64) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_millis(at_ms));
        verifier
            .verify_server_cert(&leaf, &[], &name, &[], at)
            .map(|_| ())
    }

    #[test]
    fn it_vouches_for_private_names_for_thirty_days_and_survives_being_kept() {
        let kept = Authority::generate("board", NOW_MS).unwrap();
        let authority = Authority::open(&kept).unwrap();
        let names = [
            "localhost",
            "app.localhost",
            "127.0.0.1",
            "[::1]",
            "app.shop.example",
        ];
        let names: Vec<String> = names.map(String::from).to_vec();
        let issued = authority.issue(&names, NOW_MS).unwrap();
        for name in [
            "localhost",
            "app.localhost",
            "127.0.0.1",
            "::1",
            "app.shop.example",
        ] {
            verifies(authority.certificate(), &issued.pem, name, NOW_MS).unwrap();
        }
        assert!(verifies(authority.certificate(), &issued.pem, "other.localhost", NOW_MS).is_err());
        let month = 30 * 86_400_000;
        assert_eq!(issued.facts.not_after_ms, NOW_MS + month);
        assert!(
            verifies(
                authority.certificate(),
                &issued.pem,
                "localhost",
                NOW_MS + month + 1_000
            )
            .is_err()
        );
        assert!(!authority.certificate().contains("PRIVATE"));
    }

    #[test]
    fn a_root_that_was_made_while_the_clock_was_ahead_holds_when_it_is_right() {
        let ahead = NOW_MS + 400 * 86_400_000;
        let kept = Authority::generate("board", ahead).unwrap();
        let facts = inspect(&kept).unwrap();
        assert!(
            facts.not_before_ms < NOW_MS && facts.not_after_ms > ahead,
            "{facts:?}"
        );
        let issued = Authority::open(&kept)
            .unwrap()
            .issue(&["localhost".to_owned()], NOW_MS)
            .unwrap();
        assert!(issued.facts.not_before_ms < NOW_MS);
        // A clock that has lost its battery makes no root from the future either.
        let early = inspect(&Authority::generate("board", 86_400_000).unwrap()).unwrap();
        assert!(early.not_before_ms <= 86_400_000);
    }

    #[test]
    fn whoever_has_its_key_cannot_vouch_for_a_public_name() {
        let authority = Authority::open(&Authority::generate("board", NOW_MS).unwrap()).unwrap();
        for name in ["bank.com", "8.8.8.8", "2001:db8::1", "mylocalhost"] {
            let issued = authority.issue(&[name.to_owned()], NOW_MS).unwrap();
            let refused = verifies(authority.certificate(), &issued.pem, name, NOW_MS).unwrap_err();
            assert!(
                format!("{refused:?}").contains("NameConstraint"),
                "{name}: {refused:?}"
            );
        }
    }
}
