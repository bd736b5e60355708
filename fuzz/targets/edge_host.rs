//! A host name in its one form: parsing it again changes nothing.
#![no_main]

use astraler_edge::HostName;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Some(host) = HostName::parse(text) {
        assert!(!host.as_str().bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '), "{text:?}");
        let again = HostName::parse(host.as_str());
        assert_eq!(again.as_ref().map(HostName::as_str), Some(host.as_str()), "{text:?}");
    }
});
