//! An image whose digests are all right, so that what is behind them is reached: the description and a layer are the
//! input, with two bytes for the length of the first.
#![no_main]

#[path = "../release.rs"]
mod release;

use release::Place;
use std::sync::LazyLock;

static PLACE: LazyLock<Place> = LazyLock::new(Place::new);

libfuzzer_sys::fuzz_target!(
    init: release::seed("release_layer", &release::joined(release::JSON, &release::layer())),
    |input: &[u8]| {
        if let Some((json, layer)) = release::split(input) {
            PLACE.import(&release::archive(json, layer));
        }
    }
);
