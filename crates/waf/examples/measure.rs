//! What transactions cost: CPU time for each kind, time to compile, memory.
//!
//! `measure CRS-FOLDER [KIND]` (a line's name, or `growth` for inputs of growing size): the folder holds `crs-setup.conf.example` and `rules`.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "../benches/waf/requests.rs"]
mod requests;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use astraler_waf::compile::Program;
use astraler_waf::engine::{Known, Limits, Request, Response};
use astraler_waf::seclang::Rules;
use astraler_waf::suite;
use requests::{GET, large, orders, post};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![folder.join("crs-setup.conf.example")];
    files.retain(|file| file.exists());
    let mut rules: Vec<PathBuf> = std::fs::read_dir(folder.join("rules"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "conf"))
        .collect();
    rules.sort();
    files.extend(rules);
    files
}

fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let only = std::env::args().nth(2);
    let start = Instant::now();
    let begun = cpu();
    let rules = Rules::base()
        .text("SecRequestBodyNoFilesLimit 2000000\n", Path::new("measure.conf"))
        .files(&files(Path::new(&folder)));
    let read = start.elapsed();
    let program = Program::new(&rules).unwrap_or_else(|error| {
        println!("{error}");
        std::process::exit(1);
    });
    println!(
        "start     {:?}, of which reading {read:?}; this thread's CPU {:?}",
        start.elapsed(),
        cpu() - begun
    );
    println!(
        "rules     {}, searches {} KB",
        program.rules().count(),
        program.search_bytes() / 1024
    );
    for warning in program.warnings() {
        println!("warning   {warning}");
    }
    println!("RSS       {} KB", resident());
    for (name, request, times) in [
        ("GET", GET.to_owned(), 500),
        ("JSON 900", post(&orders(4)), 200),
        ("JSON 64K", large(), 5),
    ] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        for _ in 0..times / 10 + 1 {
            suite::send(&program, request.as_bytes());
        }
        // The best of some batches: other programs take from the others.
        let batch = |_| {
            let begun = cpu();
            for _ in 0..times {
                suite::send(&program, request.as_bytes());
            }
            (cpu() - begun) / times
        };
        let each = (0..20).map(batch).min().unwrap();
        let (status, report) = suite::send(&program, request.as_bytes());
        let report = report.unwrap();
        println!(
            "{name:9} {each:?}, {} bytes, status {status}, work {} bytes",
            request.len(),
            report.work
        );
        for one in &report.matches {
            println!(
                "          {} {} in {} = {}",
                one.rule, one.msg, one.variable, one.value
            );
        }
    }
    if only.as_ref().is_none_or(|only| only == "page") {
        pages(&program);
    }
    if only.as_deref() == Some("growth") {
        growth(&program);
    }
    println!(
        "RSS       {} KB, caches {} KB",
        resident(),
        program.scratch_bytes() / 1024
    );
}

/// What a pause costs, and pages of answers.
fn pages(program: &Program) {
    let request = Request {
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        client_port: 40_000,
        server: IpAddr::V4(Ipv4Addr::LOCALHOST),
        server_port: 443,
        method: b"GET",
        target: b"/products?category=shoes",
        protocol: b"HTTP/1.1",
        headers: &[
            (b"Host", b"example.com"),
            (b"User-Agent", b"Mozilla/5.0"),
            (b"Accept", b"*/*"),
        ],
        unique_id: "measure",
        now: 1_700_000_000,
        country: None,
    };
    let begin = || {
        let mut transaction = program.begin(request.clone(), None, Limits::default());
        transaction.request_headers();
        transaction.request_body(b"", false);
        transaction
    };
    let known = || Known {
        request: request.clone(),
        request_body: b"",
        response: None,
    };
    let times = 2000;
    let mut paused = begin().pause();
    let begun = cpu();
    for _ in 0..times {
        paused = program.resume(&mut paused, known(), None).pause();
    }
    println!("pause     {:?}", (cpu() - begun) / times);
    let paragraph = "<p class=\"lead\">An error of mine was to choose from the select few; the warning came late, at line 12.</p>\n";
    for size in [0, 16 << 10, 64 << 10, 512 << 10] {
        let page = format!(
            "<!doctype html>\n<title>Words</title>\n{}",
            paragraph.repeat(size / paragraph.len())
        );
        let times: u32 = if size > 64 << 10 { 20 } else { 200 };
        let begun = cpu();
        for _ in 0..times {
            let mut paused = paused.clone();
            let mut transaction = program.resume(&mut paused, known(), None);
            transaction.response_headers(Response {
                status: 200,
                protocol: b"HTTP/1.1",
                headers: &[(b"Content-Type", b"text/html; charset=utf-8")],
            });
            transaction.response_body(page.as_bytes(), false);
            transaction.finish();
        }
        println!("page {:4} {:?}", size >> 10, (cpu() - begun) / times);
    }
}

/// One argument of growing size, made of what rules look for: nanoseconds a byte, which must not grow with the size.
fn growth(program: &Program) {
    for piece in [
        "a' or 1=1 -- ",
        "<a b=c ",
        "../",
        "%25",
        "${a:-",
        "select (",
        "\\u0061",
        "aaaaaaa ",
        ";cat /etc/",
        "\"'`",
    ] {
        let mut line = format!("{piece:14}");
        for size in [1_000, 10_000, 100_000, 1_000_000] {
            let value = piece
                .repeat(size / piece.len())
                .replace('%', "%25")
                .replace('&', "%26");
            let request = format!(
                "POST /a HTTP/1.1\r\nHost: a.example\r\nUser-Agent: a\r\nAccept: */*\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\na={value}",
                value.len() + 2
            );
            let times = (500_000 / size).max(1);
            let begun = cpu();
            for _ in 1..times {
                suite::send(program, request.as_bytes());
            }
            let report = suite::send(program, request.as_bytes()).1.unwrap();
            let spent = cpu() - begun;
            line.push_str(&format!(
                " {:8.0} ns/byte (work {}x{})",
                spent.as_nanos() as f64 / (size * times) as f64,
                report.work / size as u64,
                if report.exceeded { ", exceeded" } else { "" }
            ));
        }
        println!("{line}");
    }
}

/// What this thread has run.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
