//! `kill -9` at any instant: the writer is this test's own program, started again.

use crate::lines::Place;
use astraler_signal::{Query, Reader, Store, Stream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const FOLDER: &str = "SIGNAL_KILL_FOLDER";

/// Not a test: what is killed.
#[test]
fn a_writer_that_flushes_and_merges_for_ever() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return;
    };
    let mut store = Store::open(Stream::Access, &folder.join("signal"), &folder.join("logs")).unwrap();
    loop {
        store.flush().unwrap();
        store.tidy(3, crate::lines::NOON).unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_and_doubles_nothing() {
    let place = Place::new();
    let folder = place.logs().parent().unwrap().to_owned();
    let mut next = 0;
    for round in 0..12_u64 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::a_writer_that_flushes_and_merges_for_ever"])
            .env(FOLDER, &folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..=round * 3 {
            place.requests(next..next + 7);
            next += 7;
            #[expect(clippy::disallowed_methods, reason = "no executor here")]
            std::thread::sleep(Duration::from_micros(2_500 + 700 * round));
            if next.is_multiple_of(91) {
                place.rotate();
            }
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
    let reader = Reader::new(Stream::Access, &place.store(), &place.logs());
    let check = || {
        let mut numbers = Vec::new();
        let take = |row: astraler_signal::Row| {
            numbers.push(row.number("bytes_out").unwrap());
            true
        };
        reader.each(&Query::default(), take).unwrap();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..next).collect::<Vec<_>>());
    };
    check();
    let mut store = Store::open(Stream::Access, &place.store(), &place.logs()).unwrap();
    store.flush().unwrap();
    assert_eq!(store.waiting().unwrap(), 0);
    assert_eq!(store.counts(), astraler_signal::Counts::default());
    check();
}
