//! Which run goes next. Pure: what is open goes in, what to do comes out.

use astraler_store::RunState;
use astraler_workflow::Concurrency;

/// Runs at once: each may use every core.
const MAX_RUNNING: usize = 2;

/// A run that has not ended, as the queue sees it.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) state: RunState,
    pub(super) line: String,
    /// The groups of its workflows' `concurrency`.
    pub(super) groups: Vec<Concurrency>,
    pub(super) cancelling: bool,
}

/// What is to be done with a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It begins.
    Start(u64),
    /// A newer one took its place while it waited.
    Supersede { run: u64, by: u64 },
    /// It was told to end before it began.
    Drop(u64),
    /// A newer one cancels it, as its workflow says.
    Cancel { run: u64, by: u64 },
}

/// Decides. `open` comes in the order of numbers.
pub(super) fn decide(open: &[Open]) -> Vec<Decision> {
    let mut decisions = Vec::new();
    let queued: Vec<&Open> = open.iter().filter(|run| run.state == RunState::Queued).collect();
    // Those that run, and those that wait before: nobody of the same line or group overtakes.
    let mut before: Vec<&Open> = open.iter().filter(|run| run.state == RunState::Running).collect();
    let mut running = before.len();
    for (index, run) in queued.iter().copied().enumerate() {
        if run.cancelling {
            decisions.push(Decision::Drop(run.id));
            continue;
        }
        let newer = queued[index + 1..]
            .iter()
            .rev()
            .find(|newer| !newer.cancelling && replaces(newer, run));
        if let Some(newer) = newer {
            decisions.push(Decision::Supersede {
                run: run.id,
                by: newer.id,
            });
            continue;
        }
        let mut free = true;
        for other in &before {
            let group = shares(run, other);
            if other.line != run.line && group.is_none() {
                continue;
            }
            free = false;
            let cancels = group.is_some_and(|group| group.cancel_in_progress);
            if cancels && other.state == RunState::Running && !other.cancelling {
                decisions.push(Decision::Cancel {
                    run: other.id,
                    by: run.id,
                });
            }
        }
        if free && running < MAX_RUNNING {
            decisions.push(Decision::Start(run.id));
            running += 1;
        }
        before.push(run);
    }
    decisions
}

/// Whether a newer run takes the place of an older one that waits.
fn replaces(newer: &Open, older: &Open) -> bool {
    newer.line == older.line || shares(newer, older).is_some_and(|group| !group.keep_all_waiting)
}

/// The newer one's words for a group that both are in.
fn shares<'a>(newer: &'a Open, older: &Open) -> Option<&'a Concurrency> {
    newer.groups.iter().find(|group| {
        older
            .groups
            .iter()
            .any(|other| other.group.eq_ignore_ascii_case(&group.group))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{Cancel, Drop, Start, Supersede};

    fn open(id: u64, state: RunState, line: &str, groups: &[(&str, bool)]) -> Open {
        Open {
            id,
            state,
            line: line.into(),
            groups: groups
                .iter()
                .map(|(group, cancel_in_progress)| Concurrency {
                    group: (*group).into(),
                    cancel_in_progress: *cancel_in_progress,
                    keep_all_waiting: false,
                })
                .collect(),
            cancelling: false,
        }
    }

    #[test]
    fn of_those_that_wait_in_a_line_the_newest_runs() {
        use RunState::{Queued, Running};
        let mut all = [
            open(1, Running, "develop", &[]),
            open(2, Queued, "develop", &[]),
            open(3, Queued, "develop", &[]),
            open(4, Queued, "main", &[]),
            open(5, Queued, "feature", &[]),
        ];
        let superseded = Supersede { run: 2, by: 3 };
        assert_eq!(decide(&all), [superseded.clone(), Start(4)], "two at once");
        all[2].cancelling = true;
        // The newest was called off: the one before it goes.
        assert_eq!(decide(&all), [Drop(3), Start(4)]);
        assert_eq!(decide(&all[1..]), [Start(2), Drop(3), Start(4)]);
    }

    #[test]
    fn a_group_says_whether_the_newer_waits_or_cancels() {
        use RunState::{Queued, Running};
        let waits = [
            open(1, Running, "a", &[("Deploy", false)]),
            open(2, Queued, "b", &[("deploy", false)]),
        ];
        assert_eq!(decide(&waits), []);
        let cancels = [
            open(1, Running, "a", &[("ci-a", true)]),
            open(2, Queued, "a", &[("ci-a", true)]),
        ];
        assert_eq!(decide(&cancels), [Cancel { run: 1, by: 2 }]);
        let mut again = cancels.clone();
        again[0].cancelling = true;
        assert_eq!(decide(&again), [], "once is enough");
    }
}
