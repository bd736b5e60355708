//! `astraler secrets`.

use crate::cli::{Arguments, SecretsCommand, SecretsPlace, SecretsValue};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::{
    AdminClient, ClientError, KeyRotation, ParsePlaceError, SecretPlace, SecretReport, SecretSet,
};
use astraler_model::Environment;
use astraler_secrets::Secret;
use std::io::{IsTerminal, Read};

/// Longer is refused by the daemon; this much is read.
const MAX_READ: u64 = 64 << 10;

pub(super) fn run(arguments: &Arguments, command: &SecretsCommand) -> Outcome {
    match command {
        SecretsCommand::Set {
            name,
            place,
            value,
            json,
        } => {
            let (place, value) = (self::place(place)?, read(value)?);
            let set = ask(arguments, async |client| {
                client.secret_set(place, name, &value).await
            })?;
            told_set(&set, json.json)
        }
        SecretsCommand::Rotate {
            name,
            place,
            value,
            generate,
            json,
        } => {
            let place = self::place(place)?;
            let value = match generate {
                true => None,
                false => Some(read(value)?),
            };
            let set = ask(arguments, async |client| {
                client.secret_rotate(place, name, value.as_ref()).await
            })?;
            told_set(&set, json.json)
        }
        SecretsCommand::List { place, json } => list(arguments, place.as_deref(), json.json),
        SecretsCommand::Grant {
            name,
            place,
            to,
            json,
        } => {
            let place = self::place(place)?;
            let report = ask(arguments, async |client| {
                client.secret_grant(place, name, to).await
            })?;
            if json.json {
                return Ok(table::print_json(&report)?);
            }
            line(&match report.changed {
                true => format!("{to} may have {name} of {place}"),
                false => format!("{to} could have {name} of {place} already"),
            });
            if !report.known {
                line(&format!("note: no worker `{to}` runs in {place} now"));
            }
            pending(&report.pending);
            Ok(())
        }
        SecretsCommand::Revoke {
            name,
            place,
            from,
            json,
        } => {
            let place = self::place(place)?;
            let report = ask(arguments, async |client| {
                client.secret_revoke(place, name, from).await
            })?;
            if json.json {
                return Ok(table::print_json(&report)?);
            }
            line(&match report.changed {
                true => format!("{from} may not have {name} of {place} any more"),
                false => format!("{from} had no grant of {name} of {place}"),
            });
            pending(&report.pending);
            Ok(())
        }
        SecretsCommand::History { name, place, json } => {
            history(arguments, self::place(place)?, name, json.json)
        }
        SecretsCommand::Remove { name, place, json } => {
            let place = self::place(place)?;
            let left = ask(arguments, async |client| client.secret_remove(place, name).await)?;
            if json.json {
                return Ok(table::print_json(&serde_json::json!({ "pending": left }))?);
            }
            line(&format!("{name} of {place} is removed"));
            pending(&left);
            Ok(())
        }
        SecretsCommand::Apply {
            environment,
            wait,
            json,
        } => apply(arguments, environment, *wait, *json),
        SecretsCommand::RecoveryKey(command) => super::recovery_key::run(arguments, command),
        SecretsCommand::RotateKeys { root, json } => {
            let rotation = match root {
                true => KeyRotation::Root,
                false => KeyRotation::Scopes,
            };
            super::plan::carry_out(*json, "`astraler secrets rotate-keys`", |heard| {
                ask(arguments, async |client| {
                    client.keys_rotate(&rotation, heard).await
                })
            })?;
            if *root && !*json {
                line("copies of the old root key open nothing that is sealed now: make new ones");
            }
            Ok(())
        }
    }
}

fn list(arguments: &Arguments, place: Option<&str>, json: bool) -> Outcome {
    let places = match place {
        Some(place) => vec![parsed(place)?],
        None => SecretPlace::ALL.to_vec(),
    };
    let mut all: Vec<SecretReport> = Vec::new();
    for place in places {
        all.extend(ask(arguments, async |client| client.secrets(place).await)?);
    }
    if json {
        return Ok(table::print_json(&all)?);
    }
    if all.is_empty() {
        line("there is no secret; `astraler secrets set NAME --env NAME` stores one");
        return Ok(());
    }
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    table::print(
        &[
            "environment",
            "name",
            "version",
            "set",
            "by",
            "granted to",
            "state",
        ],
        all.iter().map(|secret| {
            let mut state: Vec<String> = secret
                .pending
                .iter()
                .map(|environment| format!("{environment} has not taken it"))
                .collect();
            if secret.due_ms <= now {
                state.push("rotation is due".into());
            }
            vec![
                secret.place.to_string(),
                secret.name.clone(),
                secret.version.to_string(),
                date(secret.created_ms),
                secret.actor.clone(),
                match secret.grants.is_empty() {
                    true => "nobody".into(),
                    false => secret.grants.join("\n"),
                },
                state.join("\n"),
            ]
        }),
    );
    let waiting = all.iter().flat_map(|secret| secret.pending.iter().copied());
    pending(&waiting.collect::<Vec<_>>());
    Ok(())
}

fn history(arguments: &Arguments, place: SecretPlace, name: &str, json: bool) -> Outcome {
    let versions = ask(arguments, async |client| client.secret_history(place, name).await)?;
    if json {
        return Ok(table::print_json(&versions)?);
    }
    table::print(
        &["version", "when", "by", "what"],
        versions.as_array().into_iter().flatten().map(|version| {
            let what = match (&version["removed"], &version["sealed"]) {
                (serde_json::Value::Bool(true), _) => "removed",
                (_, serde_json::Value::Bool(true)) => "set",
                _ => "set; its value is deleted",
            };
            vec![
                version["version"].to_string(),
                date(version["created_ms"].as_u64().unwrap_or_default()),
                version["actor"].as_str().unwrap_or_default().to_owned(),
                what.to_owned(),
            ]
        }),
    );
    Ok(())
}

/// One environment, or each preview that is up.
fn apply(arguments: &Arguments, name: &str, wait: bool, json: bool) -> Outcome {
    let environments: Vec<Environment> = match name {
        "preview" => {
            let status = ask(arguments, async |client| client.status().await)?;
            let all = status.environments.iter().map(|one| one.environment);
            all.filter(|environment| matches!(environment, Environment::Preview(_)))
                .collect()
        }
        name => vec![
            name.parse()
                .map_err(|error: astraler_model::ParseEnvironmentError| Failure::of(&error))?,
        ],
    };
    let client = super::daemon(arguments)?;
    for environment in environments {
        super::deploy::apply_secrets(&client, environment, wait, json)?;
    }
    Ok(())
}

fn told_set(set: &SecretSet, json: bool) -> Outcome {
    if json {
        return Ok(table::print_json(set)?);
    }
    let SecretSet {
        name, place, version, ..
    } = set;
    line(&match set.changed {
        true => format!("{name} of {place} is set: version {version}"),
        false => format!("{name} of {place} has this value already: version {version}"),
    });
    if !set.masked {
        line("note: it is too short to be masked in logs (fewer than 6 characters)");
    }
    if set.grants.is_empty() {
        line(&format!(
            "nobody may have it yet: `astraler secrets grant {name} --env {place} --to SERVICE`"
        ));
    }
    pending(&set.pending);
    Ok(())
}

/// What runs without the change, and how it takes it.
fn pending(environments: &[Environment]) {
    let mut environments = environments.to_vec();
    environments.sort();
    environments.dedup();
    for environment in environments {
        line(&format!(
            "{environment} runs without this: its next deployment takes it, or `astraler secrets apply --env {environment}`"
        ));
    }
}

/// The value, from where it was said to be. Never from the command line: every user of the machine reads those.
fn read(value: &SecretsValue) -> Outcome<Secret> {
    let mut text = String::new();
    let (what, read) = match &value.from_file {
        Some(path) => {
            let file = std::fs::File::open(path);
            let read = file.and_then(|file| file.take(MAX_READ).read_to_string(&mut text));
            (path.display().to_string(), read)
        }
        None => {
            let input = std::io::stdin();
            if input.is_terminal() {
                return Err(
                    Failure::new(Kind::General, "the value would be seen while it is typed here").hint(
                        "write it into a file and name that with --from-file, or send it through a pipe",
                    ),
                );
            }
            let read = input.lock().take(MAX_READ).read_to_string(&mut text);
            ("standard input".to_owned(), read)
        }
    };
    // Into its own hands before anything else: it is wiped there.
    let value = Secret::new(text);
    read.map_err(|error| Failure::of(&error).context(format!("the value cannot be read from {what}")))?;
    Ok(value)
}

fn place(place: &SecretsPlace) -> Outcome<SecretPlace> {
    parsed(&place.place)
}

fn parsed(name: &str) -> Outcome<SecretPlace> {
    name.parse().map_err(|error: ParsePlaceError| Failure::of(&error))
}

fn ask<T>(
    arguments: &Arguments,
    work: impl AsyncFnOnce(&AdminClient) -> Result<T, ClientError>,
) -> Outcome<T> {
    let client = super::daemon(arguments)?;
    super::block_on(async { work(&client).await.map_err(|error| super::not_up(&error)) })
}

fn date(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "-".to_owned(), |time| time.strftime("%F %H:%M").to_string())
}
