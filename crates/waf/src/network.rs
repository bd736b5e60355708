//! Which network announces an address: its autonomous system, by a database in MaxMind's format, such as GeoLite2 ASN and
//! DB-IP ASN Lite.

use maxminddb::{PathElement, Reader};
use std::fmt;
use std::net::IpAddr;
use thiserror::Error;

/// A database of networks.
pub struct Networks(Reader<Vec<u8>>);

/// A file is no database of networks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this is no database in MaxMind's format (GeoLite2 ASN, DB-IP ASN Lite): {0}")]
pub struct NetworksError(String);

impl Networks {
    /// Takes the bytes of a `.mmdb` file.
    pub fn new(file: Vec<u8>) -> Result<Self, NetworksError> {
        let reader = Reader::from_source(file);
        Ok(Self(reader.map_err(|error| NetworksError(error.to_string()))?))
    }

    /// The number of an address' autonomous system; none where the database has none.
    pub fn of(&self, address: IpAddr) -> Option<u32> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let number = [PathElement::Key("autonomous_system_number")];
        if let Ok(Some(number)) = found.decode_path::<u32>(&number) {
            return Some(number);
        }
        let text = found.decode_path::<&str>(&[PathElement::Key("asn")]).ok()??;
        text.strip_prefix("AS").unwrap_or(text).parse().ok()
    }
}

impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Networks")
            .field(&self.0.metadata().database_type)
            .finish()
    }
}
