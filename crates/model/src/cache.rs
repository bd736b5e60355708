//! How the edge caches: what a manifest or a configuration file says of it, as the edge takes it.

use serde::{Deserialize, Serialize};

/// How much the cache of one edge may hold, all sites together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheBounds {
    /// Memory tier, with what each response costs beside its content. 0: nothing is cached at all.
    pub memory_bytes: u64,
    /// Disk tier. 0: none.
    pub disk_bytes: u64,
    /// A response with more content is passed on and not stored.
    pub max_object_bytes: u64,
}

impl Default for CacheBounds {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            disk_bytes: 4 << 30,
            max_object_bytes: 16 << 20,
        }
    }
}

/// How answers of one site's workers are cached. The defaults are RFC 9111.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheRules {
    /// Paths that are never cached: exact, or everything below one that ends in `*`.
    pub bypass: Vec<String>,
    /// A request with one of these cookies is passed on.
    pub bypass_cookies: Vec<String>,
    /// A request with one of these header fields is passed on.
    pub bypass_headers: Vec<String>,
    /// Which parameters of the query make another page.
    pub query: CacheQuery,
    /// Whether their order is without meaning.
    pub sort_query: bool,
    /// Request fields whose values make another page, where the origin's `Vary` does not say so.
    pub key_headers: Vec<String>,
    /// Cookies whose values make another page.
    pub key_cookies: Vec<String>,
    /// For how long errors that are cacheable by themselves (404, 405, 410, 414, 501) are fresh where the origin says
    /// nothing. 0: not at all.
    pub negative_ttl_s: u64,
    /// Freshness where the origin says nothing, in percent of the time since `Last-Modified`. 0: none.
    pub heuristic_percent: u32,
    /// For how long a stale response may stand in while the worker gives no answer at all, where the origin does not
    /// prohibit it.
    pub stale_if_unreachable_s: u64,
    /// Whether clients may ask for newer or older than what is fresh (`Cache-Control` in requests).
    pub client_directives: bool,
    /// Whether a response with `Set-Cookie` may be stored without an explicit word of the origin that it is for
    /// everybody.
    pub store_cookies: bool,
}

/// Which parameters of the query count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheQuery {
    /// All of them.
    #[default]
    All,
    /// None.
    Nothing,
    /// Those of these names.
    Only(Vec<String>),
    /// Those of all other names.
    Except(Vec<String>),
}

impl Default for CacheRules {
    fn default() -> Self {
        Self {
            bypass: Vec::new(),
            bypass_cookies: Vec::new(),
            bypass_headers: Vec::new(),
            query: CacheQuery::All,
            sort_query: false,
            key_headers: Vec::new(),
            key_cookies: Vec::new(),
            negative_ttl_s: 0,
            heuristic_percent: 10,
            stale_if_unreachable_s: 3600,
            client_directives: true,
            store_cookies: false,
        }
    }
}

/// What shall be forgotten: the body of `POST /cache/purge` on the edge's status socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// Only what this environment answered; all of them when absent.
    #[serde(default)]
    pub environment: Option<crate::Environment>,
    /// What.
    pub what: Vec<PurgeWhat>,
}

/// One thing to forget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PurgeWhat {
    /// Everything.
    Everything,
    /// One URL with all its variants; without a scheme, of both schemes.
    Url(String),
    /// All URLs that begin with this host and path; a scheme before it does not count.
    Prefix(String),
    /// All URLs of a host, on any port.
    Host(String),
    /// All responses whose `Cache-Tag` names this.
    Tag(String),
}

/// The answer to a purge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Responses that were in memory and are gone. Those on disk are never used again, and are not counted.
    pub removed: u64,
}

/// How the cache stands: the body of `GET /cache` on the edge's status socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStanding {
    /// Responses in memory.
    pub entries: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub memory_bytes: u64,
    /// Answered without asking the worker.
    pub hits: u64,
    /// Of these, stale ones.
    pub stale: u64,
    /// Answered after asking, with what was stored.
    pub revalidated: u64,
    /// Answered by the worker.
    pub misses: u64,
    /// Requests that waited for another one's answer instead of asking.
    pub collapsed: u64,
    /// Passed on without looking.
    pub bypassed: u64,
    /// Responses stored.
    pub stored: u64,
    /// Responses that made room for others.
    pub evicted: u64,
    /// The disk tier, where there is one and it is ready.
    pub disk: Option<DiskStanding>,
}

/// How the disk tier stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStanding {
    /// Files.
    pub entries: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub max_bytes: u64,
    /// Answers read from it.
    pub hits: u64,
    /// Files written.
    pub written: u64,
    /// Responses that were not written: the disk was full, failed, or was too slow.
    pub not_written: u64,
    /// Files that were damaged and dropped.
    pub corrupted: u64,
}
