//! `astraler doctor`: every requirement with its version and path, or the one command that mends it.

use super::install;
use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::managed_rules;
use crate::place::{self, Place};
use crate::progress::line;
use crate::table;
use astraler_control::AdminClient;
use astraler_model::Environment;
use astraler_waf::ruleset::Files;
use serde::Serialize;
use std::path::PathBuf;
use std::process::Command;

/// One of each kind.
const EVERY_KIND: [Environment; 4] = [
    Environment::Development,
    Environment::Preview(1),
    Environment::Staging,
    Environment::Production,
];

/// One requirement.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    /// `ok`, `missing`, or `note` for what is useful but not needed.
    state: State,
    found: String,
    /// The one command that mends it.
    mend: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Missing,
    Note,
}

pub(super) fn run(arguments: &Arguments, json: bool) -> Outcome {
    let checks = checks(arguments);
    if json {
        table::print_json(&checks)?;
    } else {
        table::print(
            &["requirement", "state", "found", "mend with"],
            checks.iter().map(|check| {
                let state = match check.state {
                    State::Ok => "ok",
                    State::Missing => "MISSING",
                    State::Note => "note",
                };
                vec![
                    check.name.to_owned(),
                    state.to_owned(),
                    check.found.clone(),
                    check.mend.clone().unwrap_or_default(),
                ]
            }),
        );
    }
    let missing: Vec<&str> = checks
        .iter()
        .filter(|check| check.state == State::Missing)
        .map(|check| check.name)
        .collect();
    if missing.is_empty() {
        if !json {
            line("everything that is needed is there");
        }
        return Ok(());
    }
    Err(
        Failure::new(Kind::Missing, format!("missing: {}", missing.join(", ")))
            .hint("run the commands in the last column"),
    )
}

fn checks(arguments: &Arguments) -> Vec<Check> {
    vec![
        postgres(),
        redis(),
        program("bubblewrap", "bwrap", "bubblewrap", State::Missing),
        program("git", "git", "git", State::Missing),
        node(),
        program("npm", "npm", "npm", State::Missing),
        tools(arguments),
        core_rules(arguments),
        isolation(arguments),
        user(),
    ]
}

fn postgres() -> Check {
    let (min, max) = astraler_control::POSTGRES_VERSIONS;
    match place::engines().postgres(min, max) {
        Ok(binaries) => ok(
            "PostgreSQL 14-18",
            format!("{} in {}", binaries.version, binaries.directory.display()),
        ),
        Err(error) => missing("PostgreSQL 14-18", &error, install("postgresql")),
    }
}

fn redis() -> Check {
    match place::engines().redis() {
        Ok(binary) => ok(
            "Redis 7 or Valkey",
            format!(
                "{} {} at {}",
                binary.flavour,
                binary.version,
                binary.path.display()
            ),
        ),
        Err(error) => missing("Redis 7 or Valkey", &error, install("redis-server")),
    }
}

fn program(name: &'static str, program: &str, package: &str, when_missing: State) -> Check {
    match crate::assemble::find_program(program) {
        Some(path) => {
            let version = Command::new(&path)
                .arg("--version")
                .output()
                .ok()
                .and_then(|output| {
                    String::from_utf8_lossy(&output.stdout)
                        .lines()
                        .next()
                        .map(str::to_owned)
                })
                .unwrap_or_default();
            ok(name, format!("{version} at {}", path.display()))
        }
        None => Check {
            name,
            state: when_missing,
            found: format!("`{program}` is not on the PATH"),
            mend: Some(install(package)),
        },
    }
}

/// A Node.js that is too old is no obstacle: npm's own `node` package brings the pinned one.
fn node() -> Check {
    let check = program("node", "node", "nodejs", State::Missing);
    let (major, minor) = astraler_workers::tools::MIN_NODE;
    if check.state != State::Ok || node_version(&check.found).is_none_or(|found| found >= (major, minor)) {
        return check;
    }
    Check {
        state: State::Note,
        found: format!("{}: older than {major}.{minor}", check.found),
        mend: Some("astraler up installs its own".into()),
        ..check
    }
}

/// `v20.20.2 at …` → 20, 20.
fn node_version(found: &str) -> Option<(u32, u32)> {
    let mut numbers = found.strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn tools(arguments: &Arguments) -> Check {
    let name = "npm tools (workerd, esbuild, pnpm)";
    let Ok(config) = crate::assemble::tools_config(arguments) else {
        return Check {
            name,
            state: State::Note,
            found: "no application here".into(),
            mend: Some("astraler init".into()),
        };
    };
    match astraler_workers::tools::find(&config) {
        Some(tools) => ok(name, format!("workerd at {}", tools.workerd.display())),
        None => Check {
            name,
            state: State::Note,
            found: "not installed yet".into(),
            mend: Some("astraler up installs them".into()),
        },
    }
}

/// Rules are needed where a firewall is on that has no others. The edge is asked where it runs: it reads them as the user
/// that it is.
fn core_rules(arguments: &Arguments) -> Check {
    let name = "OWASP Core Rule Set";
    let note = |found: String, mend: Option<String>| Check {
        name,
        state: State::Note,
        found,
        mend,
    };
    let place = Place::find(arguments).ok();
    let read = place
        .as_ref()
        .and_then(|place| Some((place, place::manifest(place).ok()?)));
    let Some((place, manifest)) = read else {
        let installed = PathBuf::from(astraler_manifest::INSTALLED_RULES);
        return match Files::find(&installed) {
            Ok(_) => ok(name, installed.display().to_string()),
            Err(_) => note(
                format!(
                    "no rules in {}; the firewall is off until a manifest says otherwise",
                    installed.display()
                ),
                Some(install("modsecurity-crs")),
            ),
        };
    };
    let Some(rules) = managed_rules::of_machine(&manifest.config, &place.layout, &EVERY_KIND) else {
        return note("no firewall goes by rules of this machine".into(), None);
    };
    let broken = |problem: String| Check {
        name,
        state: State::Missing,
        found: problem,
        mend: Some(managed_rules::hint(&manifest.config.edge, &rules.folder)),
    };
    let program = match rules.compile() {
        Ok(program) => program,
        Err(error) => return broken(error.to_string()),
    };
    let client = AdminClient::new(place.layout.admin_socket());
    let asked = super::block_on(async { Ok(client.waf().await.unwrap_or_default()) });
    let reports = asked.unwrap_or_default().into_iter();
    let found = reports.filter_map(|report| report.found);
    let problem = found.flat_map(|found| found.problems).next();
    match problem {
        Some(problem) => broken(format!("the edge says: {problem}")),
        None => ok(
            name,
            format!("{} rules in {}", program.rules().count(), rules.folder.display()),
        ),
    }
}

/// Without a sandbox that works no worker starts, unless the manifest does without.
fn isolation(arguments: &Arguments) -> Check {
    let isolation = astraler_host::isolation::probe();
    let found = isolation.describe().join("\n");
    if isolation.bwrap_usable || isolation.bwrap.is_none() {
        return ok("isolation", found);
    }
    let off = place::Place::find(arguments)
        .and_then(|place| place::manifest(&place))
        .is_ok_and(|manifest| manifest.config.runtime.sandbox == astraler_manifest::Sandbox::Off);
    Check {
        name: "isolation",
        state: if off { State::Note } else { State::Missing },
        found,
        mend: Some(
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0; for code that you trust, runtime.sandbox = \"off\""
                .into(),
        ),
    }
}

fn user() -> Check {
    let found = if crate::place::is_root() {
        "root: every process gets a user of its own"
    } else {
        "not root: all processes run as you, in .astraler"
    };
    let uid = nix::unistd::geteuid();
    if matches!(nix::unistd::User::from_uid(uid), Ok(None)) {
        return Check {
            name: "user",
            state: State::Missing,
            found: format!("user id {uid} has no entry in /etc/passwd; PostgreSQL refuses such a user"),
            mend: Some(format!(
                "sudo useradd --uid {uid} --no-create-home astraler-{uid}"
            )),
        };
    }
    ok("user", found.into())
}

fn ok(name: &'static str, found: String) -> Check {
    Check {
        name,
        state: State::Ok,
        found,
        mend: None,
    }
}

fn missing(name: &'static str, error: &dyn std::error::Error, mend: String) -> Check {
    Check {
        name,
        state: State::Missing,
        found: error.to_string(),
        mend: Some(mend),
    }
}
