//! Seal, open, rotate and redact secrets under the root key.
//!
//! For: `control` (which seals what it generates and opens what a unit is granted) and whoever writes text that
//! a person or a log may see (the [`Redactor`]). Small on purpose: a reviewer should read it in one sitting.
//!
//! The envelope: a data key for each version of each secret, wrapped by the key of its scope (an environment,
//! or `platform`), wrapped by the root key. XChaCha20-Poly1305 everywhere, with the scope, name and version as
//! associated data, so that no ciphertext can stand in for another. Rotating the root key or a scope's key
//! rewraps the layer below and touches no secret; rotating a secret makes a new version.
//!
//! Against the loss of the machine, the root key is sealed to a recovery key of which three people hold a share each
//! ([`RecoveryKey`]).
//!
//! It does not know: where ciphertexts are kept (`store`), who may have a secret, what the secrets are for, or
//! the clock. It holds plain text only inside [`Secret`], which is wiped when dropped and prints as
//! `[redacted]`. It does not lock memory or turn off core dumps: that is set for the process that holds the root key.

mod envelope;
mod random;
mod recovery;
mod redact;
mod root_key;
mod secret;

pub use envelope::{EnvelopeError, EnvironmentKey, Sealed, Vault, WrappedKey};
pub use random::{generate_password, generate_token};
pub use recovery::{Recipient, RecoveryKey, RecoveryKeyError, SHARES, Share, THRESHOLD};
pub use redact::Redactor;
pub use root_key::{RootKey, RootKeyError};
pub use secret::{Secret, constant_time_eq};
