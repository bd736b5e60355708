//! Bytes from the internet, to a signed zone: no panic, and never an answer that UDP should not carry or that has
//! another id.
#![no_main]

use astraler_dns::{Local, Served, SigningKey, Zone, generate};
use astraler_model::{DnsName, DnsRecord, DnsZone, ResponseRate};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

fn local() -> Local {
    let origin: DnsName = "a.b".parse().unwrap();
    let lines = ["@ NS n", "n A 192.0.2.1", "*.p A 192.0.2.2", "c CNAME n", "x.y.z TXT \"t\"", "s NS n", "@ MX 1 n"];
    let records = lines.iter().map(|line| DnsRecord::parse(line, &origin, 60).unwrap());
    let zone = DnsZone {
        records: records.collect(),
        serial: 1,
        primary: origin.clone(),
        contact: origin.clone(),
        negative_ttl_s: 60,
        signing_key: None,
        notify: vec![],
        origin,
    };
    let key = SigningKey::from_pkcs8(&generate().unwrap()).unwrap();
    let zone = Zone::build(&zone, Some(&key), 1_800_000_000).unwrap();
    let rate = ResponseRate { per_s: 0, exempt: vec![] };
    Local::new(Served::new(1, vec![Arc::new(zone)], vec![], rate))
}

thread_local!(static LOCAL: RefCell<Local> = RefCell::new(local()));

fuzz_target!(|message: &[u8]| {
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(answer) = LOCAL.with_borrow_mut(|local| local.ask(message, client)) {
        assert!(answer.len() <= 1232 && answer.len() >= 12);
        assert_eq!(answer[..2], message[..2]);
        assert!(answer[2] & 0x80 != 0);
    }
});
