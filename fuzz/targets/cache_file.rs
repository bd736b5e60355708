//! A file of the cache's disk tier holds anything after a crash: it is read or dropped, never trusted.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    astraler_edge::read_cache_file(bytes);
    // Past the checksum, too: what it protects must not be able to break anything either.
    let head = bytes.len().min(1 << 16) as u32 / 2;
    let mut whole = b"ASTCACH1".to_vec();
    whole.extend_from_slice(&head.to_le_bytes());
    whole.extend_from_slice(&(bytes.len() as u64 - u64::from(head)).to_le_bytes());
    whole.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
    whole.extend_from_slice(bytes);
    astraler_edge::read_cache_file(&whole);
});
