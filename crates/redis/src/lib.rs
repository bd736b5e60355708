//! Redis (or Valkey) as an engine of the platform: find its program, describe one process for each
//! environment, and serve the Upstash REST API in front of it.
//!
//! For: `control` (the processes) and the `data` role (the REST API). It describes processes as
//! [`astraler_model::UnitSpec`] and speaks RESP; it does not know who starts the processes, who listens for
//! HTTP, or where passwords come from.

mod binary;
mod client;
mod instance;
pub mod resp;
pub mod rest;
mod settings;

pub use binary::{Binary, BinaryError, Flavour, find_binary, find_binary_in};
pub use client::{ClientError, ping};
pub use instance::{
    CONTROL_USER, ConfigurationFile, InstanceConfig, READ_ONLY_USER, USER, configuration_files, unit,
};
pub use settings::Control;
