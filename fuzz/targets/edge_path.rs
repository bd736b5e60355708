//! A path in its one form: it never climbs, and normalising it again changes nothing.
#![no_main]

libfuzzer_sys::fuzz_target!(|path: &str| {
    if let Some(normal) = astraler_edge::normalise(path) {
        assert!(normal.starts_with('/'), "{path:?} became {normal:?}");
        assert!(!normal.split('/').any(|part| part == ".." || part == "."), "{path:?} became {normal:?}");
        assert_eq!(astraler_edge::normalise(&normal).as_deref(), Some(&*normal), "{path:?}");
    }
});
