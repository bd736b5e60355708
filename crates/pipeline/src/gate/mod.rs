//! Gates: which jobs and steps of a run must pass.

mod watch;

pub use watch::Promised;
pub(crate) use watch::{Watch, gates_of};

use crate::event::{Conclusion, Coverage, GateReport, GateState, JobReport, StepReport};

/// The gate that measures, and only warns.
pub const COVERAGE: &str = "coverage";

/// How the gates stand at the end of a run. A job is a gate if its id or name has the gate's name as a word; where no
/// job is, a step is. What was `promised` and did not run was skipped.
pub(crate) fn gates(
    names: &[String],
    promised: &[String],
    jobs: &[JobReport],
    coverage: &[Coverage],
    percent: u8,
) -> Vec<GateReport> {
    let mut all: Vec<GateReport> = names
        .iter()
        .map(|name| gate(name, promised.contains(name), jobs, &[]))
        .collect();
    let (lines, covered) = coverage.iter().fold((0, 0), |(lines, covered), found| {
        (lines + found.lines, covered + found.covered)
    });
    all.push(GateReport {
        name: COVERAGE.to_owned(),
        blocking: false,
        duration_ms: 0,
        state: if lines == 0 {
            GateState::Missing
        } else if covered * 100 >= lines * u64::from(percent) {
            GateState::Passed
        } else {
            GateState::Failed
        },
        detail: match (covered * 1000).checked_div(lines) {
            Some(tenths) => format!("{}.{} % of lines, wanted {percent} %", tenths / 10, tenths % 10),
            None => "no report".to_owned(),
        },
    });
    all
}

/// `steps` are those that ended in jobs that have not, each with the name of its job.
fn gate(name: &str, promised: bool, jobs: &[JobReport], steps: &[(String, StepReport)]) -> GateReport {
    let of_jobs: Vec<_> = jobs
        .iter()
        .filter(|job| is(name, &job.id) || is(name, &job.name))
        .map(|job| {
            let conclusion = if job.allowed_to_fail {
                Conclusion::Success
            } else {
                job.conclusion
            };
            (job.name.clone(), conclusion, job.duration_ms)
        })
        .collect();
    let found = if of_jobs.is_empty() {
        let ended = jobs
            .iter()
            .flat_map(|job| job.steps.iter().map(move |step| (&job.name, step)));
        let open = steps.iter().map(|(job, step)| (job, step));
        ended
            .chain(open)
            .filter(|(_, step)| is_step(name, &step.name))
            .map(|(job, step)| {
                (
                    format!("{job} / {}", step.name),
                    step.conclusion,
                    step.duration_ms,
                )
            })
            .collect()
    } else {
        of_jobs
    };
    let has = |wanted: Conclusion| found.iter().any(|(_, conclusion, _)| *conclusion == wanted);
    let (state, nothing) = match (found.is_empty(), promised) {
        (true, false) => (GateState::Missing, "no job or step of this name"),
        (true, true) => (GateState::Skipped, "its job did not run"),
        _ if has(Conclusion::Failure) || has(Conclusion::Cancelled) => (GateState::Failed, ""),
        _ if has(Conclusion::Success) => (GateState::Passed, ""),
        _ => (GateState::Skipped, ""),
    };
    let names: Vec<&str> = found.iter().map(|(name, _, _)| name.as_str()).collect();
    GateReport {
        name: name.to_owned(),
        state,
        blocking: true,
        detail: if names.is_empty() {
            nothing.to_owned()
        } else {
            names.join(", ")
        },
        duration_ms: found.iter().map(|(_, _, duration)| duration).sum(),
    }
}

/// As [`is`], of a step. `test -f x` is the shell's own: it tests nothing of the application.
fn is_step(gate: &str, name: &str) -> bool {
    is(gate, name.strip_prefix("Run test ").unwrap_or(name))
}

/// Whether a name has the gate's name as a word: `unit-test`, `Run pnpm test:ci`. `test` and `tests` are one.
fn is(gate: &str, name: &str) -> bool {
    let word = |text: &str| text.to_ascii_lowercase().trim_end_matches('s').to_owned();
    let gate = word(gate);
    let all = word(name) == gate;
    all || name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|part| !part.is_empty() && word(part) == gate)
        && !name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|part| word(part) == "e2e" && gate != "e2e")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StepReport;

    pub(super) fn job(id: &str, conclusion: Conclusion, steps: &[(&str, Conclusion)]) -> JobReport {
        JobReport {
            key: id.into(),
            id: id.into(),
            name: id.into(),
            workflow: "ci.yml".into(),
            conclusion,
            allowed_to_fail: false,
            environment: None,
            url: None,
            outputs: [].into(),
            steps: steps
                .iter()
                .map(|(name, conclusion)| StepReport {
                    number: 1,
                    name: (*name).into(),
                    outcome: *conclusion,
                    conclusion: *conclusion,
                    duration_ms: 1,
                })
                .collect(),
            duration_ms: 10,
        }
    }

    fn states(names: &[&str], jobs: &[JobReport]) -> Vec<GateState> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let all = gates(&names, &[], jobs, &[], 70);
        all.into_iter().take(names.len()).map(|gate| gate.state).collect()
    }

    #[test]
    fn jobs_are_gates_by_id_and_steps_where_no_job_is() {
        use Conclusion::{Failure, Skipped, Success};
        let jobs = [
            job("lint", Success, &[]),
            job("unit-tests", Failure, &[("Run pnpm build", Success)]),
            job("e2e-test", Skipped, &[]),
            job(
                "check",
                Success,
                &[("Run pnpm typecheck", Failure), ("Run pnpm build", Success)],
            ),
        ];
        assert_eq!(
            states(&["lint", "typecheck", "test", "build", "e2e", "other"], &jobs),
            [
                GateState::Passed,
                GateState::Failed,
                GateState::Failed,
                GateState::Passed,
                GateState::Skipped,
                GateState::Missing
            ]
        );
    }

    #[test]
    fn coverage_warns_and_never_blocks() {
        let found = [Coverage {
            file: "lcov.info".into(),
            lines: 1000,
            covered: 699,
        }];
        let all = gates(&[], &[], &[], &found, 70);
        assert_eq!((all[0].state, all[0].blocking), (GateState::Failed, false));
        assert_eq!(all[0].detail, "69.9 % of lines, wanted 70 %");
        assert_eq!(gates(&[], &[], &[], &found, 69)[0].state, GateState::Passed);
    }
}
