//! The commands, one module each, and the choice among them.

mod alerts;
mod audit;
mod backup;
mod cache;
mod deploy;
mod dns;
mod doctor;
mod down;
mod edge;
mod env;
mod env_diff;
mod errors;
mod git;
mod init;
mod logs;
mod manifest;
mod metrics;
mod open;
mod pipeline;
mod pipeline_given;
mod pipeline_run;
mod pipeline_runs;
mod plan;
mod recover;
mod recover_full;
mod recovery_key;
mod reference;
mod release;
mod secrets;
mod status;
mod switches;
mod tls;
mod token;
mod up;
mod waf;

use crate::cli::{Arguments, Command};
use crate::failure::Outcome;
use crate::place::Place;
use crate::processes;
use astraler_control::AdminClient;
use clap::CommandFactory;

/// Runs what the command line asks for.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Init(init) => init::run(arguments, init),
        Command::Up(up) => up::run(arguments, up),
        Command::Deploy(deploy) => deploy::run(arguments, deploy),
        Command::Promote {
            from,
            to,
            gates,
            change,
        } => deploy::promote(arguments, from, to, gates, change),
        Command::Rollback {
            environment,
            to,
            change,
        } => deploy::rollback(arguments, environment, to.as_deref(), change),
        Command::Deployments {
            environment,
            lines,
            json,
        } => deploy::list(arguments, environment.as_deref(), *lines, json.json),
        Command::Down => down::run(arguments),
        Command::Plan(asked) => plan::plan(arguments, asked),
        Command::Apply(asked) => plan::apply(arguments, asked),
        Command::Drift(json) => plan::drift(arguments, json.json),
        Command::Destroy(asked) => plan::destroy(arguments, asked),
        Command::Errors(command) => errors::run(arguments, command),
        Command::Metrics { env, since, json } => metrics::run(arguments, env.as_deref(), since, json.json),
        Command::Status(json) => status::run(arguments, json.json),
        Command::Doctor(json) => doctor::run(arguments, json.json),
        Command::Logs(logs) => logs::run(arguments, logs),
        Command::Open { environment, print } => open::run(arguments, environment, *print),
        Command::Manifest(command) => manifest::run(arguments, command),
        Command::Pipeline(command) => pipeline::run(arguments, command),
        Command::Audit(command) => audit::run(arguments, command),
        Command::Env(command) => env::run(arguments, command),
        Command::Release(command) => release::run(arguments, command),
        Command::Secrets(command) => secrets::run(arguments, command),
        Command::Alerts(command) => alerts::run(arguments, command),
        Command::Cache(command) => cache::run(arguments, command),
        Command::Dns(command) => dns::run(arguments, command),
        Command::Maintenance(command) => switches::maintenance(arguments, command),
        Command::AttackMode(command) => switches::attack(arguments, command),
        Command::Tls(command) => tls::run(arguments, command),
        Command::Waf(command) => waf::run(arguments, command),
        Command::Backup(command) => backup::run(arguments, command),
        Command::Recover(command) => recover::run(arguments, command),
        Command::Drill(given) => recover::drill(arguments, given),
        Command::Token(command) => token::run(arguments, command),
        Command::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut crate::cli::Arguments::command(),
                "astraler",
                &mut std::io::stdout(),
            );
            Ok(())
        }
        Command::Reference => {
            reference::print();
            Ok(())
        }
        Command::Keep { process, standby } => processes::keep(process, *standby),
        Command::GitCredential { process, operation } => git::credential(process, operation),
        Command::GitHook { process, hook } => git::hook(process, hook),
        Command::Runner { spec, events } => pipeline_run::runner(spec, events.as_deref()),
        Command::SandboxInit => std::process::exit(astraler_pipeline::sandbox_init()),
        Command::Launch => Err(processes::launch()),
        Command::Daemon(process) => processes::daemon(process),
        Command::Edge(edge) => match &edge.unit {
            Some(unit) => processes::edge(&unit.installation, &unit.settings),
            None => edge::run(edge),
        },
        Command::Services { process, role } => processes::services(process, *role),
    }
}

/// The daemon of the application's platform; inside a pipeline job, the job's own socket.
fn daemon(arguments: &Arguments) -> Outcome<AdminClient> {
    if let Some(client) = job()? {
        return Ok(client);
    }
    let place = Place::find(arguments)?;
    place.installation()?;
    Ok(AdminClient::new(place.layout.admin_socket()))
}

/// How long a job waits for a daemon that starts anew.
const JOB_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The socket that a pipeline job is given, with its token.
fn job() -> Outcome<Option<AdminClient>> {
    let Some(socket) = std::env::var_os("ASTRALER_SOCKET") else {
        return Ok(None);
    };
    // A run outlives its daemon: what one of its jobs asks for waits for the next one.
    let client = AdminClient::new(std::path::PathBuf::from(socket)).patient(JOB_PATIENCE);
    let Some(file) = std::env::var_os("ASTRALER_TOKEN_FILE") else {
        return Ok(Some(client));
    };
    let token = std::fs::read_to_string(&file).map_err(|error| {
        let path = std::path::Path::new(&file).display();
        crate::failure::Failure::of(&error).context(format!("ASTRALER_TOKEN_FILE {path} cannot be read"))
    })?;
    Ok(Some(client.with_token(token.trim())))
}

/// Runs one asynchronous piece of a command.
fn block_on<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

/// A client's error as a failure: no connection means that the platform is not up.
pub(crate) fn not_up(error: &astraler_control::ClientError) -> crate::failure::Failure {
    use crate::failure::{Failure, Kind};
    let failure = Failure::of(error);
    match error {
        // Nothing went wrong: it was taken down, or this machine was started anew.
        astraler_control::ClientError::Connect { source, .. }
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Failure::new(Kind::NotUp, "the platform is not up").hint("run `astraler up`")
        }
        astraler_control::ClientError::Connect { .. } => failure
            .context("the platform is not up")
            .kind(Kind::NotUp)
            .hint("run `astraler up`; `astraler logs daemon` shows what its control process wrote"),
        _ => failure,
    }
}

/// The command of this machine's package manager.
pub(crate) fn install(package: &str) -> String {
    let sudo = if crate::place::is_root() { "" } else { "sudo " };
    let known = [
        ("apt-get", "apt-get install -y"),
        ("dnf", "dnf install -y"),
        ("pacman", "pacman -S --noconfirm"),
    ];
    let manager = known
        .iter()
        .find(|(program, _)| crate::assemble::find_program(program).is_some());
    match manager {
        Some((_, command)) => format!("{sudo}{command} {package}"),
        None => format!("install {package} with your system's package manager"),
    }
}
