//! Shells of `run` steps.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell>

use std::path::Path;

/// The command for a script in this file; none says the default.
pub(crate) fn command(shell: Option<&str>, script: &str) -> Result<Vec<String>, String> {
    let has = |name: &str| {
        ["/usr/bin", "/bin", "/usr/local/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(name).exists())
    };
    let words: Vec<&str> = match shell.map(str::trim) {
        None | Some("") if has("bash") => vec!["bash", "-e", "{0}"],
        None | Some("") => vec!["sh", "-e", "{0}"],
        Some("bash") => vec!["bash", "--noprofile", "--norc", "-eo", "pipefail", "{0}"],
        Some("sh") => vec!["sh", "-e", "{0}"],
        Some("python") if has("python") => vec!["python", "{0}"],
        Some("python") => vec!["python3", "{0}"],
        Some(name @ ("pwsh" | "powershell" | "cmd")) => {
            return Err(format!("the shell {name} is not there: this machine is Linux"));
        }
        Some(template) if template.contains("{0}") => template.split_whitespace().collect(),
        Some(name) => {
            return Err(format!(
                "Invalid shell option '{name}'. Shell must be a valid built-in (bash, sh, python) or a format string containing '{{0}}'"
            ));
        }
    };
    Ok(words.iter().map(|word| word.replace("{0}", script)).collect())
}

/// The extension of a script's file.
pub(crate) fn extension(shell: Option<&str>) -> &'static str {
    match shell {
        Some("python") => "py",
        _ => "sh",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_those_of_github() {
        let of = |shell| command(shell, "/s").unwrap().join(" ");
        assert_eq!(of(None), "bash -e /s");
        assert_eq!(of(Some("bash")), "bash --noprofile --norc -eo pipefail /s");
        assert_eq!(of(Some("sh")), "sh -e /s");
        assert_eq!(of(Some("perl -w {0}")), "perl -w /s");
        assert!(of(Some("python")).starts_with("python"));
        assert!(command(Some("pwsh"), "/s").is_err() && command(Some("fish"), "/s").is_err());
    }
}
