//! Databases of countries and of networks: read off the path of requests, and again when their file has changed.

use astraler_waf::country::{Countries, CountriesError, Place};
use astraler_waf::network::{Networks, NetworksError};
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Those of whole cities have some 70 MB.
const MAX_BYTES: u64 = 256 << 20;

/// A database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseFault {
    #[error("the file cannot be read: {0}")]
    Read(io::Error),
    #[error("the file is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Countries(#[from] CountriesError),
    #[error(transparent)]
    Networks(#[from] NetworksError),
}

/// What an environment knows of where clients are.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) countries: Option<Arc<Countries>>,
    pub(super) networks: Option<Arc<Networks>>,
}

/// Where one client is.
#[derive(Debug, Default)]
pub(super) struct Whence {
    pub(super) country: Option<Box<str>>,
    pub(super) place: Option<Box<Place>>,
    pub(super) network: Option<u32>,
}

impl Places {
    /// Its country, and what else is asked for.
    pub(super) fn whence(&self, client: IpAddr, with_place: bool, with_network: bool) -> Whence {
        let countries = self.countries.as_deref();
        let networks = self.networks.as_deref().filter(|_| with_network);
        Whence {
            country: countries
                .and_then(|countries| countries.of(client))
                .map(Box::from),
            place: countries
                .filter(|_| with_place)
                .map(|countries| Box::new(countries.place(client))),
            network: networks.and_then(|networks| networks.of(client)),
        }
    }
}

/// Those that are in use, by their file.
#[derive(Debug)]
pub(super) struct Databases<T>(HashMap<PathBuf, Known<T>>);

#[derive(Debug)]
struct Known<T> {
    bytes: u64,
    changed: Option<SystemTime>,
    database: Arc<T>,
}

impl<T> Default for Databases<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Clone for Databases<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self {
            database: self.database.clone(),
            ..*self
        }
    }
}

impl<T> Databases<T> {
    /// What is in a file now: read, unless it is known.
    pub(super) fn take<E>(
        &mut self,
        path: &Path,
        before: &Self,
        make: fn(Vec<u8>) -> Result<T, E>,
    ) -> Result<Arc<T>, DatabaseFault>
    where
        DatabaseFault: From<E>,
    {
        if let Some(known) = self.0.get(path) {
            return Ok(known.database.clone());
        }
        let mut file = std::fs::File::open(path).map_err(DatabaseFault::Read)?;
        let about = file.metadata().map_err(DatabaseFault::Read)?;
        let (bytes, changed) = (about.len(), about.modified().ok());
        let same = |known: &&Known<T>| known.bytes == bytes && known.changed == changed && changed.is_some();
        let known = match before.0.get(path).filter(same) {
            Some(known) => known.clone(),
            None => {
                let mut content = Vec::new();
                file.by_ref()
                    .take(MAX_BYTES + 1)
                    .read_to_end(&mut content)
                    .map_err(DatabaseFault::Read)?;
                if content.len() as u64 > MAX_BYTES {
                    return Err(DatabaseFault::TooLarge);
                }
                Known {
                    bytes,
                    changed,
                    database: Arc::new(make(content)?),
                }
            }
        };
        let database = known.database.clone();
        self.0.insert(path.to_owned(), known);
        Ok(database)
    }
}
