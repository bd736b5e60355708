//! What is no query, and who asks too often.

use crate::support::{RECORDS, opt, query, run, run_at, with_opt};
use astraler_model::ResponseRate;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const NOERROR: u8 = 0;
const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

fn changed(mut packet: Vec<u8>, at: usize, to: u8) -> Vec<u8> {
    packet[at] = to;
    packet
}

#[test]
fn malformed_packets_get_an_error_or_nothing() {
    let running = run(RECORDS, true);
    let good = || query("shop.test", 1);
    let cut = |by: usize| {
        let packet = good();
        packet[..packet.len() - by].to_vec()
    };
    let followed = |bytes: &[u8]| [&good()[..], bytes].concat();
    let cookie = |length: u8| {
        with_opt(
            good(),
            &opt(
                1232,
                0,
                &[&[0, 10, 0, length][..], &vec![7; length.into()]].concat(),
            ),
        )
    };
    let mut long = good()[..12].to_vec();
    for _ in 0..5 {
        long.push(63);
        long.extend([b'x'; 63]);
    }
    long.extend([0, 0, 1, 0, 1]);
    let mut labels = good()[..12].to_vec();
    for _ in 0..128 {
        labels.extend([1, b'x']);
    }
    labels.extend([0, 0, 1, 0, 1]);
    let tsig = |class: u8, data: &[u8]| {
        let length = (data.len() as u16).to_be_bytes();
        let record = [&[1, b'k', 0, 0, 250, 0, class, 0, 0, 0, 0][..], &length, data].concat();
        with_opt(good(), &record)
    };
    let cases: Vec<(&str, Vec<u8>, Option<u8>)> = vec![
        ("the query itself", good(), Some(NOERROR)),
        ("nothing", vec![], None),
        ("one byte", vec![0], None),
        ("half a head", good()[..11].to_vec(), None),
        ("only a head", good()[..12].to_vec(), Some(FORMERR)),
        ("an answer", changed(good(), 2, 0x81), None),
        ("opcode STATUS", changed(good(), 2, 0x10), Some(NOTIMP)),
        ("opcode 15", changed(good(), 2, 0x78), Some(NOTIMP)),
        ("no question", changed(good(), 5, 0), Some(FORMERR)),
        ("two questions", changed(good(), 5, 2), Some(FORMERR)),
        ("65,281 questions", changed(good(), 4, 0xff), Some(FORMERR)),
        ("an answer section", changed(good(), 7, 1), Some(FORMERR)),
        ("an authority section", changed(good(), 9, 1), Some(FORMERR)),
        (
            "an additional section that is not there",
            changed(good(), 11, 1),
            Some(FORMERR),
        ),
        ("255 additional records", changed(good(), 11, 255), Some(FORMERR)),
        ("cut in the class", cut(1), Some(FORMERR)),
        ("cut in the type", cut(3), Some(FORMERR)),
        ("cut in the name", cut(8), Some(FORMERR)),
        ("bytes after the end", followed(&[0]), Some(FORMERR)),
        (
            "a pointer to itself",
            changed(changed(good(), 12, 0xc0), 13, 12),
            Some(FORMERR),
        ),
        ("a label of 64 bytes", changed(good(), 12, 64), Some(FORMERR)),
        ("a label beyond the end", changed(good(), 12, 63), Some(FORMERR)),
        ("a name of more than 255 bytes", long, Some(FORMERR)),
        ("128 labels", labels, Some(FORMERR)),
        (
            "two OPT records",
            with_opt(with_opt(good(), &opt(1232, 0, &[])), &opt(1232, 0, &[])),
            Some(FORMERR),
        ),
        (
            "OPT with a name",
            with_opt(good(), &[&[1, b'x'][..], &opt(1232, 0, &[])].concat()),
            Some(FORMERR),
        ),
        (
            "OPT of payload 0",
            with_opt(good(), &opt(0, 0, &[])),
            Some(NOERROR),
        ),
        (
            "EDNS version 1",
            with_opt(good(), &opt(1232, 1, &[])),
            Some(NOERROR),
        ),
        (
            "an option cut short",
            with_opt(good(), &opt(1232, 0, &[0, 10, 0])),
            Some(FORMERR),
        ),
        (
            "an option beyond its record",
            with_opt(good(), &opt(1232, 0, &[0, 10, 0, 9, 1])),
            Some(FORMERR),
        ),
        (
            "an unknown option",
            with_opt(good(), &opt(1232, 0, &[0xfd, 0xe9, 0, 1, 1])),
            Some(NOERROR),
        ),
        ("a client cookie", cookie(8), Some(NOERROR)),
        ("a server cookie of nobody", cookie(24), Some(NOERROR)),
        ("a cookie of 7 bytes", cookie(7), Some(FORMERR)),
        ("a cookie of 12 bytes", cookie(12), Some(FORMERR)),
        ("a cookie of 41 bytes", cookie(41), Some(FORMERR)),
        ("TSIG of class IN", tsig(1, &[0; 17]), Some(FORMERR)),
        ("TSIG without data", tsig(255, &[]), Some(FORMERR)),
        (
            "TSIG that ends early",
            tsig(255, &[0, 0, 0, 0, 0, 0, 0, 1, 44, 0, 9, 1]),
            Some(FORMERR),
        ),
        (
            "TSIG before OPT",
            with_opt(tsig(255, &[0; 17]), &opt(1232, 0, &[])),
            Some(FORMERR),
        ),
        (
            "class CHAOS",
            {
                let mut packet = good();
                let end = packet.len() - 1;
                packet[end] = 3;
                packet
            },
            Some(REFUSED),
        ),
        ("type 0", query("shop.test", 0), Some(NOERROR)),
        ("type 65535", query("shop.test", 65_535), Some(NOERROR)),
        ("the root", query(".", 1), Some(REFUSED)),
    ];
    for (what, packet, expected) in cases {
        let answer = running.raw(&packet);
        let code = answer.as_ref().map(|answer| answer[3] & 0xf);
        assert_eq!(code, expected, "{what}");
        if let Some(answer) = answer {
            assert_eq!(answer[..2], packet[..2], "{what}: the id is the query's");
            assert!(answer[2] & 0x80 != 0, "{what}: it is an answer");
        }
    }
    assert_eq!(running.raw(&good()).unwrap()[3] & 0xf, NOERROR, "it still serves");
    running.server.stop();
}

#[test]
fn names_keep_their_case_and_badvers_its_number() {
    let running = run(RECORDS, false);
    let mut packet = query("app.shop.test", 1);
    packet[13] = b'A';
    packet[17] = b'S';
    let answer = running.raw(&packet).unwrap();
    assert_eq!(
        answer[12..packet.len()],
        packet[12..],
        "resolvers mix the case to tell answers from forgeries"
    );
    let said = running.dig("+edns=1 +noednsneg shop.test A");
    assert!(said.contains("status: BADVERS"), "{said}");
    running.server.stop();
}

#[test]
fn equal_answers_to_one_network_are_limited_and_real_clients_still_get_theirs() {
    let rate = ResponseRate {
        per_s: 10,
        exempt: vec![],
    };
    let running = run_at(RECORDS, false, rate);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let began = Instant::now();
    for _ in 0..200 {
        socket
            .send_to(&query("app.shop.test", 1), running.address)
            .unwrap();
    }
    let (mut whole, mut truncated) = (0, 0);
    let mut answer = [0; 512];
    while let Ok(length) = socket.recv(&mut answer) {
        match answer[2] & 0x02 {
            0 => whole += 1,
            _ => {
                truncated += 1;
                assert_eq!(
                    length,
                    query("app.shop.test", 1).len(),
                    "no larger than the query"
                );
            }
        }
    }
    // 10 at once and 10 for each second that it took.
    let most = 11 + 10 * began.elapsed().as_secs();
    assert!((10..=most).contains(&whole), "{whole} of at most {most}");
    assert!(
        (90..=96).contains(&truncated),
        "every second one of the others: {truncated}"
    );
    // A real client is told to ask over TCP, and gets its answer; so does one that has shown that it is there.
    assert_eq!(running.short("+tcp app.shop.test A"), ["192.0.2.2"]);
    let retried = running.dig("+nocookie +tries=5 +time=1 app.shop.test A");
    assert!(retried.contains("192.0.2.2"), "{retried}");
    assert_eq!(
        running.short("mail.shop.test A"),
        ["192.0.2.25"],
        "another answer is not limited"
    );
    running.server.stop();
}

#[test]
fn a_connection_that_dribbles_or_floods_is_closed() {
    let running = run(RECORDS, false);
    // Half a message: closed after five seconds, however it goes on.
    let mut slow = TcpStream::connect(running.address).unwrap();
    slow.write_all(&[0, 20, 1]).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(9))).unwrap();
    // More connections than one client may have: the others are closed at once, and the first still answer.
    let mut open: Vec<TcpStream> = (0..60)
        .map(|_| TcpStream::connect(running.address).unwrap())
        .collect();
    let packet = query("app.shop.test", 1);
    let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
    let served = open
        .iter_mut()
        .filter_map(|stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
            stream.write_all(&framed).ok()?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).ok()
        })
        .count();
    assert_eq!(served, 31, "32 at once, one of them the slow one");
    let began = Instant::now();
    let mut end = [0; 1];
    assert!(matches!(slow.read(&mut end), Ok(0) | Err(_)));
    assert!(began.elapsed() < Duration::from_secs(8));
    drop(open);
    assert_eq!(running.short("+tcp app.shop.test A"), ["192.0.2.2"]);
    running.server.stop();
}
