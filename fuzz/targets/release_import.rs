//! An archive of a release as it comes over the network: whatever its bytes, it is imported whole or refused without a
//! trace.
#![no_main]

#[path = "../release.rs"]
mod release;

use release::Place;
use std::sync::LazyLock;

static PLACE: LazyLock<Place> = LazyLock::new(Place::new);

libfuzzer_sys::fuzz_target!(
    init: release::seed("release_import", &release::archive(release::JSON, &release::layer())),
    |archive: &[u8]| {
        PLACE.import(archive);
    }
);
