//! Which country an address belongs to, and what else of its place is known, by a database in MaxMind's format, such as
//! GeoLite2 Country or City, and DB-IP Country Lite or City Lite.

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

/// Where an address is, as far as a database says. A text is empty where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `EU`.
    pub continent: String,
    /// ISO 3166-2 codes of the first and the second level, with the country's: `GB-ENG`.
    pub subdivisions: [String; 2],
    /// Name of the first level, `England`.
    pub region: String,
    /// Its code without the country's, `ENG`.
    pub region_code: String,
    /// `London`.
    pub city: String,
    /// `EC1A`.
    pub postal_code: String,
    /// Of the United States, `635`.
    pub metro_code: String,
    /// In degrees, `51.50850`.
    pub latitude: String,
    /// In degrees, `-0.12570`.
    pub longitude: String,
    /// `Europe/London`.
    pub timezone: String,
}

impl Countries {
    /// All that the database says of an address' place, beside its country.
    pub fn place(&self, address: IpAddr) -> Place {
        use PathElement::{Index, Key};
        let Ok(found) = self.0.lookup(address.to_canonical()) else {
            return Place::default();
        };
        let text = |path: &[PathElement<'_>]| -> String {
            let text = found.decode_path::<&str>(path).ok().flatten();
            text.unwrap_or_default().to_owned()
        };
        let degrees = |key| {
            let number = found
                .decode_path::<f64>(&[Key("location"), Key(key)])
                .ok()
                .flatten();
            number.map(|number| format!("{number:.5}")).unwrap_or_default()
        };
        let metro = found.decode_path::<u16>(&[Key("location"), Key("metro_code")]);
        let country = self.of(address).unwrap_or_default();
        let codes = [0, 1].map(|level| text(&[Key("subdivisions"), Index(level), Key("iso_code")]));
        Place {
            continent: text(&[Key("continent"), Key("code")]),
            subdivisions: codes.clone().map(|code| match code.is_empty() {
                true => code,
                false => format!("{country}-{code}"),
            }),
            region: text(&[Key("subdivisions"), Index(0), Key("names"), Key("en")]),
            region_code: codes.into_iter().next().unwrap_or_default(),
            city: text(&[Key("city"), Key("names"), Key("en")]),
            postal_code: text(&[Key("postal"), Key("code")]),
            metro_code: metro
                .ok()
                .flatten()
                .map(|code| code.to_string())
                .unwrap_or_default(),
            latitude: degrees("latitude"),
            longitude: degrees("longitude"),
            timezone: text(&[Key("location"), Key("time_zone")]),
        }
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
