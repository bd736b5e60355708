//! A living process, ours or adopted, and how it ends.

use super::Keep;
use super::table;
use crate::{cgroup, process};
use astraler_model::{StopPolicy, UnitName};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout};

/// What is left after the main process ended has so long to be gone.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// A process with a descriptor that names it for ever, so that no signal reaches another of the same number.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) record: table::Process,
    pidfd: AsyncFd<OwnedFd>,
    exit: RefCell<Option<Exit>>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exit {
    Status(i32),
    Signal(i32),
    /// It was adopted, so its status went to another process.
    Unknown,
}

impl Exit {
    pub(super) fn is_success(&self) -> bool {
        *self == Self::Status(0)
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Status(status) => format!("exit status {status}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => format!("signal {number} ({signal})"),
                Err(_) => format!("signal {number}"),
            },
            Self::Unknown => "adopted, exit status unknown".into(),
        }
    }
}

impl Live {
    /// Takes hold of a process that was recorded; `None` when it is not that one any more.
    pub(super) fn adopt(record: table::Process) -> Option<Self> {
        if record.boot_id != process::boot_id() {
            return None;
        }
        let pidfd = open(record.pid).ok()?;
        // Looked at with the descriptor in hand: from here on the number cannot go to another.
        (process::start_time(record.pid)? == record.start_time).then_some(())?;
        let pidfd = crate::reactor::readable(pidfd).ok()?;
        Some(Self {
            record,
            pidfd,
            exit: RefCell::new(None),
        })
    }

    /// Waits until it has ended. May be dropped and called again.
    pub(super) async fn exited(&self) -> Exit {
        loop {
            if let Some(exit) = self.exit.borrow().clone() {
                return exit;
            }
            let Ok(mut guard) = self.pidfd.readable().await else {
                // The runtime ends.
                return Exit::Unknown;
            };
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let exit = match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                    (Some(status), _) => Exit::Status(status),
                    (None, Some(signal)) => Exit::Signal(signal),
                    _ => Exit::Unknown,
                },
                Ok(None) | Err(rustix::io::Errno::INTR) => {
                    guard.clear_ready();
                    continue;
                }
                Err(_) => Exit::Unknown,
            };
            *self.exit.borrow_mut() = Some(exit);
        }
    }

    pub(super) fn signal(&self, number: i32) {
        if self.exit.borrow().is_some() {
            return;
        }
        // A description with another signal is not valid.
        let signal = Signal::from_named_raw(number).unwrap_or(Signal::TERM);
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, signal);
    }
}

/// Ends a process and all that belongs to it: the signal, its grace period, SIGKILL for everything.
pub(super) async fn end(keep: &Keep, unit: &UnitName, live: &Live, stop: &StopPolicy) -> Exit {
    let below = family(live);
    if stop.descendants && !below.is_empty() {
        signal_each(&below, stop.signal);
    } else {
        live.signal(stop.signal);
    }
    if timeout(Duration::from_millis(stop.grace_ms), live.exited())
        .await
        .is_err()
    {
        tracing::warn!(%unit, pid = live.record.pid, grace_ms = stop.grace_ms, "did not end in time: killed");
    }
    let mut now_below = family(live);
    now_below.extend(below);
    sweep(keep, unit, live, now_below).await
}

/// Signals each process that is still the one that was seen.
fn signal_each(family: &BTreeMap<u32, u64>, number: i32) {
    let signal = Signal::from_named_raw(number).unwrap_or(Signal::TERM);
    for (pid, start_time) in family {
        let Some(raw) = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw) else {
            continue;
        };
        // The descriptor pins the process before it is compared, so that the signal cannot meet a successor.
        let Ok(pidfd) = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()) else {
            continue;
        };
        if process::start_time(*pid) == Some(*start_time) {
            let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
        }
    }
}

/// Kills a process and all that belongs to it.
pub(super) async fn kill(keep: &Keep, unit: &UnitName, live: &Live) -> Exit {
    sweep(keep, unit, live, family(live)).await
}

/// Its descendants, each with its start time.
fn family(live: &Live) -> BTreeMap<u32, u64> {
    if process::recorded_start_time(live.record.pid) != Some(live.record.start_time) {
        return BTreeMap::new();
    }
    let pids = process::descendants(live.record.pid).into_iter();
    pids.filter_map(|pid| Some((pid, process::start_time(pid)?)))
        .collect()
}

/// Ends what a process left behind that ended while nobody watched.
pub(super) async fn clear(keep: &Keep, unit: &UnitName, record: &table::Process) {
    if record.boot_id == keep.boot_id {
        end_leftovers(keep, unit, record, &BTreeMap::new()).await;
    }
}

async fn sweep(keep: &Keep, unit: &UnitName, live: &Live, family: BTreeMap<u32, u64>) -> Exit {
    live.signal(Signal::KILL.as_raw());
    end_leftovers(keep, unit, &live.record, &family).await;
    timeout(LEFTOVERS, live.exited()).await.unwrap_or(Exit::Unknown)
}

async fn end_leftovers(keep: &Keep, unit: &UnitName, record: &table::Process, family: &BTreeMap<u32, u64>) {
    let deadline = Instant::now() + LEFTOVERS;
    let mut pause = Duration::from_millis(1);
    loop {
        let left = leftovers(keep, record, family);
        if left.is_empty() && cgroup::remove(&record.cgroups) {
            return;
        }
        if Instant::now() >= deadline {
            tracing::error!(%unit, ?left, "processes of this unit cannot be killed");
            return;
        }
        cgroup::kill(&record.cgroups);
        for pid in left {
            process::kill(pid);
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What still lives of a unit's process: its session and group, its control group, those that descended from it, and,
/// where there are no control groups, those that carry its mark.
fn leftovers(keep: &Keep, record: &table::Process, family: &BTreeMap<u32, u64>) -> Vec<u32> {
    let mut left = cgroup::members(&record.cgroups);
    // Once the number has gone to another process, a session of that number is no longer ours.
    if process::recorded_start_time(record.pid).is_none_or(|start| start == record.start_time) {
        left.extend(process::in_session(record.pid));
    }
    left.extend(
        family
            .iter()
            .filter(|(pid, start)| process::start_time(**pid) == Some(**start))
            .map(|(pid, _)| *pid),
    );
    if record.cgroups.is_empty() {
        let (name, value) = keep.marker(record.generation);
        left.extend(process::with_environment(&format!("{name}={value}")));
    }
    left.sort_unstable();
    left.dedup();
    left.retain(|pid| process::is_alive(*pid) && *pid != std::process::id());
    left
}

fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}
