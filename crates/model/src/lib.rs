//! The nouns of Astraler, shared by every other crate.
//!
//! For: all crates; this is the bottom layer. It knows serialisation and validation of names and nothing
//! else: no files, no sockets, no clock, no processes.

mod dns;
mod environment;
mod origin;
mod principal;
mod snapshot;
mod tls;
mod unit;

pub use dns::{
    DnsData, DnsName, DnsNameError, DnsRecord, DnsRecordError, DnsSnapshot, DnsZone, Network, NetworkError,
    ResponseRate, TransferKey, type_number,
};
pub use environment::{Cluster, Environment, ParseEnvironmentError};
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
