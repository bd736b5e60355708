//! From a wish to a process that is ready: the sockets, the launch, the wait.

use super::live::{self, Live};
use super::sockets::{self, Held};
use super::spawn::{self, Spawned};
use super::table::Role;
use super::unit::Unit;
use crate::supervisor::SupervisorError;
use astraler_model::{ListenAddress, Ready, UnitSpec};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What comes before the program runs (folders, credentials) may take so long.
const LAUNCH: Duration = Duration::from_secs(30);

/// Why a process did not become ready.
pub(super) enum NotStarted {
    Error(SupervisorError),
    /// It ended by itself, or was ended since it was too slow.
    Ended(SupervisorError, String),
}

impl Unit {
    /// A process, ready. On failure there is none left of it.
    pub(super) async fn launch(&mut self, spec: &UnitSpec, role: Role) -> Result<Live, NotStarted> {
        self.bind(spec).map_err(NotStarted::Error)?;
        if role == Role::Main {
            self.capture.borrow_mut().forget();
        }
        let failed = |operation: &str, reason: String| {
            let operation = operation.to_owned();
            NotStarted::Error(SupervisorError::Host {
                unit: self.name.clone(),
                operation,
                reason,
            })
        };
        let output = self.capture.borrow().writer();
        let output = output.map_err(|error| failed("open its output file", error.source.to_string()))?;
        let mut spawned =
            spawn::spawn(&self.keep, spec, role, &self.held, output).map_err(NotStarted::Error)?;
        let result = match self.executed(spec, &mut spawned).await {
            Ok(()) => self.until_ready(spec, &spawned.live).await,
            Err(failure) => Err(failure),
        };
        let live = spawned.live;
        match result {
            Ok(()) => Ok(live),
            Err(mut failure) => {
                live::kill(&self.keep, &self.name, &live).await;
                self.keep.forget_process(&self.name, &live.record);
                self.capture.borrow_mut().pump(true);
                failure.complete(self.capture.borrow().last_lines());
                Err(failure)
            }
        }
    }

    pub(super) async fn executed(&self, spec: &UnitSpec, spawned: &mut Spawned) -> Result<(), NotStarted> {
        let unit = spec.name.clone();
        let report = tokio::select! {
            report = timeout(LAUNCH, spawned.executed()) => report,
            () = self.ending.asked() => return Err(NotStarted::Error(SupervisorError::Cancelled { unit })),
        };
        let reason = match report {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => format!("its program did not run within {LAUNCH:?}"),
        };
        let error = SupervisorError::Failed {
            unit,
            exit: reason.clone(),
            last_lines: Vec::new(),
        };
        Err(NotStarted::Ended(error, reason))
    }

    pub(super) async fn until_ready(&self, spec: &UnitSpec, live: &Live) -> Result<(), NotStarted> {
        let unit = spec.name.clone();
        let (waited_ms, limit) = match spec.ready {
            Ready::Spawned => return Ok(()),
            Ready::Line { timeout_ms } | Ready::Exited { timeout_ms } => {
                (timeout_ms, Duration::from_millis(timeout_ms))
            }
        };
        let job = matches!(spec.ready, Ready::Exited { .. });
        let exit = tokio::select! {
            biased;
            () = self.said_ready(live), if !job => return Ok(()),
            exit = live.exited() => exit,
            () = self.ending.asked() => return Err(NotStarted::Error(SupervisorError::Cancelled { unit })),
            () = sleep(limit) => {
                let error = SupervisorError::NotReady { unit, waited_ms, last_lines: Vec::new() };
                return Err(NotStarted::Ended(error, format!("not ready after {waited_ms} ms")));
            }
        };
        if job && exit.is_success() {
            return Ok(());
        }
        let exit = exit.describe();
        let error = SupervisorError::Failed {
            unit,
            exit: exit.clone(),
            last_lines: Vec::new(),
        };
        Err(NotStarted::Ended(error, exit))
    }

    pub(super) async fn said_ready(&self, live: &Live) {
        let mut pause = Duration::from_millis(2);
        while !spawn::has_said_ready(&self.keep, &self.name, live.record.generation) {
            sleep(pause).await;
            pause = (pause * 5 / 4).min(Duration::from_millis(25));
        }
    }

    pub(super) fn bind(&mut self, spec: &UnitSpec) -> Result<(), SupervisorError> {
        let missing: Vec<_> = spec
            .listeners
            .iter()
            .filter(|listener| self.held.iter().all(|held| held.address != listener.address))
            .collect();
        if missing
            .iter()
            .any(|listener| matches!(listener.address, ListenAddress::Unix { .. }))
        {
            // The folder of a socket may be one of the unit's own, which the launcher would make too late.
            crate::launch::make_directories(spec).map_err(|error| SupervisorError::Host {
                unit: spec.name.clone(),
                operation: format!("{} {}", error.operation, error.path.display()),
                reason: error.source.to_string(),
            })?;
        }
        for listener in missing {
            self.held.push(sockets::bind(spec, listener, &self.held)?);
        }
        // Those held for the unit's present process are recorded too.
        self.keep.update(&self.name, |record| {
            record.sockets = self.held.iter().map(Held::record).collect();
        });
        Ok(())
    }

    pub(super) fn close_sockets(&mut self, close: impl Fn(&ListenAddress) -> bool) {
        let (closed, held): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|held| close(&held.address));
        self.held = held;
        for held in closed {
            held.close();
        }
        self.keep.update(&self.name, |record| {
            // A socket that could not be taken back leaves its file behind; nobody serves it any more.
            for socket in record.sockets.iter().filter(|socket| close(&socket.address)) {
                if let ListenAddress::Unix { path, .. } = &socket.address {
                    let _ = std::fs::remove_file(path);
                }
            }
            record.sockets.retain(|socket| !close(&socket.address));
        });
    }
}

impl NotStarted {
    pub(super) fn parts(self) -> (SupervisorError, String) {
        match self {
            Self::Error(error) => {
                let text = error.to_string();
                (error, text)
            }
            Self::Ended(error, exit) => (error, exit),
        }
    }

    pub(super) fn exit(self) -> String {
        self.parts().1
    }

    /// Puts in what is known only after the process was ended.
    pub(super) fn complete(&mut self, lines: Vec<String>) {
        if let Self::Ended(
            SupervisorError::Failed { last_lines, .. } | SupervisorError::NotReady { last_lines, .. },
            _,
        ) = self
        {
            *last_lines = lines;
        }
    }
}
