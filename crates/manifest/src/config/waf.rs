//! `[edge.waf]`.

use super::List;
use astraler_model::{EnvironmentKind, WafConfig, WafException, WafList, WafMode, WafRule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The web application firewall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Waf {
    /// What a decision leads to, where `modes` says nothing of an environment.
    pub mode: WafMode,
    /// What a decision leads to, by environment.
    pub modes: ByEnvironment<WafMode>,
    /// The Core Rule Set's paranoia level: the higher, the more it refuses, attacks and others.
    #[schemars(range(min = 1, max = 4))]
    pub paranoia_level: u8,
    /// The paranoia level, by environment.
    #[schemars(with = "ByEnvironment<ParanoiaLevel>")]
    pub paranoia_levels: ByEnvironment<u8>,
    /// Anomaly score from which a request is refused; a critical rule adds 5.
    #[schemars(range(min = 1, max = 10_000))]
    pub inbound_threshold: u32,
    /// The score from which a request is refused, by environment.
    #[schemars(with = "ByEnvironment<Threshold>")]
    pub inbound_thresholds: ByEnvironment<u32>,
    /// Anomaly score from which a response is refused.
    #[schemars(range(min = 1, max = 10_000))]
    pub outbound_threshold: u32,
    /// The score from which a response is refused, by environment.
    #[schemars(with = "ByEnvironment<Threshold>")]
    pub outbound_thresholds: ByEnvironment<u32>,
    /// How much of a request's body is looked at; what is beyond it passes.
    #[schemars(range(max = 16_777_216))]
    pub body_limit_bytes: u64,
    /// How much of a request's body is looked at, by environment.
    #[schemars(with = "ByEnvironment<BodyLimit>")]
    pub body_limits_bytes: ByEnvironment<u64>,
    /// Whether the managed rules are asked. Custom rules are in any case.
    pub managed_rules: bool,
    /// Folder of the managed rules. A path in the repository goes with each release; an absolute one is read where it is,
    /// by the edge's user. When absent: what `astraler waf update` brought, else where the distribution installs the
    /// Core Rule Set.
    pub rules: Option<PathBuf>,
    /// A database of countries in MaxMind's format (GeoLite2 Country, DB-IP Country Lite; one of cities, where rules ask
    /// for them), for rules that ask where a client is. An absolute path; the edge's user reads it. When absent: no client
    /// has a country.
    pub countries: Option<PathBuf>,
    /// A database of autonomous systems in the same format (GeoLite2 ASN, DB-IP ASN Lite), for rules that ask whose
    /// network a client is in (`ip.src.asnum`). An absolute path; the edge's user reads it.
    pub networks: Option<PathBuf>,
    /// Rules in Cloudflare's rules language. They come before the managed rules.
    pub custom_rules: Vec<WafRule>,
    /// Managed rules that some requests are not looked at with.
    pub exceptions: Vec<WafException>,
}

/// A value of single environments, where it is another than for all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ByEnvironment<T> {
    /// Of development.
    pub development: Option<T>,
    /// Of every preview.
    pub preview: Option<T>,
    /// Of staging.
    pub staging: Option<T>,
    /// Of production.
    pub production: Option<T>,
}

/// Also of what has no default of its own.
impl<T> Default for ByEnvironment<T> {
    fn default() -> Self {
        Self {
            development: None,
            preview: None,
            staging: None,
            production: None,
        }
    }
}

/// From 1 to 4.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for numbers in the schema")]
struct ParanoiaLevel(#[schemars(range(min = 1, max = 4))] u8);

/// A score.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for numbers in the schema")]
struct Threshold(#[schemars(range(min = 1, max = 10_000))] u32);

/// Of a body.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for numbers in the schema")]
struct BodyLimit(#[schemars(range(max = 16_777_216))] u64);

impl<T: Copy> ByEnvironment<T> {
    fn of(&self, kind: EnvironmentKind, usual: T) -> T {
        let own = match kind {
            EnvironmentKind::Development => self.development,
            EnvironmentKind::Preview => self.preview,
            EnvironmentKind::Staging => self.staging,
            EnvironmentKind::Production => self.production,
        };
        own.unwrap_or(usual)
    }
}

/// Where the distribution's package has the Core Rule Set.
pub const INSTALLED_RULES: &str = astraler_waf::ruleset::INSTALLED;

impl Default for Waf {
    fn default() -> Self {
        let usual = WafConfig::default();
        Self {
            mode: WafMode::Off,
            modes: ByEnvironment::default(),
            paranoia_level: usual.paranoia_level,
            paranoia_levels: ByEnvironment::default(),
            inbound_threshold: usual.inbound_threshold,
            inbound_thresholds: ByEnvironment::default(),
            outbound_threshold: usual.outbound_threshold,
            outbound_thresholds: ByEnvironment::default(),
            body_limit_bytes: usual.body_limit_bytes,
            body_limits_bytes: ByEnvironment::default(),
            managed_rules: true,
            rules: None,
            countries: None,
            networks: None,
            custom_rules: vec![],
            exceptions: vec![],
        }
    }
}

impl Waf {
    /// Where the managed rules stand in the repository, when they do.
    pub fn own_rules(&self) -> Option<&Path> {
        self.rules.as_deref().filter(|rules| rules.is_relative())
    }

    /// The firewall of an environment; none where it is off.
    pub(super) fn of(&self, kind: EnvironmentKind, lists: &BTreeMap<String, List>) -> Option<WafConfig> {
        let mode = self.modes.of(kind, self.mode);
        (mode != WafMode::Off).then(|| WafConfig {
            mode,
            rules: (self.managed_rules).then(|| self.rules.clone().unwrap_or_else(|| INSTALLED_RULES.into())),
            paranoia_level: self.paranoia_levels.of(kind, self.paranoia_level),
            inbound_threshold: self.inbound_thresholds.of(kind, self.inbound_threshold),
            outbound_threshold: self.outbound_thresholds.of(kind, self.outbound_threshold),
            body_limit_bytes: self.body_limits_bytes.of(kind, self.body_limit_bytes),
            countries: self.countries.clone(),
            networks: self.networks.clone(),
            custom_rules: self.custom_rules.clone(),
            exceptions: self.exceptions.clone(),
            lists: lists
                .iter()
                .map(|(name, list)| {
                    let list = WafList {
                        kind: list.kind,
                        items: list.items.clone(),
                    };
                    (name.clone(), list)
                })
                .collect(),
        })
    }
}
