//! workerd's configuration of one deployment, as Cap'n Proto text.
//!
//! Every binding is an `external` service on a socket of the platform; the token that says what may be used is a
//! header that workerd adds, so the worker's code never sees it.

use crate::bundle::{Module, ModuleKind};
use crate::text::literal;
use crate::unit::listener_name;
use astraler_model::Environment;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// One deployment: one process.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentConfig {
    /// Its id.
    pub id: String,
    /// Its environment.
    pub environment: Environment,
    /// Its workers.
    pub workers: Vec<WorkerConfig>,
    /// The platform's socket for native bindings.
    pub bindings_socket: PathBuf,
    /// The platform's socket for PostgreSQL.
    pub hyperdrive_socket: PathBuf,
    /// The platform's socket for `fetch`.
    pub egress_socket: PathBuf,
}

/// One worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerConfig {
    /// Name.
    pub name: String,
    /// Modules with absolute paths, the entry first.
    pub modules: Vec<Module>,
    /// `YYYY-MM-DD`.
    pub compatibility_date: String,
    /// Flags.
    pub compatibility_flags: Vec<String>,
    /// Text and JSON variables.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Secret texts.
    pub secrets: BTreeMap<String, String>,
    /// R2 bindings: name → token.
    pub r2: BTreeMap<String, String>,
    /// Hyperdrive bindings.
    pub hyperdrive: Vec<HyperdriveBinding>,
}

/// A database for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperdriveBinding {
    /// Name.
    pub binding: String,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// What the pool asks for: not the role's password.
    pub password: String,
}

/// The whole file.
pub fn render(config: &DeploymentConfig) -> String {
    let mut services = vec![
        external("egress", &config.egress_socket, "http = (style = proxy)"),
        external("hyperdrive", &config.hyperdrive_socket, "tcp = ()"),
    ];
    let mut sockets = Vec::new();
    for worker in &config.workers {
        for (binding, token) in &worker.r2 {
            let header = format!("(name = \"x-astraler-token\", value = {})", literal(token));
            let http = format!("http = (injectRequestHeaders = [{header}])");
            services.push(external(
                &r2_service(worker, binding),
                &config.bindings_socket,
                &http,
            ));
        }
        services.push(service(worker));
        services.push(tail(worker));
        let name = literal(&listener_name(&worker.name));
        sockets.push(format!(
            "(name = {name}, service = {}, http = ())",
            literal(&worker_service(worker))
        ));
    }
    let mut text = String::from("using Workerd = import \"/workerd/workerd.capnp\";\n\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "const config :Workerd.Config = (\n  services = [\n    {}\n  ],\n  sockets = [\n    {}\n  ],\n  logging = (structuredLogging = true)\n);",
        services.join(",\n    "),
        sockets.join(",\n    "),
    );
    text
}

fn external(name: &str, socket: &std::path::Path, kind: &str) -> String {
    let address = literal(&format!("unix:{}", socket.display()));
    format!(
        "(name = {}, external = (address = {address}, {kind}))",
        literal(name)
    )
}

fn worker_service(worker: &WorkerConfig) -> String {
    format!("worker:{}", worker.name)
}

fn r2_service(worker: &WorkerConfig, binding: &str) -> String {
    format!("r2:{}:{binding}", worker.name)
}

fn service(worker: &WorkerConfig) -> String {
    let modules: Vec<String> = worker.modules.iter().map(module).collect();
    let flags: Vec<String> = worker
        .compatibility_flags
        .iter()
        .map(|flag| literal(flag))
        .collect();
    let fields = [
        format!("modules = [{}]", modules.join(", ")),
        format!("compatibilityDate = {}", literal(&worker.compatibility_date)),
        format!("compatibilityFlags = [{}]", flags.join(", ")),
        format!("bindings = [{}]", bindings(worker).join(", ")),
        "globalOutbound = \"egress\"".to_owned(),
        format!("tails = [{}]", literal(&tail_service(worker))),
    ];
    format!(
        "(name = {}, worker = ({}))",
        literal(&worker_service(worker)),
        fields.join(", ")
    )
}

/// Tells of exceptions that nobody caught, with their stack and the request's id. It reaches nothing.
fn tail(worker: &WorkerConfig) -> String {
    format!(
        "(name = {}, worker = (modules = [(name = \"tail.js\", esModule = {})], compatibilityDate = \"2026-10-01\", bindings = [(name = \"WORKER\", text = {})], globalOutbound = \"egress\"))",
        literal(&tail_service(worker)),
        literal(include_str!("tail.js")),
        literal(&worker.name),
    )
}

fn tail_service(worker: &WorkerConfig) -> String {
    format!("tail:{}", worker.name)
}

fn module(module: &Module) -> String {
    let kind = match module.kind {
        ModuleKind::EsModule => "esModule",
        ModuleKind::Text => "text",
        ModuleKind::Data => "data",
        ModuleKind::Wasm => "wasm",
    };
    let path = literal(&module.path.display().to_string());
    format!("(name = {}, {kind} = embed {path})", literal(&module.name))
}

fn bindings(worker: &WorkerConfig) -> Vec<String> {
    let text =
        |(name, value): (&String, &String)| format!("(name = {}, text = {})", literal(name), literal(value));
    let var = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(value) => text((name, value)),
        other => format!(
            "(name = {}, json = {})",
            literal(name),
            literal(&other.to_string())
        ),
    };
    let r2 = |(binding, _): (&String, &String)| {
        format!(
            "(name = {}, r2Bucket = {})",
            literal(binding),
            literal(&r2_service(worker, binding))
        )
    };
    let hyperdrive = |hyperdrive: &HyperdriveBinding| {
        format!(
            "(name = {}, hyperdrive = (designator = \"hyperdrive\", database = {}, user = {}, password = {}, scheme = \"postgresql\"))",
            literal(&hyperdrive.binding),
            literal(&hyperdrive.database),
            literal(&hyperdrive.user),
            literal(&hyperdrive.password),
        )
    };
    // A secret wins over a variable of its name, as on Cloudflare.
    let vars = worker
        .vars
        .iter()
        .filter(|(name, _)| !worker.secrets.contains_key(*name));
    vars.map(var)
        .chain(worker.secrets.iter().map(text))
        .chain(worker.r2.iter().map(r2))
        .chain(worker.hyperdrive.iter().map(hyperdrive))
        .collect()
}
