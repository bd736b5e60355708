//! The patterns of `branches`, `tags` and `paths`.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#filter-pattern-cheat-sheet>:
//! `*` is any text without `/`, `**` any text, `?` none or one and `+` one or more of what is before it,
//! `[a-z]` one of these characters, `\` takes the meaning from the next.

/// Longest pattern, in characters.
const MAX_PATTERN: usize = 1024;

/// A pattern that can be tried.
#[derive(Debug, Clone)]
pub struct Pattern {
    parts: Vec<Part>,
    /// It begins with `!`: what it matches is taken out again.
    pub negative: bool,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern `{pattern}` {problem}")]
pub struct PatternError {
    /// The text.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

#[derive(Debug, Clone)]
struct Part {
    what: What,
    repeat: Repeat,
}

#[derive(Debug, Clone)]
enum What {
    One(char),
    /// One of these ranges.
    Set(Vec<(char, char)>),
    /// Any text without `/`.
    Segment,
    /// Any text.
    Anything,
    /// `**/`: nothing, or any text that ends with `/`.
    Folders,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Once,
    NoneOrOnce,
    OnceOrMore,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let error = |problem| PatternError {
            pattern: text.to_owned(),
            problem,
        };
        if text.chars().nth(MAX_PATTERN).is_some() {
            return Err(error("is too long"));
        }
        let (negative, body) = match text.strip_prefix('!') {
            Some(body) => (true, body),
            None => (false, text),
        };
        let characters: Vec<char> = body.chars().collect();
        let mut parts: Vec<Part> = Vec::new();
        let mut index = 0;
        while let Some(&c) = characters.get(index) {
            index += 1;
            let what = match c {
                '*' if characters.get(index) == Some(&'*') => {
                    while characters.get(index) == Some(&'*') {
                        index += 1;
                    }
                    let starts = parts
                        .last()
                        .is_none_or(|part| matches!(part.what, What::One('/')));
                    if starts && characters.get(index) == Some(&'/') {
                        index += 1;
                        What::Folders
                    } else {
                        What::Anything
                    }
                }
                '*' => What::Segment,
                '[' => {
                    let length = characters[index..].iter().position(|c| *c == ']');
                    let length = length.ok_or_else(|| error("has a `[` without its `]`"))?;
                    let set = &characters[index..index + length];
                    index += length + 1;
                    What::Set(ranges(set).ok_or_else(|| error("has a range that ends before it begins"))?)
                }
                '?' | '+' if !parts.is_empty() => {
                    if let Some(last) = parts.last_mut() {
                        last.repeat = match (c, last.repeat) {
                            ('?', _) => Repeat::NoneOrOnce,
                            _ => Repeat::OnceOrMore,
                        };
                    }
                    continue;
                }
                '\\' => {
                    let next = characters.get(index);
                    index += 1;
                    What::One(*next.ok_or_else(|| error("ends with `\\`"))?)
                }
                c => What::One(c),
            };
            parts.push(Part {
                what,
                repeat: Repeat::Once,
            });
        }
        if parts.is_empty() {
            return Err(error("is empty"));
        }
        Ok(Self { parts, negative })
    }

    /// Whether all of the text fits, without regard to [`Self::negative`].
    pub fn matches(&self, text: &str) -> bool {
        // All places in the pattern at which the text so far can be; no way is gone back.
        let end = self.parts.len();
        let mut states = vec![false; end + 1];
        self.enter(0, &mut states);
        let mut next = vec![false; end + 1];
        for c in text.chars() {
            next.fill(false);
            for (index, part) in self.parts.iter().enumerate().filter(|(index, _)| states[*index]) {
                match &part.what {
                    What::Segment if c != '/' => self.enter(index, &mut next),
                    What::Anything => self.enter(index, &mut next),
                    What::Folders => {
                        // It goes on, and after a `/` it may be over.
                        next[index] = true;
                        if c == '/' {
                            self.enter(index + 1, &mut next);
                        }
                    }
                    What::Segment => {}
                    What::One(wanted) if c == *wanted => self.passed(index, &mut next),
                    What::Set(ranges) if ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) => {
                        self.passed(index, &mut next);
                    }
                    What::One(_) | What::Set(_) => {}
                }
            }
            std::mem::swap(&mut states, &mut next);
            if !states.contains(&true) {
                return false;
            }
        }
        states[end]
    }

    /// Marks a place and those that can be reached from it without a character.
    fn enter(&self, index: usize, states: &mut [bool]) {
        let mut index = index;
        loop {
            if states[index] {
                return;
            }
            states[index] = true;
            let Some(part) = self.parts.get(index) else { return };
            let optional = part.repeat == Repeat::NoneOrOnce
                || matches!(part.what, What::Segment | What::Anything | What::Folders);
            if !optional {
                return;
            }
            index += 1;
        }
    }

    fn passed(&self, index: usize, states: &mut [bool]) {
        if self.parts[index].repeat == Repeat::OnceOrMore {
            states[index] = true;
        }
        self.enter(index + 1, states);
    }
}

fn ranges(set: &[char]) -> Option<Vec<(char, char)>> {
    let mut ranges = Vec::new();
    let mut index = 0;
    while index < set.len() {
        let low = set[index];
        if set.get(index + 1) == Some(&'-')
            && let Some(&high) = set.get(index + 2)
        {
            if high < low {
                return None;
            }
            ranges.push((low, high));
            index += 3;
        } else {
            ranges.push((low, low));
            index += 1;
        }
    }
    Some(ranges)
}

/// Whether a text is in a list of patterns: the last one that matches decides, and one with `!` takes out.
pub fn any_matches(patterns: &[Pattern], text: &str) -> bool {
    let last = patterns.iter().rev().find(|pattern| pattern.matches(text));
    last.is_some_and(|pattern| !pattern.negative)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = Pattern::new(pattern).unwrap();
        for text in yes {
            assert!(pattern.matches(text), "{pattern:?} {text}");
        }
        for text in no {
            assert!(!pattern.matches(text), "{pattern:?} {text}");
        }
    }

    /// The table of GitHub's documentation.
    #[test]
    fn documented_patterns() {
        check(
            "feature/*",
            &["feature/my-branch", "feature/your-branch"],
            &["feature/a/b", "feature"],
        );
        check(
            "feature/**",
            &["feature/beta-a/my-branch", "feature/mona/the/octocat"],
            &["main"],
        );
        check("main", &["main"], &["mainly", "Main", ""]);
        check("*", &["main", "releases"], &["all/the/branches"]);
        check("**", &["all/the/branches", "every/tag", "x"], &[]);
        check(
            "*feature",
            &["mona-feature", "feature", "ver-10-feature"],
            &["a/feature"],
        );
        check("v2*", &["v2", "v2.0", "v2.9"], &["v3", "v2/x"]);
        check(
            "v[12].[0-9]+.[0-9]+",
            &["v1.10.1", "v2.0.0"],
            &["v3.0.0", "v1.10", "v1..1", "v12.1.1"],
        );
        check("*.jsx?", &["page.js", "page.jsx"], &["page.ts", "a/page.js"]);
        check(
            "**.js",
            &["index.js", "js/index.js", "src/js/app.js"],
            &["index.jsx"],
        );
        check(
            "docs/*",
            &["docs/README.md", "docs/file.txt"],
            &["docs/a/b.md", "docs"],
        );
        check(
            "docs/**",
            &["docs/README.md", "docs/mona/octocat.txt"],
            &["docsx/a"],
        );
        check(
            "docs/**/*.md",
            &[
                "docs/README.md",
                "docs/mona/hello-world.md",
                "docs/a/markdown/file.md",
            ],
            &["docs/a.txt", "README.md"],
        );
        check(
            "**/docs/**",
            &[
                "docs/hello.md",
                "dir/docs/my-file.txt",
                "space/docs/plan/space.doc",
            ],
            &["js/app.js"],
        );
        check("**/README.md", &["README.md", "js/README.md"], &["XREADME.md"]);
        check(
            "**/*src/**",
            &["a/src/app.js", "my-src/code/js/app.js"],
            &["source/a"],
        );
        check(
            "**/*-post.md",
            &["my-post.md", "path/their-post.md"],
            &["post.md"],
        );
        check(
            "**/migrate-*.sql",
            &["migrate-10909.sql", "db/migrate-v1.0.sql"],
            &["migrate.sql"],
        );
        check("a\\*b", &["a*b"], &["axb"]);
        check("+x", &["+x"], &["x"]);
    }

    #[test]
    fn the_last_pattern_decides() {
        let list =
            |all: &[&str]| -> Vec<Pattern> { all.iter().map(|text| Pattern::new(text).unwrap()).collect() };
        let patterns = list(&["*.md", "!README.md"]);
        assert!(any_matches(&patterns, "hello.md"));
        assert!(!any_matches(&patterns, "README.md"));
        let patterns = list(&["*.md", "!README.md", "README*"]);
        assert!(any_matches(&patterns, "README.md"));
        assert!(!any_matches(&list(&["!x"]), "y"));
    }

    #[test]
    fn a_pattern_that_is_none_is_an_error() {
        for text in ["", "!", "[a", "[z-a]", "a\\"] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }
}
