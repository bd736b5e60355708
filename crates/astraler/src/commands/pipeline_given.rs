//! What a person gives a run of `astraler pipeline run`: secrets, variables, inputs.

use crate::cli::PipelineRunArguments;
use crate::failure::{Failure, Kind, Outcome};
use astraler_pipeline::{Secrets, WorkflowFile};
use astraler_workflow::expression::Value;
use astraler_workflow::trigger::dispatch_inputs;
use std::collections::BTreeMap;
use std::path::Path;

const MAX_FILE_BYTES: u64 = 1 << 20;

/// What `secrets`, `vars` and `inputs` hold.
pub(super) struct Given {
    pub(super) secrets: Secrets,
    pub(super) vars: Secrets,
    pub(super) inputs: BTreeMap<String, serde_json::Value>,
}

/// Reads it. Secrets come from a file or from variables of this process's environment, never from its arguments.
pub(super) fn given(run: &PipelineRunArguments, workflows: &[WorkflowFile]) -> Outcome<Given> {
    let mut secrets = BTreeMap::new();
    if let Some(file) = &run.secret_file {
        secrets = secret_file(file)?;
    }
    for name in &run.secrets {
        check_name("secret", name)?;
        let value = std::env::var(name).map_err(|_| {
            Failure::new(
                Kind::General,
                format!("there is no variable {name} to take the secret from"),
            )
            .hint(format!(
                "export {name} first, or name a file of NAME=VALUE lines with --secret-file"
            ))
        })?;
        secrets.insert(name.clone(), value);
    }
    let mut vars = BTreeMap::new();
    for (name, value) in pairs("--var", &run.vars)? {
        check_name("variable", &name)?;
        vars.insert(name, value);
    }
    Ok(Given {
        secrets: all(secrets),
        vars: all(vars),
        inputs: inputs(run, workflows)?,
    })
}

fn all(values: BTreeMap<String, String>) -> Secrets {
    Secrets {
        all: values,
        ..Secrets::default()
    }
}

/// Inputs of the type that the workflow says, with its defaults.
fn inputs(
    run: &PipelineRunArguments,
    workflows: &[WorkflowFile],
) -> Outcome<BTreeMap<String, serde_json::Value>> {
    let given = pairs("--input", &run.inputs)?;
    if run.event != "workflow_dispatch" {
        if given.is_empty() {
            return Ok(BTreeMap::new());
        }
        return Err(
            Failure::new(Kind::General, format!("a `{}` has no inputs", run.event))
                .hint("add `--event workflow_dispatch`"),
        );
    }
    let mut inputs = BTreeMap::new();
    for file in workflows {
        let Ok(workflow) = astraler_workflow::parse(&file.path, &file.text) else {
            continue;
        };
        let Some(trigger) = workflow.on.event(&run.event) else {
            continue;
        };
        let typed = dispatch_inputs(trigger, &given)
            .map_err(|error| Failure::new(Kind::General, format!("{}: {error}", file.path)))?;
        if let serde_json::Value::Object(typed) = serde_json::to_value(Value::from(typed))? {
            inputs.extend(typed);
        }
    }
    Ok(inputs)
}

fn pairs(option: &str, given: &[String]) -> Outcome<Vec<(String, String)>> {
    let pairs = given.iter().map(|pair| {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Failure::new(Kind::General, format!("`{option} {pair}`: expected NAME=VALUE")))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// Lines of `NAME=VALUE`; a value may stand in quotes; empty lines and those that begin with `#` say nothing.
fn secret_file(path: &Path) -> Outcome<BTreeMap<String, String>> {
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size > MAX_FILE_BYTES {
        return Err(Failure::new(
            Kind::General,
            format!("{} has more than {MAX_FILE_BYTES} bytes", path.display()),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::of(&error).context(format!("the secrets in {} cannot be read", path.display()))
    })?;
    let mut found = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{}:{}", path.display(), number + 1);
        // The line itself may be a secret: it is not shown.
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| Failure::new(Kind::General, format!("{place}: expected NAME=VALUE")))?;
        let name = name.trim().trim_start_matches("export ");
        check_name("secret", name).map_err(|failure| failure.context(place))?;
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| {
            value
                .strip_prefix(quote)
                .and_then(|rest| rest.strip_suffix(quote))
        });
        found.insert(name.to_owned(), quoted.unwrap_or(value).to_owned());
    }
    Ok(found)
}

/// GitHub's names of secrets and variables.
///
/// <https://docs.github.com/actions/reference/security/secrets#naming-your-secrets>
fn check_name(what: &str, name: &str) -> Outcome {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if first && rest && !name.to_ascii_uppercase().starts_with("GITHUB_") {
        return Ok(());
    }
    Err(
        Failure::new(Kind::General, format!("`{name}` cannot name a {what}"))
            .hint("letters, digits and `_`, not beginning with a digit or with GITHUB_"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_secrets_is_read_and_a_wrong_line_is_named_but_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        let read = |text: &str| {
            astraler_host::file::replace(&path, text.as_bytes(), 0o600).unwrap();
            secret_file(&path)
        };
        let found = read("# ours\n\nTOKEN=abc=\nexport QUOTED=\"a b\"\nEMPTY=\n").unwrap();
        let pairs: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(pairs, [("EMPTY", ""), ("QUOTED", "a b"), ("TOKEN", "abc=")]);
        for (text, line) in [("A=1\nhunter2\n", ":2"), ("1A=x", ":1"), ("GITHUB_X=1", ":1")] {
            let words = format!("{:?}", read(text).unwrap_err());
            assert!(words.contains(line) && !words.contains("hunter2"), "{words}");
        }
    }
}
