//! What the daemon publishes to the data plane: immutable, versioned, complete. A process of the data plane
//! keeps the last good one and needs nothing else to serve.

use crate::{CacheBounds, CacheRules, EdgePolicy, Environment, Network, Origin};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All that `edge` needs to know. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EdgeSnapshot {
    /// Grows with every publication.
    pub version: u64,
    /// One for each environment that is up.
    pub routes: Vec<Route>,
    /// Certificates. A process that reads a snapshot of an older version has none.
    #[serde(default)]
    pub tls: crate::TlsSnapshot,
    /// How much the cache may hold.
    #[serde(default)]
    pub cache: CacheBounds,
    /// Balancers that begin every connection with the PROXY protocol.
    #[serde(default)]
    pub proxy_protocol: Vec<Network>,
}

/// Where requests for a set of hosts go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Lower-case host names without port; IPv6 in brackets. `*` is every host that no other route names.
    pub hosts: Vec<String>,
    /// The environment behind them.
    pub environment: Environment,
    /// Identifier of the deployment that serves, for the access log.
    pub deployment: String,
    /// Workers, by path. The longest matching prefix wins.
    pub workers: Vec<WorkerRoute>,
    /// Static assets of the release, if it has any: tried for GET and HEAD when no worker's prefix matches.
    pub assets: Option<AssetConfig>,
    /// Set while the workers sleep: before a request goes to one, the edge posts to this Unix socket
    /// (`POST /v1/wake/ENVIRONMENT`) and goes on with the routes that are there after the answer.
    #[serde(default)]
    pub wake: Option<PathBuf>,
    /// Rules of the environment.
    #[serde(default)]
    pub policy: EdgePolicy,
    /// How answers of the workers are cached; not at all when absent.
    #[serde(default)]
    pub cache: Option<CacheRules>,
}

/// Requests below a path go to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRoute {
    /// `/api` matches `/api` and everything below `/api/`; `/` matches everything.
    pub prefix: String,
    /// Name of the worker.
    pub worker: String,
    /// Where it answers HTTP/1.1.
    #[serde(alias = "socket")]
    pub origin: Origin,
}

/// Static assets, with the words of wrangler's `assets` key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetConfig {
    /// Folder of the release that holds them.
    pub directory: PathBuf,
    /// How paths map to HTML files.
    pub html_handling: HtmlHandling,
    /// What answers a path without a file.
    pub not_found_handling: NotFoundHandling,
}

/// <https://developers.cloudflare.com/workers/static-assets/routing/advanced/html-handling/>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HtmlHandling {
    /// `/foo` for `foo.html`, `/foo/` for `foo/index.html`; others are redirected there.
    #[default]
    AutoTrailingSlash,
    /// Always with a slash.
    ForceTrailingSlash,
    /// Never with a slash.
    DropTrailingSlash,
    /// Exact file names only.
    None,
}

/// <https://developers.cloudflare.com/workers/static-assets/routing/single-page-application/>
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub enum NotFoundHandling {
    /// `/index.html` with status 200.
    #[serde(rename = "single-page-application")]
    SinglePageApplication,
    /// The nearest `404.html` with status 404.
    #[serde(rename = "404-page")]
    NotFoundPage,
    /// An empty 404.
    #[default]
    #[serde(rename = "none")]
    None,
}

/// All that the `data` role needs. Holds credentials: it is written to the runtime folder only, readable by
/// the daemon and the role alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DataSnapshot {
    /// Grows with every publication.
    pub version: u64,
    /// What each environment's engines are reached with.
    pub environments: BTreeMap<Environment, DataEnvironment>,
    /// What the bearer of a binding token may do; the key is the token's hash.
    pub grants: BTreeMap<TokenHash, BindingGrant>,
}

/// SHA-256 of a token, in lower-case hex: a snapshot never holds the token itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenHash(pub String);

impl TokenHash {
    /// Hashes a token.
    pub fn of(token: &str) -> Self {
        use sha2::Digest;
        Self(hex::encode(sha2::Sha256::digest(token.as_bytes())))
    }
}

/// One environment's engines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataEnvironment {
    /// Its database.
    pub postgres: Option<PostgresAccess>,
    /// Its Redis.
    pub redis: Option<RedisAccess>,
    /// Its buckets, by the name the application uses; the value is the name in the store (unique in the platform).
    pub buckets: BTreeMap<String, String>,
    /// S3 access keys that reach those buckets.
    pub s3_credentials: Vec<S3Credential>,
    /// Where those buckets are replicated to, if anywhere.
    #[serde(default)]
    pub replication: Option<ReplicationTarget>,
}

/// A second location of buckets. The credentials stay in their file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationTarget {
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///folder`.
    pub url: String,
    /// Address of an S3 service that is not Amazon's.
    pub endpoint: Option<String>,
    /// File with the credentials, read by the role itself.
    pub credentials_file: Option<PathBuf>,
    /// Everything is kept below it: the platform's name.
    pub name: String,
    /// A folder on the device of what it protects is no second location, unless that is said.
    pub allow_same_device: bool,
}

/// How replication of an environment's buckets stands: an answer of the data role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationStanding {
    /// Which.
    pub environment: Environment,
    /// Where its buckets go.
    pub destination: String,
    /// Objects that wait.
    pub waiting: u64,
    /// How long the oldest of them has waited.
    pub lag_ms: u64,
    /// Why it does not go on.
    pub error: Option<String>,
    /// Objects that were sent since the process began.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When something was sent or deleted last, in milliseconds since the Unix epoch.
    pub last_ms: Option<u64>,
}

/// How the session pool reaches a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresAccess {
    /// Folder of the cluster's Unix socket.
    pub socket_directory: PathBuf,
    /// Its port: part of the socket's name.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// The least-privilege service role.
    pub user: String,
    /// Its password (SCRAM).
    pub password: String,
    /// Server connections the pool may open.
    pub pool_size: u32,
    /// Hash of the password that a worker presents to the pool: it never sees the real one.
    pub client_token: TokenHash,
}

/// How the REST API reaches a Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisAccess {
    /// Its Unix socket.
    pub socket: PathBuf,
    /// ACL user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Hash of the bearer token with every right.
    pub token: TokenHash,
    /// Hash of the read-only bearer token.
    pub read_only_token: TokenHash,
}

/// An S3 access key. The secret is needed in clear to check a signature (AWS Signature Version 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Credential {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Buckets (names in the store) it may use.
    pub buckets: Vec<BucketGrant>,
}

/// A right on a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketGrant {
    /// Name in the store.
    pub bucket: String,
    /// May write and delete.
    pub write: bool,
}

/// What the bearer of a token on the bindings socket may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingGrant {
    /// Its environment.
    pub environment: Environment,
    /// Its deployment, for logs.
    pub deployment: String,
    /// The one thing it may use.
    pub kind: BindingKind,
}

/// The kinds of binding that the bindings socket serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindingKind {
    /// workerd's native R2 protocol on one bucket (name in the store).
    R2 {
        /// Name in the store.
        bucket: String,
    },
}

/// What the signal role is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalSnapshot {
    /// Days that access records are kept.
    pub access_days: u32,
    /// Days of what workers wrote.
    pub application_days: u32,
    /// Days of errors.
    pub error_days: u32,
    /// Space of all of them.
    pub max_bytes: u64,
    /// Requests that take longer are slow.
    #[serde(default = "half_a_second")]
    pub slow_ms: u64,
    /// By deployment that may serve: the folder of its workers' bundles.
    #[serde(default)]
    pub bundles: BTreeMap<String, PathBuf>,
    /// What is asked whether it is up.
    pub probes: Vec<Probe>,
}

fn half_a_second() -> u64 {
    500
}

/// An environment, or one deployment of it, in the last so many seconds: whole minutes, at least so long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How long.
    pub seconds: u64,
    /// Requests that ended.
    pub requests: u64,
    /// Those answered with 500 or above.
    pub errors: u64,
    /// Those that took longer than the threshold that held when they ended.
    pub slow: u64,
    /// Time for which probes said that it was up.
    pub up_s: u64,
    /// Time for which they said that it was not.
    pub down_s: u64,
    /// Time in which somebody looked at its database connections.
    pub pool_s: u64,
    /// The fewest that were in use in all of that time, in thousandths of the limit.
    pub pool_least_permille: u64,
}

/// An environment as its users reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The environment.
    pub environment: Environment,
    /// The edge.
    pub address: std::net::SocketAddr,
    /// Its host name.
    pub host: String,
    /// What is asked for.
    pub path: String,
    /// The first status that is a failure.
    pub failing_from: u16,
    /// From these networks the edge expects the PROXY protocol: this machine may be in one of them.
    #[serde(default)]
    pub proxy_protocol: Vec<Network>,
}

/// Names that the egress gateway answers itself, by forwarding to a socket of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalHost {
    /// Host name, for example `redis.astraler.internal`.
    pub host: String,
    /// Unix socket that speaks HTTP/1.1.
    pub socket: PathBuf,
}
