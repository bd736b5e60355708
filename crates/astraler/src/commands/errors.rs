//! `astraler errors`: from the files alone, as `astraler logs` does.

use super::logs::Printer;
use super::logs::records::shown;
use crate::cli::{Arguments, ErrorsCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;
use astraler_model::Environment;
use astraler_signal::{Errors, Filter, Group, Occurrence, Query, Reader, Stream};
use jiff::Timestamp;

/// Groups among which one is looked for.
const LOOKED_AT: u32 = 10_000;
/// Requests of a group that are shown.
const SHOWN_REQUESTS: usize = 5;

pub(super) fn run(arguments: &Arguments, command: &ErrorsCommand) -> Outcome {
    let place = Place::find(arguments)?;
    place.installation()?;
    let errors = Errors::look(&place.layout.signal())?;
    match command {
        ErrorsCommand::List { env, lines, json } => {
            let environment = env.as_deref().map(str::parse::<Environment>).transpose()?;
            let name = environment.map(|environment| environment.to_string());
            let groups = match &errors {
                Some(errors) => errors.groups(name.as_deref(), *lines)?,
                None => Vec::new(),
            };
            list(&place, groups, json.json)
        }
        ErrorsCommand::Show { id, json } => {
            let groups = match &errors {
                Some(errors) => errors.groups(None, LOOKED_AT)?,
                None => Vec::new(),
            };
            let mut found = groups.iter().filter(|group| group.id.starts_with(id.as_str()));
            let unknown = |why: &str| {
                Failure::new(Kind::General, format!("{why} `{id}`"))
                    .hint("`astraler errors list` shows the ids")
            };
            let group = found.next().ok_or_else(|| unknown("there is no group"))?;
            if found.next().is_some() {
                return Err(unknown("more than one group begins with"));
            }
            let occurrences = match &errors {
                Some(errors) => errors.occurrences(&group.id)?,
                None => Vec::new(),
            };
            if json.json {
                let all = serde_json::json!({ "group": group, "occurrences": occurrences });
                return print_json(&place, &all);
            }
            show(&place, group, &occurrences)
        }
    }
}

fn print_json(place: &Place, value: &impl serde::Serialize) -> Outcome {
    let mut printer = Printer::new(place);
    printer.line(serde_json::to_string_pretty(value)?)?;
    printer.flush()
}

fn list(place: &Place, mut groups: Vec<Group>, json: bool) -> Outcome {
    if json {
        return print_json(place, &groups);
    }
    Printer::new(place).mask(groups.iter_mut().map(|group| &mut group.message))?;
    if groups.is_empty() {
        line("no exception went uncaught");
        return Ok(());
    }
    table::print(
        &["id", "environment", "worker", "error", "place", "count", "last"],
        groups.iter().map(|group| {
            vec![
                group.id.clone(),
                group.environment.clone(),
                group.worker.clone(),
                format!("{}: {}", group.name, group.message),
                group.place.clone().unwrap_or_else(|| "-".to_owned()),
                group.count.to_string(),
                time(group.last_ms),
            ]
        }),
    );
    Ok(())
}

fn show(place: &Place, group: &Group, occurrences: &[Occurrence]) -> Outcome {
    let mut printer = Printer::new(place);
    printer.line(format!("{}: {}", group.name, group.message))?;
    for frame in occurrences.first().map_or(&[][..], |newest| &newest.frames) {
        let function = frame.function.as_deref().unwrap_or("(no name)");
        let bundle = if frame.mapped { "" } else { " (of the bundle)" };
        printer.line(format!(
            "    at {function} ({}:{}:{}){bundle}",
            frame.file, frame.line, frame.column
        ))?;
    }
    printer.line(format!(
        "{} times in worker {} of {}, first {} in {}, last {} in {}",
        group.count,
        group.worker,
        group.environment,
        time(group.first_ms),
        group.first_deployment,
        time(group.last_ms),
        group.last_deployment,
    ))?;
    let layout = &place.layout;
    let reader = Reader::new(Stream::Access, &layout.signal(), &layout.logs());
    for occurrence in occurrences.iter().take(SHOWN_REQUESTS) {
        let record = match &occurrence.request_id {
            // What a client sends as an id is none of ours.
            Some(id) => match Filter::parse(&format!("id={id}"), Stream::Access) {
                Ok(filter) => {
                    let query = Query {
                        filter: Some(filter),
                        ..Query::default()
                    };
                    reader.last(&query, 1)?.pop()
                }
                Err(_) => None,
            },
            None => None,
        };
        match record {
            Some(row) => printer.line(shown(Stream::Access, &row, false))?,
            None => printer.line(format!(
                "{} {}",
                time(occurrence.ts_ms),
                occurrence.request.as_deref().unwrap_or("no request")
            ))?,
        }
    }
    printer.flush()
}

fn time(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}
