use crate::lines::{NOON, Place, access, append};
use astraler_signal::{KeeperConfig, Query, Reader, Retention, Shared, Store, Stream, Told, keep};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const DAY: i64 = 86_400_000;

fn open(place: &Place, stream: Stream) -> Store {
    Store::open(stream, &place.store(), &place.logs()).unwrap()
}

fn numbers(place: &Place) -> Vec<u64> {
    let reader = Reader::new(Stream::Access, &place.store(), &place.logs());
    let mut found = Vec::new();
    reader
        .each(&Query::default(), |row| {
            found.push(row.number("bytes_out").unwrap());
            true
        })
        .unwrap();
    found
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_record_is_there_once_whether_it_waits_or_lies_in_a_segment() {
    let place = Place::new();
    place.requests(0..100);
    assert_eq!(
        numbers(&place).len(),
        100,
        "nothing was flushed yet, and there is no store"
    );
    let mut store = open(&place, Stream::Access);
    assert!(!store.flush().unwrap());
    place.requests(100..150);
    place.rotate();
    place.requests(150..200);
    assert_eq!(numbers(&place), (0..200).collect::<Vec<_>>());
    store.flush().unwrap();
    assert_eq!(store.waiting().unwrap(), 0);
    assert_eq!(numbers(&place), (0..200).collect::<Vec<_>>());
    drop(store);
    let mut store = open(&place, Stream::Access);
    store.flush().unwrap();
    assert_eq!(numbers(&place), (0..200).collect::<Vec<_>>());
    assert_eq!(store.counts(), astraler_signal::Counts::default());
}

#[test]
fn a_state_that_was_not_written_after_its_segment_doubles_nothing() {
    let place = Place::new();
    place.requests(0..10);
    let mut store = open(&place, Stream::Access);
    store.flush().unwrap();
    let state = place.store().join("access/state.json");
    let before = std::fs::read(&state).unwrap();
    place.requests(10..20);
    store.flush().unwrap();
    std::fs::write(&state, before).unwrap();
    std::fs::write(place.store().join("access/.tmp-1"), "half").unwrap();
    assert_eq!(numbers(&place), (0..20).collect::<Vec<_>>());
    let mut store = open(&place, Stream::Access);
    assert!(!place.store().join("access/.tmp-1").exists());
    store.flush().unwrap();
    assert_eq!(numbers(&place), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_damaged_segment_holds_nothing_up() {
    let place = Place::new();
    place.requests(0..10);
    open(&place, Stream::Access).flush().unwrap();
    let segment = files(place.store()).remove(0);
    std::fs::write(&segment, "PAR1 it was one").unwrap();
    std::fs::remove_file(place.store().join("access/state.json")).unwrap();
    let mut store = open(&place, Stream::Access);
    assert!(segment.with_extension("damaged").exists());
    place.requests(10..20);
    store.flush().unwrap();
    assert_eq!(
        numbers(&place),
        (0..20).collect::<Vec<_>>(),
        "the logs still had it"
    );
}

#[test]
fn the_keeper_makes_room_and_forgets() {
    let place = Place::new();
    place.requests(0..1_000);
    let mut store = open(&place, Stream::Access);
    store.flush().unwrap();
    place.requests(1_000..1_100);
    store.flush().unwrap();
    let newest = files(place.store()).remove(1).metadata().unwrap().len();
    let told = move || Told {
        retention: Retention {
            access_days: 3,
            application_days: 7,
            error_days: 90,
            max_bytes: newest,
        },
        slow_ms: 500,
        bundles: BTreeMap::new(),
    };
    let config = KeeperConfig {
        folder: place.store(),
        logs: place.logs(),
    };
    let (stop, stopped) = mpsc::channel::<()>();
    let shared = Shared::default();
    let kept = shared.clone();
    let keeper = std::thread::spawn(move || keep(&config, &kept, told, || NOON, &stopped));
    let began = Instant::now();
    while files(place.store()).len() > 1 {
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    drop(stop);
    keeper.join().unwrap().unwrap();
    assert_eq!(numbers(&place), (1_000..1_100).collect::<Vec<_>>());
    let text = shared.with(|metrics| metrics.exposition().unwrap()).unwrap();
    assert!(
        text.contains("astraler_records_dropped_total{stream=\"access\"} 1000\n"),
        "{text}"
    );
}

#[test]
fn small_segments_become_large_ones_and_an_interrupted_merge_doubles_nothing() {
    let place = Place::new();
    let mut store = open(&place, Stream::Access);
    for number in 0..16 {
        place.requests(number..number + 1);
        store.flush().unwrap();
    }
    let small = files(place.store());
    assert_eq!(small.len(), 16);
    let copies: Vec<(PathBuf, Vec<u8>)> = small
        .iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    store.tidy(3, NOON).unwrap();
    assert_eq!(files(place.store()).len(), 1);
    assert_eq!(numbers(&place), (0..16).collect::<Vec<_>>());
    // Killed before the small ones were removed.
    for (path, bytes) in copies {
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(numbers(&place), (0..16).collect::<Vec<_>>());
    place.requests(16..17);
    let mut store = open(&place, Stream::Access);
    store.flush().unwrap();
    assert_eq!(files(place.store()).len(), 2);
    assert_eq!(numbers(&place), (0..17).collect::<Vec<_>>());
}

#[test]
fn a_day_goes_when_it_was_kept_long_enough_one_day_at_a_time() {
    let place = Place::new();
    let mut store = open(&place, Stream::Access);
    for day in 0..4 {
        append(&place.access_log(), &(access(day * 86_400) + "\n"));
        store.flush().unwrap();
    }
    let days = |place: &Place| files(place.store()).len();
    store.tidy(3, NOON + 3 * DAY).unwrap();
    assert_eq!(days(&place), 4, "all four are three days old at most");
    store.tidy(3, NOON + 4 * DAY).unwrap();
    assert_eq!(days(&place), 3);
    // The clock jumps a year ahead.
    store.tidy(3, NOON + 365 * DAY).unwrap();
    assert_eq!(days(&place), 2);
}

#[test]
fn the_oldest_records_are_dropped_and_counted() {
    let place = Place::new();
    let mut store = open(&place, Stream::Access);
    for part in 0..3 {
        place.requests(part * 10..part * 10 + 10);
        store.flush().unwrap();
    }
    assert!(store.bytes().unwrap() > 0);
    assert!(store.drop_oldest().unwrap());
    assert_eq!(numbers(&place), (10..30).collect::<Vec<_>>());
    assert_eq!(store.counts().dropped, 10);
    drop(store);
    let mut store = open(&place, Stream::Access);
    assert_eq!(store.counts().dropped, 10);
    assert!(store.drop_oldest().unwrap() && store.drop_oldest().unwrap());
    assert!(!store.drop_oldest().unwrap());
}

#[test]
fn what_is_no_record_and_what_was_rotated_away_is_counted() {
    let place = Place::new();
    let mut store = open(&place, Stream::Access);
    place.requests(0..2);
    append(&place.access_log(), "{\"ts\":\n\0\0\0\n");
    store.flush().unwrap();
    assert_eq!(store.counts().unreadable, 2);
    for part in 1..=6 {
        place.rotate();
        place.requests(part * 10..part * 10 + 2);
    }
    store.flush().unwrap();
    assert_eq!(store.counts().gaps, 1);
    let found = numbers(&place);
    assert_eq!(found[..2], [0, 1]);
    assert_eq!(found[2..], [20, 21, 30, 31, 40, 41, 50, 51, 60, 61]);
}
