//! Changes while it serves.

use crate::support::{RECORDS, query, run};
use astraler_model::{DnsName, DnsRecord};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn record(line: &str) -> DnsRecord {
    let origin: DnsName = "shop.test".parse().unwrap();
    DnsRecord::parse(line, &origin, 300).unwrap()
}

#[test]
fn a_new_record_is_there_within_a_second_and_goes_again() {
    let running = run(RECORDS, true);
    let challenge = || running.short("_acme-challenge.shop.test TXT");
    assert!(challenge().is_empty());
    let asked = Instant::now();
    running.change(|snapshot| {
        snapshot.zones[0]
            .records
            .push(record("_acme-challenge 0 TXT \"token\""));
    });
    while challenge() != ["\"token\""] {
        assert!(asked.elapsed() < Duration::from_secs(1), "it is not there");
    }
    running.change(|snapshot| drop(snapshot.zones[0].records.pop()));
    while !challenge().is_empty() {
        assert!(asked.elapsed() < Duration::from_secs(3), "it is still there");
    }
    running.server.stop();
}

#[test]
fn a_zone_that_cannot_be_built_leaves_the_last_good_one() {
    let running = run(RECORDS, true);
    running.change(|snapshot| snapshot.zones[0].records.push(record("www A 192.0.2.99")));
    running.change(|snapshot| snapshot.zones[0].signing_key = Some("/nonexistent/key".into()));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.short("www.shop.test A"), ["192.0.2.2", "app.shop.test."]);
    assert!(running.delv("shop.test A").contains("fully validated"));
    running.server.stop();
}

#[test]
fn reloads_under_load_lose_nothing() {
    let running = run(RECORDS, true);
    let (stop, asked, answered) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                let packet = query("app.shop.test", 1);
                let mut answer = [0; 512];
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    socket.send_to(&packet, running.address).unwrap();
                    let whole = socket.recv(&mut answer).is_ok() && answer[3] & 0xf == 0 && answer[7] == 1;
                    answered.fetch_add(u32::from(whole), Ordering::Relaxed);
                }
            });
        }
        for index in 0..40 {
            running.change(|snapshot| {
                snapshot.zones[0]
                    .records
                    .push(record(&format!("new-{index} A 192.0.2.7")));
            });
            std::thread::sleep(Duration::from_millis(25));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (asked, answered) = (asked.into_inner(), answered.into_inner());
    assert!(asked > 500, "{asked}");
    assert_eq!(asked, answered);
    assert_eq!(running.short("new-39.shop.test A"), ["192.0.2.7"]);
    running.server.stop();
}

#[test]
fn it_serves_on_when_nobody_publishes_any_more() {
    let running = run(RECORDS, true);
    let crate::support::Running { publish, .. } = &running;
    publish.send_modify(|_| {});
    let (address, server) = (running.address, running.server);
    drop(running.publish);
    std::thread::sleep(Duration::from_millis(100));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send_to(&query("app.shop.test", 1), address).unwrap();
    assert!(socket.recv(&mut [0; 512]).is_ok());
    let began = Instant::now();
    server.stop();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "it ends when it is told to"
    );
}

#[test]
fn who_asks_one_of_many_addresses_is_answered_from_it() {
    let running = crate::support::run_on("0.0.0.0", RECORDS);
    for address in ["127.0.0.1", "127.0.0.2"] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        // A connected socket takes nothing from another address.
        socket.connect((address, running.address.port())).unwrap();
        socket.send(&query("app.shop.test", 1)).unwrap();
        assert!(socket.recv(&mut [0; 512]).is_ok(), "{address}");
    }
    running.server.stop();
}
