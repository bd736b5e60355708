//! Who may do what: access keys, their buckets, and names in the application's and in the store's words.

use astraler_model::{DataSnapshot, S3Credential};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::{S3Result, s3_error};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Headers that would change what is stored or who may see it, and that nothing here honours.
const UNSUPPORTED: [&str; 8] = [
    "x-amz-server-side-encryption",
    "x-amz-copy-source-server-side-encryption",
    "x-amz-tagging",
    "x-amz-object-lock",
    "x-amz-bucket-object-lock",
    "x-amz-grant-",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
];

/// Reads the access keys from the current snapshot.
#[derive(Clone)]
pub(super) struct Access {
    source: watch::Receiver<Arc<DataSnapshot>>,
}

/// What an access key reaches.
pub(super) struct Reach {
    /// The application's names, and those of the store.
    buckets: BTreeMap<String, String>,
    credential: S3Credential,
}

impl Access {
    pub(super) fn new(source: watch::Receiver<Arc<DataSnapshot>>) -> Self {
        Self { source }
    }

    fn find(&self, access_key: &str) -> Option<Reach> {
        let snapshot = Arc::clone(&self.source.borrow());
        snapshot.environments.values().find_map(|environment| {
            let credential = environment
                .s3_credentials
                .iter()
                .find(|credential| credential.access_key_id == access_key)?;
            Some(Reach {
                buckets: environment.buckets.clone(),
                credential: credential.clone(),
            })
        })
    }

    /// What the signer of a request reaches.
    pub(super) fn reach(&self, credentials: Option<&Credentials>) -> S3Result<Reach> {
        let credentials = credentials.ok_or_else(|| s3_error!(AccessDenied, "the request is not signed"))?;
        self.find(&credentials.access_key)
            .ok_or_else(|| s3_error!(InvalidAccessKeyId))
    }

    /// The store's name of a bucket that the signer may read, or write.
    pub(super) fn bucket(
        &self,
        credentials: Option<&Credentials>,
        name: &str,
        write: bool,
    ) -> S3Result<String> {
        self.reach(credentials)?.bucket(name, write)
    }
}

impl Reach {
    fn bucket(&self, name: &str, write: bool) -> S3Result<String> {
        let store_name = self.buckets.get(name).ok_or_else(|| s3_error!(NoSuchBucket))?;
        match self
            .credential
            .buckets
            .iter()
            .find(|grant| grant.bucket == *store_name)
        {
            Some(grant) if grant.write || !write => Ok(store_name.clone()),
            Some(_) => Err(s3_error!(
                AccessDenied,
                "this access key may only read the bucket"
            )),
            None => Err(s3_error!(
                AccessDenied,
                "this access key does not reach the bucket"
            )),
        }
    }

    /// The application's names of the buckets it reaches, with those of the store.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (&String, &String)> {
        let granted = |name: &String| self.credential.buckets.iter().any(|grant| grant.bucket == *name);
        self.buckets
            .iter()
            .filter(move |(_, store_name)| granted(store_name))
    }
}

#[async_trait::async_trait]
impl S3Auth for Access {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let reach = self
            .find(access_key)
            .ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
        Ok(SecretKey::from(reach.credential.secret_access_key))
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    /// Signed requests only, and none that asks for what is not there.
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        self.reach(context.credentials())?;
        for (name, value) in context.headers() {
            let name = name.as_str();
            let private = name == "x-amz-acl" && value.as_bytes() == b"private";
            if UNSUPPORTED.iter().any(|start| name.starts_with(start)) || (name == "x-amz-acl" && !private) {
                return Err(s3_error!(NotImplemented, "header {name} is not implemented"));
            }
        }
        let version = context
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == "versionId");
        if version.is_some_and(|(_, version)| version != "null") {
            return Err(s3_error!(NotImplemented, "versions are not implemented"));
        }
        Ok(())
    }
}
