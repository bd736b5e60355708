//! What the kernel says of processes, read from proc(5). A process may end at any moment: everything here is an
//! `Option` or a list that may be shorter than it was.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

/// What is known of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Kernel's letter for its state: `R`, `S`, `Z`…
    pub state: char,
    /// When it started, in clock ticks since the machine did. With the pid and the boot id it names a process for ever.
    pub start_time: u64,
    /// The user it runs as (its effective user id, unless it is not dumpable: then 0).
    pub uid: u32,
    /// Its command line, or its name in brackets.
    pub command: String,
}

/// What a process looks like now; `None` when there is none.
pub fn describe(pid: u32) -> Option<ProcessInfo> {
    let stat = read_stat(pid)?;
    let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    Some(ProcessInfo {
        pid,
        parent: stat.parent,
        group: stat.group,
        session: stat.session,
        state: stat.state,
        start_time: stat.start_time,
        uid,
        command: command(pid)?,
    })
}

/// Proportional set size in bytes: private memory and its share of what is shared. `None` when it may not be read.
pub fn memory_pss(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Proportional set size of a process and all its descendants, in bytes.
pub fn memory_pss_tree(pid: u32) -> Option<u64> {
    let own = memory_pss(pid)?;
    Some(
        descendants(pid)
            .into_iter()
            .filter_map(memory_pss)
            .fold(own, u64::saturating_add),
    )
}

/// The machine's memory in bytes, from /proc/meminfo.
pub fn machine_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Identity of this boot of the kernel.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The process and everything below it by parentage, itself first. A child whose parent has ended is no longer below.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (child, stat) in all_stats() {
        children.entry(stat.parent).or_default().push(child);
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        let below = children.remove(parent).unwrap_or_default();
        found.extend(below);
        next += 1;
    }
    found
}

/// The living processes of a session or process group.
pub fn in_session(session: u32) -> Vec<u32> {
    all_stats()
        .filter(|(_, stat)| (stat.session == session || stat.group == session) && !stat.ended())
        .map(|(pid, _)| pid)
        .collect()
}

/// The living processes whose first environment has this entry (`NAME=value`): those started under a unit, however
/// they detached themselves, unless they overwrote it.
pub fn with_environment(entry: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| {
            bytes
                .split(|byte| *byte == 0)
                .any(|found| found == entry.as_bytes())
        })
    };
    pids().filter(has).collect()
}

/// The process is there and has not ended (a zombie has).
pub fn is_alive(pid: u32) -> bool {
    read_stat(pid).is_some_and(|stat| !stat.ended())
}

/// When it started, in clock ticks since boot; `None` when it has ended.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    read_stat(pid)
        .filter(|stat| !stat.ended())
        .map(|stat| stat.start_time)
}

/// Kills a process at once; one that has ended meanwhile is fine.
pub(crate) fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid.filter(|pid| pid.as_raw_nonzero().get() > 1) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// When it started, a zombie too.
pub(crate) fn recorded_start_time(pid: u32) -> Option<u64> {
    read_stat(pid).map(|stat| stat.start_time)
}

/// Every process id.
pub fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The sockets a process has open: descriptor and inode.
pub(crate) fn socket_inodes(pid: u32) -> Vec<(i32, u64)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, inode))
        })
        .collect()
}

/// The command line in one line, cut to 200 bytes; `[name]` where there is none. `None` when there is no process.
pub fn command(pid: u32) -> Option<String> {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        let _ = file.take(200).read_to_end(&mut bytes);
    }
    let line = String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim()
        .to_owned();
    if line.is_empty() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        return Some(format!("[{}]", name.trim()));
    }
    Some(line)
}

struct Stat {
    parent: u32,
    group: u32,
    session: u32,
    state: char,
    start_time: u64,
}

impl Stat {
    fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

fn all_stats() -> impl Iterator<Item = (u32, Stat)> {
    pids().filter_map(|pid| Some((pid, read_stat(pid)?)))
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, field 2, is in parentheses and may hold anything, parentheses too: the last one ends it.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text
        .get(text.rfind(')')? + 1..)?
        .split_ascii_whitespace()
        .collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let small = |field: usize| u32::try_from(number(field)?).ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: small(4)?,
        group: small(5)?,
        session: small(6)?,
        start_time: number(22)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let own = describe(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        assert!(own.start_time > 0 && own.state != 'Z');
        assert!(memory_pss(own.pid).unwrap() > 100_000);
        assert_eq!(boot_id().len(), 36);
        assert!(is_alive(own.pid) && !is_alive(u32::MAX / 2));
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = parse_stat("7 (a) b) (c)) S 1 2 3 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0").unwrap();
        assert_eq!(
            (stat.parent, stat.group, stat.session, stat.start_time),
            (1, 2, 3, 99)
        );
        assert!(parse_stat("").is_none() && parse_stat("1 (x").is_none() && parse_stat("1 (x) S").is_none());
    }

    #[test]
    fn children_are_below() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
