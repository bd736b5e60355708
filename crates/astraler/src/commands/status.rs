//! `astraler status`.

use crate::cli::Arguments;
use crate::failure::Outcome;
use crate::progress::line;
use crate::table;

pub(super) fn run(arguments: &Arguments, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let mut report = super::block_on(async { client.status().await.map_err(|error| super::not_up(&error)) })?;
    // The daemon may not look into processes of other users; we may, as root.
    for part in &mut report.parts {
        part.memory_bytes = part
            .memory_bytes
            .or_else(|| part.unit.pid.and_then(astraler_host::process::memory_pss_tree));
    }
    if json {
        return Ok(table::print_json(&report)?);
    }
    line(&format!("{} · astraler {}", report.application, report.version));
    table::print(
        &["environment", "deployment", "release", "commit", "url"],
        report.environments.iter().map(|environment| {
            vec![
                if environment.asleep {
                    format!("{} (asleep)", environment.environment)
                } else {
                    environment.environment.to_string()
                },
                environment.deployment.clone().unwrap_or_else(|| "-".into()),
                environment.release.as_deref().map_or_else(|| "-".into(), short),
                super::deploy::commit(environment.commit.as_deref(), environment.branch.as_deref()),
                environment.urls.join(" "),
            ]
        }),
    );
    table::print(
        &["part", "state", "pid", "starts", "memory", "last end"],
        report.parts.iter().map(|part| {
            let phase = serde_json::to_value(part.unit.phase).ok();
            vec![
                part.unit.name.to_string(),
                phase
                    .and_then(|phase| phase.as_str().map(str::to_owned))
                    .unwrap_or_default(),
                part.unit.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
                part.unit.starts.to_string(),
                part.memory_bytes.map_or_else(|| "-".into(), table::mebibytes),
                part.unit.last_exit.clone().unwrap_or_default(),
            ]
        }),
    );
    for environment in &report.environments {
        if let (Some(deployment), Some(watch)) = (&environment.deployment, &environment.watch) {
            line(&format!("{} {deployment}: {watch}", environment.environment));
        }
    }
    for word in report.environments.iter().flat_map(super::switches::words) {
        line(&word);
    }
    for drill in &report.drills {
        line(&proven(drill));
    }
    for word in &report.isolation {
        line(word);
    }
    if !report.interrupted.is_empty() {
        line(&format!(
            "interrupted, the next `astraler up` goes on: {}",
            report.interrupted.join(", ")
        ));
    }
    for environment in &report.destroying {
        line(&format!(
            "the destruction of {environment} was begun: `astraler destroy --env {environment}` goes on"
        ));
    }
    Ok(())
}

fn proven(drill: &astraler_control::DrillReport) -> String {
    let cluster = &drill.cluster;
    let mut said = match (drill.proven_ms, &drill.proof) {
        (Some(at), Some(proof)) => format!(
            "postgres {cluster}: a restore to {} was proven on {}",
            super::backup::date(proof.point_ms),
            super::backup::date(at)
        ),
        _ => format!("postgres {cluster}: no restore is proven yet; `astraler drill` does it now"),
    };
    if let Some(error) = &drill.error {
        said.push_str(&format!("; the last drill failed: {error}"));
    }
    said
}

fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}
