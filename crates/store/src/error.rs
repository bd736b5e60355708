//! What can go wrong with the database.

use std::io;
use std::path::PathBuf;

/// Why a call on the store failed. A call that failed changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its lock could not be opened.
    #[error("cannot open the database {}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open for writing.
    #[error("the database {} is in use by {}", path.display(), holder.map_or("another process".into(), |pid| format!("process {pid}")))]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process that holds its lock, as far as it wrote that down.
        holder: Option<u32>,
    },
    /// The file is an SQLite database of something else.
    #[error("{} is a database, but not one of Astraler's", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the program wrote it; going back could lose what only that version understands.
    #[error("the database {} has schema {found}, and this program knows schemas up to {known}: use the newer program, or restore a backup made before its first start", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema that this program knows.
        known: u32,
    },
    /// It has never been opened for writing, so there is nothing to read.
    #[error("the database {} has no schema yet: it is made by the first `astraler up`", path.display())]
    Empty {
        /// The database.
        path: PathBuf,
    },
    /// SQLite refused or failed.
    #[error("cannot {operation} in {}", path.display())]
    Sqlite {
        /// What was tried, for example `record a step's result`.
        operation: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// There is no such row.
    #[error("there is no {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// The change is not allowed from the present state.
    #[error("cannot {operation}: {reason}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        reason: String,
    },
    /// A value is larger than what is kept.
    #[error("{what} has {bytes} bytes, and at most {limit} are kept")]
    TooLarge {
        /// Which value.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A row holds something that this program never wrote.
    #[error("the database holds {what} that cannot be read: {reason}")]
    Damaged {
        /// Which value.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// Whether there was no room left on the disk (or in the database's own limit).
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Open { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}
