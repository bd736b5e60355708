//! Which country an address belongs to, by a database in MaxMind's format, such as GeoLite2 Country and DB-IP Country
//! Lite.

use maxminddb::{PathElement, Reader};
use std::fmt;
use std::net::IpAddr;
use thiserror::Error;

/// Where databases keep the code, the usual one first.
const PLACES: [&[PathElement<'static>]; 4] = [
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[
        PathElement::Key("registered_country"),
        PathElement::Key("iso_code"),
    ],
    &[PathElement::Key("country_code")],
    &[PathElement::Key("country")],
];

/// A database of countries.
pub struct Countries(Reader<Vec<u8>>);

/// A file is no database of countries.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this is no database in MaxMind's format (GeoLite2 Country, DB-IP Country Lite): {0}")]
pub struct CountriesError(String);

impl Countries {
    /// Takes the bytes of a `.mmdb` file.
    pub fn new(file: Vec<u8>) -> Result<Self, CountriesError> {
        let reader = Reader::from_source(file);
        Ok(Self(reader.map_err(|error| CountriesError(error.to_string()))?))
    }

    /// The ISO code of an address' country, `CH`; none where the database has none.
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let code = PLACES
            .iter()
            .find_map(|place| found.decode_path::<&str>(place).ok().flatten())?;
        let is_code = code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then_some(code)
    }
}

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Countries")
            .field(&self.0.metadata().database_type)
            .finish()
    }
}

#[cfg(test)]
mod tests;
