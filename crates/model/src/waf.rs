//! The firewall of an environment, in the manifest's words.

use crate::RuleName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a decision of the firewall leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WafMode {
    /// The request is refused.
    #[default]
    Block,
    /// It is written to the log, and goes on.
    Detect,
    /// Nothing is looked at.
    Off,
}

/// The firewall of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WafConfig {
    /// What decisions lead to.
    pub mode: WafMode,
    /// The managed rules: a folder in a layout that the firewall knows. None: custom rules only.
    pub rules: Option<PathBuf>,
    /// The Core Rule Set's paranoia level, from 1 to 4.
    pub paranoia_level: u8,
    /// From which score on a request is refused.
    pub inbound_threshold: u32,
    /// From which score on a response is.
    pub outbound_threshold: u32,
    /// How much of a request's body is looked at; what is beyond it passes.
    pub body_limit_bytes: u64,
    /// A database of countries in MaxMind's format, which says where a client is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countries: Option<PathBuf>,
    /// A database of autonomous systems in the same format, which says whose network a client is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<PathBuf>,
    /// Asked before the managed rules, in their order.
    #[serde(default)]
    pub custom_rules: Vec<WafRule>,
    /// Managed rules that some requests are not looked at with.
    #[serde(default)]
    pub exceptions: Vec<WafException>,
    /// Lists that custom rules may name.
    #[serde(default)]
    pub lists: BTreeMap<String, WafList>,
}

/// A list that custom rules may name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WafList {
    /// What it holds.
    pub kind: ListKind,
    /// Its items, as they are written.
    pub items: Vec<String>,
}

/// What a list holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListKind {
    /// IP addresses (`192.0.2.1`), networks (`2001:db8::/32`) and ranges (`192.0.2.1..192.0.2.9`).
    #[default]
    Ip,
    /// Host names; case does not count.
    Hostname,
    /// Strings, as they stand.
    Text,
    /// Numbers (`200`) and ranges (`400..499`).
    Number,
    /// Numbers of autonomous systems (`64500`, `AS64500`).
    Asn,
}

impl Default for WafConfig {
    fn default() -> Self {
        Self {
            mode: WafMode::Block,
            rules: None,
            paranoia_level: 1,
            inbound_threshold: 5,
            outbound_threshold: 4,
            body_limit_bytes: 128 << 10,
            countries: None,
            networks: None,
            custom_rules: Vec::new(),
            exceptions: Vec::new(),
            lists: BTreeMap::new(),
        }
    }
}

/// What a custom rule does with a request that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WafAction {
    /// It is refused.
    Block,
    /// It is written to the log, and goes on.
    Log,
    /// It passes over what the rule names in `skip`; over the custom rules behind this one and all managed rules where it
    /// names nothing.
    Skip,
    /// It is not looked at with the managed rules that the rule names; with none where it names none.
    Exception,
}

/// What a request may pass over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WafSkip {
    /// The custom rules behind this one.
    CustomRules,
    /// The rate rules of `edge.rate_rules`. They are asked before a body is there.
    RateRules,
    /// All managed rules.
    ManagedRules,
}

/// A custom rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WafRule {
    /// Its name, for the access record.
    pub name: RuleName,
    /// When it applies, in Cloudflare's rules language.
    pub expression: String,
    /// What happens then.
    pub action: WafAction,
    /// What a skip passes over.
    #[serde(default)]
    pub skip: Vec<WafSkip>,
    /// Managed rules that an exception is about, by id.
    #[serde(default)]
    pub rules: Vec<u64>,
    /// Managed rules that an exception is about, by tag.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Managed rules that requests to some paths are not looked at with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WafException {
    /// Rules by id.
    #[serde(default)]
    pub rules: Vec<u64>,
    /// Rules by tag.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Hosts; `*` stands for any characters. All when absent.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Paths: each and what is below it; `*` stands for any characters. All when absent.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// What the edge says of the managed rules that a firewall names, before it goes by them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesFound {
    /// How many there are.
    pub rules: usize,
    /// Why they cannot be used; none where they can.
    pub problems: Vec<RuleProblem>,
    /// There are so many more problems.
    #[serde(default)]
    pub left_out: usize,
}

/// One thing that is wrong with rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleProblem {
    /// The file, or the folder.
    pub file: PathBuf,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

impl std::fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file.display(), self.message)?,
            line => write!(f, "{}:{line}: {}", self.file.display(), self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
