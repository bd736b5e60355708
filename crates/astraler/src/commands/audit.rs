//! `astraler audit`. While the platform is down the chain is read from its file: who must check it needs no daemon.

use crate::cli::{Arguments, AuditCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;
use astraler_control::{AdminClient, ClientError};
use astraler_store::{AuditFilter, Store};

pub(super) fn run(arguments: &Arguments, command: &AuditCommand) -> Outcome {
    let place = Place::find(arguments)?;
    place.installation()?;
    let client = AdminClient::new(place.layout.admin_socket());
    match command {
        AuditCommand::List { lines, json } => {
            let entries = entries(&place, *lines)?;
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
            let report = match super::block_on(async { Ok(client.audit_verify().await) })? {
                Err(ClientError::Connect { .. }) => astraler_control::audit_report(&store(&place)?)?,
                answer => answer.map_err(|error| super::not_up(&error))?,
            };
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

/// The newest entries, the newest last.
pub(super) fn entries(place: &Place, lines: usize) -> Outcome<serde_json::Value> {
    let client = AdminClient::new(place.layout.admin_socket());
    match super::block_on(async { Ok(client.audit(lines).await) })? {
        Err(ClientError::Connect { .. }) => {
            let limit = u32::try_from(lines).unwrap_or(u32::MAX);
            let entries = store(place)?.audit_list(&AuditFilter::default(), limit)?;
            Ok(serde_json::to_value(entries)?)
        }
        answer => Ok(answer.map_err(|error| super::not_up(&error))?),
    }
}

fn store(place: &Place) -> Outcome<Store> {
    Ok(Store::open_read_only(&place.layout.control_database())?)
}
