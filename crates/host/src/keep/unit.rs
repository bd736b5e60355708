//! The life of one unit: a task that alone changes it. Commands come in one after the other; an end of its process and
//! the time of its next start come in between.

use super::Keep;
use super::capture::Capture;
use super::live::{self, Exit, Live};
use super::sockets::{self, Held};
use super::starting::NotStarted;
use super::table::{Process, Record, Role};
use super::validate::validate;
use crate::clock::now_ms;
use crate::supervisor::{Started, SupervisorError};
use astraler_model::{ListenAddress, Ready, RestartPolicy, UnitName, UnitPhase, UnitSpec, UnitStatus};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What is asked of a unit.
pub(super) enum Command {
    Start(Box<UnitSpec>, oneshot::Sender<Result<Started, SupervisorError>>),
    Replace(Box<UnitSpec>, oneshot::Sender<Result<Started, SupervisorError>>),
    Restart(oneshot::Sender<Result<UnitStatus, SupervisorError>>),
    Stop(oneshot::Sender<()>),
    /// Ends the task.
    Remove(oneshot::Sender<()>),
}

/// How others reach the task of a unit.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    /// Ends that are asked for and not taken up yet: a start under way gives up for them.
    pub(super) ending: Rc<Ending>,
}

#[derive(Default)]
pub(super) struct Ending {
    count: Cell<u32>,
    notify: Notify,
}

impl Ending {
    pub(super) fn ask(&self) {
        self.count.set(self.count.get() + 1);
        self.notify.notify_waiters();
    }

    fn taken_up(&self) {
        self.count.set(self.count.get().saturating_sub(1));
    }

    pub(super) async fn asked(&self) {
        loop {
            let notified = self.notify.notified();
            if self.count.get() > 0 {
                return;
            }
            notified.await;
        }
    }
}

pub(super) struct Unit {
    pub(super) keep: Rc<Keep>,
    pub(super) name: UnitName,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) ending: Rc<Ending>,
    pub(super) capture: Rc<RefCell<Capture>>,
    pub(super) held: Vec<Held>,
    pub(super) main: Option<Live>,
    pub(super) old: Vec<(Rc<Live>, JoinHandle<()>)>,
    pub(super) restart_at: Option<Instant>,
}

impl Unit {
    /// The unit as its record says; nothing is started or looked at yet.
    pub(super) fn new(keep: Rc<Keep>, name: UnitName, capture: Rc<RefCell<Capture>>) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(16);
        let ending = Rc::new(Ending::default());
        let handle = Handle {
            commands: sender,
            ending: ending.clone(),
        };
        let unit = Self {
            keep,
            name,
            commands,
            ending,
            capture,
            held: Vec::new(),
            main: None,
            old: Vec::new(),
            restart_at: None,
        };
        (unit, handle)
    }

    /// Lives until the unit is removed.
    pub(super) async fn run(mut self) {
        self.resume().await;
        loop {
            let restart_at = self.restart_at;
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Remove(done)) => {
                        self.ending.taken_up();
                        self.stop().await;
                        self.keep.forget(&self.name);
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.handle(command).await,
                    None => return,
                },
                exit = ended(self.main.as_ref()) => self.ended_by_itself(exit).await,
                () = at(restart_at) => self.start_again().await,
            }
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Start(spec, reply) => {
                let _ = reply.send(self.start(*spec).await);
            }
            Command::Replace(spec, reply) => self.replace(*spec, reply).await,
            Command::Restart(reply) => {
                let spec = self.record().spec;
                self.end_processes().await;
                let _ = reply.send(self.start_fresh(spec).await);
            }
            Command::Stop(done) => {
                self.ending.taken_up();
                self.stop().await;
                let _ = done.send(());
            }
            // Taken up in `run`.
            Command::Remove(_) => {}
        }
    }

    /// Makes the unit what the record of another `keep` says it should be.
    async fn resume(&mut self) {
        let record = self.record();
        let mut living: Vec<Live> = record.processes.iter().cloned().filter_map(Live::adopt).collect();
        let gone = |process: &Process| {
            living
                .iter()
                .all(|live| live.record.generation != process.generation)
        };
        let main_gone = record.main().filter(|process| gone(process)).cloned();
        // What is left of processes whose main one is gone: their groups, descendants, files.
        for process in record.processes.iter().filter(|process| gone(process)) {
            self.keep.clear(&self.name, process).await;
        }
        let keep = living
            .iter()
            .position(|live| live.record.role == Role::Main)
            .map(|at| living.remove(at));
        // A replacement that was not ready is given up, an old one is ended: its successor serves.
        for live in living {
            match live.record.role {
                Role::Old => self.retire(live, &record.spec, None),
                _ => {
                    live::kill(&self.keep, &self.name, &live).await;
                    self.keep.forget_process(&self.name, &live.record);
                }
            }
        }
        if let Some(live) = &keep {
            tracing::info!(unit = %self.name, pid = live.record.pid, "adopted");
            self.held = sockets::take_back(&self.name, live.record.pid, &record.sockets);
        }
        self.main = keep;
        match (record.phase, main_gone) {
            (UnitPhase::Stopping, _) => self.stop().await,
            (UnitPhase::Starting, None) if self.main.is_some() => self.resume_start().await,
            (UnitPhase::Starting | UnitPhase::Running, _) if self.main.is_none() => {
                self.ended_by_itself(Exit::Unknown).await;
            }
            (UnitPhase::Backoff, _) => self.restart_at = Some(Instant::now()),
            _ => {}
        }
    }

    async fn resume_start(&mut self) {
        let Some(live) = self.main.take() else { return };
        let spec = self.record().spec;
        match self.until_ready(&spec, &live).await {
            Ok(()) => self.set_running(&spec, live).await,
            Err(failure) => {
                let exit = failure.exit();
                live::kill(&self.keep, &self.name, &live).await;
                self.keep.forget_process(&self.name, &live.record);
                self.after_end(&exit);
            }
        }
    }

    async fn start(&mut self, spec: UnitSpec) -> Result<Started, SupervisorError> {
        validate(&spec)?;
        let record = self.record();
        let digest = spec.digest();
        if record.phase == UnitPhase::Running
            && self
                .main
                .as_ref()
                .is_some_and(|live| live.record.digest == digest)
        {
            return Ok(Started::Unchanged(record.status()));
        }
        self.end_processes().await;
        self.start_fresh(spec).await.map(Started::Fresh)
    }

    /// Starts with nothing running, by command: what fails is not tried again.
    async fn start_fresh(&mut self, spec: UnitSpec) -> Result<UnitStatus, SupervisorError> {
        self.restart_at = None;
        self.close_sockets(|address| !listens(&spec, address));
        self.keep.update(&self.name, |record| {
            record.spec = spec.clone();
            record.phase = UnitPhase::Starting;
            record.ends_ms.clear();
            record.last_exit = None;
        });
        self.capture.borrow_mut().set_policy(spec.log.clone());
        match self.launch(&spec, Role::Main).await {
            Ok(live) => {
                self.set_running(&spec, live).await;
                Ok(self.record().status())
            }
            Err(failure) => {
                let cancelled = matches!(failure, NotStarted::Error(SupervisorError::Cancelled { .. }));
                let (error, exit) = failure.parts();
                self.close_sockets(|_| true);
                self.keep.update(&self.name, |record| {
                    record.phase = if cancelled {
                        UnitPhase::Stopped
                    } else {
                        UnitPhase::Failed
                    };
                    record.last_exit = Some(exit);
                });
                Err(error)
            }
        }
    }

    async fn start_again(&mut self) {
        self.restart_at = None;
        let spec = self.record().spec;
        self.keep
            .update(&self.name, |record| record.phase = UnitPhase::Starting);
        match self.launch(&spec, Role::Main).await {
            Ok(live) => self.set_running(&spec, live).await,
            Err(NotStarted::Error(SupervisorError::Cancelled { .. })) => {}
            Err(failure) => {
                let exit = failure.exit();
                tracing::warn!(unit = %self.name, exit, "did not start again");
                self.after_end(&exit);
            }
        }
    }

    async fn replace(&mut self, spec: UnitSpec, reply: oneshot::Sender<Result<Started, SupervisorError>>) {
        let record = self.record();
        let held = |address: &ListenAddress| self.held.iter().any(|held| held.address == *address);
        // A socket that could not be taken back is still the old process's: it must end before the new one can bind.
        let lost = record
            .spec
            .listeners
            .iter()
            .any(|listener| listens(&spec, &listener.address) && !held(&listener.address));
        if self.main.is_none() || record.phase != UnitPhase::Running || lost {
            let _ = reply.send(self.start(spec).await);
            return;
        }
        if let Err(error) = validate(&spec) {
            let _ = reply.send(Err(error));
            return;
        }
        match self.launch(&spec, Role::Next).await {
            Ok(live) => {
                let mut old_spec = spec.clone();
                self.keep.update(&self.name, |record| {
                    old_spec = std::mem::replace(&mut record.spec, spec.clone());
                    record.ends_ms.clear();
                    record.last_exit = None;
                    for process in &mut record.processes {
                        process.role = match process.role {
                            Role::Next => Role::Main,
                            Role::Main | Role::Old => Role::Old,
                        };
                    }
                });
                self.capture.borrow_mut().set_policy(spec.log.clone());
                self.keep.remove_ready_file(&self.name, live.record.generation);
                let old = self.main.replace(live);
                self.close_sockets(|address| !listens(&spec, address));
                match old {
                    Some(old) => self.retire(old, &old_spec, Some(reply)),
                    None => {
                        let _ = reply.send(Ok(Started::Fresh(self.record().status())));
                    }
                }
            }
            Err(failure) => {
                let old_spec = self.record().spec;
                self.close_sockets(|address| !listens(&old_spec, address));
                let _ = reply.send(Err(failure.parts().0));
            }
        }
    }

    /// Lets an old process end beside the new one.
    fn retire(
        &mut self,
        live: Live,
        spec: &UnitSpec,
        reply: Option<oneshot::Sender<Result<Started, SupervisorError>>>,
    ) {
        self.old.retain(|(_, task)| !task.is_finished());
        let live = Rc::new(live);
        let (keep, name, stop, ended) = (
            self.keep.clone(),
            self.name.clone(),
            spec.stop.clone(),
            live.clone(),
        );
        let task = tokio::task::spawn_local(async move {
            live::end(&keep, &name, &ended, &stop).await;
            keep.forget_process(&name, &ended.record);
            if let (Some(reply), Some(record)) = (reply, keep.record(&name)) {
                let _ = reply.send(Ok(Started::Fresh(record.status())));
            }
        });
        self.old.push((live, task));
    }

    async fn set_running(&mut self, spec: &UnitSpec, live: Live) {
        let job = matches!(spec.ready, Ready::Exited { .. });
        if job {
            // What it left running is ended; until then it stays recorded.
            live::kill(&self.keep, &self.name, &live).await;
            self.keep.forget_process(&self.name, &live.record);
            self.capture.borrow_mut().finish();
            self.keep.update(&self.name, |record| {
                record.phase = UnitPhase::Stopped;
                record.last_exit = Some(Exit::Status(0).describe());
            });
            self.close_sockets(|_| true);
        } else {
            self.keep
                .update(&self.name, |record| record.phase = UnitPhase::Running);
            // A successor that finds it starting looks at the file: it goes only after that.
            self.keep.remove_ready_file(&self.name, live.record.generation);
            self.main = Some(live);
        }
    }

    async fn ended_by_itself(&mut self, exit: Exit) {
        if let Some(live) = self.main.take() {
            // Its children must not live on beside its successor.
            live::kill(&self.keep, &self.name, &live).await;
            self.keep.forget_process(&self.name, &live.record);
        }
        self.after_end(&exit.describe());
    }

    /// The restart policy.
    fn after_end(&mut self, exit: &str) {
        if self.old.iter().all(|(_, task)| task.is_finished()) {
            self.capture.borrow_mut().finish();
        }
        let now = now_ms();
        let success = exit == Exit::Status(0).describe().as_str();
        let mut delay = None;
        self.keep.update(&self.name, |record| {
            record.last_exit = Some(exit.to_owned());
            record.phase = match record.spec.restart {
                RestartPolicy::Never if success => UnitPhase::Stopped,
                RestartPolicy::Never => UnitPhase::Failed,
                RestartPolicy::Always {
                    backoff_ms,
                    max_backoff_ms,
                    limit,
                    window_ms,
                } => {
                    record.ends_ms.retain(|end| end.saturating_add(window_ms) > now);
                    record.ends_ms.push(now);
                    let ends = u32::try_from(record.ends_ms.len()).unwrap_or(u32::MAX);
                    if ends >= limit {
                        UnitPhase::Failed
                    } else {
                        let doubled = backoff_ms.saturating_mul(1 << (ends - 1).min(32));
                        delay = Some(Duration::from_millis(doubled.min(max_backoff_ms)));
                        UnitPhase::Backoff
                    }
                }
            };
        });
        self.restart_at = delay.map(|delay| Instant::now() + delay);
        match delay {
            Some(delay) => tracing::warn!(unit = %self.name, exit, ?delay, "ended; starts again"),
            None if success => tracing::info!(unit = %self.name, "ended"),
            None => {
                tracing::error!(unit = %self.name, exit, "ended, and is not started again");
            }
        }
        if delay.is_none() {
            self.close_sockets(|_| true);
        }
    }

    /// Ends what runs; the sockets stay.
    async fn end_processes(&mut self) {
        self.restart_at = None;
        for (live, task) in std::mem::take(&mut self.old) {
            live.signal(9);
            let _ = task.await;
        }
        if let Some(live) = self.main.take() {
            self.keep
                .update(&self.name, |record| record.phase = UnitPhase::Stopping);
            let stop = self.record().spec.stop;
            let exit = live::end(&self.keep, &self.name, &live, &stop).await;
            self.keep.forget_process(&self.name, &live.record);
            self.keep
                .update(&self.name, |record| record.last_exit = Some(exit.describe()));
        }
        self.capture.borrow_mut().finish();
    }

    async fn stop(&mut self) {
        self.end_processes().await;
        self.close_sockets(|_| true);
        self.keep.remove_credentials(&self.name);
        self.keep
            .update(&self.name, |record| record.phase = UnitPhase::Stopped);
    }

    fn record(&self) -> Record {
        self.keep.record(&self.name).unwrap_or_else(|| {
            // Forgotten only by this task, as the last thing it does.
            unreachable!("the record of {} lives as long as its task", self.name)
        })
    }
}

pub(super) fn listens(spec: &UnitSpec, address: &ListenAddress) -> bool {
    spec.listeners.iter().any(|listener| listener.address == *address)
}

async fn ended(main: Option<&Live>) -> Exit {
    match main {
        Some(live) => live.exited().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
