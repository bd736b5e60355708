//! What this machine offers to keep units apart and within limits, in words for `doctor`.

use crate::cgroup::Cgroups;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The version of control groups that is in force for units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// None may be made: limits are not enforced, and processes are found by session, parentage and environment.
    None,
    /// Version 1.
    V1,
    /// Version 2.
    V2,
    /// Version 2 ends groups, version 1 has the controllers.
    Hybrid,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Control groups.
    pub cgroup: CgroupVersion,
    /// Memory limits of units are enforced.
    pub memory_limits: bool,
    /// Limits on processes of units are enforced.
    pub pids_limits: bool,
    /// A user may make user namespaces.
    pub user_namespaces: bool,
    /// bubblewrap, where it is installed.
    pub bwrap: Option<PathBuf>,
    /// bubblewrap starts a program here.
    pub bwrap_usable: bool,
    /// The kernel has Landlock switched on.
    pub landlock: bool,
    /// Units can run as users of their own: we are root.
    pub own_users: bool,
}

/// Looks, and tries what can only be known by trying. Takes up to two seconds, usually a few milliseconds.
pub fn probe() -> Isolation {
    let cgroups = Cgroups::detect(&format!("probe-{}", std::process::id()));
    let cgroup = match (cgroups.unified(), cgroups.version_1()) {
        (false, false) => CgroupVersion::None,
        (false, true) => CgroupVersion::V1,
        (true, false) => CgroupVersion::V2,
        (true, true) => CgroupVersion::Hybrid,
    };
    let (memory_limits, pids_limits) = (cgroups.limits_memory(), cgroups.limits_pids());
    cgroups.remove_platform();
    let bwrap = ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file());
    let bwrap_usable = bwrap.as_ref().is_some_and(|path| {
        let mut command = Command::new(path);
        command.args([
            "--ro-bind",
            "/",
            "/",
            "--unshare-all",
            "--die-with-parent",
            "/bin/true",
        ]);
        succeeds(command)
    });
    Isolation {
        cgroup,
        memory_limits,
        pids_limits,
        user_namespaces: user_namespaces(),
        bwrap,
        bwrap_usable,
        landlock: fs::read_to_string("/sys/kernel/security/lsm")
            .is_ok_and(|text| text.trim().split(',').any(|name| name == "landlock")),
        own_users: rustix::process::geteuid().is_root(),
    }
}

impl Isolation {
    /// One line for each protection: whether it is in force, and what to do where it is not.
    pub fn describe(&self) -> Vec<String> {
        let yes =
            |has: bool, there: &str, missing: &str| if has { there.to_owned() } else { missing.to_owned() };
        vec![
            match self.cgroup {
                CgroupVersion::None => {
                    "control groups: none may be made here; start as root, or in a systemd unit with Delegate=yes".into()
                }
                CgroupVersion::V1 => "control groups: version 1".into(),
                CgroupVersion::V2 => "control groups: version 2".into(),
                CgroupVersion::Hybrid => {
                    "control groups: version 2 to end units, version 1 for their limits".into()
                }
            },
            yes(self.memory_limits, "memory limits: enforced", "memory limits: NOT enforced (no memory controller)"),
            yes(self.pids_limits, "process limits: enforced", "process limits: NOT enforced (no pids controller)"),
            yes(
                self.user_namespaces,
                "user namespaces: allowed",
                "user namespaces: switched off; set the sysctl user.max_user_namespaces",
            ),
            match (&self.bwrap, self.bwrap_usable) {
                (None, _) => "sandbox: bubblewrap is not installed; install the package bubblewrap".into(),
                (Some(path), true) => format!("sandbox: {} works", path.display()),
                (Some(path), false) => format!(
                    "sandbox: {} is installed, but cannot make namespaces here; check kernel.apparmor_restrict_unprivileged_userns",
                    path.display()
                ),
            },
            yes(self.landlock, "Landlock: on", "Landlock: not switched on in this kernel"),
            yes(
                self.own_users,
                "users: each unit runs as its own",
                "users: all units run as this user; start as root to keep them apart",
            ),
        ]
    }
}

fn user_namespaces() -> bool {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    number("/proc/sys/user/max_user_namespaces").is_some_and(|most| most > 0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
}

fn succeeds(mut command: Command) -> bool {
    let started = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else { return false };
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a probe outside of any executor, bounded above"
                )]
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protection_is_described() {
        let found = probe();
        assert_eq!(found.describe().len(), 7);
        assert_eq!(found.own_users, rustix::process::geteuid().is_root());
        assert_eq!(
            found.bwrap.is_none(),
            found.describe()[4].contains("not installed")
        );
    }
}
