//! PostgreSQL as an engine of the platform: find its programs, describe and tune a cluster, create roles and
//! databases, apply migrations, and pool connections for workers.
//!
//! For: `control` (clusters, databases, migrations) and the `data` role (the pool). It describes processes as
//! [`astraler_model::UnitSpec`] and speaks PostgreSQL's protocol; it does not know who starts the processes,
//! where secrets come from, what a release is, or what a worker is.

mod access;
mod archive;
mod binaries;
mod check;
mod cluster;
mod configuration;
mod database;
mod golden;
mod inspect;
mod migrate;
pub mod pool;
mod recovery;
mod scram;
mod scratch;
mod split;
mod swap;

pub use access::{Access, AccessError, ConnectionCount, connect, connection_count, ping, wait_ready};
pub use archive::{archiver, database_names, end_segment, system_identifier};
pub use binaries::{Binaries, BinariesError, find_binaries, find_binaries_in};
pub use check::{Canary, Checked, canaries, check_database, read_through, write_canary};
pub use cluster::{ArchiveConfig, ClusterConfig, Machine, SUPERUSER, initdb_unit, server_unit};
pub use configuration::configuration_files;
pub use database::{Changes, DatabaseError, DatabaseSpec, drop_database, ensure_database, service_settings};
pub use golden::{GoldenError, GoldenSpec, copy_golden, drop_golden, golden_exists, refresh_golden};
pub use inspect::{
    ClusterState, DatabaseState, RoleLimits, RoleState, applied_migrations, has_traces, inspect_cluster,
    inspect_database, reset_altered, role_limits, schema,
};
pub use migrate::{
    Applied, MigrateError, MigrateOptions, Migration, MigrationsError, migrate, migrate_with, read_migrations,
};
pub use recovery::{RecoveryConfig, recovery_unit};
pub use scratch::{ScratchConfig, checksums_unit, scratch_unit, scratch_units, unpack_unit};
pub use swap::{before, copy_aside, drop_aside, recovering, swap_in};
