//! `astraler maintenance`, `astraler attack-mode`.

use crate::cli::{Arguments, AttackCommand, MaintenanceCommand};
use crate::failure::{Failure, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::{AttackRequest, EnvironmentReport, MaintenanceRequest};
use astraler_model::Environment;
use serde_json::{Value, json};

pub(super) fn maintenance(arguments: &Arguments, command: &MaintenanceCommand) -> Outcome {
    let client = super::daemon(arguments)?;
    match command {
        MaintenanceCommand::On {
            environment,
            message,
            allow,
            retry_after,
            json,
        } => {
            let environment = parse(environment)?;
            let seconds = super::token::duration_ms(retry_after)? / 1_000;
            let request = MaintenanceRequest {
                message: message.clone(),
                allow: allow.clone(),
                retry_after_s: u32::try_from(seconds).unwrap_or(u32::MAX),
            };
            super::block_on(async {
                let asked = client.maintenance_on(environment, &request).await;
                asked.map_err(|error| super::not_up(&error))
            })?;
            said(
                json.json,
                &json!({ "environment": environment, "maintenance": request }),
                &format!(
                    "{environment} answers 503; `astraler maintenance off --env {environment}` opens it again"
                ),
            )
        }
        MaintenanceCommand::Off { environment, json } => {
            let environment = parse(environment)?;
            super::block_on(async {
                let asked = client.maintenance_off(environment).await;
                asked.map_err(|error| super::not_up(&error))
            })?;
            said(
                json.json,
                &json!({ "environment": environment, "maintenance": null }),
                &format!("{environment} serves everybody"),
            )
        }
    }
}

pub(super) fn attack(arguments: &Arguments, command: &AttackCommand) -> Outcome {
    let client = super::daemon(arguments)?;
    match command {
        AttackCommand::On {
            environment,
            lasts,
            json,
        } => {
            let environment = parse(environment)?;
            let lasting = lasts.as_deref().map(super::token::duration_ms).transpose()?;
            let request = AttackRequest {
                seconds: lasting.map(|ms| ms / 1_000),
            };
            super::block_on(async {
                let asked = client.attack_on(environment, &request).await;
                asked.map_err(|error| super::not_up(&error))
            })?;
            let until = match lasts {
                Some(lasts) => format!("for {lasts}"),
                None => format!("until `astraler attack-mode off --env {environment}`"),
            };
            said(
                json.json,
                &json!({ "environment": environment, "attack": request }),
                &format!("limits of {environment} are tightened {until}"),
            )
        }
        AttackCommand::Off { environment, json } => {
            let environment = parse(environment)?;
            super::block_on(async {
                let asked = client.attack_off(environment).await;
                asked.map_err(|error| super::not_up(&error))
            })?;
            said(
                json.json,
                &json!({ "environment": environment, "attack": null }),
                &format!("{environment} has its usual limits"),
            )
        }
    }
}

/// For `astraler status`.
pub(super) fn words(report: &EnvironmentReport) -> Vec<String> {
    let environment = report.environment;
    let mut words = Vec::new();
    if let Some(maintenance) = &report.maintenance {
        let passing = match maintenance.allow.len() {
            0 => "all".to_owned(),
            1 => "all but one network".to_owned(),
            several => format!("all but {several} networks"),
        };
        words.push(format!(
            "{environment} is in maintenance for {passing} since {}: `astraler maintenance off --env {environment}`",
            super::backup::date(maintenance.since_ms)
        ));
    }
    if let Some(attack) = &report.attack {
        let until = attack.until_ms.map_or_else(
            || format!("until `astraler attack-mode off --env {environment}`"),
            |until| format!("until {}", super::backup::date(until)),
        );
        words.push(format!("limits of {environment} are tightened {until}"));
    }
    words
}

fn parse(environment: &str) -> Outcome<Environment> {
    environment
        .parse()
        .map_err(|error: astraler_model::ParseEnvironmentError| Failure::of(&error))
}

fn said(json: bool, value: &Value, words: &str) -> Outcome {
    if json {
        return Ok(table::print_json(value)?);
    }
    line(words);
    Ok(())
}
