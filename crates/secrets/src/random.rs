//! Random values, all from the kernel's generator.

use crate::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// Letters and digits without those that are mistaken for each other (0 O 1 l I), so that a password can be
/// read out, and needs no escaping in a URL, a shell, a configuration file or SQL.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const PASSWORD_LENGTH: usize = 32;
const MIN_TOKEN_BYTES: usize = 16;

/// `prefix` followed by `bytes` random bytes in URL-safe base64. Fewer than 16 bytes are raised to 16.
///
/// The prefix (`astraler_deploy_`, for example) is what lets secret scanners recognise a leaked token.
pub fn generate_token(prefix: &str, bytes: usize) -> Secret {
    let mut random = Zeroizing::new(vec![0; bytes.max(MIN_TOKEN_BYTES)]);
    fill(&mut random);
    // Allocated once at its full size: growing would leave a copy of the first part behind.
    let mut token = String::with_capacity(prefix.len() + random.len() * 4 / 3 + 4);
    token.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(&*random, &mut token);
    Secret::new(token)
}

/// A password of 32 letters and digits: 186 bits.
pub fn generate_password() -> Secret {
    let mut password = String::with_capacity(PASSWORD_LENGTH);
    let mut random = Zeroizing::new([0; 64]);
    // Bytes from the last multiple of the alphabet's length upwards are dropped, so that no letter is likelier.
    let fair = 256 - 256 % ALPHABET.len();
    while password.len() < PASSWORD_LENGTH {
        fill(&mut *random);
        let letters = random.iter().map(|b| usize::from(*b)).filter(|b| *b < fair);
        let missing = PASSWORD_LENGTH - password.len();
        password.extend(
            letters
                .take(missing)
                .map(|b| char::from(ALPHABET[b % ALPHABET.len()])),
        );
    }
    Secret::new(password)
}

/// Fills from the kernel. Without random numbers there is nothing safe left to do, so a failure is a panic;
/// `getrandom` has no failure on Linux once the machine has started.
#[expect(clippy::expect_used, reason = "no safe way to go on without random numbers")]
pub(crate) fn fill(bytes: &mut [u8]) {
    OsRng
        .try_fill_bytes(bytes)
        .expect("the kernel gives random bytes");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tokens_have_prefix_and_length_and_never_repeat() {
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let token = generate_token("ast_", 24);
            let random = token.expose().strip_prefix("ast_").unwrap().to_owned();
            assert_eq!(random.len(), 32);
            assert!(
                random
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
            assert!(seen.insert(random));
        }
        assert_eq!(generate_token("", 1).expose().len(), 22, "16 bytes at least");
    }

    #[test]
    fn passwords_use_the_whole_alphabet_evenly() {
        let mut counts = [0u32; 256];
        let rounds = 2_000;
        for _ in 0..rounds {
            let password = generate_password();
            assert_eq!(password.expose().len(), PASSWORD_LENGTH);
            password
                .expose()
                .bytes()
                .for_each(|b| counts[usize::from(b)] += 1);
        }
        // 64,000 letters over 57: 1,123 each, standard deviation 33; seven of those either way.
        for letter in ALPHABET {
            let count = counts[usize::from(*letter)];
            assert!((890..1356).contains(&count), "{}: {count}", char::from(*letter));
        }
        assert_eq!(counts.iter().sum::<u32>(), rounds * 32, "no other letter");
        assert_eq!(counts.iter().filter(|c| **c > 0).count(), ALPHABET.len());
    }
}
