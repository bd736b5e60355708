//! The firewall's managed rules: which folder an environment goes by, whether the edge can use what is in it, and taking
//! up others.
//!
//! - `GET /v1/waf` → [`WafReport`] for each environment that is up and has a firewall: `read`
//! - `POST /v1/waf/reload` → the same, once the edge has read all rules again: `admin`
//!
//! The edge itself is asked whether rules can be used: it reads them with its own rights.

use crate::admin::ApiError;
use crate::client::{AdminClient, ClientError};
use crate::daemon::Daemon;
use crate::installation::Layout;
use crate::platform::{Platform, PlatformError};
use crate::publish;
use crate::switches::On;
use crate::words::{Application, Fault, chain};
use astraler_model::{Environment, Principal, RuleProblem, RulesFound, Scope, WafConfig, WafMode};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The edge reads and compiles within a second; a machine that is busy takes longer.
const LIMIT: Duration = Duration::from_secs(60);
/// Problems that a fault tells; `astraler waf check` tells all.
const TOLD: usize = 10;

/// The link to the folder of rules that is in force, of those that were brought.
const CURRENT: &str = "current";
/// Where rules of the repository stand in a release.
const IN_RELEASE: &str = "waf";

/// What an environment's firewall goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WafReport {
    /// The environment.
    pub environment: Environment,
    /// What decisions lead to.
    pub mode: WafMode,
    /// The folder of its managed rules; absent where only custom rules are asked.
    pub rules: Option<PathBuf>,
    /// What the edge says of them; absent where it does not answer.
    pub found: Option<RulesFound>,
}

pub(crate) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/v1/waf", get(read))
        .route("/v1/waf/reload", post(reload))
}

async fn read(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, ApiError> {
    daemon.allow(&principal, &Scope::Read, "waf")?;
    let reports = reports(&daemon.platform).await.map_err(ApiError::internal)?;
    Ok(Json(reports).into_response())
}

async fn reload(
    State(daemon): State<Arc<Daemon>>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, ApiError> {
    daemon.allow(&principal, &Scope::Admin, "waf reload")?;
    let platform = &daemon.platform;
    let in_force = current(&platform.installation.layout);
    platform
        .audit(
            &principal.name,
            "waf reload",
            "all",
            &json!({ "rules": in_force }),
        )
        .map_err(ApiError::internal)?;
    // Compiled when it is asked: what it has then takes force at once.
    let reports = reports(platform).await.map_err(ApiError::internal)?;
    let can_be_used = |report: &WafReport| {
        report
            .found
            .as_ref()
            .is_none_or(|found| found.problems.is_empty())
    };
    if reports.is_empty() || reports.iter().any(can_be_used) {
        publish::edge_anew(platform).await.map_err(ApiError::internal)?;
    }
    Ok(Json(reports).into_response())
}

impl AdminClient {
    /// What each environment's firewall goes by.
    pub async fn waf(&self) -> Result<Vec<WafReport>, ClientError> {
        self.read("/v1/waf").await
    }

    /// Has the edge read all rules again.
    pub async fn waf_reload(&self) -> Result<Vec<WafReport>, ClientError> {
        self.post("/v1/waf/reload", &json!({})).await
    }
}

/// The folder of rules that `astraler waf update` brought and that is in force.
fn current(layout: &Layout) -> Option<PathBuf> {
    let folder = layout.waf_rules();
    let name = std::fs::read_link(folder.join(CURRENT)).ok()?;
    let rules = folder.join(name);
    rules.is_dir().then_some(rules)
}

impl Layout {
    /// The managed rules of an application: those that went with its release, those of a folder that it names, those that
    /// were brought, or the distribution's.
    pub fn managed_rules(&self, config: &astraler_manifest::Config, release: &str) -> PathBuf {
        let waf = &config.edge.waf;
        if let Some(own) = waf.own_rules() {
            let release = self.releases().join(astraler_release::directory_name(release));
            return release.join(IN_RELEASE).join(own);
        }
        let named = waf.rules.clone().or_else(|| current(self));
        named.unwrap_or_else(|| astraler_manifest::INSTALLED_RULES.into())
    }
}

/// Says where the managed rules are, which a manifest alone does not know.
pub(crate) fn locate(platform: &Platform, application: &Application, waf: &mut WafConfig) {
    if waf.rules.is_some() {
        let layout = &platform.installation.layout;
        waf.rules = Some(layout.managed_rules(&application.config, &application.release));
    }
}

/// The firewall of an environment as the edge is told, where it has one.
fn firewall(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Result<Option<WafConfig>, PlatformError> {
    let policy = On::of(platform, environment)?.policy(&application.config, environment);
    Ok(policy.waf.map(|mut waf| {
        locate(platform, application, &mut waf);
        waf
    }))
}

/// Asks the edge; none where it does not answer.
async fn ask(platform: &Platform, waf: &WafConfig) -> Option<RulesFound> {
    let edge = AdminClient::new(platform.installation.layout.status_socket("edge"));
    let asked = tokio::time::timeout(LIMIT, edge.post("/waf/check", waf)).await;
    match asked {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::debug!(
                error = chain(&error),
                "the edge does not say what it thinks of rules"
            );
            None
        }
        Err(_) => None,
    }
}

async fn reports(platform: &Platform) -> Result<Vec<WafReport>, PlatformError> {
    let mut reports = Vec::new();
    for (environment, (_, application)) in platform.live()? {
        let Some(waf) = firewall(platform, environment, &application)? else {
            continue;
        };
        let found = match &waf.rules {
            Some(_) => ask(platform, &waf).await,
            None => None,
        };
        reports.push(WafReport {
            environment,
            mode: waf.mode,
            rules: waf.rules,
            found,
        });
    }
    Ok(reports)
}

/// Whether the firewall that an application wants can be had: a fault where its rules cannot be used. Nothing is changed.
/// Says a few words for people where there are managed rules, nothing where the edge does not answer yet.
pub(crate) async fn ready(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Result<Option<String>, Fault> {
    let waf = firewall(platform, environment, application).map_err(|error| Fault::of("firewall", &error))?;
    let Some((waf, rules)) = waf.and_then(|waf| waf.rules.clone().map(|rules| (waf, rules))) else {
        return Ok(None);
    };
    match ask(platform, &waf).await {
        Some(found) if found.problems.is_empty() => Ok(Some(format!("{} firewall rules", found.rules))),
        Some(found) => Err(fault(platform, environment, application, &rules, &found)),
        None => Ok(None),
    }
}

fn fault(
    platform: &Platform,
    environment: Environment,
    application: &Application,
    rules: &std::path::Path,
    found: &RulesFound,
) -> Fault {
    let problems: Vec<&RuleProblem> = found.problems.iter().take(TOLD).collect();
    let more = found.problems.len() - problems.len() + found.left_out;
    let mut told: Vec<String> = problems.iter().map(|problem| problem.to_string()).collect();
    if more > 0 {
        told.push(format!(
            "… and {more} more: `astraler waf check {}`",
            rules.display()
        ));
    }
    Fault {
        part: "firewall".into(),
        message: format!(
            "the managed rules that {environment} wants cannot be used:\n{}",
            told.join("\n")
        ),
        log: vec![],
        hint: Some(hint(platform, application, rules)),
    }
}

fn hint(platform: &Platform, application: &Application, rules: &std::path::Path) -> String {
    let waf = &application.config.edge.waf;
    let without = "`managed_rules = false` in [edge.waf] does without";
    if waf.own_rules().is_some() {
        return format!(
            "the rules go with the release: mend them, or say where they are in `edge.waf.rules`, and deploy a new one; \
             {without}"
        );
    }
    if waf.rules.is_none() && !rules.exists() {
        return format!(
            "`apt install modsecurity-crs` installs the Core Rule Set, `astraler waf update` brings its newest release; \
             {without}"
        );
    }
    match &platform.installation.identities.edge {
        Some(edge) => format!(
            "the edge runs as user {} (astraler-edge), which must be able to read the folder; `astraler waf check {}` \
             looks at the rules as you; {without}",
            edge.uid,
            rules.display()
        ),
        None => format!(
            "`astraler waf check {}` looks at the rules by themselves; {without}",
            rules.display()
        ),
    }
}
