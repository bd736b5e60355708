//! GitHub Actions' language: workflow files, expressions, triggers, matrices, as GitHub reads them.
//!
//! For whoever runs or checks a workflow without GitHub. [`expression`] reads and evaluates what stands within
//! `${{ }}`; a [`Workflow`] is a file whose values are still [`Template`]s, each with its place.
//!
//! It knows no file system, no clock, no process and no network: texts and contexts come from the caller, and
//! what depends on a run (`success()`, `hashFiles()`) is asked through [`expression::Functions`].

pub mod action;
pub mod cron;
mod diagnostic;
pub mod expression;
mod file;
pub mod glob;
mod link;
pub mod matrix;
mod model;
mod needs;
mod refuse;
mod template;
pub mod trigger;

pub use action::{Action, Runs};
pub use diagnostic::{Diagnostic, Place};
pub use file::{MAX_FILE, MAX_PROBLEMS, Options, parse, parse_with};
pub use link::{DefaultPermissions, Find, link};
pub use model::*;
pub use refuse::refused;
pub use template::{Concurrency, Environment, Node, RunDefaults, RunsOn, Template, TemplateError};
