//! `astraler alerts`.

use crate::cli::{AlertsCommand, Arguments};
use crate::failure::{Failure, Outcome};
use crate::progress::line;
use crate::table;
use astraler_alert::{Alert, Delivery, DeliveryState, Key, Severity, State};
use astraler_control::{AlertsReport, ClientError, SilenceRequest};
use astraler_model::Environment;
use serde_json::json;

pub(super) fn run(arguments: &Arguments, command: &AlertsCommand) -> Outcome {
    let client = super::daemon(arguments)?;
    match command {
        AlertsCommand::List { all, json } => {
            let report = ask(async || client.alerts().await)?;
            if json.json {
                return Ok(table::print_json(&report)?);
            }
            list(&report, *all)
        }
        AlertsCommand::Ack { number, lasts, json } => {
            let seconds = super::token::duration_ms(lasts)? / 1_000;
            ask(async || client.alert_acknowledge(*number, seconds).await)?;
            if json.json {
                return Ok(table::print_json(
                    &json!({ "number": number, "seconds": seconds }),
                )?);
            }
            line(&format!("you look after alert {number} for {lasts}"));
            Ok(())
        }
        AlertsCommand::Silence {
            end: Some(number),
            json,
            ..
        } => {
            ask(async || client.alert_unsilence(*number).await)?;
            if json.json {
                return Ok(table::print_json(&json!({ "number": number, "ended": true }))?);
            }
            line(&format!("silence {number} has ended"));
            Ok(())
        }
        AlertsCommand::Silence {
            rule,
            environment,
            lasts,
            reason,
            end: None,
            json,
        } => {
            let request = SilenceRequest {
                rule: rule.clone(),
                environment: environment
                    .as_deref()
                    .map(str::parse::<Environment>)
                    .transpose()
                    .map_err(|error| Failure::of(&error))?,
                seconds: super::token::duration_ms(lasts)? / 1_000,
                reason: reason.clone(),
            };
            let number = ask(async || client.alert_silence(&request).await)?;
            if json.json {
                return Ok(table::print_json(&json!({ "number": number }))?);
            }
            line(&format!(
                "silence {number} holds for {lasts}; `astraler alerts silence --end {number}` ends it"
            ));
            Ok(())
        }
        AlertsCommand::Test { severity, json } => {
            let severity: Severity = severity.parse().map_err(|error: astraler_alert::Unknown| {
                Failure::of(&error).hint("for example `astraler alerts test --severity critical`")
            })?;
            let number = ask(async || client.alert_test(severity).await)?;
            if json.json {
                return Ok(table::print_json(&json!({ "number": number }))?);
            }
            line(&format!(
                "alert {number} fires for a minute; `astraler alerts list` says what was not delivered"
            ));
            Ok(())
        }
    }
}

fn ask<T>(asked: impl AsyncFn() -> Result<T, ClientError>) -> Outcome<T> {
    super::block_on(async { asked().await.map_err(|error| super::not_up(&error)) })
}

fn list(report: &AlertsReport, all: bool) -> Outcome {
    let over: Vec<Alert> = match all {
        true => report
            .history
            .iter()
            .cloned()
            .map(serde_json::from_value)
            .collect::<Result<_, _>>()?,
        false => vec![],
    };
    let shown: Vec<&Alert> = report.alerts.iter().chain(&over).collect();
    if shown.is_empty() {
        line("nothing fires");
    } else {
        table::print(
            &[
                "alert",
                "severity",
                "environment",
                "rule",
                "since",
                "state",
                "what",
            ],
            shown.iter().map(|alert| {
                vec![
                    alert.number.to_string(),
                    alert.severity.to_string(),
                    place(&alert.key),
                    alert.key.rule.clone(),
                    date(alert.began_wall_ms),
                    state(alert),
                    alert.summary.clone(),
                ]
            }),
        );
    }
    if !report.silences.is_empty() {
        table::print(
            &["silence", "environment", "rule", "until", "by", "why"],
            report.silences.iter().map(|silence| {
                vec![
                    silence.number.to_string(),
                    silence.environment.map_or("all".into(), |one| one.to_string()),
                    silence.rule.clone().unwrap_or_else(|| "all".into()),
                    date(silence.until_wall_ms),
                    silence.by.clone(),
                    silence.reason.clone(),
                ]
            }),
        );
    }
    if !report.undelivered.is_empty() {
        table::print(
            &["not delivered", "channel", "said", "attempts", "why"],
            report.undelivered.iter().map(undelivered),
        );
    }
    for channel in &report.channels {
        if let Some(missing) = &channel.missing {
            line(&format!("note: {} is not set up: {missing}", channel.channel));
        }
    }
    Ok(())
}

fn undelivered(delivery: &Delivery) -> Vec<String> {
    let state = match delivery.state {
        DeliveryState::Failed => "given up: ",
        _ => "",
    };
    vec![
        delivery.notice.title(),
        delivery.notice.channel.to_string(),
        date(delivery.notice.wall_ms),
        delivery.attempts.to_string(),
        format!("{state}{}", delivery.error.as_deref().unwrap_or("on its way")),
    ]
}

fn place(key: &Key) -> String {
    key.environment
        .map_or_else(|| "platform".into(), |environment| environment.to_string())
}

fn state(alert: &Alert) -> String {
    match (&alert.acknowledged, alert.state) {
        (_, State::Resolved) => alert
            .ended_wall_ms
            .map_or("over".into(), |ended| format!("over since {}", date(ended))),
        (Some(acknowledged), _) => format!("{} until {}", acknowledged.by, date(acknowledged.until_wall_ms)),
        (None, State::Pending) => "pending".into(),
        (None, _) => "fires".into(),
    }
}

fn date(wall_ms: u64) -> String {
    i64::try_from(wall_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "-".to_owned(), |time| time.strftime("%F %H:%M:%S").to_string())
}
