//! The nouns of Astraler, shared by every other crate.
//!
//! For: all crates; this is the bottom layer. It knows serialisation and validation of names and nothing
//! else: no files, no sockets, no clock, no processes.

mod cache;
mod dns;
mod edge;
mod environment;
mod network;
mod origin;
mod principal;
mod snapshot;
mod tls;
mod unit;
mod waf;

pub use cache::{CacheBounds, CacheQuery, CacheRules, CacheStanding, DiskStanding, Purge, PurgeWhat, Purged};
pub use dns::{
    DnsData, DnsName, DnsNameError, DnsRecord, DnsRecordError, DnsSnapshot, DnsZone, ResponseRate,
    TransferKey, type_number,
};
pub use edge::{
    AccessRule, Attack, Characteristic, ClientIpHeader, Coding, Compression, EdgePolicy, ErrorPages,
    ErrorStatus, FieldName, FieldValue, HeaderRule, Maintenance, PagePath, RateAction, RateRule, RuleName,
    UnderAttack, WordError,
};
pub use environment::{Cluster, Environment, EnvironmentKind, ParseEnvironmentError};
pub use network::{Network, NetworkError, any_contains};
pub use origin::{Origin, ParseOriginError};
pub use principal::{
    BranchPattern, BranchPatternError, DeployTarget, Forbidden, ParseScopeError, Principal, Scope,
};
pub use snapshot::{
    AssetConfig, BindingGrant, BindingKind, BucketGrant, DataEnvironment, DataSnapshot, EdgeSnapshot,
    HtmlHandling, InternalHost, NotFoundHandling, PostgresAccess, Probe, RedisAccess, ReplicationStanding,
    ReplicationTarget, Route, S3Credential, SignalSnapshot, TokenHash, Window, WorkerRoute,
};
pub use tls::{TlsCertificate, TlsSnapshot, TlsVersion};
pub use unit::{
    Credential, DirectorySpec, Identity, ListenAddress, Listener, LogPolicy, Ready, ResourceLimits,
    RestartPolicy, StopPolicy, UnitName, UnitNameError, UnitPhase, UnitSpec, UnitStatus,
};
pub use waf::{
    ListKind, RuleProblem, RulesFound, WafAction, WafConfig, WafException, WafList, WafMode, WafRule, WafSkip,
};
