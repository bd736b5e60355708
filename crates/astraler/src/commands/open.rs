//! `astraler open`.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use std::process::{Command, Stdio};

pub(super) fn run(arguments: &Arguments, environment: &str, print: bool) -> Outcome {
    let client = super::daemon(arguments)?;
    let report = super::block_on(async { client.status().await.map_err(|error| super::not_up(&error)) })?;
    let url = report
        .environments
        .iter()
        .find(|candidate| candidate.environment.to_string() == environment)
        .and_then(|found| found.urls.first())
        .ok_or_else(|| {
            Failure::new(Kind::NotUp, format!("environment `{environment}` is not up"))
                .hint(format!("run `astraler up --env {environment}`"))
        })?;
    line(url);
    if print {
        return Ok(());
    }
    let opened = Command::new("xdg-open")
        .arg(url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !opened.is_ok_and(|status| status.success()) {
        line("no browser can be started from here: open the address above yourself");
    }
    Ok(())
}
