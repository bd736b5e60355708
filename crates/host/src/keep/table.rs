//! What `keep` knows, durably: `<state>/keep/units.json`. A successor needs nothing else.

use crate::file::{self, FileError};
use astraler_model::{ListenAddress, UnitName, UnitPhase, UnitSpec, UnitStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Table {
    /// Grows with every process: names its ready file and its control group.
    pub(super) generation: u64,
    pub(super) units: BTreeMap<UnitName, Record>,
}

/// One unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The place in the order of first starts.
    pub(super) order: u64,
    pub(super) spec: UnitSpec,
    pub(super) phase: UnitPhase,
    pub(super) starts: u64,
    pub(super) last_exit: Option<String>,
    /// When it ended by itself, within the restart window, in milliseconds since the epoch.
    pub(super) ends_ms: Vec<u64>,
    pub(super) processes: Vec<Process>,
    /// The sockets held for it.
    pub(super) sockets: Vec<Socket>,
}

/// One process of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) start_time: u64,
    pub(super) boot_id: String,
    pub(super) generation: u64,
    pub(super) since_ms: u64,
    pub(super) role: Role,
    pub(super) digest: String,
    /// The control groups it was put in.
    pub(super) cgroups: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// The unit's process.
    Main,
    /// To become the unit's process when it is ready.
    Next,
    /// Was the unit's process, and ends.
    Old,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Socket {
    pub(super) address: ListenAddress,
    pub(super) inode: u64,
}

/// The table cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the table of units {path} cannot be read", path = path.display())]
pub struct TableError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl Table {
    pub(super) fn load(path: &Path) -> Result<Self, TableError> {
        let unreadable = |source: io::Error| TableError {
            path: path.to_owned(),
            source,
        };
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| unreadable(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(unreadable(error)),
        }
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(self).map_err(|error| file::at("encode", path)(error.into()))?;
        file::replace(path, &bytes, 0o600)
    }

    /// Every unit, in the order of first starts.
    pub(super) fn status(&self) -> Vec<UnitStatus> {
        let mut records: Vec<&Record> = self.units.values().collect();
        records.sort_by_key(|record| record.order);
        records.into_iter().map(Record::status).collect()
    }
}

impl Record {
    pub(super) fn new(order: u64, spec: UnitSpec) -> Self {
        Self {
            order,
            spec,
            phase: UnitPhase::Stopped,
            starts: 0,
            last_exit: None,
            ends_ms: Vec::new(),
            processes: Vec::new(),
            sockets: Vec::new(),
        }
    }

    pub(super) fn main(&self) -> Option<&Process> {
        self.processes.iter().find(|process| process.role == Role::Main)
    }

    pub(super) fn status(&self) -> UnitStatus {
        let main = self.main();
        UnitStatus {
            name: self.spec.name.clone(),
            phase: self.phase,
            pid: main.map(|process| process.pid),
            starts: self.starts,
            since_ms: main.map(|process| process.since_ms),
            last_exit: self.last_exit.clone(),
            spec_digest: main.map_or_else(|| self.spec.digest(), |process| process.digest.clone()),
        }
    }
}
