//! Who asks: the owner by the admin socket's peer credentials, everyone else by a token. What they may not do is
//! refused and written down.

use crate::admin::ApiError;
use crate::daemon::Daemon;
use crate::platform::{Platform, now_ms};
use astraler_model::{Principal, Scope};
use astraler_secrets::{Secret, generate_token};
use astraler_store::{NewToken, StoreError, Token, TokenKind};
use base64::Engine as _;
use http::HeaderMap;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What scanners for leaked secrets recognise our tokens by.
const PREFIX: &str = "ast_";
const ID_DIGITS: usize = 16;
const SECRET_BYTES: usize = 30;
/// Longer is none of ours.
const MAX_TOKEN_BYTES: usize = 256;

/// How long the owner's own tools may use a token that they asked for.
const SESSION_MS: u64 = 15 * 60_000;
/// How exactly the last use of a token is known: a write for each request would cost more than it tells.
const USED_MS: u64 = 60_000;
/// How long a token that has ended is still listed.
const ENDED_SHOWN_MS: u64 = 90 * 24 * 3_600_000;

/// A token that was just made: the only time that its text is known.
pub(crate) struct Minted {
    pub(crate) id: String,
    pub(crate) token: Secret,
    pub(crate) expires_ms: Option<u64>,
}

/// The owner and root may do everything.
pub(crate) fn owner(uid: u32) -> Principal {
    Principal::new(format!("uid {uid}"), vec![Scope::Admin])
}

impl Platform {
    /// Makes a token; only its hash is kept.
    pub(crate) fn mint(
        &self,
        kind: TokenKind,
        name: &str,
        scopes: &[Scope],
        expires_ms: Option<u64>,
    ) -> Result<Minted, StoreError> {
        let now = now_ms();
        let ended = now.saturating_sub(ENDED_SHOWN_MS);
        self.store.tokens_prune(now, ended)?;
        let id = format!("{:016x}", rand::random::<u64>());
        let token = generate_token(&format!("{PREFIX}{id}_"), SECRET_BYTES);
        let new = NewToken {
            id: &id,
            kind,
            name,
            hash: Sha256::digest(token.expose().as_bytes()).into(),
            scopes,
            expires_ms,
        };
        self.store.token_create(&new, now)?;
        Ok(Minted {
            id,
            token,
            expires_ms,
        })
    }

    /// A token with all rights of `principal`, for a short while: for its own tools.
    pub(crate) fn mint_session(&self, principal: &Principal) -> Result<Minted, StoreError> {
        let ends = now_ms() + SESSION_MS;
        self.mint(TokenKind::Session, &principal.name, &principal.scopes, Some(ends))
    }

    /// Whose token it is; `None` for one that is unknown, expired or revoked, and for those of jobs, which open their
    /// own sockets alone.
    pub(crate) fn authenticate(&self, token: &str) -> Result<Option<Principal>, StoreError> {
        Ok(self.token_of(token)?.and_then(|token| {
            let name = match token.kind {
                TokenKind::Named => format!("token {}", token.name),
                TokenKind::Session => token.name,
                TokenKind::Job => return None,
            };
            Some(Principal::new(name, token.scopes))
        }))
    }

    /// The job whose token it is, on the socket of the job with the token of this id.
    pub(crate) fn authenticate_job(&self, token: &str, id: &str) -> Result<Option<Principal>, StoreError> {
        let found = self.token_of(token)?;
        let own = found.filter(|token| token.kind == TokenKind::Job && token.id == id);
        Ok(own.map(|token| Principal::job(token.name, token.scopes)))
    }

    fn token_of(&self, text: &str) -> Result<Option<Token>, StoreError> {
        let id = text
            .strip_prefix(PREFIX)
            .filter(|_| text.len() <= MAX_TOKEN_BYTES)
            .and_then(|rest| rest.split_at_checked(ID_DIGITS))
            .map(|(id, _)| id);
        let Some(id) = id else { return Ok(None) };
        let now = now_ms();
        // Found by its public part; what decides is the whole, in constant time.
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let found = self
            .store
            .token(id)?
            .filter(|token| bool::from(token.hash.ct_eq(&hash)) && token.holds(now));
        if let Some(token) = &found
            && token.used_ms.is_none_or(|used| used + USED_MS < now)
        {
            self.store.token_used(&token.id, now)?;
        }
        Ok(found)
    }
}

impl Daemon {
    /// Lets the principal go on, or refuses in words and in the audit chain.
    pub(crate) fn allow(&self, principal: &Principal, wanted: &Scope, action: &str) -> Result<(), ApiError> {
        self.platform.allow(principal, wanted, action)
    }
}

impl Platform {
    /// As [`Daemon::allow`].
    pub(crate) fn allow(&self, principal: &Principal, wanted: &Scope, action: &str) -> Result<(), ApiError> {
        let Err(forbidden) = principal.require(wanted) else {
            return Ok(());
        };
        let detail = json!({ "needed": wanted, "has": principal.scopes });
        self.audit(&principal.name, "refused", action, &detail)
            .map_err(ApiError::internal)?;
        Err(ApiError::forbidden(&forbidden))
    }
}

/// The token of a request: `Authorization: Bearer TOKEN` (RFC 6750), or as the password of Basic (RFC 7617), which
/// is what git sends.
pub(crate) fn presented(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials = credentials.trim_start();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Secret::new(credentials.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(credentials)
        .ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (_, password) = decoded.split_once(':')?;
    Some(Secret::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(folder: &std::path::Path) -> Platform {
        use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
        let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
        Platform::simulated(folder, std::sync::Arc::new(supervisor))
    }

    #[test]
    fn a_token_is_its_bearers_until_it_is_revoked_or_expires() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        let scopes = [Scope::Read];
        let minted = platform.mint(TokenKind::Named, "ci", &scopes, None).unwrap();
        let text = minted.token.expose();
        let principal = platform.authenticate(text).unwrap().unwrap();
        assert_eq!(principal, Principal::new("token ci", scopes.to_vec()));
        assert!(
            platform
                .store
                .token(&minted.id)
                .unwrap()
                .unwrap()
                .used_ms
                .is_some()
        );
        let mut wrong = text.to_owned();
        let last = wrong.pop().unwrap();
        wrong.push(if last == 'A' { 'B' } else { 'A' });
        for other in [
            wrong.as_str(),
            "",
            "ast_",
            "ast_0000000000000000_x",
            &text[..text.len() - 1],
        ] {
            assert_eq!(platform.authenticate(other).unwrap(), None, "{other}");
        }
        platform.store.token_revoke("ci", now_ms()).unwrap();
        assert_eq!(platform.authenticate(text).unwrap(), None);
        let past = platform
            .mint(TokenKind::Named, "old", &scopes, Some(now_ms() - 1))
            .unwrap();
        assert_eq!(platform.authenticate(past.token.expose()).unwrap(), None);
    }

    #[test]
    fn the_store_holds_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        let minted = platform
            .mint(TokenKind::Named, "ci", &[Scope::Admin], None)
            .unwrap();
        let secret = minted.token.expose().as_bytes();
        for entry in std::fs::read_dir(folder.path().join("state/control")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }

    #[test]
    fn both_schemes_present_the_same_token() {
        let header = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", value.parse().unwrap());
            presented(&headers).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(header("Bearer ast_x").as_deref(), Some("ast_x"));
        assert_eq!(header("bearer  ast_x").as_deref(), Some("ast_x"));
        // `git:ast_x`
        assert_eq!(header("Basic Z2l0OmFzdF94").as_deref(), Some("ast_x"));
        assert_eq!(header("Basic !!"), None);
        assert_eq!(header("Digest x"), None);
    }

    #[test]
    fn a_refusal_is_in_the_audit_chain() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        let bearer = Principal::new("token ci", vec![Scope::Read]);
        platform.allow(&bearer, &Scope::Read, "status").unwrap();
        assert_eq!(platform.audit_list(10).unwrap(), []);
        platform.allow(&bearer, &Scope::Admin, "up staging").unwrap_err();
        let entries = platform.audit_list(10).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (
                entries[0].actor.as_str(),
                entries[0].action.as_str(),
                entries[0].subject.as_str()
            ),
            ("token ci", "refused", "up staging")
        );
    }
}
