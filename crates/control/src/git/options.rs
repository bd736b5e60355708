//! What a pusher says beside the push: `git push -o pr=7` (git-push(1), gitprotocol-pack(5)).

/// Options that one push may have.
const MAX_OPTIONS: usize = 16;

/// The options, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PushOptions {
    /// `pr=7`: the branch is pull request 7.
    pub(crate) pull_request: Option<u32>,
    /// `base=develop`: the branch that the pull request goes to.
    pub(crate) base: Option<String>,
    /// `close`: the pull request has ended.
    pub(crate) close: bool,
    /// `skip-ci`: nothing runs.
    pub(crate) skip_ci: bool,
}

const KNOWN: &str = "pr=NUMBER, base=BRANCH, close, skip-ci";

impl PushOptions {
    /// Reads them; an unknown one is an error for the pusher.
    pub(crate) fn parse(options: &[String]) -> Result<Self, String> {
        if options.len() > MAX_OPTIONS {
            return Err(format!("a push may have {MAX_OPTIONS} options"));
        }
        let mut found = Self::default();
        for option in options {
            match option.split_once('=') {
                Some(("pr", number)) => {
                    let number = number.parse().ok().filter(|number| *number > 0);
                    found.pull_request = Some(number.ok_or_else(|| {
                        format!("`{option}`: a pull request has a number from 1, for example pr=7")
                    })?);
                }
                Some(("base", branch)) if plain(branch) => found.base = Some(branch.to_owned()),
                Some(("base", _)) => return Err(format!("`{option}` names no branch")),
                None if option == "close" => found.close = true,
                None if matches!(option.as_str(), "skip-ci" | "ci.skip") => found.skip_ci = true,
                _ => return Err(format!("`{option}` is no push option here; there are {KNOWN}")),
            }
        }
        Ok(found)
    }
}

/// A branch's name as git allows it, without what has a meaning for a shell or a path.
fn plain(branch: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (1..=200).contains(&branch.len())
        && branch.chars().all(allowed)
        && !branch.contains("..")
        && !branch.starts_with(['-', '/', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<PushOptions, String> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        PushOptions::parse(&options)
    }

    #[test]
    fn options_are_read_and_what_is_unknown_is_told() {
        assert_eq!(parse(&[]), Ok(PushOptions::default()));
        let all = parse(&["pr=7", "base=release/1.0", "close", "ci.skip"]).unwrap();
        assert_eq!(all.pull_request, Some(7));
        assert_eq!(all.base.as_deref(), Some("release/1.0"));
        assert!(all.close && all.skip_ci);
        for wrong in [
            "pr=0",
            "pr=x",
            "pr=-1",
            "pr",
            "base=",
            "base=-x",
            "base=a..b",
            "closed",
            "x=y",
        ] {
            assert!(parse(&[wrong]).unwrap_err().contains(wrong), "{wrong}");
        }
        assert!(parse(&["close"; 17]).is_err());
    }
}
