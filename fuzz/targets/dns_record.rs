//! A record as a manifest may have it: no panic, and what is read is written and read again as the same.
#![no_main]

use astraler_model::{DnsName, DnsRecord};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let origin: DnsName = "shop.example".parse().unwrap();
    if let Ok(record) = DnsRecord::parse(line, &origin, 300) {
        assert_eq!(DnsRecord::try_from(record.to_string()).unwrap(), record);
    }
});
