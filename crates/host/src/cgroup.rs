//! Control groups, version 1, version 2, both at once, or none: what is there is found by trying. See cgroups(7).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the units of one platform have their groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

#[derive(Debug, Clone)]
struct Hierarchy {
    /// `<mount>/…/astraler/<platform>`.
    base: PathBuf,
    unified: bool,
    memory: bool,
    pids: bool,
}

impl Cgroups {
    /// Finds the hierarchies in which this process may make groups. They are made below
    /// our own group, so that whoever limits or ends us limits and ends the units too.
    pub(crate) fn detect(platform: &str) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = rustix::process::geteuid().is_root();
        let mut found: Vec<Hierarchy> = Vec::new();
        for line in mounts.lines() {
            let Some((mount, unified, controllers)) = parse_mount(line) else {
                continue;
            };
            let memory = controllers.contains(&"memory");
            let pids = controllers.contains(&"pids");
            if !(unified || memory || pids) {
                continue;
            }
            let own = below(mount, &own, unified, &controllers);
            let top = PathBuf::from(mount);
            let mut hierarchy = prepare(&own, platform, unified, memory, pids);
            // Below a version 2 group that has processes of its own no controller can be had; root may go to the top.
            let limited = hierarchy.as_ref().is_some_and(|found| found.memory);
            if unified && root && own != top && !limited && offers_memory(&top) {
                if let Some(found) = hierarchy.take() {
                    found.remove();
                }
                hierarchy = prepare(&top, platform, unified, memory, pids);
            }
            // Where our own path is that of another namespace, the mount is all we see.
            if hierarchy.is_none() && root && own != top {
                hierarchy = prepare(&top, platform, unified, memory, pids);
            }
            found.extend(hierarchy);
        }
        // The unified one first: it alone kills a whole group at once.
        found.sort_by_key(|hierarchy| !hierarchy.unified);
        Self { hierarchies: found }
    }

    pub(crate) fn unified(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.unified)
    }

    pub(crate) fn version_1(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| !hierarchy.unified)
    }

    pub(crate) fn limits_memory(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.memory)
    }

    pub(crate) fn limits_pids(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.pids)
    }

    /// Makes the groups of one process of a unit, with their limits, and returns them for it to enter. A group or
    /// limit that cannot be made is logged: the unit runs without.
    pub(crate) fn create(&self, name: &str, memory: Option<u64>, pids: Option<u64>) -> Vec<PathBuf> {
        let mut made = Vec::new();
        for hierarchy in &self.hierarchies {
            let path = hierarchy.base.join(name);
            if let Err(error) = make(&path) {
                tracing::warn!(path = %path.display(), %error, "no control group for this unit");
                continue;
            }
            let memory_file = if hierarchy.unified {
                "memory.max"
            } else {
                "memory.limit_in_bytes"
            };
            let wanted = [
                (hierarchy.memory, memory_file, memory),
                (hierarchy.pids, "pids.max", pids),
            ];
            for (has, file, limit) in wanted {
                if let (true, Some(limit)) = (has, limit)
                    && let Err(error) = write(&path.join(file), &limit.to_string())
                {
                    tracing::warn!(path = %path.display(), file, %error, "a limit of this unit is not in force");
                }
            }
            made.push(path);
        }
        made
    }

    /// Removes the platform's own groups, once the units are gone.
    pub(crate) fn remove_platform(&self) {
        for hierarchy in &self.hierarchies {
            hierarchy.remove();
        }
    }
}

/// The processes that are in these groups.
pub(crate) fn members(groups: &[PathBuf]) -> Vec<u32> {
    let mut found = Vec::new();
    for group in groups {
        members_below(group, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Kills all that is in these groups, once; what is forked meanwhile needs another call where there is no
/// `cgroup.kill`.
pub(crate) fn kill(groups: &[PathBuf]) {
    for group in groups {
        if write(&group.join("cgroup.kill"), "1").is_err() {
            members(std::slice::from_ref(group))
                .into_iter()
                .for_each(crate::process::kill);
        }
    }
}

/// Removes these groups; false while one is still in use.
pub(crate) fn remove(groups: &[PathBuf]) -> bool {
    // Each is tried, whatever came of the ones before.
    let left = groups.iter().filter(|group| !remove_below(group)).count();
    left == 0
}

impl Hierarchy {
    fn remove(&self) {
        // A keep that was killed may have left groups behind; only empty ones can be removed.
        remove_below(&self.base);
        if let Some(parent) = self.base.parent() {
            let _ = fs::remove_dir(parent);
        }
    }
}

fn offers_memory(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
}

/// A line of proc_pid_mountinfo(5): the mount point, whether it is version 2, and the super options (controllers).
fn parse_mount(line: &str) -> Option<(&str, bool, Vec<&str>)> {
    let (before, after) = line.split_once(" - ")?;
    let mount = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let unified = match after.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    Some((mount, unified, after.nth(1)?.split(',').collect()))
}

fn below(mount: &str, own: &str, unified: bool, controllers: &[&str]) -> PathBuf {
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let names = fields.next()?;
        let path = fields.next()?;
        let same = if unified {
            names.is_empty()
        } else {
            names
                .split(',')
                .any(|name| matches!(name, "memory" | "pids") && controllers.contains(&name))
        };
        same.then_some(path)
    });
    Path::new(mount).join(path.unwrap_or("/").trim_start_matches('/'))
}

fn prepare(start: &Path, platform: &str, unified: bool, memory: bool, pids: bool) -> Option<Hierarchy> {
    let parent = start.join("astraler");
    let base = parent.join(platform);
    make(&parent).and_then(|()| make(&base)).ok()?;
    let mut hierarchy = Hierarchy {
        base,
        unified,
        memory,
        pids,
    };
    if unified {
        // Controllers are handed down level by level; those that the machine keeps on version 1 are not there.
        for folder in [start, &parent, &hierarchy.base] {
            for controller in ["+memory", "+pids"] {
                let _ = write(&folder.join("cgroup.subtree_control"), controller);
            }
        }
        let handed = fs::read_to_string(hierarchy.base.join("cgroup.subtree_control")).unwrap_or_default();
        hierarchy.memory = handed.split_whitespace().any(|name| name == "memory");
        hierarchy.pids = handed.split_whitespace().any(|name| name == "pids");
    }
    Some(hierarchy)
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn members_below(path: &Path, found: &mut Vec<u32>) {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for folder in subfolders(path) {
        members_below(&folder, found);
    }
}

fn remove_below(path: &Path) -> bool {
    for folder in subfolders(path) {
        remove_below(&folder);
    }
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn subfolders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_both_versions_are_read() {
        let v1 = "29 24 0:25 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        assert_eq!(
            parse_mount(v1).unwrap(),
            ("/sys/fs/cgroup/memory", false, vec!["rw", "memory"])
        );
        let v2 = "31 24 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert!(parse_mount(v2).unwrap().1);
        assert!(parse_mount("1 1 0:1 / / rw - ext4 /dev/vda rw").is_none());
    }

    #[test]
    fn a_users_own_group_is_found_in_each_hierarchy() {
        let own = "8:pids:/user/a\n4:memory:/m\n0::/user.slice/x.scope";
        assert_eq!(below("/c", own, true, &[]), Path::new("/c/user.slice/x.scope"));
        assert_eq!(
            below("/c/pids", own, false, &["rw", "pids"]),
            Path::new("/c/pids/user/a")
        );
    }
}
