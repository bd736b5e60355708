//! `astraler cache`.

use crate::cli::{Arguments, CacheCommand};
use crate::failure::{Failure, Outcome};
use crate::progress::line;
use crate::table;
use astraler_model::{CacheStanding, Environment, Purge, PurgeWhat};

pub(super) fn run(arguments: &Arguments, command: &CacheCommand) -> Outcome {
    let client = super::daemon(arguments)?;
    match command {
        CacheCommand::Status(json) => {
            let standing =
                super::block_on(async { client.cache().await.map_err(|error| super::not_up(&error)) })?;
            if json.json {
                return Ok(table::print_json(&standing)?);
            }
            show(&standing);
            Ok(())
        }
        CacheCommand::Purge(asked) => {
            let words = &asked.what;
            let each = |texts: &[String], what: fn(String) -> PurgeWhat| -> Vec<PurgeWhat> {
                texts.iter().cloned().map(what).collect()
            };
            let mut what = each(&words.url, PurgeWhat::Url);
            what.extend(each(&words.prefix, PurgeWhat::Prefix));
            what.extend(each(&words.tag, PurgeWhat::Tag));
            what.extend(each(&words.host, PurgeWhat::Host));
            what.extend(words.everything.then_some(PurgeWhat::Everything));
            let purge = Purge {
                environment: asked
                    .environment
                    .as_deref()
                    .map(str::parse::<Environment>)
                    .transpose()
                    .map_err(|error| Failure::of(&error))?,
                what,
            };
            let purged = super::block_on(async {
                client
                    .cache_purge(&purge)
                    .await
                    .map_err(|error| super::not_up(&error))
            })?;
            if asked.json.json {
                return Ok(table::print_json(&purged)?);
            }
            line(&format!("forgotten; {} responses were in memory", purged.removed));
            Ok(())
        }
    }
}

fn show(standing: &CacheStanding) {
    let asked = standing.hits + standing.misses + standing.revalidated;
    let share = (standing.hits * 100).checked_div(asked).unwrap_or(0);
    line(&format!(
        "memory  {} responses, {} of {} MiB",
        standing.entries,
        standing.bytes >> 20,
        standing.memory_bytes >> 20
    ));
    if let Some(disk) = &standing.disk {
        line(&format!(
            "disk    {} responses, {} of {} MiB, {} not written, {} damaged",
            disk.entries,
            disk.bytes >> 20,
            disk.max_bytes >> 20,
            disk.not_written,
            disk.corrupted
        ));
    }
    line(&format!(
        "answers {} from the cache ({share} %, {} of them stale), {} validated, {} from workers, {} passed by",
        standing.hits, standing.stale, standing.revalidated, standing.misses, standing.bypassed
    ));
}
