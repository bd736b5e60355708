//! From a description to a process: create, record, order, in this order.

use super::Keep;
use super::live::Live;
use super::sockets::Held;
use super::table::{Process, Role};
use crate::activation::FIRST_FD;
use crate::clock::now_ms;
use crate::launch::Order;
use crate::supervisor::SupervisorError;
use crate::{cgroup, process};
use astraler_model::{UnitName, UnitSpec};
use command_fds::{CommandFdExt, FdMapping};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// A process that has its order. Its program runs once the report ends empty.
pub(super) struct Spawned {
    pub(super) live: Live,
    report: pipe::Receiver,
}

impl Spawned {
    /// Waits until the program runs; the text says why it does not.
    pub(super) async fn executed(&mut self) -> Result<(), String> {
        let mut text = Vec::new();
        let _ = (&mut self.report).take(4096).read_to_end(&mut text).await;
        if text.is_empty() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&text).into_owned())
        }
    }
}

/// Starts a process for a unit. It is recorded before it may execute anything; where that fails, there is none.
pub(super) fn spawn(
    keep: &Keep,
    spec: &UnitSpec,
    role: Role,
    held: &[Held],
    output: File,
) -> Result<Spawned, SupervisorError> {
    let unit = &spec.name;
    let failed = |operation: &'static str| {
        move |error: io::Error| SupervisorError::Host {
            unit: unit.clone(),
            operation: operation.into(),
            reason: error.to_string(),
        }
    };
    let generation = keep.next_generation();
    let name = keep.cgroup_name(unit, generation);
    let (report, reporter) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| failed("make a pipe")(errno.into()))?;
    rustix::io::ioctl_fionbio(&report, true).map_err(|errno| failed("make a pipe")(errno.into()))?;
    let report = pipe::Receiver::from_owned_fd(report).map_err(failed("watch a pipe"))?;
    let mut mappings = descriptors(keep, spec, generation, held).map_err(failed("pass its sockets"))?;
    mappings.push(FdMapping {
        parent_fd: reporter,
        child_fd: Order::report_fd(spec),
    });

    let order = Order {
        spec: spec.clone(),
        credentials: keep.credentials(unit),
        cgroups: keep
            .cgroups
            .create(&name, spec.limits.memory_bytes, spec.limits.pids),
        marker: keep.marker(generation),
    };
    let result = start(keep, &order, generation, role, output, mappings);
    match result {
        Ok(live) => Ok(Spawned { live, report }),
        Err((operation, error)) => {
            cgroup::kill(&order.cgroups);
            cgroup::remove(&order.cgroups);
            Err(failed(operation)(error))
        }
    }
}

/// The sockets from 3 on, then the file in which the unit says that it is ready.
fn descriptors(keep: &Keep, spec: &UnitSpec, generation: u64, held: &[Held]) -> io::Result<Vec<FdMapping>> {
    let mut mappings = Vec::new();
    for (listener, child_fd) in spec.listeners.iter().zip(FIRST_FD..) {
        let held = held
            .iter()
            .find(|held| held.address == listener.address)
            .ok_or(io::ErrorKind::NotFound)?;
        mappings.push(FdMapping {
            parent_fd: held.fd.try_clone()?,
            child_fd,
        });
    }
    if let Some(child_fd) = Order::ready_fd(spec) {
        let path = keep.ready_file(&spec.name, generation);
        // A keep that died before it had recorded the process may have left the file of this number.
        keep.remove_ready_file(&spec.name, generation);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        mappings.push(FdMapping {
            parent_fd: OwnedFd::from(file),
            child_fd,
        });
    }
    Ok(mappings)
}

/// A unit has said that it is ready.
pub(super) fn has_said_ready(keep: &Keep, unit: &UnitName, generation: u64) -> bool {
    let mut bytes = [0u8; 4096];
    let read = File::open(keep.ready_file(unit, generation)).and_then(|mut file| file.read(&mut bytes));
    read.is_ok_and(|read| bytes.iter().take(read).any(|byte| *byte == b'\n'))
}

fn start(
    keep: &Keep,
    order: &Order,
    generation: u64,
    role: Role,
    output: File,
    mappings: Vec<FdMapping>,
) -> Result<Live, (&'static str, io::Error)> {
    let (program, arguments) = keep.config.launcher.split_first().ok_or_else(|| {
        (
            "start it",
            io::Error::new(io::ErrorKind::NotFound, "no launcher is configured"),
        )
    })?;
    let spec = &order.spec;
    let cgroups = order.cgroups.clone();
    let order = serde_json::to_vec(order).map_err(|error| ("write its order", error.into()))?;
    let errors = output
        .try_clone()
        .map_err(|error| ("pass its output file", error))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors);
    command
        .fd_mappings(mappings)
        .map_err(|error| ("pass its sockets", io::Error::other(error)))?;
    let mut child = command.spawn().map_err(|error| ("start its launcher", error))?;
    // The descriptors that the child has now are closed here.
    drop(command);
    super::gate::pass("spawned");
    let record = Process {
        pid: child.id(),
        // The launcher waits for us: it cannot have ended, unless it could not run at all.
        start_time: process::start_time(child.id()).unwrap_or(0),
        boot_id: keep.boot_id.clone(),
        generation,
        since_ms: now_ms(),
        role,
        digest: spec.digest(),
        cgroups,
    };
    let input = child.stdin.take();
    let recorded = Live::adopt(record.clone())
        .ok_or(io::ErrorKind::BrokenPipe.into())
        .and_then(|live| {
            keep.record_process(&spec.name, record)
                .map_err(|error| error.source)?;
            Ok(live)
        });
    let live = match recorded {
        Ok(live) => live,
        Err(error) => {
            // Without its order the launcher does nothing; it is reaped here.
            drop(input);
            let _ = child.kill();
            let _ = child.wait();
            return Err(("record its process", error));
        }
    };
    super::gate::pass("recorded");
    if let Some(mut input) = input {
        // A launcher that is gone already is noticed as an end of the process.
        let half = order.len() / 2;
        let (first, second) = order.split_at(half);
        let _ = input.write_all(first);
        super::gate::pass("half-ordered");
        let _ = input.write_all(second);
    }
    super::gate::pass("ordered");
    Ok(live)
}
