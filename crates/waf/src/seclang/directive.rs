//! Files to directives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lines::{self, Line};
use super::{
    Directive, DirectiveKind, Operator, Place, Problem, Removed, Rule, Wrong, action, ctl, setting, variable,
    words,
};

/// How deep includes may go.
const INCLUDES: usize = 16;
/// How large a rule file may be.
const FILE_BYTES: u64 = 16 << 20;

/// Reads on after a problem, so that all are found.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) directives: Vec<Directive>,
    pub(super) problems: Vec<Problem>,
    depth: usize,
}

impl Reader {
    /// Reads a file; `from` is the directive that includes it.
    pub(super) fn file(&mut self, path: &Path, from: Option<&Place>) {
        match read(path) {
            Ok(text) => self.text(&text, path),
            Err(message) => {
                let problem = match from {
                    Some(place) => Wrong::new(message).at(place),
                    None => Problem {
                        file: path.to_path_buf(),
                        line: 0,
                        message,
                        hint: None,
                    },
                };
                self.problems.push(problem);
            }
        }
    }

    pub(super) fn text(&mut self, text: &str, file: &Path) {
        let file: Arc<Path> = Arc::from(file);
        for line in lines::logical(text) {
            let place = Place {
                file: Arc::clone(&file),
                line: line.number,
            };
            self.line(&line, &place);
        }
    }

    fn line(&mut self, line: &Line, place: &Place) {
        let words = match words::split(&line.text) {
            Ok(words) => words,
            Err(wrong) => {
                self.problems.push(wrong.at(place));
                if line.text.split_whitespace().next().is_some_and(is_rule) {
                    self.unread(&line.text, place);
                }
                return;
            }
        };
        let Some((name, arguments)) = words.split_first() else {
            return;
        };
        if name.eq_ignore_ascii_case("include") {
            return self.include(arguments, place);
        }
        match directive(name, arguments) {
            Ok(kind) => self.directives.push(Directive {
                place: place.clone(),
                kind,
            }),
            Err(wrong) => {
                self.problems
                    .extend(wrong.into_iter().map(|wrong| wrong.at(place)));
                if is_rule(name) {
                    self.unread(&line.text, place);
                }
            }
        }
    }

    /// Something stands for a rule that cannot be read, so that what follows it is not taken for wrong as well.
    fn unread(&mut self, text: &str, place: &Place) {
        let chained = text
            .split([',', '"', ' ', '\t'])
            .any(|word| word.trim().eq_ignore_ascii_case("chain"));
        self.directives.push(Directive {
            place: place.clone(),
            kind: DirectiveKind::Unread { chained },
        });
    }

    fn include(&mut self, arguments: &[String], place: &Place) {
        if self.depth >= INCLUDES {
            let wrong = Wrong::new(format!("more than {INCLUDES} files include each other"));
            return self.problems.push(wrong.at(place));
        }
        for pattern in arguments {
            let folder = place.file.parent().unwrap_or(Path::new("."));
            match expand(&folder.join(pattern)) {
                Ok(files) => {
                    self.depth += 1;
                    for file in files {
                        self.file(&file, Some(place));
                    }
                    self.depth -= 1;
                }
                Err(message) => self.problems.push(Wrong::new(message).at(place)),
            }
        }
    }
}

fn is_rule(name: &str) -> bool {
    name.eq_ignore_ascii_case("SecRule") || name.eq_ignore_ascii_case("SecAction")
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES {
        return Err(format!("{} is larger than {FILE_BYTES} bytes", path.display()));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))
}

/// The files that a name with `*` and `?` in its last part means, in the order of their names.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if !name.contains(['*', '?']) {
        return Ok(vec![pattern.to_path_buf()]);
    }
    let folder = pattern.parent().unwrap_or(Path::new("."));
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|file| file.to_str())
                .is_some_and(|file| fits(name.as_bytes(), file.as_bytes()))
        })
        .collect();
    files.sort();
    Ok(files)
}

/// Whether a name fits a pattern of `*` and `?`. Linear but for the last star, which is where it goes back to.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => {
                p += 1;
                n += 1;
            }
            Some(byte) if *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    n = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn directive(name: &str, arguments: &[String]) -> Result<DirectiveKind, Vec<Wrong>> {
    let one = |wrong: Wrong| vec![wrong];
    let count = |expected: std::ops::RangeInclusive<usize>| {
        if expected.contains(&arguments.len()) {
            Ok(())
        } else {
            Err(vec![Wrong::new(format!(
                "{name} has {} arguments where {} to {} belong",
                arguments.len(),
                expected.start(),
                expected.end()
            ))])
        }
    };
    Ok(match name.to_ascii_lowercase().as_str() {
        "secrule" => {
            count(2..=3)?;
            DirectiveKind::Rule(rule(&arguments[0], &arguments[1], arguments.get(2))?)
        }
        "secaction" => {
            count(1..=1)?;
            DirectiveKind::Rule(Rule {
                targets: Vec::new(),
                operator: None,
                actions: action::list(&arguments[0])?,
            })
        }
        "secmarker" => {
            count(1..=1)?;
            DirectiveKind::Marker(arguments[0].clone())
        }
        "secdefaultaction" => {
            count(1..=1)?;
            DirectiveKind::DefaultAction(action::list(&arguments[0])?)
        }
        "secruleremovebyid" => {
            count(1..=usize::MAX)?;
            DirectiveKind::Remove(Removed::Ids(ctl::ids(&arguments.join(" ")).map_err(one)?))
        }
        "secruleremovebytag" => {
            count(1..=1)?;
            DirectiveKind::Remove(Removed::Tag(arguments[0].clone()))
        }
        "secruleremovebymsg" => {
            count(1..=1)?;
            DirectiveKind::Remove(Removed::Msg(arguments[0].clone()))
        }
        "secruleupdatetargetbyid" => {
            count(2..=2)?;
            let ids = ctl::ids(&arguments[0]).map_err(one)?;
            update(Removed::Ids(ids), &arguments[1])?
        }
        "secruleupdatetargetbytag" => {
            count(2..=2)?;
            update(Removed::Tag(arguments[0].clone()), &arguments[1])?
        }
        "secruleupdatetargetbymsg" => {
            count(2..=2)?;
            update(Removed::Msg(arguments[0].clone()), &arguments[1])?
        }
        "secruleupdateactionbyid" => {
            count(2..=2)?;
            let (id, link) = arguments[0].split_once(':').unwrap_or((&arguments[0], "0"));
            let number = |text: &str| {
                text.parse::<u64>()
                    .map_err(|_| one(Wrong::new(format!("{text} is no number"))))
            };
            let link = usize::try_from(number(link)?).unwrap_or(usize::MAX);
            DirectiveKind::UpdateAction(number(id)?, link, action::list(&arguments[1])?)
        }
        _ => DirectiveKind::Setting(setting::parse(name, arguments).map_err(one)?),
    })
}

fn update(which: Removed, targets: &str) -> Result<DirectiveKind, Vec<Wrong>> {
    let targets = variable::list(targets).map_err(|wrong| vec![wrong])?;
    Ok(DirectiveKind::UpdateTarget(which, targets))
}

/// Reads all three parts before it complains, so that one line reports all that is wrong with it.
fn rule(targets: &str, operator: &str, actions: Option<&String>) -> Result<Rule, Vec<Wrong>> {
    let mut wrong = Vec::new();
    let targets = variable::list(targets).map_err(|error| wrong.push(error));
    let operator = Operator::parse(operator).map_err(|error| wrong.push(error));
    let actions = actions.map_or(Ok(Vec::new()), |actions| {
        action::list(actions).map_err(|errors| wrong.extend(errors))
    });
    match (targets, operator, actions) {
        (Ok(targets), Ok(operator), Ok(actions)) => Ok(Rule {
            targets,
            operator: Some(operator),
            actions,
        }),
        _ => Err(wrong),
    }
}
