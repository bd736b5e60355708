//! `astraler dns`.

use crate::cli::{Arguments, DnsCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::{DnsCheckReport, DnsReport};

pub(super) fn run(arguments: &Arguments, command: &DnsCommand) -> Outcome {
    match command {
        DnsCommand::Show(json) => show(arguments, json.json),
        DnsCommand::Check(json) => check(arguments, json.json),
        DnsCommand::Challenge { host, value, remove } => challenge(arguments, host, value, *remove),
    }
}

fn show(arguments: &Arguments, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let report = super::block_on(async { client.dns().await.map_err(|error| super::not_up(&error)) })?;
    if json {
        table::print_json(&report)?;
        return Ok(());
    }
    head(&report);
    for record in &report.records {
        line(record);
    }
    foot(&report.registrar, &report.hints);
    Ok(())
}

fn head(report: &DnsReport) {
    let signed = if report.signed { "signed" } else { "not signed" };
    let served = match report.served_serial {
        Some(serial) => format!("served with serial {serial}"),
        None => "the server does not answer".to_owned(),
    };
    line(&format!(
        "; {} {signed}, port {}, {served}",
        report.zone, report.port
    ));
}

fn foot(registrar: &[String], hints: &[String]) {
    line("");
    line("; for the registrar:");
    for record in registrar {
        line(record);
    }
    for hint in hints {
        line(&format!("; ! {hint}"));
    }
}

fn check(arguments: &Arguments, json: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let report = super::block_on(async { client.dns_check().await.map_err(|error| super::not_up(&error)) })?;
    match json {
        true => table::print_json(&report)?,
        false => checked(&report),
    }
    match report.wrong.is_empty() {
        true => Ok(()),
        false => Err(
            Failure::new(Kind::General, "the server does not say what it should")
                .hint("`astraler logs edge` may say why"),
        ),
    }
}

fn checked(report: &DnsCheckReport) {
    let right = report.asked.saturating_sub(report.wrong.len());
    line(&format!(
        "; {} {right} of {} questions are answered as they should be",
        report.zone, report.asked
    ));
    for wrong in &report.wrong {
        line(&format!("! {}: {}", wrong.question, wrong.found));
        for expected in &wrong.expected {
            line(&format!("    expected {expected}"));
        }
    }
    foot(&report.registrar, &report.hints);
}

fn challenge(arguments: &Arguments, host: &str, value: &str, remove: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    super::block_on(async {
        let done = client.dns_challenge(host, value, remove).await;
        done.map_err(|error| super::not_up(&error))
    })
}
