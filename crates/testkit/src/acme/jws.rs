//! Requests as RFC 8555 section 6.2 wants them: a flattened JWS, ES256, with a nonce, the URL, and either a key or the URL of
//! an account.

use super::Shared;
use super::server::Problem;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A request that was verified.
pub(super) struct Signed {
    /// Thumbprint of the key (RFC 7638): the account.
    pub(super) account: String,
    pub(super) jwk: Value,
    /// `null` for POST-as-GET.
    pub(super) payload: Value,
}

pub(super) fn decode(text: &str) -> Result<Vec<u8>, Problem> {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Problem::malformed("no base64url"))
}

/// Verifies a request to `url`; `new` is one that carries its key.
pub(super) fn verify(shared: &Shared, url: &str, body: &[u8], new: bool) -> Result<Signed, Problem> {
    let text = |value: &Value, what: &str| {
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| Problem::malformed(&format!("{what} is missing")))
    };
    let jws: Value = serde_json::from_slice(body).map_err(|_| Problem::malformed("no JSON"))?;
    let fields = jws.as_object().map_or(0, serde_json::Map::len);
    if fields != 3 {
        return Err(Problem::malformed(
            "a flattened JWS has protected, payload and signature",
        ));
    }
    let (protected, payload) = (
        text(&jws["protected"], "protected")?,
        text(&jws["payload"], "payload")?,
    );
    let signature = decode(&text(&jws["signature"], "signature")?)?;
    let header: Value =
        serde_json::from_slice(&decode(&protected)?).map_err(|_| Problem::malformed("no JSON header"))?;
    if header["alg"] != "ES256" {
        return Err(Problem::new(400, "badSignatureAlgorithm", "only ES256"));
    }
    if header["url"] != url {
        return Err(Problem::new(401, "unauthorized", "url is another"));
    }
    let nonce = text(&header["nonce"], "nonce")?;
    if !shared.book().nonces.remove(&nonce) {
        return Err(Problem::new(400, "badNonce", "unknown or used"));
    }
    let jwk = match (header.get("jwk"), header.get("kid")) {
        (Some(jwk), None) if new => jwk.clone(),
        (None, Some(kid)) if !new => {
            let book = shared.book();
            let mut accounts = book.accounts.values();
            let account = accounts.find(|account| account.valid && account.url == *kid);
            let unknown = Problem::new(400, "accountDoesNotExist", "no such account");
            account.ok_or(unknown)?.jwk.clone()
        }
        _ => return Err(Problem::malformed("either jwk or kid, and not both")),
    };
    if jwk["kty"] != "EC" || jwk["crv"] != "P-256" {
        return Err(Problem::new(400, "badPublicKey", "only P-256"));
    }
    let (x, y) = (text(&jwk["x"], "x")?, text(&jwk["y"], "y")?);
    let point = [vec![4], decode(&x)?, decode(&y)?].concat();
    let signed = format!("{protected}.{payload}");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| Problem::malformed("the signature is not of this key"))?;
    // Members in the order of RFC 7638.
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let payload = match payload.is_empty() {
        true => Value::Null,
        false => {
            serde_json::from_slice(&decode(&payload)?).map_err(|_| Problem::malformed("no JSON payload"))?
        }
    };
    Ok(Signed {
        account: BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(canonical.as_bytes())),
        jwk,
        payload,
    })
}
