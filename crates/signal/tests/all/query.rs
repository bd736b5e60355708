use crate::lines::{NOON, Place, append, id, time};
use astraler_signal::{Filter, Query, Reader, Store, Stream};

fn filled() -> Place {
    let place = Place::new();
    let mut store = Store::open(Stream::Access, &place.store(), &place.logs()).unwrap();
    for part in 0..4 {
        place.requests(part * 50..part * 50 + 50);
        store.flush().unwrap();
    }
    place.requests(200..250);
    place
}

fn reader(place: &Place, stream: Stream) -> Reader {
    Reader::new(stream, &place.store(), &place.logs())
}

fn found(place: &Place, query: &Query) -> Vec<u64> {
    let rows = reader(place, Stream::Access).last(query, 1_000).unwrap();
    rows.iter().map(|row| row.number("bytes_out").unwrap()).collect()
}

fn wanted(text: &str) -> Query {
    Query {
        filter: Some(Filter::parse(text, Stream::Access).unwrap()),
        ..Query::default()
    }
}

#[test]
fn every_condition_selects_what_a_look_at_each_record_selects() {
    let place = filled();
    let all: Vec<u64> = (0..250).collect();
    let expect = |keep: &dyn Fn(u64) -> bool| all.iter().copied().filter(|n| keep(*n)).collect::<Vec<_>>();
    for (text, expected) in [
        ("status>=500", expect(&|n| n % 10 == 9)),
        (
            r#"status>=500 and path~"/api/items/1""#,
            expect(&|n| n % 10 == 9 && n.to_string().starts_with('1')),
        ),
        ("env=staging", expect(&|n| n % 3 == 0)),
        (
            "environment!=staging and bytes_out<20",
            expect(&|n| n % 3 != 0 && n < 20),
        ),
        ("duration>1.2ms", expect(&|n| n > 200)),
        (
            "duration<=1100us or status=502",
            expect(&|n| n <= 100 || n % 10 == 9),
        ),
        ("not (bytes_out>=10)", expect(&|n| n < 10)),
        ("query=x", vec![]),
        ("query!=x and bytes_out=7", vec![7]),
        ("referer!~x and bytes_out=7", vec![7]),
        ("cache=hit", expect(&|n| n % 7 == 0)),
        (
            "retries>0 and connect<=230us",
            expect(&|n| (200..=230).contains(&n)),
        ),
        ("tls=1.3 and cipher~AES_128", vec![]),
        ("upgraded=true", vec![]),
        ("bytes_out=4294967296", vec![]),
    ] {
        assert_eq!(found(&place, &wanted(text)), expected, "{text}");
    }
    for number in [0, 60, 249] {
        assert_eq!(found(&place, &wanted(&format!("id={}", id(number)))), [number]);
    }
    let grep = Query {
        grep: Some("items/24".to_owned()),
        ..Query::default()
    };
    assert_eq!(found(&place, &grep), expect(&|n| n.to_string().starts_with("24")));
}

#[test]
fn a_range_of_time_includes_its_beginning_and_not_its_end() {
    let place = filled();
    let query = Query {
        since_ms: Some(NOON + 40_000),
        until_ms: Some(NOON + 210_000),
        ..Query::default()
    };
    assert_eq!(found(&place, &query), (40..210).collect::<Vec<_>>());
}

#[test]
fn the_last_records_come_from_logs_and_segments_in_order() {
    let place = filled();
    let reader = reader(&place, Stream::Access);
    let last = |count| {
        let rows = reader.last(&Query::default(), count).unwrap();
        rows.iter()
            .map(|row| row.number("bytes_out").unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(last(3), [247, 248, 249]);
    assert_eq!(last(60), (190..250).collect::<Vec<_>>());
    assert_eq!(last(0), Vec::<u64>::new());
    let row = &reader.last(&wanted("bytes_out=9"), 1).unwrap()[0];
    let line: serde_json::Value = serde_json::from_str(&crate::lines::access(9)).unwrap();
    let mut line = line.as_object().unwrap().clone();
    line.retain(|_, value| !value.is_null());
    assert_eq!(row.fields, line, "a record comes back as it was written");
}

#[test]
fn minutes_count_records_errors_and_latency() {
    let place = filled();
    let minutes = reader(&place, Stream::Access).minutes(&Query::default()).unwrap();
    let counts: Vec<(i64, u64, u64)> = minutes
        .iter()
        .map(|(at, minute)| (at - NOON, minute.records, minute.errors))
        .collect();
    assert_eq!(
        counts,
        [
            (0, 60, 6),
            (60_000, 60, 6),
            (120_000, 60, 6),
            (180_000, 60, 6),
            (240_000, 10, 1)
        ]
    );
    let p95 = minutes[&NOON].latency.quantile_us(0.95).unwrap();
    assert!((1_000..1_140).contains(&p95), "{p95}");
}

#[test]
fn following_sees_what_arrives_and_nothing_before() {
    let place = filled();
    let mut follow = reader(&place, Stream::Access)
        .follow(wanted("status=502"))
        .unwrap();
    assert_eq!(follow.new_rows().unwrap(), []);
    place.requests(250..255);
    place.rotate();
    place.requests(255..270);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(
            follow
                .new_rows()
                .unwrap()
                .iter()
                .map(|row| row.number("bytes_out").unwrap()),
        );
    }
    assert_eq!(seen, [259, 269]);
}

#[test]
fn what_workers_write_is_searched_by_level_and_its_errors_are_kept_longer() {
    let place = Place::new();
    let worker = place.logs().join("workers-pr-7-d-12.log");
    let json = |level: &str, text: &str| format!(r#"{{"timestamp":1,"level":"{level}","message":"{text}"}}"#);
    let line = |second: i64, rest: &str| format!("{} {rest}\n", time(NOON + second * 1_000));
    append(&worker, &line(0, &json("info", "hello")));
    append(&worker, &line(1, &json("error", "Error: bad\\n    at fetch")));
    append(&place.logs().join("daemon.log"), &line(2, "ERROR astraler: no"));
    append(&place.logs().join("daemon.log"), &line(3, " INFO astraler: yes"));
    for flushed in [false, true] {
        if flushed {
            for stream in [Stream::Application, Stream::Error] {
                Store::open(stream, &place.store(), &place.logs())
                    .unwrap()
                    .flush()
                    .unwrap();
            }
        }
        let texts = |stream, query: &Query| {
            let rows = reader(&place, stream).last(query, 10).unwrap();
            rows.iter()
                .map(|row| {
                    format!(
                        "{} {} {}",
                        row.text("environment"),
                        row.text("level"),
                        row.text("message")
                    )
                })
                .collect::<Vec<_>>()
        };
        let all = Query::default();
        assert_eq!(
            texts(Stream::Application, &all),
            ["pr-7 info hello", "pr-7 error Error: bad\n    at fetch"]
        );
        assert_eq!(
            texts(Stream::Error, &all),
            ["pr-7 error Error: bad\n    at fetch", " error ERROR astraler: no"]
        );
        let mine = Query {
            filter: Some(
                Filter::environment("pr-7").and(Filter::parse("level=error", Stream::Application).unwrap()),
            ),
            grep: Some("fetch".to_owned()),
            ..Query::default()
        };
        assert_eq!(texts(Stream::Application, &mine).len(), 1);
    }
}
