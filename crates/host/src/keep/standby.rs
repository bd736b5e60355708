//! The hot standby: a second `keep` that waits in the kernel for the lock of the first.

use super::Keep;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// One that lived so long was well: the next one is started without delay.
const WELL: Duration = Duration::from_secs(60);

/// The standby that runs now; ended when dropped.
struct Standby(Child);

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sees to it that there is a standby, until the task is dropped, which ends the standby too.
pub(super) async fn maintain(keep: Rc<Keep>) {
    let Some((program, arguments)) = keep.config.standby.split_first() else {
        return std::future::pending().await;
    };
    let mut delay = FIRST_DELAY;
    loop {
        let started = Instant::now();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        match command.spawn() {
            Ok(child) => {
                let mut standby = Standby(child);
                ended(&mut standby).await;
                tracing::warn!("the standby of keep ended; another is started");
            }
            Err(error) => tracing::warn!(%error, program, "cannot start the standby of keep"),
        }
        if started.elapsed() > WELL {
            delay = FIRST_DELAY;
        }
        sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

async fn ended(standby: &mut Standby) {
    let pid = i32::try_from(standby.0.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
    if let Some(watched) = pidfd.and_then(|pidfd| crate::reactor::readable(pidfd).ok()) {
        let _ = watched.readable().await.map(|guard| guard.ready());
    } else if let Some(pid) = pid {
        // Not watchable, so not to be left alone.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}
