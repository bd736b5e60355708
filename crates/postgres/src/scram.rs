//! SCRAM verifiers, computed here so that no password in clear reaches a server's log (RFC 5802, RFC 7677;
//! PostgreSQL's form is described in its manual, 53.8 `pg_authid`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A verifier that PostgreSQL stores as it is.
pub(crate) fn verifier(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

/// Whether a stored verifier belongs to the password: then nothing needs to change.
pub(crate) fn matches(stored: &str, password: &str) -> bool {
    parse(stored).is_some_and(|(iterations, salt, stored_key)| {
        // The names of this crate's passwords are ASCII, for which SASLprep changes nothing; a difference
        // would only mean that the verifier is written once more.
        let salted = salted_password(password.as_bytes(), &salt, iterations);
        let client_key = hmac(&salted, b"Client Key");
        Sha256::digest(client_key).ct_eq(&stored_key).into()
    })
}

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`
fn parse(stored: &str) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let rest = stored.strip_prefix("SCRAM-SHA-256$")?;
    let (first, keys) = rest.split_once('$')?;
    let (iterations, salt) = first.split_once(':')?;
    let (stored_key, _) = keys.split_once(':')?;
    let iterations = iterations.parse().ok().filter(|n| (1..=1_000_000).contains(n))?;
    Some((
        iterations,
        STANDARD.decode(salt).ok()?,
        STANDARD.decode(stored_key).ok()?,
    ))
}

fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut salted = salt.to_vec();
    salted.extend([0, 0, 0, 1]);
    let mut block = hmac(password, &salted);
    let mut result = block;
    for _ in 1..iterations {
        block = hmac(password, &block);
        for (into, byte) in result.iter_mut().zip(block) {
            *into ^= byte;
        }
    }
    result
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_belongs_to_its_password_alone() {
        let stored = verifier("correct horse");
        assert!(matches(&stored, "correct horse"));
        assert!(!matches(&stored, "correct horsf"));
        assert!(!matches("md5abcdef", "correct horse"));
        assert!(!matches("", ""));
    }
}
