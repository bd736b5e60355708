//! Root key → key of a scope → data key of one version → plain text.
//!
//! Layout of a wrapped key: format 1 (1 byte), id of the wrapping key (8), nonce (24), key and tag (48).
//! Layout of a sealed secret: a wrapped data key, nonce (24), text and tag.

use crate::root_key::key_id;
use crate::{RootKey, Secret, random};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

const FORMAT: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;
const HEADER: usize = 1 + 8;
const WRAPPED: usize = HEADER + NONCE + 32 + TAG;
const MAX_PLAINTEXT: usize = 1 << 20;
const MAX_NAME: usize = 256;

/// Opens and seals for the scopes whose keys were handed to it. Keys stay in memory, wiped when dropped.
pub struct Vault {
    root: RootKey,
    keys: BTreeMap<String, EnvironmentKey>,
}

/// The key of a scope: it wraps the data keys of that scope's secrets.
pub struct EnvironmentKey {
    bytes: Box<Zeroizing<[u8; 32]>>,
}

/// An [`EnvironmentKey`] under the root key: safe to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

/// One version of a secret under the key of its scope: safe to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// Why something was not sealed or opened. Tells nothing about keys or plain text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The vault was not given the key of this scope.
    #[error("the vault holds no key for `{scope}`")]
    NoKey {
        /// The scope.
        scope: String,
    },
    /// The ciphertext names another key than the one at hand.
    #[error(
        "{what} is under key {needs}, but key {has} is at hand: was a key rotated or restored from elsewhere?"
    )]
    WrongKey {
        /// What was to be opened.
        what: String,
        /// The id of the key that it names.
        needs: String,
        /// The id of the key at hand.
        has: String,
    },
    /// The ciphertext was altered, or belongs to another scope, name or version.
    #[error("{what} is damaged, or is not what it is stored as")]
    Damaged {
        /// What was to be opened.
        what: String,
    },
    /// A scope or name that is empty or too long, or a text over 1 MiB.
    #[error("{what} cannot be sealed: {reason}")]
    Refused {
        /// What was to be sealed.
        what: String,
        /// Why.
        reason: &'static str,
    },
}

impl Vault {
    /// A vault without any scope's key yet.
    pub fn new(root: RootKey) -> Self {
        Self {
            root,
            keys: BTreeMap::new(),
        }
    }

    /// The root key's id, as in [`RootKey::id`].
    pub fn root_id(&self) -> String {
        self.root.id()
    }

    /// Makes a key for a scope and returns it wrapped, to be stored before anything is sealed with it. A key
    /// that the vault held for the scope is replaced.
    pub fn create_key(&mut self, scope: &str) -> Result<WrappedKey, EnvelopeError> {
        let wrapped = EnvironmentKey::create(&self.root, scope)?;
        self.add_key(scope, &wrapped)?;
        Ok(wrapped)
    }

    /// Takes in the stored key of a scope.
    pub fn add_key(&mut self, scope: &str, wrapped: &WrappedKey) -> Result<(), EnvelopeError> {
        let key = EnvironmentKey::unwrap(&self.root, scope, wrapped)?;
        self.keys.insert(scope.to_owned(), key);
        Ok(())
    }

    /// Makes another key for a scope, which the vault does not use yet: it is stored first, together with everything that
    /// is under the key before, [rewrapped](Vault::rewrap); then [`Vault::add_key`] takes it in.
    pub fn new_key(&self, scope: &str) -> Result<(WrappedKey, EnvironmentKey), EnvelopeError> {
        let wrapped = EnvironmentKey::create(&self.root, scope)?;
        let key = EnvironmentKey::unwrap(&self.root, scope, &wrapped)?;
        Ok((wrapped, key))
    }

    /// The stored key of a scope under another root key.
    pub fn rewrap_key(
        &self,
        scope: &str,
        wrapped: &WrappedKey,
        new: &RootKey,
    ) -> Result<WrappedKey, EnvelopeError> {
        EnvironmentKey::rewrap(&self.root, new, scope, wrapped)
    }

    /// Uses another root key, under which every stored key is by now. Keys of scopes stay what they are.
    pub fn replace_root(&mut self, new: RootKey) {
        self.root = new;
    }

    /// Forgets the key of a scope whose secrets are gone, so that nothing is sealed under it any more.
    pub fn remove_key(&mut self, scope: &str) {
        self.keys.remove(scope);
    }

    /// Whether the vault holds the key of a scope.
    pub fn has_key(&self, scope: &str) -> bool {
        self.keys.contains_key(scope)
    }

    /// Seals one version of a secret.
    pub fn seal(
        &self,
        scope: &str,
        name: &str,
        version: u64,
        plaintext: &Secret,
    ) -> Result<Sealed, EnvelopeError> {
        let what = what(scope, name, version);
        check_names(&[scope, name], &what)?;
        if plaintext.expose().len() > MAX_PLAINTEXT {
            return Err(EnvelopeError::Refused {
                what,
                reason: "it is larger than 1 MiB",
            });
        }
        let key = self.key(scope)?;
        let mut data_key = Zeroizing::new([0; 32]);
        random::fill(&mut *data_key);
        let mut sealed = wrap(
            &key.bytes,
            &data_key,
            &data_key_context(scope, name, version),
            &what,
        )?;
        sealed.extend(encrypt(
            &data_key,
            plaintext.expose().as_bytes(),
            &text_context(scope, name, version),
            &what,
        )?);
        Ok(Sealed(sealed))
    }

    /// Opens one version of a secret. Scope, name and version must be those it was sealed as.
    pub fn open(
        &self,
        scope: &str,
        name: &str,
        version: u64,
        sealed: &Sealed,
    ) -> Result<Secret, EnvelopeError> {
        let what = what(scope, name, version);
        let damaged = || EnvelopeError::Damaged { what: what.clone() };
        let (wrapped, text) = sealed.0.split_at_checked(WRAPPED).ok_or_else(damaged)?;
        let data_key = unwrap(
            &self.key(scope)?.bytes,
            wrapped,
            &data_key_context(scope, name, version),
            &what,
        )?;
        let mut bytes = decrypt(&data_key, text, &text_context(scope, name, version), &what)?;
        let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            damaged()
        })?;
        Ok(Secret::new(text))
    }

    /// The same secret under a new key of its scope; the text itself is not touched.
    pub fn rewrap(
        &self,
        scope: &str,
        name: &str,
        version: u64,
        sealed: &Sealed,
        new: &EnvironmentKey,
    ) -> Result<Sealed, EnvelopeError> {
        let what = what(scope, name, version);
        let context = data_key_context(scope, name, version);
        let (wrapped, text) = sealed
            .0
            .split_at_checked(WRAPPED)
            .ok_or_else(|| EnvelopeError::Damaged { what: what.clone() })?;
        let data_key = unwrap(&self.key(scope)?.bytes, wrapped, &context, &what)?;
        let mut rewrapped = wrap(&new.bytes, &data_key, &context, &what)?;
        rewrapped.extend_from_slice(text);
        Ok(Sealed(rewrapped))
    }

    fn key(&self, scope: &str) -> Result<&EnvironmentKey, EnvelopeError> {
        self.keys.get(scope).ok_or_else(|| EnvelopeError::NoKey {
            scope: scope.to_owned(),
        })
    }
}

impl EnvironmentKey {
    /// Makes a key for a scope, wrapped by the root key.
    pub fn create(root: &RootKey, scope: &str) -> Result<WrappedKey, EnvelopeError> {
        let what = format!("the key of `{scope}`");
        check_names(&[scope], &what)?;
        let mut key = Zeroizing::new([0; 32]);
        random::fill(&mut *key);
        wrap(root.expose(), &key, &key_context(scope), &what).map(WrappedKey)
    }

    /// Opens the wrapped key of a scope.
    pub fn unwrap(root: &RootKey, scope: &str, wrapped: &WrappedKey) -> Result<Self, EnvelopeError> {
        let what = format!("the key of `{scope}`");
        let bytes = unwrap(root.expose(), &wrapped.0, &key_context(scope), &what)?;
        Ok(Self {
            bytes: Box::new(bytes),
        })
    }

    /// The same key under a new root key: what a rotation of the root key does, once for each scope.
    pub fn rewrap(
        old: &RootKey,
        new: &RootKey,
        scope: &str,
        wrapped: &WrappedKey,
    ) -> Result<WrappedKey, EnvelopeError> {
        let key = Self::unwrap(old, scope, wrapped)?;
        let what = format!("the key of `{scope}`");
        wrap(new.expose(), &key.bytes, &key_context(scope), &what).map(WrappedKey)
    }

    /// A name for the key that tells nothing about it.
    pub fn id(&self) -> String {
        hex::encode(key_id(&self.bytes))
    }
}

impl WrappedKey {
    /// The id of the root key that it is under, as [`RootKey::id`]; `None` when it is no wrapped key.
    pub fn wrapped_by(&self) -> Option<String> {
        (self.0.len() == WRAPPED && self.0[0] == FORMAT).then(|| hex::encode(&self.0[1..HEADER]))
    }
}

macro_rules! ciphertext {
    ($name:ident) => {
        impl $name {
            /// Takes bytes as they were stored; nothing is checked before they are opened.
            pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
                Self(bytes.into())
            }

            /// The bytes to store.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }
    };
}
ciphertext!(WrappedKey);
ciphertext!(Sealed);

impl fmt::Debug for EnvironmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvironmentKey({}, [redacted])", self.id())
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("root", &self.root)
            .field("keys", &self.keys)
            .finish()
    }
}

fn wrap(wrapping: &[u8; 32], key: &[u8; 32], context: &[u8], what: &str) -> Result<Vec<u8>, EnvelopeError> {
    let mut wrapped = Vec::with_capacity(WRAPPED);
    wrapped.push(FORMAT);
    wrapped.extend(key_id(wrapping));
    wrapped.extend(encrypt(wrapping, key, context, what)?);
    Ok(wrapped)
}

fn unwrap(
    wrapping: &[u8; 32],
    wrapped: &[u8],
    context: &[u8],
    what: &str,
) -> Result<Zeroizing<[u8; 32]>, EnvelopeError> {
    let damaged = || EnvelopeError::Damaged {
        what: what.to_owned(),
    };
    if wrapped.len() != WRAPPED || wrapped[0] != FORMAT {
        return Err(damaged());
    }
    let (needs, has) = (&wrapped[1..HEADER], key_id(wrapping));
    if needs != has {
        return Err(EnvelopeError::WrongKey {
            what: what.to_owned(),
            needs: hex::encode(needs),
            has: hex::encode(has),
        });
    }
    let bytes = decrypt(wrapping, &wrapped[HEADER..], context, what)?;
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return Err(damaged());
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// A random nonce of 24 bytes, then the ciphertext with its tag.
fn encrypt(key: &[u8; 32], text: &[u8], context: &[u8], what: &str) -> Result<Vec<u8>, EnvelopeError> {
    let mut nonce = [0; NONCE];
    random::fill(&mut nonce);
    let ciphertext = XChaCha20Poly1305::new(Key::from_slice(key))
        .encrypt(
            XNonce::from_slice(&nonce),
            Payload {
                msg: text,
                aad: context,
            },
        )
        .map_err(|_| EnvelopeError::Refused {
            what: what.to_owned(),
            reason: "it is too large",
        })?;
    let mut all = Vec::with_capacity(NONCE + ciphertext.len());
    all.extend(nonce);
    all.extend(ciphertext);
    Ok(all)
}

fn decrypt(
    key: &[u8; 32],
    nonce_and_text: &[u8],
    context: &[u8],
    what: &str,
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let damaged = || EnvelopeError::Damaged {
        what: what.to_owned(),
    };
    let (nonce, text) = nonce_and_text.split_at_checked(NONCE).ok_or_else(damaged)?;
    XChaCha20Poly1305::new(Key::from_slice(key))
        .decrypt(
            XNonce::from_slice(nonce),
            Payload {
                msg: text,
                aad: context,
            },
        )
        .map(Zeroizing::new)
        .map_err(|_| damaged())
}

fn key_context(scope: &str) -> Vec<u8> {
    context("astraler environment key 1", &[scope], 0)
}

fn data_key_context(scope: &str, name: &str, version: u64) -> Vec<u8> {
    context("astraler data key 1", &[scope, name], version)
}

fn text_context(scope: &str, name: &str, version: u64) -> Vec<u8> {
    context("astraler secret 1", &[scope, name], version)
}

/// Every field behind its length, so that no two different lists give the same bytes.
fn context(domain: &str, fields: &[&str], version: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in std::iter::once(&domain).chain(fields) {
        bytes.extend((field.len() as u64).to_be_bytes());
        bytes.extend(field.as_bytes());
    }
    bytes.extend(version.to_be_bytes());
    bytes
}

fn what(scope: &str, name: &str, version: u64) -> String {
    format!("secret `{name}` of `{scope}`, version {version}")
}

fn check_names(names: &[&str], what: &str) -> Result<(), EnvelopeError> {
    if names.iter().all(|name| (1..=MAX_NAME).contains(&name.len())) {
        Ok(())
    } else {
        Err(EnvelopeError::Refused {
            what: what.to_owned(),
            reason: "a scope or name has 1 to 256 bytes",
        })
    }
}
