//! What is served, in words; and whether it is.

use super::{DnsError, governing, own_address};
use crate::platform::Platform;
use crate::publish::read;
use astraler_dns::{client, delegation, registrar};
use astraler_model::{DnsName, DnsRecord, DnsSnapshot, DnsZone, type_number};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);
/// What `*` stands for when a wildcard is asked for.
const PROBE: &[u8] = b"astraler-dns-check";
/// Differences that are told one by one.
const MAX_TOLD: usize = 50;
const SOA: u16 = 6;
const DNSKEY: u16 = 48;

/// The zone as it is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsReport {
    /// Its apex.
    pub zone: String,
    /// As it was published.
    pub serial: u32,
    /// As the server says; signatures may have made it greater. None when it does not answer.
    pub served_serial: Option<u32>,
    /// Where it is asked.
    pub port: u16,
    /// Whether it is signed.
    pub signed: bool,
    /// The DS record for the registrar.
    pub ds: Option<String>,
    /// Its records, in zone-file form.
    pub records: Vec<String>,
    /// What the registrar must be told.
    pub registrar: Vec<String>,
    /// What keeps the world from asking here.
    pub hints: Vec<String>,
}

/// Whether the server says what it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsCheckReport {
    /// Its apex.
    pub zone: String,
    /// Questions that were asked.
    pub asked: usize,
    /// Those with another answer.
    pub wrong: Vec<Missing>,
    /// What the registrar must be told.
    pub registrar: Vec<String>,
    /// What keeps the world from asking here.
    pub hints: Vec<String>,
}

/// An answer that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Name and type.
    pub question: String,
    /// What should be said.
    pub expected: Vec<String>,
    /// What was said instead.
    pub found: String,
}

fn published(platform: &Platform) -> Result<DnsZone, DnsError> {
    let published: Option<DnsSnapshot> = read(&platform.installation.layout.snapshot("dns"));
    let zone = published.and_then(|snapshot| snapshot.zones.into_iter().next());
    zone.filter(|_| platform.installation.ports.dns != 0)
        .ok_or(DnsError::Off)
}

/// The zone.
pub(super) async fn show(platform: &Platform) -> Result<DnsReport, DnsError> {
    let zone = published(platform)?;
    let served = client::serial(own_address(platform), &zone.origin, PATIENCE).await;
    let ds = delegation(&zone)?;
    Ok(DnsReport {
        zone: zone.origin.to_string(),
        serial: zone.serial,
        served_serial: served.ok(),
        port: platform.installation.ports.dns,
        signed: zone.signing_key.is_some(),
        records: zone.records.iter().map(ToString::to_string).collect(),
        registrar: registrar(&zone, ds.as_deref()),
        hints: hints(platform)?,
        ds,
    })
}

fn hints(platform: &Platform) -> Result<Vec<String>, DnsError> {
    let mut hints = Vec::new();
    let ports = &platform.installation.ports;
    if ports.dns != 53 {
        hints.push(format!(
            "the world asks at port 53, and DNS is served at {}: set edge.dns.port = 53, or lead port 53 there",
            ports.dns
        ));
    }
    if let Some(config) = governing(platform)? {
        let is_inside = |address: &IpAddr| match address {
            IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_unspecified(),
            IpAddr::V6(address) => {
                address.is_loopback() || address.is_unique_local() || address.is_unspecified()
            }
        };
        let addresses =
            astraler_manifest::zone::addresses(&config.edge.dns, &platform.installation.listen_addresses);
        if addresses.iter().all(is_inside) {
            hints.push(
                "the zone's addresses cannot be reached from outside: set edge.dns.addresses".to_owned(),
            );
        }
        if platform
            .installation
            .listen_addresses
            .iter()
            .all(IpAddr::is_loopback)
        {
            hints.push("the edge listens on loopback alone: set edge.listen_addresses".to_owned());
        }
    }
    Ok(hints)
}

/// Asks the server for every record of the zone.
pub(super) async fn check(platform: &Platform) -> Result<DnsCheckReport, DnsError> {
    let zone = published(platform)?;
    let server = own_address(platform);
    let mut wanted: BTreeMap<(DnsName, u16), Vec<&DnsRecord>> = BTreeMap::new();
    for record in &zone.records {
        if let Some(kind) = record.data.kind()
            && !is_delegated(&zone, record)
        {
            wanted
                .entry((record.name.clone(), kind))
                .or_default()
                .push(record);
        }
    }
    let mut wrong = Vec::new();
    let mut asked = 0;
    for ((name, kind), records) in wanted {
        let is_wildcard = name.labels().next() == Some(b"*".as_slice());
        let probe = name
            .parent()
            .filter(|_| is_wildcard)
            .and_then(|parent| parent.child(PROBE));
        let question = probe.unwrap_or(name);
        let expected: BTreeSet<Vec<u8>> = records.iter().filter_map(|record| record.data.wire()).collect();
        asked += 1;
        let found = match client::ask_over_tcp(server, &question, kind, PATIENCE).await {
            Ok(reply) => {
                let same = reply
                    .answers
                    .into_iter()
                    .filter(|answer| answer.kind == kind && answer.name == question);
                let found: BTreeSet<Vec<u8>> = same.map(|answer| answer.data).collect();
                match found == expected {
                    true => continue,
                    false => format!("{} records, not the same", found.len()),
                }
            }
            Err(error) => crate::words::chain(&error),
        };
        if wrong.len() < MAX_TOLD {
            let kind = records
                .first()
                .map_or_else(String::new, |record| record.data.type_name());
            wrong.push(Missing {
                question: format!("{question} {kind}"),
                expected: records.iter().map(|record| record.data.to_string()).collect(),
                found,
            });
        }
    }
    // The others go over TCP, where nobody limits how often; most of the world comes over UDP.
    asked += 1;
    if let Err(error) = client::ask(server, &zone.origin, SOA, PATIENCE).await {
        wrong.push(Missing {
            question: format!("{} SOA, over UDP", zone.origin),
            expected: vec![],
            found: crate::words::chain(&error),
        });
    }
    let ds = delegation(&zone)?;
    if zone.signing_key.is_some() {
        asked += 1;
        let keys = client::ask_over_tcp(server, &zone.origin, DNSKEY, PATIENCE).await;
        if !keys.is_ok_and(|reply| reply.answers.iter().any(|answer| answer.kind == DNSKEY)) {
            wrong.push(Missing {
                question: format!("{} DNSKEY", zone.origin),
                expected: ds.iter().cloned().collect(),
                found: "no key: the zone is not signed".to_owned(),
            });
        }
    }
    Ok(DnsCheckReport {
        zone: zone.origin.to_string(),
        asked,
        wrong,
        registrar: registrar(&zone, ds.as_deref()),
        hints: hints(platform)?,
    })
}

/// What is at or below a delegation is answered with a referral.
fn is_delegated(zone: &DnsZone, record: &DnsRecord) -> bool {
    let is_cut = |other: &DnsRecord| other.data.kind() == type_number("NS") && other.name != zone.origin;
    let mut cuts = zone.records.iter().filter(|other| is_cut(other));
    record.data.kind() != type_number("DS") && cuts.any(|cut| record.name.is_at_or_below(&cut.name))
}
