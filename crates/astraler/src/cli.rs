//! The command line's words.

mod alerts;
mod audit;
mod cache;
mod dns;
mod edge;
mod plan;
mod recovery;
mod secrets;
mod switches;
mod tls;
mod waf;

pub(crate) use alerts::AlertsCommand;
pub(crate) use audit::AuditCommand;
pub(crate) use cache::CacheCommand;
pub(crate) use dns::DnsCommand;
pub(crate) use edge::EdgeArguments;
pub(crate) use plan::{ApplyArguments, DestroyArguments, PlanArguments};
pub(crate) use recovery::{BackupCommand, DrillArguments, RecoverCommand, RecoverFull};
pub(crate) use secrets::{
    Place as SecretsPlace, RecoveryKeyCommand, SecretsCommand, Shares, Value as SecretsValue,
};
pub(crate) use switches::{AttackCommand, MaintenanceCommand};
pub(crate) use tls::TlsCommand;
pub(crate) use waf::{
    ExplainArguments as WafExplainArguments, TestArguments as WafTestArguments,
    TopArguments as WafTopArguments, UpdateArguments as WafUpdateArguments, WafCommand,
};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A product team's production infrastructure from one manifest, on one machine, with real engines.
#[derive(Debug, Parser)]
#[command(name = "astraler", version, about, long_about = None, propagate_version = true)]
#[command(after_help = "Examples:
  astraler init --starter board && cd board && astraler up
  astraler up --env staging --env production
  astraler status --json
  astraler logs edge -f
  astraler env show development --json

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 manifest not valid, 4 something must be installed,
5 another command holds the lock, 6 port taken, 7 the platform is not up, 8 a release is damaged,
9 superseded by a newer deployment, 10 changes wanted, 11 changed by hand, 12 protected,
13 plan does not fit any more, 14 environments differ, 15 a gate has not passed,
130 interrupted.")]
pub(crate) struct Arguments {
    /// Folder of the application; the nearest parent with an astraler.toml by default.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// State folder, instead of .astraler (or /var/lib/astraler/ID for root).
    #[arg(long, global = true, value_name = "DIR", env = "ASTRALER_STATE")]
    pub(crate) state: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a manifest and a workflow for an existing application, or the starter application.
    #[command(after_help = "Examples:
  astraler init --name shop --domain shop.example
  astraler init --starter board")]
    Init(InitArguments),
    /// Bring the platform up. Safe to repeat: a second `up` changes nothing and says so.
    #[command(after_help = "Examples:
  astraler up
  astraler up --env staging
  astraler up --port 8080")]
    Up(UpArguments),
    /// Put the application, or a release that was built before, into an environment.
    #[command(after_help = "Examples:
  astraler deploy
  astraler deploy --env staging
  astraler deploy --env pr-7 --release 3f2a91c0
  astraler deploy --env production --override \"fix of the outage of today\"

It ends when the new deployment serves; with --wait, when the one before has ended too. Inside a pipeline job it speaks
to that job's own socket (ASTRALER_SOCKET, ASTRALER_TOKEN_FILE), where `--env preview` is the pull request's own.")]
    Deploy(DeployArguments),
    /// Put the release that one environment runs into another, by its digest, verified again.
    #[command(after_help = "Examples:
  astraler promote staging production
  astraler promote staging production --override \"the fix of today's outage\"

Production takes what has passed the gates of its manifest; exit code 15 says that something has not.")]
    Promote {
        /// Where it runs.
        from: String,
        /// Where it goes.
        to: String,
        #[command(flatten)]
        gates: OverrideArguments,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Go back to the last good deployment, with its release and its configuration. The schema stays as it is.
    #[command(after_help = "Examples:
  astraler rollback --env production --reason \"checkout fails\"
  astraler rollback --env staging --to d-12")]
    Rollback {
        /// Which environment.
        #[arg(long = "env", value_name = "NAME", default_value = "development")]
        environment: String,
        /// Deployment to go back to.
        #[arg(long, value_name = "DEPLOYMENT")]
        to: Option<String>,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// What was deployed, when, by whom, and how it ended.
    #[command(
        after_help = "Examples:\n  astraler deployments\n  astraler deployments --env production --json"
    )]
    Deployments {
        /// Of one environment only.
        #[arg(long = "env", value_name = "NAME")]
        environment: Option<String>,
        /// So many.
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u32,
        #[command(flatten)]
        json: Json,
    },
    /// Stop everything; data stays.
    #[command(after_help = "Example:\n  astraler down")]
    Down,
    /// Show what the manifest would change on this machine, with reasons. Never writes.
    ///
    /// Exit codes: 0 nothing to do, 10 the manifest wants changes, 11 something was changed by hand.
    #[command(after_help = "Examples:
  astraler plan
  astraler plan --env staging --out staging.plan
  astraler plan --json")]
    Plan(PlanArguments),
    /// Make this machine as the manifest says: shows the plan, asks, goes step by step. A second `apply` does nothing.
    #[command(after_help = "Examples:
  astraler apply
  astraler apply --yes
  astraler apply staging.plan --yes")]
    Apply(ApplyArguments),
    /// Show what was changed by hand since the platform made it. Never writes; exit code 11 when there is something.
    #[command(after_help = "Examples:\n  astraler drift\n  astraler drift --json")]
    Drift(Json),
    /// Destroy environments with all their data, after the plan of it was shown and agreed to.
    #[command(after_help = "Examples:
  astraler destroy --env staging --show
  astraler destroy --env pr-7 --yes pr-7")]
    Destroy(DestroyArguments),
    /// Show environments and processes.
    #[command(after_help = "Examples:\n  astraler status\n  astraler status --json")]
    Status(Json),
    /// Show exceptions of workers that nobody caught, in groups, with their place in the sources.
    #[command(subcommand)]
    Errors(ErrorsCommand),
    /// Show requests, errors, latency, uptime and database connections of each environment.
    #[command(
        after_help = "Examples:\n  astraler metrics\n  astraler metrics --env production --since 15m --json"
    )]
    Metrics {
        /// Of this environment.
        #[arg(long)]
        env: Option<String>,
        /// From this time on: 90s, 30m, 12h, 3d, 2026-11-27, 2026-11-27T14:00:00Z.
        #[arg(long, default_value = "1h")]
        since: String,
        #[command(flatten)]
        json: Json,
    },
    /// Check every requirement: found version and path, or the one command that mends it.
    #[command(after_help = "Examples:\n  astraler doctor\n  astraler doctor --json")]
    Doctor(Json),
    /// Show what a part wrote, all parts when none is named; or search the records of requests, workers and errors.
    #[command(after_help = "Examples:
  astraler logs
  astraler logs edge -f
  astraler logs access -n 20
  astraler logs --env production --since 1h --where 'status>=500 and path~\"/api\"'
  astraler logs --stream error --since 3d --grep timeout --json
  astraler logs --since 30m --by-minute")]
    Logs(LogsArguments),
    /// Open an environment in the browser.
    #[command(after_help = "Examples:\n  astraler open\n  astraler open staging")]
    Open {
        /// Which environment.
        #[arg(default_value = "development")]
        environment: String,
        /// Print the URL only.
        #[arg(long)]
        print: bool,
    },
    /// Check, explain and describe the manifest.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Check workflows, and evaluate their expressions.
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// Read and verify the audit chain.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// URLs, endpoints and credentials of an environment.
    #[command(subcommand)]
    Env(EnvCommand),
    /// Look at the releases of this machine: OCI images, named by their digest.
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Set, grant, rotate and remove the application's secrets. No command prints a value.
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Alerts: what fires, who looks after it, what is silenced, and whether the channels work.
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// The edge's cache: how it stands, and what it shall forget.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// DNS: the zone that is served, what the registrar must be told, and whether every answer is right.
    #[command(subcommand)]
    Dns(DnsCommand),
    /// Close an environment for a while: 503 and a page for all but a few.
    #[command(subcommand)]
    Maintenance(MaintenanceCommand),
    /// Tighten limits on clients while an environment is under attack.
    #[command(subcommand)]
    AttackMode(AttackCommand),
    /// Certificates: which hosts have one, how to trust the local CA, renew.
    #[command(subcommand)]
    Tls(TlsCommand),
    /// The web application firewall's rules: compile them, run their tests, explain what they make of a request.
    #[command(subcommand)]
    Waf(WafCommand),
    /// Let others push, deploy or look: tokens with scopes.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Backups off this machine: how they stand, which there are, make them now.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Bring back what was lost.
    #[command(subcommand)]
    Recover(RecoverCommand),
    /// Restore a random point in time into a scratch cluster and look it through; nothing that serves is touched.
    Drill(DrillArguments),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  astraler completions bash > /etc/bash_completion.d/astraler")]
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
    /// Print the reference of every command as Markdown.
    #[command(hide = true)]
    Reference,
    /// The parent of all processes.
    #[command(hide = true)]
    Keep {
        #[command(flatten)]
        process: ProcessArguments,
        /// Wait until the active one ends.
        #[arg(long)]
        standby: bool,
    },
    /// Run the workflows of a spec.
    #[command(hide = true)]
    Runner {
        /// File with the spec as JSON; `-` is the first line of standard input, whose end cancels the run.
        #[arg(long)]
        spec: PathBuf,
        /// File that events are appended to, instead of standard output.
        #[arg(long)]
        events: Option<PathBuf>,
    },
    /// Process 1 of a step's sandbox.
    #[command(hide = true)]
    SandboxInit,
    /// Become a unit.
    #[command(hide = true)]
    Launch,
    /// The credential helper of git, for the owner: see gitcredentials(7).
    #[command(hide = true)]
    GitCredential {
        #[command(flatten)]
        process: ProcessArguments,
        /// What git asks for: get, store or erase.
        operation: String,
    },
    /// A hook of the platform's repository: see githooks(5).
    #[command(hide = true)]
    GitHook {
        #[command(flatten)]
        process: ProcessArguments,
        /// pre-receive or post-receive.
        hook: String,
    },
    /// The control process.
    #[command(hide = true)]
    Daemon(ProcessArguments),
    /// Serve by itself: a reverse proxy in front of whatever listens, without the rest of the platform.
    #[command(after_help = edge::EXAMPLES)]
    Edge(EdgeArguments),
    /// A role of the data plane.
    #[command(hide = true)]
    Services {
        #[command(flatten)]
        process: ProcessArguments,
        /// Which one.
        #[arg(long)]
        role: Role,
    },
}

/// Roles of `services`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Pool, Redis REST, S3, worker bindings.
    Data,
    /// The workers' way out.
    Egress,
    /// Records of what happened.
    Signal,
}

/// Arguments of every process of ours.
#[derive(Debug, Args)]
pub(crate) struct ProcessArguments {
    /// The installation record.
    #[arg(long)]
    pub(crate) installation: PathBuf,
}

/// Machine-readable output.
#[derive(Debug, Args)]
pub(crate) struct Json {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArguments {
    /// Write the starter application into this new folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) starter: Option<PathBuf>,
    /// Name of the application; the folder's name by default.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The product's domain.
    #[arg(long)]
    pub(crate) domain: Option<String>,
}

/// `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    /// Environment to bring up (development, staging, production, pr-N); may be repeated.
    #[arg(long = "env", value_name = "NAME", default_value = "development")]
    pub(crate) environments: Vec<String>,
    /// Port of the edge, instead of the manifest's.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Do not run the build command; what an earlier build left is packed.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// Print each event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArguments {
    /// Environment (development, staging, production, pr-N).
    #[arg(long = "env", value_name = "NAME", default_value = "development")]
    pub(crate) environment: String,
    /// A release that was built before: its digest, or the beginning of it.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) release: Option<String>,
    /// Do not run the application's own build.
    #[arg(long)]
    pub(crate) no_build: bool,
    #[command(flatten)]
    pub(crate) gates: OverrideArguments,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// What goes past the gates of production.
#[derive(Debug, Args)]
pub(crate) struct OverrideArguments {
    /// Deploy to production although a gate has not passed; reason and gates are audited. A job cannot.
    #[arg(long = "override", value_name = "REASON")]
    pub(crate) override_reason: Option<String>,
}

/// What every deployment can be told.
#[derive(Debug, Args)]
pub(crate) struct ChangeArguments {
    /// Why, for the record.
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,
    /// Wait until the deployment before has ended too.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print each event as a line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Part: a unit of `astraler status`, or `access`.
    pub(crate) part: Option<String>,
    /// Go on as lines arrive.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// So many of the last lines: 100 when not said; of records, 0 is all of them.
    #[arg(short = 'n', long)]
    pub(crate) lines: Option<usize>,
    /// Lines of workers as workerd wrote them: JSON.
    #[arg(long)]
    pub(crate) raw: bool,
    /// Records of this environment.
    #[arg(long, conflicts_with_all = ["part", "raw"])]
    pub(crate) env: Option<String>,
    /// Records from this time on: 90s, 30m, 12h, 3d, 2026-11-27, 2026-11-27T14:00:00Z.
    #[arg(long, conflicts_with_all = ["part", "raw"])]
    pub(crate) since: Option<String>,
    /// Records before this time.
    #[arg(long, conflicts_with_all = ["part", "raw"])]
    pub(crate) until: Option<String>,
    /// Records that have this text somewhere.
    #[arg(long, conflicts_with_all = ["part", "raw"])]
    pub(crate) grep: Option<String>,
    /// Records for which this holds: 'status>=500 and path~"/api"'.
    #[arg(long = "where", value_name = "CONDITION", conflicts_with_all = ["part", "raw"])]
    pub(crate) condition: Option<String>,
    /// Which records: access, application (or app), error, audit.
    #[arg(long, conflicts_with_all = ["part", "raw"])]
    pub(crate) stream: Option<String>,
    /// Records as JSON, one object a line.
    #[arg(long, conflicts_with_all = ["part", "raw"])]
    pub(crate) json: bool,
    /// Count records, errors and latency by the minute.
    #[arg(long, conflicts_with_all = ["part", "raw", "follow"])]
    pub(crate) by_minute: bool,
}

/// `errors …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ErrorsCommand {
    /// List the groups, the one that was seen last at the top.
    #[command(
        after_help = "Examples:\n  astraler errors list\n  astraler errors list --env production --json"
    )]
    List {
        /// Of this environment.
        #[arg(long)]
        env: Option<String>,
        /// So many of them.
        #[arg(short = 'n', long, default_value_t = 50)]
        lines: u32,
        #[command(flatten)]
        json: Json,
    },
    /// Show a group: its stack in the sources, when it happened, and the requests in which it did.
    #[command(after_help = "Example:\n  astraler errors show 3f1c09aa12be")]
    Show {
        /// Its id, or the beginning of it.
        id: String,
        #[command(flatten)]
        json: Json,
    },
}

impl LogsArguments {
    /// Records are asked for, not the last lines of parts.
    pub(crate) fn is_question(&self) -> bool {
        let texts = [
            &self.env,
            &self.since,
            &self.until,
            &self.grep,
            &self.condition,
            &self.stream,
        ];
        self.json || self.by_minute || texts.iter().any(|text| text.is_some())
    }
}

/// `manifest …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Check astraler.toml and the files beside it; all errors at once.
    #[command(after_help = "Examples:\n  astraler manifest check\n  astraler manifest check --json")]
    Check(Json),
    /// Print the JSON Schema, for editors.
    #[command(after_help = "Example:\n  astraler manifest schema > astraler.schema.json")]
    Schema,
    /// Say what a key does, its type and default.
    #[command(after_help = "Example:\n  astraler manifest explain redis.maxmemory_bytes")]
    Explain {
        /// Dotted key.
        key: String,
        #[command(flatten)]
        json: Json,
    },
}

/// `pipeline …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PipelineCommand {
    /// Run the application's workflows here, each step in a sandbox.
    ///
    /// What runs is the working folder as it is, committed or not, without what .gitignore names. Jobs that deploy
    /// (`environment:`) are left out unless they are named. Ctrl-C ends the run in the way of GitHub: steps that
    /// clean up still run.
    #[command(after_help = "Examples:
  astraler pipeline run
  astraler pipeline run test
  astraler pipeline run --event pull_request --ref feature/cards --json
  astraler pipeline run --event workflow_dispatch --input level=debug --secret NPM_TOKEN")]
    Run(PipelineRunArguments),
    /// The runs that pushes asked for, newest first.
    #[command(after_help = "Examples:
  astraler pipeline list
  astraler pipeline list --branch develop -n 5 --json")]
    List {
        /// Only those of a branch.
        #[arg(long)]
        branch: Option<String>,
        /// So many.
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: u32,
        #[command(flatten)]
        json: Json,
    },
    /// A run: its jobs, its gates, why it failed.
    #[command(after_help = "Examples:
  astraler pipeline show 12
  astraler pipeline show 12 --json")]
    Show {
        /// Its number.
        run: u64,
        #[command(flatten)]
        json: Json,
    },
    /// What a run said.
    #[command(after_help = "Examples:
  astraler pipeline logs 12
  astraler pipeline logs 12 -f
  astraler pipeline logs 12 --job test")]
    Logs {
        /// Its number.
        run: u64,
        /// Go on until it ends.
        #[arg(short, long)]
        follow: bool,
        /// Only one job.
        #[arg(long)]
        job: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// End a run; steps that clean up still run.
    #[command(after_help = "Example:
  astraler pipeline cancel 12")]
    Cancel {
        /// Its number.
        run: u64,
    },
    /// Check the workflows in .github/workflows; all errors at once, and what is refused by name.
    #[command(after_help = "Examples:
  astraler pipeline check
  astraler pipeline check --json
  astraler pipeline check .github/workflows/ci.yml")]
    Check {
        /// Workflow files, instead of all of the application's.
        files: Vec<PathBuf>,
        #[command(flatten)]
        json: Json,
    },
    /// Evaluate an expression of GitHub Actions.
    ///
    /// The contexts' file is a JSON object of their names: {"github": {"ref": "refs/heads/main"}}. With --json the
    /// output is {"kind", "value"}, or {"error": {"kind", "message"}} with exit code 1.
    #[command(after_help = "Examples:
  astraler pipeline eval -- \"1 < 2 && 'yes'\"
  astraler pipeline eval --contexts contexts.json --json -- \"startsWith(github.ref, 'refs/tags/')\"")]
    Eval {
        /// JSON file with the contexts.
        #[arg(long, value_name = "FILE")]
        contexts: Option<PathBuf>,
        #[command(flatten)]
        json: Json,
        /// The expression, without ${{ }}.
        #[arg(allow_hyphen_values = true)]
        expression: String,
    },
}

/// `release …`. A digest may be short: its first four or more hex digits.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Every release, the newest last.
    #[command(after_help = "Examples:\n  astraler release list\n  astraler release list --json")]
    List(Json),
    /// What a release holds: layers, files, workers, configuration.
    #[command(after_help = "Examples:
  astraler release show 3f2a91c0
  astraler release show sha256:3f2a91c0 --json")]
    Show {
        /// Digest, or its beginning.
        digest: String,
        #[command(flatten)]
        json: Json,
    },
    /// Check every blob against its digest and every file against its layer; all releases when none is named.
    #[command(after_help = "Examples:
  astraler release verify
  astraler release verify 3f2a91c0 --json

Exit code 8 says that a release is not what its digest says; the message names the file and the blob.")]
    Verify {
        /// Digest, or its beginning.
        digest: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Take in what `export` wrote, here or on another machine: checked against its digests, then kept.
    #[command(
        after_help = "Example:\n  astraler release import board.tar && astraler deploy --release 3f2a91c0"
    )]
    Import {
        /// A tar of an OCI image layout.
        file: PathBuf,
        #[command(flatten)]
        json: Json,
    },
    /// Write a release as a tar of an OCI image layout, as skopeo and podman read it (`oci-archive:FILE`).
    #[command(after_help = "Examples:
  astraler release export 3f2a91c0 board.tar && skopeo inspect oci-archive:board.tar
  astraler release export 3f2a91c0 board.tar && podman pull oci-archive:board.tar")]
    Export {
        /// Digest, or its beginning.
        digest: String,
        /// The file to write; it is replaced as a whole.
        file: PathBuf,
        #[command(flatten)]
        json: Json,
    },
}

/// `env …`.
#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Environments that are up.
    List(Json),
    /// Every URL, endpoint and credential reference of an environment.
    #[command(after_help = "Example:\n  astraler env show development --json")]
    Show {
        /// Which environment.
        name: String,
        #[command(flatten)]
        json: Json,
    },
    /// Remove a preview wholly: routes, workers, Redis, database, buckets, secrets.
    #[command(after_help = "Example:\n  astraler env remove pr-7")]
    Remove {
        /// Which preview.
        name: String,
        /// Print each event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compare two environments: release, migrations, schema, names of variables and secrets, bindings, routes, limits,
    /// versions of the engines. Values of variables and secrets are never shown.
    #[command(after_help = "Examples:
  astraler env diff staging production
  astraler env diff staging production --gate --json")]
    Diff {
        /// One.
        a: String,
        /// The other.
        b: String,
        /// Exit with 14 when anything differs that should not.
        #[arg(long)]
        gate: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Print one credential; it is audited.
    #[command(after_help = "Example:\n  astraler env credential development postgres_service_password")]
    Credential {
        /// Which environment.
        environment: String,
        /// Which credential.
        name: String,
    },
}

/// `token …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it once.
    #[command(after_help = "Examples:
  astraler token create anna --scope push:feature/* --scope read --expires 30d
  astraler token create ci --scope deploy:staging --scope deploy:preview

Scopes: read, release, push:BRANCH (with * and **), deploy:ENVIRONMENT (deploy:preview is every preview), admin.")]
    Create {
        /// Who will bear it.
        name: String,
        /// What its bearer may do; may be repeated.
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// How long it holds, as 12h or 30d; until it is revoked by default.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Tokens with their scopes and last use; never their text.
    #[command(after_help = "Example:\n  astraler token list --json")]
    List(Json),
    /// End a token at once.
    #[command(after_help = "Example:\n  astraler token revoke anna")]
    Revoke {
        /// Its name.
        name: String,
    },
}

/// `pipeline run`.
#[derive(Debug, Args)]
pub(crate) struct PipelineRunArguments {
    /// Jobs to run, with those that they need; all that do not deploy where none is named.
    #[arg(value_name = "JOB")]
    pub(crate) jobs: Vec<String>,
    /// What happened: push, pull_request, workflow_dispatch…
    #[arg(long, default_value = "push")]
    pub(crate) event: String,
    /// Branch, or refs/tags/NAME; the branch of the working folder by default.
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) reference: Option<String>,
    /// Branch that a pull request goes to.
    #[arg(long, default_value = "main")]
    pub(crate) base: String,
    /// A secret, taken from the variable of this name in your shell; may be repeated.
    #[arg(long = "secret", value_name = "NAME")]
    pub(crate) secrets: Vec<String>,
    /// File with secrets: a NAME=VALUE a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// A value of `vars`; may be repeated.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub(crate) vars: Vec<String>,
    /// An input of `workflow_dispatch`; may be repeated.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
    /// Print each event as a line of JSON; the last one is the report.
    #[arg(long)]
    pub(crate) json: bool,
}
