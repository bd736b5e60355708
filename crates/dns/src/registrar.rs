//! What the registrar of a zone must be told.

use crate::sign::{KeyError, SigningKey};
use astraler_model::{DnsData, DnsZone};

/// The DS record of a zone that is signed.
///
/// # Errors
/// Its key cannot be read.
pub fn delegation(zone: &DnsZone) -> Result<Option<String>, KeyError> {
    let Some(path) = &zone.signing_key else {
        return Ok(None);
    };
    let key = SigningKey::load(path)?;
    Ok(Some(format!(
        "{} IN DS {}",
        zone.origin,
        key.delegation(&zone.origin)
    )))
}

/// Name servers, their addresses where only the parent can say them, and the DS record.
pub fn registrar(zone: &DnsZone, ds: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let at_apex = zone.records.iter().filter(|record| record.name == zone.origin);
    for record in at_apex {
        let DnsData::Ns(server) = &record.data else {
            continue;
        };
        lines.push(format!("{} IN {}", zone.origin, record.data));
        let glue = zone.records.iter().filter(|record| record.name == *server);
        let glue = glue.filter(|record| matches!(record.data.kind(), Some(1 | 28)));
        lines.extend(glue.map(|record| format!("{} IN {}  (glue)", record.name, record.data)));
    }
    lines.extend(ds.map(str::to_owned));
    lines
}
