//! `astraler manifest`.

use crate::cli::{Arguments, ManifestCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;

pub(super) fn run(arguments: &Arguments, command: &ManifestCommand) -> Outcome {
    match command {
        ManifestCommand::Check(json) => check(arguments, json.json),
        ManifestCommand::Schema => Ok(table::print_json(&astraler_manifest::schema())?),
        ManifestCommand::Explain { key, json } => explain(key, json.json),
    }
}

fn check(arguments: &Arguments, json: bool) -> Outcome {
    let place = Place::find(arguments)?;
    match astraler_manifest::load(&place.application) {
        Ok(manifest) => {
            if json {
                table::print_json(&serde_json::json!({ "errors": [] }))?;
            } else {
                line(&format!(
                    "astraler.toml is valid: {} with {} workers",
                    manifest.config.name,
                    manifest.workers.len()
                ));
            }
            Ok(())
        }
        Err(diagnostics) => {
            if json {
                table::print_json(&serde_json::json!({ "errors": diagnostics.to_json() }))?;
            }
            let mut failure = Failure::diagnostics(&diagnostics);
            if json {
                failure.rendered = Some(String::new());
            }
            Err(failure)
        }
    }
}

fn explain(key: &str, json: bool) -> Outcome {
    let explanation = astraler_manifest::explain(key).map_err(|nearest| {
        let hint = match nearest.as_slice() {
            [] => "`astraler manifest schema` prints every key".to_owned(),
            names => format!("did you mean {}?", names.join(", ")),
        };
        Failure::new(Kind::Manifest, format!("there is no key `{key}`")).hint(hint)
    })?;
    if json {
        return Ok(table::print_json(&explanation)?);
    }
    line(&explanation.to_string());
    Ok(())
}
