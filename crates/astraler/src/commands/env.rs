//! `astraler env`.

use crate::cli::{Arguments, EnvCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::EnvironmentReport;

pub(super) fn run(arguments: &Arguments, command: &EnvCommand) -> Outcome {
    if let EnvCommand::Diff { a, b, gate, json } = command {
        return super::env_diff::run(arguments, [a, b], json.json, *gate);
    }
    let client = super::daemon(arguments)?;
    if let EnvCommand::Credential { environment, name } = command {
        let value = super::block_on(async {
            client
                .credential(environment, name)
                .await
                .map_err(|error| super::not_up(&error))
        })?;
        line(&value);
        return Ok(());
    }
    if let EnvCommand::Remove { name, json } = command {
        return super::deploy::remove(&client, name, *json);
    }
    let report = super::block_on(async { client.status().await.map_err(|error| super::not_up(&error)) })?;
    match command {
        EnvCommand::List(json) if json.json => table::print_json(&report.environments)?,
        EnvCommand::List(_) => table::print(
            &["environment", "deployment", "state", "url"],
            report.environments.iter().map(|environment| {
                vec![
                    environment.environment.to_string(),
                    environment.deployment.clone().unwrap_or_else(|| "-".into()),
                    if environment.asleep { "asleep" } else { "awake" }.to_owned(),
                    environment.urls.join(" "),
                ]
            }),
        ),
        EnvCommand::Show { name, json } => {
            let found = report
                .environments
                .iter()
                .find(|environment| environment.environment.to_string() == *name);
            let Some(environment) = found else {
                let up: Vec<String> = report
                    .environments
                    .iter()
                    .map(|environment| environment.environment.to_string())
                    .collect();
                return Err(
                    Failure::new(Kind::NotUp, format!("environment `{name}` is not up")).hint(format!(
                        "up now: {}; `astraler up --env {name}` brings it up",
                        up.join(", ")
                    )),
                );
            };
            if json.json {
                table::print_json(environment)?;
            } else {
                show(environment);
            }
        }
        EnvCommand::Credential { .. } | EnvCommand::Remove { .. } | EnvCommand::Diff { .. } => {}
    }
    Ok(())
}

fn show(environment: &EnvironmentReport) {
    let urls = environment
        .urls
        .iter()
        .map(|url| vec!["url".to_owned(), url.clone()]);
    let endpoints = environment
        .endpoints
        .iter()
        .map(|(name, value)| vec![name.clone(), value.clone()]);
    let credentials = environment
        .credentials
        .iter()
        .map(|(name, value)| vec![name.clone(), value.clone()]);
    let workers = environment
        .workers
        .iter()
        .map(|(name, routes)| vec![format!("worker {name}"), routes.join(" ")]);
    table::print(
        &["what", "where"],
        urls.chain(workers).chain(endpoints).chain(credentials),
    );
}
