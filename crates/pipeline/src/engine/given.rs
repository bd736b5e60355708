//! What a job is given before its first step: variables, secrets, programs, the way to the registries, and, where it has an
//! `environment:`, its way to the platform.

use super::legs::Leg;
use super::{Shared, write};
use crate::control::{DeployAccess, JobNotice};
use crate::proxy::Reach;
use crate::registry;
use crate::sandbox::HOME;
use astraler_workflow::Environment;
use astraler_workflow::expression::Scope;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

const MAX_TOKEN: u64 = 64 << 10;
const FOLDER: &str = "/run/astraler/deploy";
const TOKEN: &str = "/run/astraler/deploy.token";

/// What a job is given.
pub(super) struct Given {
    /// Outside, inside; read-only.
    pub(super) binds: Vec<(PathBuf, String)>,
    /// The environment of every program, before what the workflow says.
    pub(super) base: BTreeMap<String, String>,
    pub(super) vars: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) reach: Reach,
    /// Where its environment is seen, if the workflow does not say it.
    pub(super) url: Option<String>,
}

/// The job's `environment:`.
pub(super) fn environment(shared: &Shared, leg: &Leg) -> Result<Option<Environment>, String> {
    let Some(template) = &leg.job().environment else {
        return Ok(None);
    };
    let contexts = leg.contexts(shared);
    let functions = leg.functions();
    let found = template.environment(&Scope {
        contexts: &contexts,
        functions: &functions,
    });
    found.map_err(|error| format!("{} {error}", leg.workflow.file))
}

/// Announces the job, where it has an environment. One that is cancelled meanwhile gets nothing, and deploys nothing.
pub(super) async fn ask(
    shared: &Shared,
    notice: Option<&JobNotice>,
    cancel: &CancellationToken,
) -> Result<Option<DeployAccess>, String> {
    let Some(notice) = notice else { return Ok(None) };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Ok(None),
        access = shared.deploys.begins(notice) => access,
    }
}

impl Given {
    /// Gathers it; `folder` is the job's own.
    pub(super) fn of(
        shared: &Shared,
        leg: &Leg,
        environment: Option<&str>,
        access: Option<DeployAccess>,
        folder: &Path,
    ) -> Result<Self, String> {
        let spec = &shared.spec;
        let secrets = leg.secrets.clone();
        let mut given = Self {
            binds: vec![],
            base: base(shared),
            vars: spec.vars.of(environment),
            secrets: secrets.unwrap_or_else(|| spec.secrets.of(environment)),
            reach: Reach {
                places: registry::places(&spec.registries, &spec.machine),
                ..Reach::default()
            },
            url: None,
        };
        if environment.is_some() {
            given.reach.ports.clone_from(&spec.ports);
            given.reach.hosts.clone_from(&spec.hosts);
            for (name, path) in &spec.tools.deploy {
                let path = path.display().to_string();
                given.binds.push((path.clone().into(), path.clone()));
                given.base.insert(name.clone(), path);
            }
            if let Some(program) = &spec.tools.program {
                let inside = "/opt/astraler/bin/astraler".to_owned();
                given.binds.push((program.clone(), inside));
            }
        }
        if let Some(access) = access {
            given.add(shared, access, folder)?;
        }
        if let Some((node, _)) = &spec.tools.node
            && !node.starts_with("/usr")
        {
            let inside = "/opt/astraler/node/bin/node".to_owned();
            given.binds.push((node.clone(), inside));
        }
        if let Some((pnpm, _)) = &spec.tools.pnpm {
            given.binds.push((pnpm.clone(), "/opt/astraler/pnpm".to_owned()));
        }
        shared.masks.add(given.secrets.values().map(String::as_str));
        Ok(given)
    }

    /// The socket, the token, and what says where they are.
    fn add(&mut self, shared: &Shared, access: DeployAccess, folder: &Path) -> Result<(), String> {
        let unreadable = |error: io::Error| format!("the job's token cannot be read: {error}");
        let mut token = String::new();
        let file = std::fs::File::open(&access.token_file).map_err(unreadable)?;
        file.take(MAX_TOKEN)
            .read_to_string(&mut token)
            .map_err(unreadable)?;
        let token = token.trim().to_owned();
        shared.masks.add([token.as_str()]);
        let own = folder.join("deploy.token");
        write(&own, token.as_bytes())
            .map_err(|error| format!("the job's token cannot be written: {error}"))?;
        let (Some(outside), Some(name)) = (access.socket.parent(), access.socket.file_name()) else {
            return Err("the job's socket has no folder".into());
        };
        let socket = format!("{FOLDER}/{}", name.display());
        self.binds.push((outside.to_owned(), FOLDER.to_owned()));
        self.binds.push((own, TOKEN.to_owned()));
        let url = format!("unix:{socket}");
        self.base.extend(access.variables);
        self.base.insert("ASTRALER_SOCKET".into(), socket);
        self.base.insert("ASTRALER_TOKEN_FILE".into(), TOKEN.into());
        // The names that workflows for GitHub's runners use.
        let known = self.vars.entry("ASTRALER_URL".into());
        known.or_insert_with(|| url.clone());
        self.base.insert("ASTRALER_URL".into(), url);
        self.secrets.entry("ASTRALER_TOKEN".into()).or_insert(token);
        self.url = access.url;
        Ok(())
    }
}

/// What every program gets that no file says: home, path, the way to the registries.
fn base(shared: &Shared) -> BTreeMap<String, String> {
    let spec = &shared.spec;
    let proxy = format!("http://127.0.0.1:{}", crate::order::PROXY_PORT);
    let mut all: BTreeMap<String, String> = spec.machine.certificates.clone();
    for (name, value) in [
        ("HOME", HOME),
        ("USER", "runner"),
        ("LANG", "C.UTF-8"),
        (
            "PATH",
            "/opt/astraler/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("no_proxy", "localhost,127.0.0.1,::1,.localhost"),
        ("NO_PROXY", "localhost,127.0.0.1,::1,.localhost"),
        ("NODE_USE_ENV_PROXY", "1"),
        ("npm_config_update_notifier", "false"),
    ] {
        all.insert(name.into(), value.into());
    }
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "npm_config_proxy",
        "npm_config_https_proxy",
    ] {
        all.insert(name.into(), proxy.clone());
    }
    if let Some(registry) = &spec.machine.npm_registry {
        all.insert("npm_config_registry".into(), registry.clone());
    }
    if let Some(index) = &spec.machine.pip_index {
        all.insert("PIP_INDEX_URL".into(), index.clone());
    }
    all
}
