//! `astraler audit`.

use crate::cli::{Arguments, AuditCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;

pub(super) fn run(arguments: &Arguments, command: &AuditCommand) -> Outcome {
    let client = super::daemon(arguments)?;
    match command {
        AuditCommand::List { lines, json } => {
            let entries =
                super::block_on(async { client.audit(*lines).await.map_err(|error| super::not_up(&error)) })?;
            if json.json {
                return Ok(table::print_json(&entries)?);
            }
            let text =
                |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            table::print(
                &["seq", "time", "actor", "action", "subject"],
                entries.as_array().into_iter().flatten().map(|entry| {
                    vec![
                        text(&entry["seq"]),
                        entry["time_ms"]
                            .as_i64()
                            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
                            .map(|time| time.strftime("%F %T").to_string())
                            .unwrap_or_default(),
                        text(&entry["actor"]),
                        text(&entry["action"]),
                        text(&entry["subject"]),
                    ]
                }),
            );
            Ok(())
        }
        AuditCommand::Verify(json) => {
            let report = super::block_on(async {
                client.audit_verify().await.map_err(|error| super::not_up(&error))
            })?;
            let sound = report["ok"].as_bool() == Some(true);
            if json.json {
                table::print_json(&report)?;
            } else if sound {
                line(&format!(
                    "{} entries, unbroken; head {}",
                    report["entries"],
                    report["head"].as_str().unwrap_or("-")
                ));
            }
            if sound {
                return Ok(());
            }
            let reason = report["reason"].as_str().unwrap_or("unknown").to_owned();
            Err(Failure::new(
                Kind::General,
                format!("the audit chain is broken at entry {}", report["seq"]),
            )
            .details(vec![reason])
            .hint("someone changed the control database by hand: compare it with a backup"))
        }
    }
}
