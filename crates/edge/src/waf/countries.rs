//! Databases of countries: read off the path of requests, and again when their file has changed.

use astraler_waf::country::{Countries, CountriesError};
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Those of whole cities have some 70 MB.
const MAX_BYTES: u64 = 256 << 20;

/// A database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CountriesFault {
    #[error("the file cannot be read: {0}")]
    Read(io::Error),
    #[error("the file is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Invalid(#[from] CountriesError),
}

/// Those that are in use, by their file.
#[derive(Debug, Clone, Default)]
pub(super) struct Databases(HashMap<PathBuf, Known>);

#[derive(Debug, Clone)]
struct Known {
    bytes: u64,
    changed: Option<SystemTime>,
    countries: Arc<Countries>,
}

impl Databases {
    /// What is in a file now: read, unless it is known.
    pub(super) fn take(&mut self, path: &Path, before: &Self) -> Result<Arc<Countries>, CountriesFault> {
        if let Some(known) = self.0.get(path) {
            return Ok(known.countries.clone());
        }
        let mut file = std::fs::File::open(path).map_err(CountriesFault::Read)?;
        let about = file.metadata().map_err(CountriesFault::Read)?;
        let (bytes, changed) = (about.len(), about.modified().ok());
        let same = |known: &&Known| known.bytes == bytes && known.changed == changed && changed.is_some();
        let known = match before.0.get(path).filter(same) {
            Some(known) => known.clone(),
            None => {
                let mut content = Vec::new();
                file.by_ref()
                    .take(MAX_BYTES + 1)
                    .read_to_end(&mut content)
                    .map_err(CountriesFault::Read)?;
                if content.len() as u64 > MAX_BYTES {
                    return Err(CountriesFault::TooLarge);
                }
                Known {
                    bytes,
                    changed,
                    countries: Arc::new(Countries::new(content)?),
                }
            }
        };
        let countries = known.countries.clone();
        self.0.insert(path.to_owned(), known);
        Ok(countries)
    }
}
