//! `astraler.toml` and the files beside it, read into one validated manifest.
//!
//! For: the command line, which reads it, and the control plane, which keeps it with each deployment. The typed
//! structs are the single source: the JSON Schema is generated from them, the document is checked against that
//! schema with the place of every error, and the reference is written from it.
//!
//! It does *not* know what any key leads to, and touches nothing: validation has no side effects.

mod addresses;
mod config;
mod diagnostics;
mod dns;
mod lists;
mod load;
mod reference;
mod rules;
mod schema;
mod standalone;
mod validate;
mod wrangler;
pub mod zone;

pub use config::{
    AcmeChallenge, AlertChannel, AlertSeverity, Alerts, Appendfsync, Assets, Backups, Build, Common, Config,
    Database, Deploy, Dns, Edge, EdgeLimits, EmailSettings, EnvironmentKind, EnvironmentSettings,
    Environments, HTTPS_PORT, HttpsOnly, INSTALLED_RULES, List, MailTls, MaxmemoryPolicy, PagerDutySettings,
    PreviewSettings, Redis, RequiredSecret, Resolver, Runtime, Sandbox, Secondary, Secrets, Signals,
    SlackSettings, Tls, WorkerSettings,
};
pub use diagnostics::{Diagnostic, Diagnostics};
pub use dns::mailbox;
pub use load::{HyperdriveBinding, Manifest, R2Binding, Worker, default_toml, find_root, load, parse};
pub use reference::{Explanation, explain, reference_markdown};
pub use schema::schema;
pub use standalone::{Site, Standalone, load_standalone, parse_standalone, standalone_schema};
pub use wrangler::check_wrangler;
