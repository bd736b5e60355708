//! The gates of production: what runs told of a release's sources, and whether it may go there.
//!
//! A run tells how its gates stand for its git tree; a release has the gates of the trees that runs built it from. What
//! nobody told of is not passed. A rollback asks no gate: it goes back to what had passed.

use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::runs::Rules;
use crate::words::{Application, Event, Fault, Origin, StepOutcome};
use astraler_model::{Environment, Principal};
use astraler_pipeline::{COVERAGE, GateReport, GateState as Reported, Promised};
use astraler_store::{GateRecord, GateState, NewGate};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use tokio::sync::mpsc;

/// The gate that counts on staging only: it drives what is deployed, and that must be what production has beside it.
const E2E: &str = "e2e";
const NOT_STAGING: &str = "it counts in runs of staging";

/// How one gate stands for a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateStanding {
    /// Its name.
    pub gate: String,
    /// How it stands.
    pub state: Standing,
    /// Whether it keeps the release out of production.
    pub blocks: bool,
    /// The run that told.
    pub run: Option<u64>,
    /// Which jobs or steps it is, or what was measured.
    pub detail: String,
}

/// What is known of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It passed.
    Passed,
    /// It did not.
    Failed,
    /// Every run that could have told ended without it.
    Skipped,
    /// A run that has not ended will tell.
    Expected,
    /// No run told.
    Missing,
}

impl GateStanding {
    /// The gate, how it stands, and where that can be seen: `lint failed in run 12`.
    pub fn words(&self) -> String {
        let words = match (self.state, self.run) {
            (Standing::Passed, Some(run)) => format!("passed in run {run}"),
            (Standing::Failed, Some(run)) => format!("failed in run {run}"),
            (Standing::Skipped, Some(run)) => format!("was skipped in run {run}"),
            (Standing::Expected, Some(run)) => format!("has not ended in run {run}"),
            _ => "was not run".to_owned(),
        };
        format!("{} {words}", self.gate)
    }

    fn next_step(&self) -> String {
        let run = self.run.unwrap_or_default();
        match self.state {
            Standing::Failed | Standing::Passed => {
                format!("`astraler pipeline show {run}` says why; push what mends it")
            }
            Standing::Expected => format!("wait for run {run}: `astraler pipeline show {run}`"),
            Standing::Skipped if self.gate == E2E => {
                "push the same commit to a branch of staging: e2e counts there".to_owned()
            }
            Standing::Skipped => {
                format!(
                    "`astraler pipeline show {run}` says why; a run of the same commit that comes to it counts"
                )
            }
            Standing::Missing => format!(
                "push the commit with a job `{}` in .github/workflows, or take it out of `pipeline.gates`",
                self.gate
            ),
        }
    }
}

/// What a run is told of by whoever follows it.
impl Platform {
    /// A run begins that has these gates. What comes only after its deployment to production is not waited for there:
    /// nothing would ever get there.
    pub(crate) fn gates_expected(
        &self,
        tree: &str,
        run: u64,
        environment: Option<Environment>,
        promised: &[Promised],
    ) -> Result<(), PlatformError> {
        let waits = environment == Some(Environment::Production);
        let gates: Vec<NewGate<'_>> = promised
            .iter()
            .filter_map(|gate| match counts(&gate.name, environment) {
                true => (gate.before_deployments || !waits).then_some(NewGate {
                    name: &gate.name,
                    state: GateState::Expected,
                    detail: "",
                }),
                false => Some(elsewhere(&gate.name)),
            })
            .collect();
        Ok(self.store.gates_put(tree, run, &gates, now_ms())?)
    }

    /// Gates of a run came to their end. To be called with what is known again and again is no harm.
    pub(crate) fn gates_record(
        &self,
        tree: &str,
        run: u64,
        environment: Option<Environment>,
        gates: &[GateReport],
    ) -> Result<(), PlatformError> {
        let told = gates.iter().filter_map(|gate| {
            let state = match gate.state {
                Reported::Passed => GateState::Passed,
                Reported::Failed => GateState::Failed,
                Reported::Skipped => GateState::Skipped,
                Reported::Missing => return None,
            };
            Some(match counts(&gate.name, environment) {
                true => NewGate {
                    name: &gate.name,
                    state,
                    detail: &gate.detail,
                },
                false => elsewhere(&gate.name),
            })
        });
        let told: Vec<NewGate<'_>> = told.collect();
        Ok(self.store.gates_put(tree, run, &told, now_ms())?)
    }

    /// A run has ended, however: what it had not told by then is skipped.
    pub(crate) fn gates_close(&self, run: u64) -> Result<(), PlatformError> {
        let detail = "the run ended before it";
        Ok(self.store.gates_close(run, detail, now_ms())?)
    }
}

fn counts(name: &str, environment: Option<Environment>) -> bool {
    name != E2E || environment == Some(Environment::Staging)
}

/// A run that has the gate, and cannot tell: more than nothing, less than anything.
fn elsewhere(name: &str) -> NewGate<'_> {
    NewGate {
        name,
        state: GateState::Skipped,
        detail: NOT_STAGING,
    }
}

impl Platform {
    /// How the gates of a release stand. Which there are is for the manifest to say whose words count, as in the runs
    /// that told; never for the one that is judged.
    pub(crate) fn production_gate(&self, release: &str) -> Result<Vec<GateStanding>, PlatformError> {
        let rules = Rules::of(self)?;
        let pipeline = &rules.config().pipeline;
        let records = self.store.gates_of_release(release)?;
        Ok(standing(
            &pipeline.gate_names(),
            pipeline.gates.is_some(),
            &records,
        ))
    }
}

/// `named`: the manifest says itself which gates there are. Records come with the newest run first.
fn standing(names: &[String], named: bool, records: &[GateRecord]) -> Vec<GateStanding> {
    let of = |name: &str| {
        let all = || records.iter().filter(|record| record.name == name);
        let told = all().find(|record| matches!(record.state, GateState::Passed | GateState::Failed));
        let expected = || all().find(|record| record.state == GateState::Expected);
        told.or_else(expected).or_else(|| all().next())
    };
    let mut gates: Vec<GateStanding> = names
        .iter()
        .map(|name| match of(name) {
            Some(record) => GateStanding::of(record, record.state != GateState::Passed),
            None => GateStanding {
                gate: name.clone(),
                state: Standing::Missing,
                blocks: named,
                run: None,
                detail: if records.is_empty() {
                    "no run built this release".to_owned()
                } else {
                    "no workflow has a job or step of this name".to_owned()
                },
            },
        })
        .collect();
    if !names.iter().any(|name| name == COVERAGE) {
        gates.extend(of(COVERAGE).map(|record| GateStanding::of(record, false)));
    }
    gates
}

impl GateStanding {
    fn of(record: &GateRecord, blocks: bool) -> Self {
        Self {
            gate: record.name.clone(),
            state: match record.state {
                GateState::Passed => Standing::Passed,
                GateState::Failed => Standing::Failed,
                GateState::Skipped => Standing::Skipped,
                GateState::Expected => Standing::Expected,
            },
            blocks,
            run: Some(record.run),
            detail: record.detail.clone(),
        }
    }
}

impl Daemon {
    /// Lets a release go on to an environment, with its gates in the record; or says with the last event why not.
    pub(crate) async fn pass_gates(
        &self,
        principal: &Principal,
        environment: Environment,
        application: &Application,
        origin: Origin,
        events: &mpsc::Sender<Event>,
    ) -> Result<ControlFlow<Event, Origin>, Fault> {
        let platform = &self.platform;
        let release = &application.release;
        let known = platform.production_gate(release).unwrap_or_default();
        let expected = known.iter().filter(|gate| gate.state == Standing::Expected);
        let mut runs: BTreeSet<u64> = expected.filter_map(|gate| gate.run).collect();
        // The run that asks: what an older one said of a gate may be overtaken.
        runs.extend(origin.run);
        for run in runs {
            // It may have told already, and not be heard yet.
            self.catch_up(run).await;
        }
        platform
            .pass_gates(principal, environment, application, origin, events)
            .await
    }
}

impl Platform {
    async fn pass_gates(
        &self,
        principal: &Principal,
        environment: Environment,
        application: &Application,
        origin: Origin,
        events: &mpsc::Sender<Event>,
    ) -> Result<ControlFlow<Event, Origin>, Fault> {
        let part = format!("gates {environment}");
        let fault = |error: &dyn std::error::Error| Fault::of(&part, error);
        let reason = self.may_override(principal, &part, origin.override_reason.as_deref())?;
        let gates = self
            .production_gate(&application.release)
            .map_err(|error| fault(&error))?;
        let origin = Origin {
            gates: Some(gates.clone()),
            override_reason: None,
            ..origin
        };
        if environment != Environment::Production {
            return Ok(ControlFlow::Continue(origin));
        }
        let blocking: Vec<&GateStanding> = gates.iter().filter(|gate| gate.blocks).collect();
        let detail = json!({ "release": application.release, "reason": reason, "gates": blocking });
        let origin = match (blocking.first(), reason) {
            (None, _) => origin,
            (Some(_), Some(reason)) => {
                self.audit(&principal.name, "override", &part, &detail)
                    .map_err(|error| fault(&error))?;
                Origin {
                    override_reason: Some(reason),
                    ..origin
                }
            }
            (Some(first), None) => {
                self.audit(&principal.name, "refused", &part, &detail)
                    .map_err(|error| fault(&error))?;
                let mut hint = first.next_step();
                if !principal.job {
                    hint.push_str("; `--override REASON` deploys all the same, and is audited");
                }
                return Ok(ControlFlow::Break(Event::Blocked {
                    environment,
                    message: format!(
                        "{environment} takes what has passed its gates: {}",
                        list(&blocking)
                    ),
                    hint,
                    gates,
                }));
            }
        };
        events.send(Event::Begin { part: part.clone() }).await.ok();
        events
            .send(Event::End {
                part,
                outcome: StepOutcome::Unchanged,
                detail: summary(&gates, &origin),
                elapsed_ms: 0,
            })
            .await
            .ok();
        Ok(ControlFlow::Continue(origin))
    }

    /// The reason of an override, where there is one. A job cannot: its workflow is part of what is judged.
    fn may_override(
        &self,
        principal: &Principal,
        part: &str,
        reason: Option<&str>,
    ) -> Result<Option<String>, Fault> {
        let Some(reason) = reason else { return Ok(None) };
        let refused = |message: &str, hint: &str| Fault {
            part: part.to_owned(),
            message: message.to_owned(),
            log: vec![],
            hint: Some(hint.to_owned()),
        };
        if principal.job {
            let detail = json!({ "override": reason });
            self.audit(&principal.name, "refused", part, &detail)
                .map_err(|error| Fault::of(part, &error))?;
            return Err(refused(
                "a job cannot override the gates: its workflow is part of what they judge",
                "a person can: `astraler deploy --env production --release DIGEST --override REASON`",
            ));
        }
        if reason.trim().is_empty() {
            return Err(refused(
                "an override needs a reason",
                "say with `--override` why it must be deployed all the same: it is kept in the record",
            ));
        }
        Ok(Some(reason.trim().to_owned()))
    }
}

fn list(gates: &[&GateStanding]) -> String {
    let words: Vec<String> = gates.iter().map(|gate| gate.words()).collect();
    words.join(", ")
}

/// All of it in one line: `lint, test passed; warning: e2e was not run`.
fn summary(gates: &[GateStanding], origin: &Origin) -> String {
    let (passed, other): (Vec<&GateStanding>, Vec<_>) =
        gates.iter().partition(|gate| gate.state == Standing::Passed);
    let (overridden, warned): (Vec<&GateStanding>, Vec<_>) = other.into_iter().partition(|gate| gate.blocks);
    let names: Vec<&str> = passed.iter().map(|gate| gate.gate.as_str()).collect();
    let mut parts = Vec::new();
    if !names.is_empty() {
        parts.push(format!("{} passed", names.join(", ")));
    }
    if let (false, Some(reason)) = (overridden.is_empty(), &origin.override_reason) {
        parts.push(format!("overridden ({reason}): {}", list(&overridden)));
    }
    if !warned.is_empty() {
        parts.push(format!("warning: {}", list(&warned)));
    }
    if parts.is_empty() {
        "there are none".to_owned()
    } else {
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(folder: &std::path::Path) -> Platform {
        use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
        let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
        Platform::simulated(folder, std::sync::Arc::new(supervisor))
    }

    fn record(name: &str, run: u64, state: GateState) -> GateRecord {
        GateRecord {
            tree: "tree".into(),
            name: name.into(),
            run,
            state,
            detail: String::new(),
            changed_ms: 1,
        }
    }

    fn judged(named: bool, records: &[GateRecord]) -> Vec<(Standing, Option<u64>, bool)> {
        let names = ["lint", "test"].map(String::from);
        standing(&names, named, records)
            .into_iter()
            .map(|gate| (gate.state, gate.run, gate.blocks))
            .collect()
    }

    #[test]
    fn the_newest_that_told_counts_before_what_is_expected_before_what_was_skipped() {
        use GateState::{Expected, Failed, Passed, Skipped};
        let records = [
            record("test", 9, Skipped),
            record("lint", 8, Expected),
            record("test", 8, Expected),
            record("lint", 7, Skipped),
            record("lint", 6, Passed),
            record("lint", 5, Failed),
        ];
        assert_eq!(
            judged(true, &records),
            [
                (Standing::Passed, Some(6), false),
                (Standing::Expected, Some(8), true)
            ]
        );
        let records = [
            record("lint", 2, Failed),
            record("lint", 1, Passed),
            records[0].clone(),
        ];
        assert_eq!(
            judged(false, &records),
            [
                (Standing::Failed, Some(2), true),
                (Standing::Skipped, Some(9), true)
            ]
        );
    }

    #[test]
    fn what_nobody_told_of_warns_by_default_and_blocks_where_it_is_named() {
        let missing = |blocks| (Standing::Missing, None, blocks);
        assert_eq!(judged(false, &[]), [missing(false), missing(false)]);
        assert_eq!(judged(true, &[]), [missing(true), missing(true)]);
    }

    #[test]
    fn coverage_is_told_and_never_blocks() {
        let records = [record(COVERAGE, 3, GateState::Failed)];
        assert_eq!(
            standing(&[], true, &records)
                .iter()
                .map(|gate| (gate.gate.as_str(), gate.state, gate.blocks))
                .collect::<Vec<_>>(),
            [("coverage", Standing::Failed, false)]
        );
    }

    #[test]
    fn a_person_overrides_with_a_reason_and_a_job_never() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        let person = Principal::new("token anna", vec![]);
        let job = Principal::job("run 3 job deploy", vec![]);
        let asks =
            |principal: &Principal, reason| platform.may_override(principal, "gates production", reason);
        assert_eq!(asks(&job, None), Ok(None));
        assert_eq!(asks(&person, Some(" outage ")), Ok(Some("outage".into())));
        let empty = asks(&person, Some(" ")).unwrap_err();
        assert_eq!(empty.message, "an override needs a reason");
        let refused = asks(&job, Some("outage")).unwrap_err();
        assert!(refused.message.contains("a job cannot override"), "{refused:?}");
        let audit = platform.audit_list(10).unwrap();
        let entry = audit.last().unwrap();
        assert_eq!(
            (
                entry.actor.as_str(),
                entry.action.as_str(),
                entry.subject.as_str()
            ),
            ("run 3 job deploy", "refused", "gates production")
        );
        assert_eq!(entry.detail["override"], "outage");
    }

    #[test]
    fn e2e_counts_in_runs_of_staging() {
        let folder = tempfile::tempdir().unwrap();
        let platform = platform(folder.path());
        platform
            .store
            .release_source_add("sha256:a", "tree", 1, 1)
            .unwrap();
        let names = ["test", "e2e"].map(String::from);
        let report = |state| {
            let gates = names.clone().map(|name| GateReport {
                name,
                state,
                blocking: true,
                detail: "a job".into(),
                duration_ms: 1,
            });
            gates.to_vec()
        };
        let states = || {
            let records = platform.store.gates_of_release("sha256:a").unwrap();
            let all = standing(&names, false, &records).into_iter();
            all.map(|gate| (gate.state, gate.run, gate.detail))
                .collect::<Vec<_>>()
        };
        let promised = names.clone().map(|name| Promised {
            name,
            before_deployments: false,
        });
        let production = Some(Environment::Production);
        platform.gates_expected("tree", 1, production, &promised).unwrap();
        let missing = (
            Standing::Missing,
            None,
            "no workflow has a job or step of this name".to_owned(),
        );
        let elsewhere = (Standing::Skipped, Some(1), NOT_STAGING.to_owned());
        assert_eq!(states(), [missing, elsewhere]);
        platform
            .gates_record("tree", 1, production, &report(Reported::Passed))
            .unwrap();
        let passed = (Standing::Passed, Some(1), "a job".to_owned());
        assert_eq!(
            states(),
            [
                passed.clone(),
                (Standing::Skipped, Some(1), NOT_STAGING.to_owned())
            ]
        );
        let staging = Some(Environment::Staging);
        platform.gates_expected("tree", 2, staging, &promised).unwrap();
        assert_eq!(states()[1].0, Standing::Expected);
        platform
            .gates_record("tree", 2, staging, &report(Reported::Missing))
            .unwrap();
        platform.gates_close(2).unwrap();
        assert_eq!(states()[1].0, Standing::Skipped);
        platform
            .gates_record("tree", 2, staging, &report(Reported::Failed))
            .unwrap();
        assert_eq!(states()[1].0, Standing::Failed);
        assert_eq!(states()[0].0, Standing::Failed);
    }
}
