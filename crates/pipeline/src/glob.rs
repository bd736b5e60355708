//! Patterns of files, as `hashFiles`, caches and artifacts take them.
//!
//! `*`, `?`, `[…]` within one folder, `**` over folders; `!` takes away what was found before; a folder stands for
//! all in it. <https://github.com/actions/toolkit/tree/main/packages/glob>

/// Patterns in order, each relative to a root or absolute; paths are absolute, without `.` and `..`.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    all: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    excludes: bool,
    segments: Vec<String>,
}

impl Patterns {
    /// Reads patterns, one a line; `#` begins a comment. `root` is where relative ones begin, `home` is `~`.
    pub(crate) fn new<'a>(lines: impl IntoIterator<Item = &'a str>, root: &str, home: &str) -> Self {
        let mut all = Vec::new();
        for line in lines.into_iter().flat_map(str::lines).map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bangs = line.bytes().take_while(|byte| *byte == b'!').count();
            let text = line[bangs..].trim_start();
            let full = if text == "~" || text.starts_with("~/") {
                format!("{home}{}", &text[1..])
            } else if text.starts_with('/') {
                text.to_owned()
            } else {
                format!("{root}/{text}")
            };
            all.push(Pattern {
                excludes: bangs % 2 == 1,
                segments: segments(&full),
            });
        }
        Self { all }
    }

    /// Whether a file is meant.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let path = segments(path);
        let mut found = false;
        for pattern in &self.all {
            if pattern.excludes != found {
                continue;
            }
            // A folder stands for what is in it.
            let hit = (1..=path.len())
                .rev()
                .any(|length| whole(&pattern.segments, &path[..length]));
            if hit {
                found = !pattern.excludes;
            }
        }
        found
    }

    /// The folders or files where a search must begin: each pattern up to its first wildcard.
    pub(crate) fn starts(&self) -> Vec<String> {
        let included = self.all.iter().filter(|pattern| !pattern.excludes);
        let mut starts: Vec<String> = included
            .map(|pattern| {
                let fixed = pattern
                    .segments
                    .iter()
                    .take_while(|segment| !segment.contains(['*', '?', '[']));
                let fixed: Vec<&str> = fixed.map(String::as_str).collect();
                format!("/{}", fixed.join("/"))
            })
            .collect();
        starts.sort();
        starts.dedup();
        // What lies in another start is found from there.
        let all = starts.clone();
        starts.retain(|start| {
            !all.iter().any(|other| {
                other != start
                    && (other == "/" || start.starts_with(&format!("{}/", other.trim_end_matches('/'))))
            })
        });
        starts
    }

    /// Whether there is no pattern that adds files.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.iter().all(|pattern| pattern.excludes)
    }
}

/// The parts of a path, without `.` and `..`.
pub(crate) fn segments(path: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                all.pop();
            }
            segment => all.push(segment.to_owned()),
        }
    }
    all
}

fn whole(pattern: &[String], path: &[String]) -> bool {
    // Dynamic programming over the two: no pattern makes it slow.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for segment in pattern {
        let mut next = vec![false; path.len() + 1];
        if segment == "**" {
            let mut any = false;
            for (at, was) in reached.iter().enumerate() {
                any |= *was;
                next[at] = any;
            }
        } else {
            for (at, name) in path.iter().enumerate() {
                next[at + 1] = reached[at] && one(segment, name);
            }
        }
        reached = next;
    }
    reached[path.len()]
}

/// One name against one segment.
pub(crate) fn one(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let mut next = vec![false; name.len() + 1];
        match pattern[at] {
            '*' => {
                let mut any = false;
                for (index, was) in reached.iter().enumerate() {
                    any |= *was;
                    next[index] = any;
                }
                at += 1;
            }
            '[' => match class(&pattern[at..]) {
                Some((class, length)) => {
                    for (index, c) in name.iter().enumerate() {
                        next[index + 1] = reached[index] && class.holds(*c);
                    }
                    at += length;
                }
                None => {
                    literal('[', &name, &reached, &mut next);
                    at += 1;
                }
            },
            '?' => {
                next[1..].copy_from_slice(&reached[..name.len()]);
                at += 1;
            }
            c => {
                literal(c, &name, &reached, &mut next);
                at += 1;
            }
        }
        reached = next;
    }
    reached[name.len()]
}

fn literal(wanted: char, name: &[char], reached: &[bool], next: &mut [bool]) {
    for (index, c) in name.iter().enumerate() {
        next[index + 1] = reached[index] && *c == wanted;
    }
}

struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn holds(&self, c: char) -> bool {
        self.negated != self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c))
    }
}

/// `[abc]`, `[a-z]`, `[!a]` at the beginning, and its length.
fn class(pattern: &[char]) -> Option<(Class, usize)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some('!' | '^'));
    at += usize::from(negated);
    let mut ranges = Vec::new();
    loop {
        let from = *pattern.get(at)?;
        if from == ']' && !ranges.is_empty() {
            return Some((Class { negated, ranges }, at + 1));
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some('-'), Some(to)) if *to != ']' => {
                ranges.push((from, *to));
                at += 3;
            }
            _ => {
                ranges.push((from, from));
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(patterns: &[&str], path: &str) -> bool {
        Patterns::new(patterns.iter().copied(), "/w", "/runner").matches(path)
    }

    #[test]
    fn wildcards_within_and_over_folders() {
        assert!(matches(&["**/package-lock.json"], "/w/package-lock.json"));
        assert!(matches(&["**/package-lock.json"], "/w/a/b/package-lock.json"));
        assert!(matches(&["*.json"], "/w/a.json") && !matches(&["*.json"], "/w/a/b.json"));
        assert!(matches(&["a?[0-9]"], "/w/ab7") && !matches(&["a?[!0-9]"], "/w/ab7"));
        assert!(
            matches(&["coverage"], "/w/coverage/lcov.info"),
            "a folder stands for what is in it"
        );
        assert!(matches(&["~/.npm"], "/runner/.npm/x") && matches(&["/tmp/*"], "/tmp/x"));
        assert!(!matches(&["../x"], "/w/x") && matches(&["./x/../y"], "/w/y"));
    }

    #[test]
    fn what_is_excluded_may_be_included_again() {
        let patterns = ["src", "!src/**/*.md", "src/keep.md"];
        assert!(matches(&patterns, "/w/src/a.ts"));
        assert!(!matches(&patterns, "/w/src/a/b.md"));
        assert!(matches(&patterns, "/w/src/keep.md"));
        assert!(Patterns::new(["!x", "# no"], "/w", "/h").is_empty());
    }

    #[test]
    fn a_search_begins_before_the_first_wildcard_and_at_no_place_twice() {
        let patterns = Patterns::new(["a/b/*.ts\na/b/c/**", "/tmp/x"], "/w", "/h");
        assert_eq!(patterns.starts(), ["/tmp/x", "/w/a/b"]);
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let path = format!("/w/{}", "a/".repeat(200));
        assert!(!matches(&[&"**/a*a*a*/".repeat(40)], &format!("{path}b")));
        assert!(!one(&"*a".repeat(200), &"a".repeat(150)));
    }
}
