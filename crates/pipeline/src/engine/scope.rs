//! Evaluation: status functions, `hashFiles`, and values from JSON.

use crate::confined::Confined;
use crate::event::Conclusion;
use crate::glob::Patterns;
use crate::sandbox::HOME;
use astraler_workflow::expression::{Functions, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;

/// The functions within a step.
pub(crate) struct StepFunctions<'a> {
    /// Of the job, or of the composite action that the step is in.
    pub(crate) status: Conclusion,
    pub(crate) confined: &'a Confined,
    pub(crate) workspace: &'a str,
}

impl Functions for StepFunctions<'_> {
    fn success(&self, _: &[String]) -> bool {
        self.status == Conclusion::Success
    }
    fn failure(&self, _: &[String]) -> bool {
        self.status == Conclusion::Failure
    }
    fn cancelled(&self) -> bool {
        self.status == Conclusion::Cancelled
    }
    fn hash_files(&self, patterns: &[String]) -> Result<String, String> {
        hash_files(self.confined, self.workspace, patterns).map_err(|error| format!("hashFiles: {error}"))
    }
}

/// The functions within `if` of a job.
pub(crate) struct JobFunctions<'a> {
    /// Results of all jobs that come before this one, by id in lower case.
    pub(crate) before: &'a BTreeMap<String, Conclusion>,
    pub(crate) cancelled: bool,
}

impl JobFunctions<'_> {
    fn of<'b>(&'b self, jobs: &'b [String]) -> impl Iterator<Item = Conclusion> + 'b {
        let named = |id: &str| jobs.is_empty() || jobs.iter().any(|job| job.eq_ignore_ascii_case(id));
        self.before
            .iter()
            .filter(move |(id, _)| named(id))
            .map(|(_, result)| *result)
    }
}

impl Functions for JobFunctions<'_> {
    /// All that come before succeeded: a skipped one did not.
    fn success(&self, jobs: &[String]) -> bool {
        !self.cancelled && self.of(jobs).all(|result| result == Conclusion::Success)
    }
    fn failure(&self, jobs: &[String]) -> bool {
        !self.cancelled && self.of(jobs).any(|result| result == Conclusion::Failure)
    }
    fn cancelled(&self) -> bool {
        self.cancelled
    }
    fn hash_files(&self, _: &[String]) -> Result<String, String> {
        Err("hashFiles needs a workspace".to_owned())
    }
}

/// SHA-256 over the hashes of the files, in the order of their paths.
fn hash_files(confined: &Confined, workspace: &str, patterns: &[String]) -> io::Result<String> {
    let patterns = Patterns::new(patterns.iter().map(String::as_str), workspace, HOME);
    let inside = format!("{workspace}/");
    let mut all = Sha256::new();
    let mut any = false;
    for file in confined.search(&patterns)? {
        if !file.inside.starts_with(&inside) {
            continue;
        }
        let mut hash = Sha256::new();
        io::copy(&mut confined.open(&file.inside)?, &mut hash)?;
        all.update(hash.finalize());
        any = true;
    }
    Ok(if any {
        hex::encode(all.finalize())
    } else {
        String::new()
    })
}

/// Names and texts as an object.
pub(crate) fn object<'a>(entries: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    Value::object(
        entries
            .into_iter()
            .map(|(name, value)| (name.clone(), Value::String(value.clone()))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use Conclusion::{Cancelled, Failure, Skipped, Success};

    fn holds(before: &[Conclusion], cancelled: bool) -> (bool, bool, bool) {
        let before = before.iter().enumerate();
        let before = before
            .map(|(index, result)| (format!("job{index}"), *result))
            .collect();
        let functions = JobFunctions {
            before: &before,
            cancelled,
        };
        (
            functions.success(&[]),
            functions.failure(&[]),
            functions.cancelled(),
        )
    }

    #[test]
    fn the_status_of_what_came_before() {
        for (before, cancelled, expected) in [
            (&[][..], false, (true, false, false)),
            (&[Success, Success], false, (true, false, false)),
            (&[Success, Failure], false, (false, true, false)),
            (&[Success, Skipped], false, (false, false, false)),
            (&[Cancelled], false, (false, false, false)),
            (&[Skipped, Failure], false, (false, true, false)),
            (&[Success], true, (false, false, true)),
            (&[Failure], true, (false, false, true)),
        ] {
            assert_eq!(holds(before, cancelled), expected, "{before:?} {cancelled}");
        }
    }

    #[test]
    fn a_job_may_be_asked_for_by_its_name() {
        let before = [("a".to_owned(), Success), ("b".to_owned(), Failure)].into();
        let functions = JobFunctions {
            before: &before,
            cancelled: false,
        };
        assert!(functions.success(&["A".into()]) && !functions.failure(&["a".into()]));
        assert!(functions.failure(&["b".into()]));
    }
}
