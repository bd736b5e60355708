//! Transcripts: a file is a script whose commands begin with `> `; below each stands what it answers. Written anew
//! with `ASTRALER_REFRESH=1 cargo test -p astraler-plan`.

use crate::machine::{self, Manifest};
use astraler_plan::{Address, Observed, plan};
use std::fmt::Write as _;
use std::path::Path;

#[test]
fn every_transcript_is_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    let refresh = std::env::var_os("ASTRALER_REFRESH").is_some();
    let mut differing = Vec::new();
    for path in files {
        let written = std::fs::read_to_string(&path).unwrap();
        let run = transcript(&written);
        if refresh {
            std::fs::write(&path, run).unwrap();
        } else if run != written {
            differing.push(format!(
                "{} is now:\n{run}",
                path.file_name().unwrap().to_string_lossy()
            ));
        }
    }
    assert!(
        differing.is_empty(),
        "{}\nASTRALER_REFRESH=1 writes them anew",
        differing.join("\n")
    );
}

fn transcript(script: &str) -> String {
    let mut manifest = Manifest::default();
    let mut machine = Observed::default();
    let mut out = String::new();
    for line in script.lines() {
        if line.starts_with('#') {
            writeln!(out, "{line}").unwrap();
        } else if let Some(command) = line.strip_prefix("> ") {
            writeln!(out, "\n> {command}").unwrap();
            out.push_str(&run(command, &mut manifest, &mut machine));
        }
    }
    out
}

fn run(command: &str, manifest: &mut Manifest, machine: &mut Observed) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    match words[..] {
        ["env", "add", name] => {
            manifest.environments.insert(name.parse().unwrap());
        }
        ["env", "remove", name] => {
            manifest.environments.remove(&name.parse().unwrap());
        }
        ["protect", name] => {
            manifest.protected.insert(name.parse().unwrap());
        }
        ["unprotect", name] => {
            manifest.protected.remove(&name.parse().unwrap());
        }
        ["bucket", "add", name] => {
            manifest.buckets.insert(name.into());
        }
        ["bucket", "remove", name] => {
            manifest.buckets.remove(name);
        }
        ["set", "pool_size", value] => manifest.pool_size = value.parse().unwrap(),
        ["set", "redis_memory", value] => manifest.redis_memory = value.parse().unwrap(),
        ["set", "max_connections", value] => manifest.max_connections = value.parse().unwrap(),
        ["set", "max_body_bytes", value] => manifest.max_body_bytes = value.parse().unwrap(),
        ["set", "release", value] => manifest.release = value.into(),
        ["by-hand", "drop", address] => {
            machine
                .resources
                .remove(&address.parse::<Address>().unwrap())
                .unwrap();
        }
        ["by-hand", "set", address, attribute, value] => {
            let address: Address = address.parse().unwrap();
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            machine
                .resources
                .get_mut(&address)
                .unwrap()
                .insert(attribute.into(), value);
        }
        ["plan"] => return plan(&manifest.desired(), machine).to_string(),
        ["apply"] => {
            let planned = plan(&manifest.desired(), machine);
            return match machine::apply(machine, &planned) {
                Ok(()) => "applied\n".into(),
                Err(reason) => format!("refused: {reason}\n"),
            };
        }
        // Half of it, as a power cut would leave it.
        ["apply", "steps", steps] => {
            let planned = plan(&manifest.desired(), machine);
            for action in planned.actions.iter().take(steps.parse().unwrap()) {
                machine::step(machine, action);
            }
            return format!("stopped after {steps} of {} steps\n", planned.actions.len());
        }
        _ => panic!("`{command}` is no command"),
    }
    String::new()
}
