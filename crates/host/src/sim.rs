//! A simulated host for tests of control code: units in memory, time under control, faults from a seed. A failing run
//! is repeated with the seed that its `Debug` form prints.

use crate::clock::Clock;
pub use crate::sim_clock::SimClock;
use crate::supervisor::{BoxFuture, Started, Supervisor, SupervisorError};
use astraler_model::{Ready, UnitName, UnitPhase, UnitSpec, UnitStatus};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often each fault happens, from 0.0 (never) to 1.0 (always).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimFaults {
    /// A start ends with [`SupervisorError::Failed`].
    pub start_fails: f64,
    /// A start ends with [`SupervisorError::NotReady`], after its whole time.
    pub never_ready: f64,
    /// A start takes up to 90 % of its time.
    pub slow_ready: f64,
    /// A unit that was started well is `Failed` when next looked at.
    pub dies_after_start: f64,
    /// A request ends with [`SupervisorError::Unreachable`], before it had any effect or (evenly) after it had.
    pub unreachable: f64,
}

impl SimFaults {
    /// A machine on which everything works.
    pub const NONE: Self = Self {
        start_fails: 0.0,
        never_ready: 0.0,
        slow_ready: 0.0,
        dies_after_start: 0.0,
        unreachable: 0.0,
    };
    /// A machine on which each fault happens in one of ten cases.
    pub const SOME: Self = Self {
        start_fails: 0.1,
        never_ready: 0.1,
        slow_ready: 0.1,
        dies_after_start: 0.1,
        unreachable: 0.1,
    };
}

/// A supervisor without processes.
#[derive(Clone)]
pub struct SimSupervisor {
    seed: u64,
    clock: SimClock,
    state: Arc<Mutex<State>>,
}

struct State {
    faults: SimFaults,
    random: Random,
    units: Vec<SimUnit>,
    history: Vec<String>,
    next_pid: u32,
    ended: bool,
}

struct SimUnit {
    spec: UnitSpec,
    status: UnitStatus,
    dying: bool,
}

impl SimSupervisor {
    /// A host whose faults follow from the seed alone.
    pub fn new(seed: u64, faults: SimFaults, clock: SimClock) -> Self {
        let state = State {
            faults,
            random: Random(seed),
            units: Vec::new(),
            history: Vec::new(),
            next_pid: 100,
            ended: false,
        };
        Self {
            seed,
            clock,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What was done, in order: `start edge: fresh`, `stop edge`…
    pub fn history(&self) -> Vec<String> {
        self.lock().history.clone()
    }

    /// Changes the faults from now on.
    pub fn set_faults(&self, faults: SimFaults) {
        self.lock().faults = faults;
    }

    /// Ends a running unit as if it had crashed for good.
    pub fn kill(&self, name: &UnitName) {
        let mut state = self.lock();
        if let Some(unit) = state.units.iter_mut().find(|unit| unit.spec.name == *name) {
            unit.die();
        }
    }

    /// The description with which a unit runs.
    pub fn spec(&self, name: &UnitName) -> Option<UnitSpec> {
        self.lock()
            .units
            .iter()
            .find(|unit| unit.spec.name == *name)
            .map(|unit| unit.spec.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self) -> SupervisorError {
        SupervisorError::Unreachable {
            socket: PathBuf::from("/simulated/keep.sock"),
            reason: format!("injected fault, seed {}", self.seed),
        }
    }

    /// Runs a change between two chances of losing the connection: the request, and the answer.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, SupervisorError>,
    ) -> Result<T, SupervisorError> {
        let mut state = self.lock();
        if state.ended {
            return Err(SupervisorError::Unreachable {
                socket: PathBuf::from("/simulated/keep.sock"),
                reason: "it was shut down".into(),
            });
        }
        let (lost, before) = (state.faults.unreachable, state.random.chance(0.5));
        let lost = state.random.chance(lost);
        if lost && before {
            return Err(self.unreachable());
        }
        let result = change(&mut state);
        if lost { Err(self.unreachable()) } else { result }
    }

    async fn start_unit(&self, spec: UnitSpec, verb: &str) -> Result<Started, SupervisorError> {
        let name = spec.name.clone();
        let digest = spec.digest();
        let limit_ms = match spec.ready {
            Ready::Spawned => 10,
            Ready::Line { timeout_ms } | Ready::Exited { timeout_ms } => timeout_ms,
        };
        let plan = self.change(|state| {
            let same = state.units.iter().find(|unit| {
                unit.spec.name == name
                    && unit.status.spec_digest == digest
                    && unit.status.phase == UnitPhase::Running
            });
            if let (Some(unit), "start") = (same, verb) {
                state.history.push(format!("{verb} {name}: unchanged"));
                return Ok(Err(unit.status.clone()));
            }
            Ok(Ok(state.plan(limit_ms)))
        })?;
        let plan = match plan {
            Ok(plan) => plan,
            Err(status) => return Ok(Started::Unchanged(status)),
        };
        self.clock.sleep(Duration::from_millis(plan.takes_ms)).await;
        let now = self.clock.now_ms();
        self.lock()
            .finish(spec, &plan, verb, now, limit_ms, self.seed)
            .map(Started::Fresh)
    }
}

struct Plan {
    fails: bool,
    never: bool,
    dies: bool,
    takes_ms: u64,
}

impl State {
    /// Draws every number whatever comes of it, so that one fault does not shift the others.
    fn plan(&mut self, limit_ms: u64) -> Plan {
        let faults = self.faults;
        let fails = self.random.chance(faults.start_fails);
        let never = self.random.chance(faults.never_ready);
        let slow = self.random.chance(faults.slow_ready);
        let dies = self.random.chance(faults.dies_after_start);
        let share = self.random.next() % 90;
        let takes_ms = match (never, slow) {
            (true, _) => limit_ms,
            (_, true) => limit_ms * share / 100,
            _ => limit_ms.min(5),
        };
        Plan {
            fails,
            never,
            dies,
            takes_ms,
        }
    }

    fn finish(
        &mut self,
        spec: UnitSpec,
        plan: &Plan,
        verb: &str,
        now_ms: u64,
        limit_ms: u64,
        seed: u64,
    ) -> Result<UnitStatus, SupervisorError> {
        let name = spec.name.clone();
        let job = matches!(spec.ready, Ready::Exited { .. });
        let old = self.units.iter().position(|unit| unit.spec.name == name);
        let starts = old
            .and_then(|index| self.units.get(index))
            .map_or(0, |unit| unit.status.starts)
            + 1;
        let failed = plan.fails || plan.never;
        self.next_pid += 1;
        let status = UnitStatus {
            name: name.clone(),
            phase: match (failed, job) {
                (true, _) => UnitPhase::Failed,
                (false, true) => UnitPhase::Stopped,
                (false, false) => UnitPhase::Running,
            },
            pid: (!failed && !job).then_some(self.next_pid),
            starts,
            since_ms: (!failed && !job).then_some(now_ms),
            last_exit: if plan.fails {
                Some("exit status 1".into())
            } else {
                None
            },
            spec_digest: spec.digest(),
        };
        self.history.push(format!(
            "{verb} {name}: {}",
            if failed { "failed" } else { "fresh" }
        ));
        // A replacement that fails leaves the old one as it was.
        let kept = failed && verb == "replace" && old.is_some();
        if !kept {
            let unit = SimUnit {
                spec,
                status: status.clone(),
                dying: plan.dies && !failed && !job,
            };
            match old.and_then(|index| self.units.get_mut(index)) {
                Some(slot) => *slot = unit,
                None => self.units.push(unit),
            }
        }
        let last_lines = vec![format!("injected fault, seed {seed}")];
        if plan.fails {
            return Err(SupervisorError::Failed {
                unit: name,
                exit: "exit status 1".into(),
                last_lines,
            });
        }
        if plan.never {
            return Err(SupervisorError::NotReady {
                unit: name,
                waited_ms: limit_ms,
                last_lines,
            });
        }
        Ok(status)
    }
}

impl SimUnit {
    fn die(&mut self) {
        self.dying = false;
        if self.status.phase == UnitPhase::Running {
            self.status.phase = UnitPhase::Failed;
            self.status.pid = None;
            self.status.since_ms = None;
            self.status.last_exit = Some("signal 9 (SIGKILL)".into());
        }
    }

    fn stop(&mut self) {
        self.dying = false;
        self.status.phase = UnitPhase::Stopped;
        self.status.pid = None;
        self.status.since_ms = None;
    }
}

impl Supervisor for SimSupervisor {
    fn start(&self, spec: &UnitSpec) -> BoxFuture<'_, Result<Started, SupervisorError>> {
        let spec = spec.clone();
        Box::pin(self.start_unit(spec, "start"))
    }

    fn replace(&self, spec: &UnitSpec) -> BoxFuture<'_, Result<Started, SupervisorError>> {
        let spec = spec.clone();
        Box::pin(self.start_unit(spec, "replace"))
    }

    fn restart(&self, name: &UnitName) -> BoxFuture<'_, Result<UnitStatus, SupervisorError>> {
        let name = name.clone();
        Box::pin(async move {
            let spec = self.spec(&name).ok_or(SupervisorError::Unknown { unit: name })?;
            self.start_unit(spec, "restart")
                .await
                .map(|started| started.status().clone())
        })
    }

    fn stop(&self, name: &UnitName) -> BoxFuture<'_, Result<(), SupervisorError>> {
        let name = name.clone();
        Box::pin(async move {
            self.change(|state| {
                let unit = state.units.iter_mut().find(|unit| unit.spec.name == name);
                unit.ok_or_else(|| SupervisorError::Unknown { unit: name.clone() })?
                    .stop();
                state.history.push(format!("stop {name}"));
                Ok(())
            })
        })
    }

    fn remove(&self, name: &UnitName) -> BoxFuture<'_, Result<(), SupervisorError>> {
        let name = name.clone();
        Box::pin(async move {
            self.change(|state| {
                state.units.retain(|unit| unit.spec.name != name);
                state.history.push(format!("remove {name}"));
                Ok(())
            })
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<UnitStatus>, SupervisorError>> {
        Box::pin(async move {
            self.change(|state| {
                for unit in state.units.iter_mut().filter(|unit| unit.dying) {
                    unit.die();
                }
                Ok(state.units.iter().map(|unit| unit.status.clone()).collect())
            })
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<(), SupervisorError>> {
        Box::pin(async move {
            self.change(|state| {
                state.units.clear();
                state.history.push("shutdown".into());
                state.ended = true;
                Ok(())
            })
        })
    }
}

impl fmt::Debug for SimSupervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("SimSupervisor")
            .field("seed", &self.seed)
            .field("faults", &state.faults)
            .field("history", &state.history)
            .finish_non_exhaustive()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine and in every version.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64 / (1u64 << 53) as f64) < probability
    }
}
