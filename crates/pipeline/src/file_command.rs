//! The files that a step writes to: `GITHUB_OUTPUT`, `GITHUB_ENV`, `GITHUB_STATE`, `GITHUB_PATH`.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#environment-files>

/// Largest file of one kind that a step may leave.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// A file does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileCommandError {
    #[error("Invalid format '{0}'")]
    Format(String),
    #[error("Invalid value. Name must not be empty '{0}'")]
    NoName(String),
    #[error("Invalid value. Matching delimiter not found '{0}'")]
    Unended(String),
}

/// `NAME=VALUE` lines, and values of several lines between a delimiter of the writer's: `NAME<<DELIMITER`.
pub(crate) fn pairs(text: &str) -> Result<Vec<(String, String)>, FileCommandError> {
    let mut found = Vec::new();
    let mut lines = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (equals, heredoc) = (line.find('='), line.find("<<"));
        match (equals, heredoc) {
            (Some(at), other) if other.is_none_or(|other| at < other) => {
                let name = &line[..at];
                if name.is_empty() {
                    return Err(FileCommandError::NoName(line.to_owned()));
                }
                found.push((name.to_owned(), line[at + 1..].to_owned()));
            }
            (_, Some(at)) => {
                let (name, delimiter) = (&line[..at], &line[at + 2..]);
                if name.is_empty() || delimiter.is_empty() {
                    return Err(FileCommandError::NoName(line.to_owned()));
                }
                let mut value: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some(line) if line == delimiter => break,
                        Some(line) => value.push(line),
                        None => return Err(FileCommandError::Unended(delimiter.to_owned())),
                    }
                }
                found.push((name.to_owned(), value.join("\n")));
            }
            _ => return Err(FileCommandError::Format(line.to_owned())),
        }
    }
    Ok(found)
}

/// Folders, one a line.
pub(crate) fn paths(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(str::to_owned).collect()
}

/// Whether a step may set this variable for the steps after it.
pub(crate) fn may_set(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    !(upper == "NODE_OPTIONS" || upper.starts_with("GITHUB_") || upper.starts_with("RUNNER_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_line_and_of_several() {
        let text = "a=1\nb=x=y<<z\n\nc<<EOF\none\n\ntwo=2\nEOF\nd<<A=B\nv\nA=B\ne=\n";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs(text).unwrap(),
            [
                pair("a", "1"),
                pair("b", "x=y<<z"),
                pair("c", "one\n\ntwo=2"),
                pair("d", "v"),
                pair("e", "")
            ]
        );
        assert_eq!(pairs("a<<E\r\nx\r\nE\r\n").unwrap(), [pair("a", "x")]);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        assert!(matches!(pairs("nothing"), Err(FileCommandError::Format(_))));
        assert!(matches!(pairs("=x"), Err(FileCommandError::NoName(_))));
        assert!(matches!(pairs("<<E\nE"), Err(FileCommandError::NoName(_))));
        assert!(matches!(pairs("a<<E\nx"), Err(FileCommandError::Unended(_))));
    }

    #[test]
    fn what_the_runner_says_is_not_for_steps_to_change() {
        assert!(may_set("PATH_TO") && may_set("CI"));
        assert!(!may_set("GITHUB_SHA") && !may_set("runner_temp") && !may_set("NODE_OPTIONS"));
    }
}
