//! Who asks, and what they may do: a principal with scopes. Deny by default: what no scope covers is refused.

use crate::Environment;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest pattern of branches.
const MAX_PATTERN_BYTES: usize = 256;

/// Who is on the other end: the owner, the bearer of a token, a job of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// As the audit chain names it: `uid 0`, `token ci`, `run 12 job deploy-staging`.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// It is a job of the pipeline: it decides nothing that is for a person to decide.
    pub job: bool,
}

/// A right, as it is granted and as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Scope {
    /// `admin`: everything.
    Admin,
    /// `read`: look at status, runs, deployments, releases and the repository. No secret.
    Read,
    /// `release`: upload releases. Every `deploy:…` holds it.
    Release,
    /// `push:feature/*`: push to the branches that the pattern matches.
    Push(BranchPattern),
    /// `deploy:staging`, `deploy:preview` (every preview), `deploy:pr-7`.
    Deploy(DeployTarget),
}

/// Where a deployment may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeployTarget {
    /// One environment.
    One(Environment),
    /// Every preview.
    Previews,
}

/// Names of branches: `*` stands for any characters but `/`, `**` for any characters, as in GitHub's filters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BranchPattern(String);

/// The principal lacks a right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{principal} may not do this: the scope `{scope}` is needed")]
pub struct Forbidden {
    /// Who asked.
    pub principal: String,
    /// What would have allowed it.
    pub scope: Scope,
}

/// The text is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope: expected admin, read, release, push:BRANCH or deploy:ENVIRONMENT")]
pub struct ParseScopeError(String);

/// The text is no pattern of branches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no pattern of branches: expected 1 to {MAX_PATTERN_BYTES} characters of a branch's name, with `*`"
)]
pub struct BranchPatternError(String);

impl Principal {
    /// Somebody with these rights.
    pub fn new(name: impl Into<String>, scopes: Vec<Scope>) -> Self {
        Self {
            name: name.into(),
            scopes,
            job: false,
        }
    }

    /// A job of the pipeline with these rights.
    pub fn job(name: impl Into<String>, scopes: Vec<Scope>) -> Self {
        Self {
            job: true,
            ..Self::new(name, scopes)
        }
    }

    /// Whether one of its scopes covers what is wanted.
    pub fn may(&self, wanted: &Scope) -> bool {
        self.scopes.iter().any(|scope| scope.covers(wanted))
    }

    /// The same, as an error that says what is missing.
    pub fn require(&self, wanted: &Scope) -> Result<(), Forbidden> {
        if self.may(wanted) {
            return Ok(());
        }
        Err(Forbidden {
            principal: self.name.clone(),
            scope: wanted.clone(),
        })
    }
}

impl Scope {
    /// The right to deploy to an environment.
    pub fn deploy(environment: Environment) -> Self {
        Self::Deploy(DeployTarget::One(environment))
    }

    /// The right to push to a branch.
    pub fn push(branch: &str) -> Self {
        Self::Push(BranchPattern(branch.to_owned()))
    }

    /// Whether who has this may do what `wanted` asks for.
    pub fn covers(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Admin, _) | (Self::Deploy(_), Self::Release) => true,
            (Self::Push(pattern), Self::Push(branch)) => pattern.matches(branch.as_str()),
            (Self::Deploy(granted), Self::Deploy(asked)) => {
                granted == asked
                    || matches!(
                        (granted, asked),
                        (DeployTarget::Previews, DeployTarget::One(Environment::Preview(_)))
                    )
            }
            (granted, wanted) => granted == wanted,
        }
    }
}

impl BranchPattern {
    /// Checks a pattern.
    pub fn new(pattern: impl Into<String>) -> Result<Self, BranchPatternError> {
        let pattern = pattern.into();
        // What git refuses in a name (git-check-ref-format(1)), but for `*`.
        let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?[\\".contains(c);
        let valid = (1..=MAX_PATTERN_BYTES).contains(&pattern.len())
            && !pattern.starts_with(['-', '/'])
            && !pattern.contains(odd);
        if valid {
            Ok(Self(pattern))
        } else {
            Err(BranchPatternError(pattern))
        }
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches a branch's name. Takes time proportional to both lengths.
    pub fn matches(&self, branch: &str) -> bool {
        let branch = branch.as_bytes();
        // reached[i]: what was read of the pattern so far matches the first i bytes.
        let mut reached = vec![false; branch.len() + 1];
        reached[0] = true;
        let mut rest = self.0.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let any = *first == b'*';
            let (slashes, after) = match after.strip_prefix(b"*") {
                Some(after) if any => (true, after),
                _ => (false, after),
            };
            if any {
                for end in 1..=branch.len() {
                    reached[end] |= reached[end - 1] && (slashes || branch[end - 1] != b'/');
                }
            } else {
                for end in (1..=branch.len()).rev() {
                    reached[end] = reached[end - 1] && branch[end - 1] == *first;
                }
                reached[0] = false;
            }
            rest = after;
        }
        reached[branch.len()]
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admin => f.write_str("admin"),
            Self::Read => f.write_str("read"),
            Self::Release => f.write_str("release"),
            Self::Push(pattern) => write!(f, "push:{}", pattern.0),
            Self::Deploy(DeployTarget::Previews) => f.write_str("deploy:preview"),
            Self::Deploy(DeployTarget::One(environment)) => write!(f, "deploy:{environment}"),
        }
    }
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseScopeError(text.to_owned());
        match text {
            "admin" => return Ok(Self::Admin),
            "read" => return Ok(Self::Read),
            "release" => return Ok(Self::Release),
            "deploy:preview" => return Ok(Self::Deploy(DeployTarget::Previews)),
            _ => {}
        }
        if let Some(pattern) = text.strip_prefix("push:") {
            return BranchPattern::new(pattern).map(Self::Push).map_err(|_| unknown());
        }
        let environment = text.strip_prefix("deploy:").ok_or_else(unknown)?;
        environment.parse().map(Self::deploy).map_err(|_| unknown())
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl TryFrom<String> for Scope {
    type Error = ParseScopeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BranchPattern> for String {
    fn from(pattern: BranchPattern) -> Self {
        pattern.0
    }
}

impl TryFrom<String> for BranchPattern {
    type Error = BranchPatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn scopes_cover_what_they_say_and_nothing_else() {
        let all = [
            "admin",
            "read",
            "release",
            "push:feature/*",
            "push:main",
            "push:feature/x",
            "deploy:preview",
            "deploy:pr-7",
            "deploy:development",
            "deploy:staging",
            "deploy:production",
        ];
        let covered = |granted: &str| -> Vec<&str> {
            all.into_iter()
                .filter(|wanted| scope(granted).covers(&scope(wanted)))
                .collect()
        };
        assert_eq!(covered("admin"), all);
        assert_eq!(covered("read"), ["read"]);
        assert_eq!(covered("release"), ["release"]);
        assert_eq!(covered("push:main"), ["push:main"]);
        assert_eq!(covered("deploy:staging"), ["release", "deploy:staging"]);
        assert_eq!(
            covered("deploy:preview"),
            ["release", "deploy:preview", "deploy:pr-7"]
        );
        assert_eq!(covered("deploy:pr-7"), ["release", "deploy:pr-7"]);
        assert!(scope("push:feature/*").covers(&Scope::push("feature/x")));
        assert!(!scope("push:feature/*").covers(&Scope::push("feature/x/y")));
        assert!(!scope("push:feature/*").covers(&Scope::push("main")));
    }

    #[test]
    fn a_principal_without_scopes_may_nothing() {
        let nobody = Principal::new("token x", vec![]);
        let refused = nobody.require(&Scope::Read).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "token x may not do this: the scope `read` is needed"
        );
    }

    #[test]
    fn patterns_follow_githubs_filters() {
        let matches = |pattern: &str, branch: &str| BranchPattern::new(pattern).unwrap().matches(branch);
        assert!(matches("main", "main"));
        assert!(!matches("main", "maintenance"));
        assert!(matches("feature/*", "feature/a"));
        assert!(!matches("feature/*", "feature/a/b"));
        assert!(matches("feature/**", "feature/a/b"));
        assert!(matches("**", "anything/at/all"));
        assert!(matches("*-rc", "v1-rc"));
        assert!(matches("release/*/x", "release/1/x"));
        assert!(!matches("release/*/x", "release/1/y/x"));
        for bad in ["", "-x", "a b", "a..b\n", "x~1", "a:b", "/a"] {
            assert!(BranchPattern::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_scope_panics_and_each_reads_back_as_written(text in ".{0,40}") {
            if let Ok(scope) = text.parse::<Scope>() {
                prop_assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
            }
        }

        #[test]
        fn every_name_matches_itself_and_two_stars(branch in "[a-z0-9/._-]{1,60}") {
            prop_assert!(BranchPattern("**".into()).matches(&branch));
            prop_assert!(BranchPattern(branch.clone()).matches(&branch));
        }
    }
}
