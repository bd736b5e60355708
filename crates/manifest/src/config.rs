//! The shape of `astraler.toml`: types, defaults and descriptions. Everything else follows from here: the schema,
//! the checks, the reference.
//!
//! A key marked `planned` is part of the shape, but nothing makes it effective yet: it is refused.

mod alerts;
mod backups;
mod cache;
mod dns;
mod lists;
mod pipeline;
mod planned;
mod release;
pub(crate) mod rules;
mod secrets;
mod signals;
mod storage;
mod tls;
mod waf;

pub use alerts::{
    AlertChannel, AlertSeverity, Alerts, EmailSettings, MailTls, PagerDutySettings, SlackSettings,
};
pub use backups::Backups;
pub(crate) use backups::Recovery;
pub(crate) use cache::Cache;
pub use dns::{Dns, Resolver, Secondary};
pub use lists::List;
pub(crate) use pipeline::Pipeline;
pub(crate) use planned::*;
pub(crate) use release::ReleaseSettings;
pub use secrets::{RequiredSecret, Secrets};
pub use signals::Signals;
pub(crate) use storage::Storage;
pub use tls::{AcmeChallenge, HttpsOnly, Tls};
pub use waf::INSTALLED_RULES;
pub(crate) use waf::Waf;

pub use astraler_model::EnvironmentKind;
use astraler_model::{
    AccessRule, BranchPattern, ClientIpHeader, Coding, Compression, Environment, ErrorPages, FieldName,
    FieldValue, HeaderRule, HtmlHandling, Network, NotFoundHandling, RateRule, UnderAttack,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// What `astraler.toml` says. It holds only what no other file says: `wrangler.jsonc`, `supabase/config.toml` and
/// `.github/workflows` are read as they stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the application: lower-case letters, digits and `-`.
    pub name: String,
    /// The product's domain, for example `shop.example`: production is `app.<domain>`.
    pub domain: String,
    /// What differs between the environments.
    #[serde(default)]
    pub environments: Environments,
    /// The edge: listeners and limits.
    #[serde(default)]
    pub edge: Edge,
    /// How workers run.
    #[serde(default)]
    pub runtime: Runtime,
    /// The workers, by name.
    #[serde(default)]
    pub workers: BTreeMap<String, WorkerSettings>,
    /// Static assets.
    #[serde(default)]
    pub assets: Assets,
    /// The application's own build.
    #[serde(default)]
    pub build: Build,
    /// How a deployment takes over from the one before.
    #[serde(default)]
    pub deploy: Deploy,
    /// PostgreSQL.
    #[serde(default)]
    pub database: Database,
    /// Redis.
    #[serde(default)]
    pub redis: Redis,
    /// Object storage.
    #[serde(default)]
    pub storage: Storage,
    /// The delivery pipeline and its gates.
    #[serde(default)]
    pub pipeline: Pipeline,
    /// How releases are kept and verified.
    #[serde(default)]
    pub release: ReleaseSettings,
    /// Metrics, logs and errors.
    #[serde(default)]
    pub signals: Signals,
    /// Rules, severities and channels.
    #[serde(default)]
    pub alerts: Alerts,
    /// How far things grow.
    #[serde(default)]
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub scaling: Scaling,
    /// What is backed up, when, and where to.
    #[serde(default)]
    pub backups: Backups,
    /// Restores and their drills.
    #[serde(default)]
    pub recovery: Recovery,
    /// Which secrets must be there, and how old they may be.
    #[serde(default)]
    pub secrets: Secrets,
    /// What takes two steps to destroy.
    #[serde(default)]
    pub protection: Protection,
    /// The console in the browser.
    #[serde(default)]
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub console: Console,
    /// Accounts of the cloud target.
    #[serde(default)]
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub cloud: Cloud,
}

impl Config {
    /// Further host names of an environment.
    pub fn hosts(&self, environment: Environment) -> &[String] {
        self.environments.of(environment).hosts
    }
}

/// The four environments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Environments {
    /// `localhost:3000`.
    pub development: EnvironmentSettings,
    /// `pr-N.preview.<domain>`: the same for every preview.
    pub preview: PreviewSettings,
    /// `staging.<domain>`.
    pub staging: EnvironmentSettings,
    /// `app.<domain>`.
    pub production: EnvironmentSettings,
}

impl Environments {
    /// The environment that a branch is deployed to.
    pub fn of_branch(&self, branch: &str) -> Option<Environment> {
        [
            Environment::Production,
            Environment::Staging,
            Environment::Development,
        ]
        .into_iter()
        .find(|environment| self.takes(*environment, branch))
    }

    /// Whether a branch is deployed to an environment; for a preview, whether its pull requests get one.
    pub fn takes(&self, environment: Environment, branch: &str) -> bool {
        let (named, usual) = match environment {
            Environment::Development => (&self.development.branches, "feature/**"),
            Environment::Staging => (&self.staging.branches, "develop"),
            Environment::Production => (&self.production.branches, "main"),
            Environment::Preview(_) => (&self.preview.branches, "**"),
        };
        match named {
            Some(named) => named.iter().any(|pattern| pattern.matches(branch)),
            None => BranchPattern::new(usual).is_ok_and(|pattern| pattern.matches(branch)),
        }
    }

    /// For how long a new deployment is watched; 0 is not at all.
    pub fn watch_minutes(&self, environment: Environment) -> u32 {
        let (said, usual) = match environment {
            Environment::Development => (self.development.watch_minutes, 0),
            Environment::Staging => (self.staging.watch_minutes, 0),
            Environment::Production => (self.production.watch_minutes, 10),
            Environment::Preview(_) => (None, 0),
        };
        said.unwrap_or(usual)
    }

    /// Whether an environment's buckets go to the second location. A preview's never do: its data is a copy.
    pub fn replicates(&self, environment: Environment) -> bool {
        let (said, usual) = match environment {
            Environment::Development => (self.development.replicate_storage, false),
            Environment::Staging => (self.staging.replicate_storage, false),
            Environment::Production => (self.production.replicate_storage, true),
            Environment::Preview(_) => (None, false),
        };
        said.unwrap_or(usual)
    }

    /// The settings of one, as far as every kind has them.
    pub fn of(&self, environment: Environment) -> Common<'_> {
        let settings = match environment {
            Environment::Development => &self.development,
            Environment::Staging => &self.staging,
            Environment::Production => &self.production,
            Environment::Preview(_) => {
                return Common {
                    vars: &self.preview.vars,
                    hosts: &self.preview.hosts,
                };
            }
        };
        Common {
            vars: &settings.vars,
            hosts: &settings.hosts,
        }
    }
}

/// One environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnvironmentSettings {
    /// Variables of every worker in this environment; they win over those of `wrangler.jsonc`.
    pub vars: BTreeMap<String, String>,
    /// Further host names by which it is reached.
    pub hosts: Vec<String>,
    /// Branches that a push deploys here, with `*` (no `/`) and `**`. Absent: `feature/**` for development, `develop` for
    /// staging, `main` for production. A branch that several have goes to the last of these.
    #[schemars(with = "Option<Vec<String>>")]
    pub branches: Option<Vec<BranchPattern>>,
    /// Where it runs: `local` or `cloud`.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub target: Target,
    /// Whether its data takes two steps to destroy.
    pub protected: bool,
    /// Minutes for which a new deployment is watched: when it fails critically more often than the one before, it is rolled
    /// back by itself. 0 is never. Absent: 10 for production, 0 for the others.
    #[schemars(range(max = 1440))]
    pub watch_minutes: Option<u32>,
    /// Whether its buckets go to `storage.replication_url`. Absent: production's do.
    pub replicate_storage: Option<bool>,
}

/// Every preview.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PreviewSettings {
    /// Variables of every worker in a preview; they win over those of `wrangler.jsonc`.
    pub vars: BTreeMap<String, String>,
    /// Further host names by which it is reached; `{number}` stands for the pull request's number.
    pub hosts: Vec<String>,
    /// Branches whose pull requests get a preview, with `*` (no `/`) and `**`. Absent: all.
    #[schemars(with = "Option<Vec<String>>")]
    pub branches: Option<Vec<BranchPattern>>,
    /// Where it runs: `local` or `cloud`.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub target: Target,
    /// Whether its data takes two steps to destroy.
    pub protected: bool,
    /// Hours without a request after which a preview is removed with all its data.
    #[schemars(range(min = 1))]
    pub ttl_hours: Option<u32>,
    /// Minutes without a request after which a preview's workers and Redis stop; the next request wakes them. 0 is never.
    pub idle_sleep_minutes: u32,
}

impl Default for PreviewSettings {
    fn default() -> Self {
        Self {
            vars: BTreeMap::new(),
            hosts: vec![],
            branches: None,
            target: Target::default(),
            protected: false,
            ttl_hours: None,
            idle_sleep_minutes: 15,
        }
    }
}

/// What every kind of environment has.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    /// Variables.
    pub vars: &'a BTreeMap<String, String>,
    /// Further host names.
    pub hosts: &'a [String],
}

/// Where https is served when the manifest names no port.
pub const HTTPS_PORT: u16 = 3443;

/// The edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Edge {
    /// Port for HTTP.
    pub http_port: u16,
    /// Addresses to listen on.
    pub listen_addresses: Vec<IpAddr>,
    /// Limits on what clients may send, and how slowly.
    pub limits: EdgeLimits,
    /// Port for HTTPS and HTTP/3. Where 3443 is taken, the next free one is used; any other port must be free.
    #[schemars(range(min = 1))]
    pub https_port: u16,
    /// Certificates, and which names are served over https only.
    pub tls: Tls,
    /// Authoritative DNS.
    pub dns: Dns,
    /// The cache (RFC 9111).
    pub cache: Cache,
    /// The web application firewall.
    pub waf: Waf,
    /// Lists that its custom rules name.
    pub lists: BTreeMap<String, List>,
    /// Networks whose machines stand in front of the edge and may say who the client is.
    pub trusted_proxies: Vec<Network>,
    /// The field in which they say it.
    pub client_ip_header: ClientIpHeader,
    /// Networks of balancers that begin every connection with the PROXY protocol (version 1 or 2), which says who the
    /// client is. Connections from elsewhere are clients' own.
    pub proxy_protocol: Vec<Network>,
    /// Hosts for administrators; `*` stands for any characters. `allow_list` says who reaches them.
    pub admin_hosts: Vec<String>,
    /// Networks that may reach the admin hosts, in CIDR form; all when empty.
    pub allow_list: Vec<Network>,
    /// Who may reach other hosts or paths. All rules that are about a request must allow its client.
    pub access: Vec<AccessRule>,
    /// How often clients may ask.
    pub rate_rules: Vec<RateRule>,
    /// What is different after `astraler attack-mode on`.
    pub under_attack: UnderAttack,
    /// Content codings offered to clients, the most wanted first; none when empty.
    pub compression: Vec<Coding>,
    /// Smaller answers are not compressed.
    pub compression_min_bytes: u64,
    /// Header fields set on every response.
    pub headers: BTreeMap<FieldName, FieldValue>,
    /// Header fields of responses to some requests, after `headers`.
    pub header_rules: Vec<HeaderRule>,
    /// By status (`404`, `5xx`): the file of the assets that browsers get when the edge itself answers with an error.
    pub error_pages: ErrorPages,
}

impl Default for Edge {
    fn default() -> Self {
        let compression = Compression::default();
        Self {
            http_port: 3000,
            listen_addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            limits: EdgeLimits::default(),
            https_port: HTTPS_PORT,
            tls: Tls::default(),
            dns: Dns::default(),
            cache: Cache::default(),
            waf: Waf::default(),
            lists: BTreeMap::new(),
            trusted_proxies: vec![],
            proxy_protocol: vec![],
            client_ip_header: ClientIpHeader::default(),
            admin_hosts: vec!["admin.*".into(), "console.*".into()],
            allow_list: vec![],
            access: vec![],
            rate_rules: vec![],
            under_attack: UnderAttack::default(),
            compression: compression.codings,
            compression_min_bytes: compression.min_bytes,
            headers: BTreeMap::new(),
            header_rules: vec![],
            error_pages: ErrorPages::new(),
        }
    }
}

/// Limits of the edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeLimits {
    /// Bytes of a request's head.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub max_header_bytes: usize,
    /// Header fields of a request.
    #[schemars(range(min = 8, max = 1000))]
    pub max_headers: usize,
    /// Bytes of a request's target.
    #[schemars(range(min = 256, max = 65_536))]
    pub max_uri_bytes: usize,
    /// Time for a whole head, however its bytes arrive.
    #[schemars(range(min = 100))]
    pub header_timeout_ms: u64,
    /// Time a connection may be idle between requests.
    #[schemars(range(min = 100))]
    pub idle_timeout_ms: u64,
    /// Time without a byte of a body, in either direction.
    #[schemars(range(min = 100))]
    pub body_idle_timeout_ms: u64,
    /// Bytes of a request's body.
    pub max_body_bytes: u64,
    /// Connections at once.
    #[schemars(range(min = 1))]
    pub max_connections: usize,
    /// Connections of one client (an IPv4 address, an IPv6 /64) at once; 0 is any number.
    pub max_connections_per_client: u32,
    /// Memory of the edge's process; from 85 % on, load is shed with 503 and `Retry-After`. 0 is no budget.
    pub max_memory_bytes: u64,
    /// Time to connect to a worker.
    #[schemars(range(min = 1))]
    pub upstream_connect_timeout_ms: u64,
    /// Time until a worker's response begins.
    #[schemars(range(min = 1))]
    pub upstream_timeout_ms: u64,
    /// Time that requests in flight get when the edge ends.
    pub drain_ms: u64,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_uri_bytes: 8 << 10,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            body_idle_timeout_ms: 30_000,
            max_body_bytes: 100 << 20,
            max_connections: 10_000,
            max_connections_per_client: 1_024,
            max_memory_bytes: 1 << 30,
            upstream_connect_timeout_ms: 5_000,
            upstream_timeout_ms: 60_000,
            drain_ms: 10_000,
        }
    }
}

/// How workers run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    /// What fences workerd in; `off` only where the code is trusted.
    pub sandbox: Sandbox,
}

/// The fence around workerd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// bubblewrap: no network, no file system but its own.
    #[default]
    Bubblewrap,
    /// None.
    Off,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerSettings {
    /// Its folder, with `wrangler.jsonc`, `wrangler.json` or `wrangler.toml`.
    pub path: PathBuf,
    /// Paths that it answers, for example `/api/*`.
    #[serde(default)]
    pub routes: Vec<String>,
    /// Memory of its process; those of one deployment are added up.
    #[serde(default)]
    #[schemars(range(min = 33_554_432))]
    pub memory_bytes: Option<u64>,
    /// CPU time for one request.
    #[serde(default)]
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub cpu_ms: Option<u64>,
    /// Processes at least.
    #[serde(default)]
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub min_instances: Option<u32>,
    /// Processes at most.
    #[serde(default)]
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub max_instances: Option<u32>,
}

/// Static assets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Assets {
    /// Folder that holds them after the build.
    pub directory: Option<PathBuf>,
    /// How paths map to HTML files, in wrangler's words.
    pub html_handling: HtmlHandling,
    /// What answers a path without a file, in wrangler's words.
    pub not_found_handling: NotFoundHandling,
}

/// The application's own build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Build {
    /// Command run in the application's folder before workers are bundled, for example `pnpm build`.
    pub command: Option<String>,
}

/// How a deployment takes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Deploy {
    /// Path that must answer with a status below 400 before a deployment gets requests; without one, any answer of each
    /// worker but a server error will do.
    pub health_path: Option<String>,
    /// Time in which that must happen.
    #[schemars(range(min = 100, max = 600_000))]
    pub health_timeout_ms: u64,
    /// Time that requests and WebSockets of the deployment before get to end.
    #[schemars(range(max = 600_000))]
    pub drain_ms: u64,
}

impl Default for Deploy {
    fn default() -> Self {
        Self {
            health_path: None,
            health_timeout_ms: 10_000,
            drain_ms: 30_000,
        }
    }
}

/// PostgreSQL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// Folder of the SQL migrations, `NNNN_name.sql`.
    pub migrations: String,
    /// Server connections of an environment's pool.
    #[schemars(range(min = 1, max = 1000))]
    pub pool_size: u32,
    /// Connections that a cluster accepts.
    #[schemars(range(min = 10, max = 5000))]
    pub max_connections: u32,
    /// Longest statement of the service role; 0 is no limit.
    pub statement_timeout_ms: u64,
    /// SQL script that makes staging's data fit for previews: it runs on the copy from which they are made.
    pub mask: Option<PathBuf>,
    /// Read replicas.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub replicas: u32,
    /// Extensions to create.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub extensions: Vec<String>,
    /// Major version that must be there.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub version: Option<u32>,
    /// An own PostgreSQL instead of ours.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub url_secret: Option<String>,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            migrations: "migrations".into(),
            pool_size: 20,
            max_connections: 100,
            statement_timeout_ms: 0,
            mask: None,
            replicas: 0,
            extensions: vec![],
            version: None,
            url_secret: None,
        }
    }
}

/// Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Memory for data in each environment.
    #[schemars(range(min = 1_048_576))]
    pub maxmemory_bytes: u64,
    /// What happens above it.
    pub maxmemory_policy: MaxmemoryPolicy,
    /// How often the append-only file is synced.
    pub appendfsync: Appendfsync,
    /// Nodes of a Redis Cluster, when one process is outgrown.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub cluster_nodes: u32,
    /// An own Redis instead of ours.
    #[schemars(extend("x-astraler-status" = "planned"))]
    pub url_secret: Option<String>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            maxmemory_bytes: 128 << 20,
            maxmemory_policy: MaxmemoryPolicy::default(),
            appendfsync: Appendfsync::default(),
            cluster_nodes: 0,
            url_secret: None,
        }
    }
}

/// <https://redis.io/docs/latest/develop/reference/eviction/>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "Redis's own words")]
pub enum MaxmemoryPolicy {
    #[default]
    Noeviction,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

impl fmt::Display for MaxmemoryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Noeviction => "noeviction",
            Self::AllkeysLru => "allkeys-lru",
            Self::AllkeysLfu => "allkeys-lfu",
            Self::AllkeysRandom => "allkeys-random",
            Self::VolatileLru => "volatile-lru",
            Self::VolatileLfu => "volatile-lfu",
            Self::VolatileRandom => "volatile-random",
            Self::VolatileTtl => "volatile-ttl",
        })
    }
}

/// <https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/>
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "Redis's own words")]
pub enum Appendfsync {
    Always,
    #[default]
    Everysec,
    No,
}

impl fmt::Display for Appendfsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
            Self::No => "no",
        })
    }
}

/// Protection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Protection {
    /// Environments whose data takes two steps to destroy: first the protection is applied away, then they go.
    pub environments: Vec<EnvironmentKind>,
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            environments: vec![EnvironmentKind::Production],
        }
    }
}
