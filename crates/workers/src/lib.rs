//! workerd as the engine of Workers: the pinned tools, bundling, configuration, sandbox.
//!
//! For: the command line (tools, bundles) and the control plane (configuration, units). One workerd process runs
//! one deployment; the tenant's code meets only workerd's stable surface.
//!
//! It does *not* know what the manifest looks like, which release is live, or who answers on the platform's
//! sockets: it is told paths, names and tokens.

mod bundle;
mod config;
mod text;
pub mod tools;
mod unit;

pub use bundle::{BundleError, BundleInput, Bundled, Module, ModuleKind, bundle};
pub use config::{DeploymentConfig, HyperdriveBinding, WorkerConfig, render};
pub use unit::{Sandbox, UnitInput, listener_name, unit};
