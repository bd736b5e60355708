//! `[edge.lists]`.

use astraler_model::ListKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A list that custom rules name: `ip.src in $office`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct List {
    /// What it holds.
    pub kind: ListKind,
    /// Its items.
    pub items: Vec<String>,
    /// More of them in a file of the repository: one a line; empty lines and what follows a `#` do not count.
    pub file: Option<PathBuf>,
}
