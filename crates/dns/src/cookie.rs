//! DNS cookies (RFC 7873): who sends back what it was given has the address that it says it has.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// A cookie is good for so long, and made anew when it is half as old (RFC 9018 section 4.3).
const VALID_S: u32 = 3_600;
/// Clocks of one machine do not differ; one that was set may.
const AHEAD_S: u32 = 300;
const VERSION: u8 = 1;

/// The secret behind the cookies of this process. A restart makes all old ones worthless, which costs a client nothing
/// but its exemption from the rate limit, once.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn new() -> Self {
        Self(rand::random())
    }

    /// Whether a client's option has a cookie of ours, and the one that it gets.
    pub(crate) fn answer(&self, option: &[u8], client: IpAddr, now: u32) -> (bool, [u8; 16]) {
        let (theirs, ours) = option.split_at(option.len().min(8));
        let known = <[u8; 16]>::try_from(ours).is_ok_and(|cookie| {
            let at = u32::from_be_bytes([cookie[4], cookie[5], cookie[6], cookie[7]]);
            let age = now.wrapping_sub(at);
            let in_time = age <= VALID_S || age.wrapping_neg() <= AHEAD_S;
            in_time && bool::from(self.cookie(theirs, client, at).ct_eq(&cookie))
        });
        (known, self.cookie(theirs, client, now))
    }

    fn cookie(&self, theirs: &[u8], client: IpAddr, at: u32) -> [u8; 16] {
        let mut cookie = [0; 16];
        cookie[0] = VERSION;
        cookie[4..8].copy_from_slice(&at.to_be_bytes());
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) {
            mac.update(theirs);
            mac.update(&cookie[..8]);
            match client.to_canonical() {
                IpAddr::V4(address) => mac.update(&address.octets()),
                IpAddr::V6(address) => mac.update(&address.octets()),
            }
            cookie[8..].copy_from_slice(&mac.finalize().into_bytes()[..8]);
        }
        cookie
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_one_clients_for_one_hour() {
        let secret = Secret::new();
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let now = 1_800_000_000;
        let (known, ours) = secret.answer(b"clientco", client, now);
        assert!(!known);
        let option = [b"clientco".as_slice(), &ours].concat();
        assert!(secret.answer(&option, client, now + 3_000).0);
        assert!(!secret.answer(&option, client, now + 3_601).0);
        assert!(!secret.answer(&option, "192.0.2.2".parse().unwrap(), now).0);
        assert!(
            !secret
                .answer(&[b"another1".as_slice(), &ours].concat(), client, now)
                .0
        );
        assert!(!Secret::new().answer(&option, client, now).0);
        assert!(secret.answer(&option, "::ffff:192.0.2.1".parse().unwrap(), now).0);
        for length in 0..option.len() {
            assert!(!secret.answer(&option[..length], client, now).0);
        }
    }
}
