//! `astraler backup`.

use crate::cli::{Arguments, BackupCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::{BackupReport, Progress};

pub(super) fn run(arguments: &Arguments, command: &BackupCommand) -> Outcome {
    match command {
        BackupCommand::Status(json) => status(arguments, json.json),
        BackupCommand::List { lines, json } => list(arguments, *lines, json.json),
        BackupCommand::Run { json } => make(arguments, *json),
        BackupCommand::Verify { full, json } => verify(arguments, *full, *json),
    }
}

fn status(arguments: &Arguments, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let report = super::block_on(async {
        client
            .backup_status()
            .await
            .map_err(|error| super::not_up(&error))
    })?;
    if json {
        table::print_json(&report)?;
    } else {
        show(&report);
    }
    match report.healthy {
        true => Ok(()),
        false => Err(Failure::new(Kind::General, "backups are not as they should be")
            .hint("the table says which; `astraler backup run` makes them now")),
    }
}

fn show(report: &BackupReport) {
    for standing in &report.storage {
        line(&format!(
            "storage {} → {}",
            standing.environment, standing.destination
        ));
        line(&format!(
            "  {} objects wait, the oldest for {} s",
            standing.waiting,
            standing.lag_ms / 1_000
        ));
        if let Some(error) = &standing.error {
            line(&format!("  ! {error}"));
        }
    }
    if report.clusters.is_empty() {
        line("no database is backed up: set backups.target_url in astraler.toml, and deploy");
        rest(report);
        return;
    }
    for cluster in &report.clusters {
        line(&format!("postgres {} → {}", cluster.cluster, cluster.destination));
        if let Some(archive) = &cluster.archive {
            let until = archive.archived_ms.map_or_else(|| "nothing yet".to_owned(), date);
            line(&format!("  log until {until}, {} waiting", archive.waiting));
            if let Some(gap) = &archive.gap {
                line(&format!(
                    "  ! segment {gap} found no room: the next base closes the gap"
                ));
            }
            if let Some(error) = &archive.error {
                line(&format!("  ! {error}"));
            }
        }
    }
    table::print(
        &["what", "made", "bytes", "state"],
        report
            .clusters
            .iter()
            .flat_map(|cluster| &cluster.backups)
            .map(|backup| {
                let mut state = Vec::new();
                if backup.overdue {
                    state.push(if backup.made_ms.is_some() {
                        "overdue".to_owned()
                    } else {
                        "missing".to_owned()
                    });
                }
                if backup.shrunken {
                    state.push("less than half of the one before".to_owned());
                }
                state.extend(backup.error.clone());
                vec![
                    format!("{} {}", backup.kind, backup.subject),
                    backup.made_ms.map_or_else(|| "-".to_owned(), date),
                    backup
                        .bytes
                        .map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
                    if state.is_empty() {
                        "good".to_owned()
                    } else {
                        state.join("; ")
                    },
                ]
            }),
    );
    rest(report);
}

/// What is not a table's.
fn rest(report: &BackupReport) {
    let configuration = &report.configuration;
    if let Some(remote) = &configuration.remote {
        let commit = |commit: &Option<String>| {
            let commit = commit.as_deref().unwrap_or("nothing");
            commit.get(..8).unwrap_or(commit).to_owned()
        };
        line(&format!(
            "configuration: {} here, {} at {remote}",
            commit(&configuration.commit),
            commit(&configuration.pushed)
        ));
    }
    if let Some(error) = &configuration.error {
        line(&format!("  ! {error}"));
    }
    for note in &report.notes {
        line(&format!("note: {note}"));
    }
}

fn list(arguments: &Arguments, lines: u32, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let all = super::block_on(async { client.backups(lines).await.map_err(|error| super::not_up(&error)) })?;
    if json {
        return Ok(table::print_json(&all)?);
    }
    table::print(
        &["what", "begun", "bytes", "state", "where"],
        all.as_array().into_iter().flatten().map(|backup| {
            let text = |name: &str| backup[name].as_str().unwrap_or("-").to_owned();
            vec![
                format!("{} {}", text("kind"), text("subject")),
                backup["started_ms"].as_u64().map_or_else(|| "-".to_owned(), date),
                backup["bytes"]
                    .as_u64()
                    .map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
                backup["error"]
                    .as_str()
                    .map_or_else(|| text("state"), str::to_owned),
                text("location"),
            ]
        }),
    );
    Ok(())
}

fn make(arguments: &Arguments, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    follow(json, |on_line| {
        super::block_on(async {
            client
                .backup_run(on_line)
                .await
                .map_err(|error| super::not_up(&error))
        })
    })
}

fn verify(arguments: &Arguments, full: bool, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    follow(json, |on_line| {
        super::block_on(async {
            client
                .backup_verify(full, on_line)
                .await
                .map_err(|error| super::not_up(&error))
        })
    })
}

/// Shows progress as it comes; the end decides.
pub(super) fn follow(json: bool, work: impl FnOnce(&mut dyn FnMut(Progress) -> bool) -> Outcome) -> Outcome {
    let mut end = Err(Failure::new(Kind::General, "the daemon ended before it was done")
        .hint("`astraler logs daemon` says why; run it again"));
    work(&mut |event| {
        if json {
            line(&serde_json::to_string(&event).unwrap_or_default());
        }
        match event {
            Progress::End {
                part,
                detail,
                elapsed_ms,
            } if !json => {
                line(&format!(
                    "{part}: {detail} in {:.1} s",
                    std::time::Duration::from_millis(elapsed_ms).as_secs_f64()
                ));
            }
            Progress::Done { message } => {
                if !json {
                    line(&message);
                }
                end = Ok(());
            }
            Progress::Failed(fault) => end = Err(super::up::failed(&fault)),
            _ => {}
        }
        true
    })?;
    end
}

pub(super) fn date(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "-".to_owned(), |time| time.strftime("%F %T").to_string())
}
