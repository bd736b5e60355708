//! `corpus/requests.txt`: bytes in, status out, and what the worker behind the edge saw of them.

use crate::support::{Seen, TestEdge, run};
use astraler_edge::Limits;
use std::collections::HashSet;
use std::time::Duration;

const CORPUS: &str = include_str!("corpus/requests.txt");

#[derive(Debug, Default, Clone)]
struct Case {
    name: String,
    bytes: Vec<u8>,
    statuses: Vec<u16>,
    /// `METHOD target body`.
    seen: Vec<String>,
    /// The connection stays usable afterwards.
    open: bool,
}

/// `== name`, then `> bytes` (with escapes), `status N …`, `seen METHOD target body`, `open`.
fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case {
                name: name.to_owned(),
                ..Case::default()
            });
            continue;
        }
        let case = cases.last_mut().expect("a case begins with ==");
        match line.split_once(' ').unwrap_or((line, "")) {
            (">", bytes) => case.bytes.extend(unescape(bytes)),
            ("status", list) => {
                case.statuses = list.split(' ').map(|status| status.parse().unwrap()).collect();
            }
            ("seen", seen) => case.seen.push(seen.to_owned()),
            ("open", _) => case.open = true,
            _ => panic!("line {}: {line}", number + 1),
        }
    }
    cases
}

/// `\r`, `\n`, `\t`, `\\`, `\xNN`, and `{text*count}`.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [b'r', ..]) => out.push(b'\r'),
            (b'\\', [b'n', ..]) => out.push(b'\n'),
            (b'\\', [b't', ..]) => out.push(b'\t'),
            (b'\\', [b'\\', ..]) => out.push(b'\\'),
            (b'\\', [b'x', high, low, ..]) => {
                let digits = [*high, *low];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                rest = &rest[2..];
            }
            (b'{', _) if tail.contains(&b'}') && tail.contains(&b'*') => {
                let end = tail.iter().position(|&b| b == b'}').unwrap();
                let inner = std::str::from_utf8(&tail[..end]).unwrap();
                let (text, count) = inner.rsplit_once('*').unwrap();
                out.extend(unescape(text).repeat(count.parse().unwrap()));
                rest = &tail[end + 1..];
                continue;
            }
            _ => {
                out.push(*first);
                continue;
            }
        }
        rest = &rest[1..];
    }
    out
}

fn describe(seen: &Seen) -> String {
    let body = String::from_utf8_lossy(&seen.body)
        .replace('\r', "\\r")
        .replace('\n', "\\n");
    format!("{} {} {body}", seen.method, seen.target)
        .trim_end()
        .to_owned()
}

#[test]
fn every_case_is_answered_as_written() {
    let cases = parse(CORPUS);
    assert!(cases.len() >= 80, "only {} cases", cases.len());
    let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let failures = run(async move {
        let shares = cases
            .chunks(cases.len().div_ceil(8))
            .map(<[Case]>::to_vec)
            .collect::<Vec<_>>();
        let tasks = shares
            .into_iter()
            .map(|share| tokio::spawn(play(share)))
            .collect::<Vec<_>>();
        let mut failures = Vec::new();
        for task in tasks {
            failures.extend(task.await.unwrap());
        }
        failures
    });
    assert!(
        failures.is_empty(),
        "{} cases fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

async fn play(cases: Vec<Case>) -> Vec<String> {
    let (edge, worker) = TestEdge::with_worker(Limits::default()).await;
    let mut failures = Vec::new();
    for case in cases {
        for cut in [usize::MAX, 3] {
            // The tail of a long case does not have to dribble.
            let cut = if case.bytes.len() > 4096 { usize::MAX } else { cut };
            let mut client = edge.connect().await;
            client.stream.set_nodelay(true).unwrap();
            for piece in case.bytes.chunks(cut.min(case.bytes.len().max(1))) {
                if tokio::io::AsyncWriteExt::write_all(&mut client.stream, piece)
                    .await
                    .is_err()
                {
                    break;
                }
            }
            let mut statuses = Vec::new();
            for _ in &case.statuses {
                match client.reply().await {
                    Some(reply) => statuses.push(reply.status),
                    None => break,
                }
            }
            let open = if case.open {
                let answered = tokio::time::timeout(Duration::from_millis(30), client.is_closed()).await;
                if answered.is_err() {
                    client.get("/still-open").await.status == 200
                } else {
                    false
                }
            } else {
                !client.is_closed().await
            };
            let mut seen: Vec<_> = worker.take_seen().iter().map(describe).collect();
            seen.retain(|seen| seen != "GET /still-open");
            if statuses != case.statuses || seen != case.seen || open != case.open {
                failures.push(format!(
                    "{} (cut {cut}): statuses {statuses:?}, seen {seen:?}, open {open}; expected {:?}, {:?}, {}",
                    case.name, case.statuses, case.seen, case.open
                ));
            }
        }
    }
    drop(edge.stop().await);
    failures
}
