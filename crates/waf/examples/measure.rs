//! What transactions cost: CPU time for each kind, time to compile, memory.
//!
//! `measure CRS-FOLDER [KIND]` (a line's name, or `growth` for inputs of growing size): the folder holds `crs-setup.conf.example` and `rules`.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use astraler_waf::compile::Program;
use astraler_waf::{BASE, suite};

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

/// A GET as browsers send it: their headers, five arguments, three cookies.
const GET: &str = "GET /products/list?category=running-shoes&page=2&sort=price_asc&color=dark+blue&q=trail%20shoes HTTP/1.1\r
Host: shop.example.com\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r
Accept-Language: en-US,en;q=0.9,de;q=0.8\r
Accept-Encoding: gzip, deflate, br, zstd\r
Referer: https://shop.example.com/products\r
Cookie: session=6f1ed002ab5595859014ebf0951522d9; theme=dark; _ga=GA1.2.1234567890.1700000000\r
Sec-Fetch-Dest: document\r
Sec-Fetch-Mode: navigate\r
Sec-Fetch-Site: same-origin\r
Upgrade-Insecure-Requests: 1\r
Connection: keep-alive\r
\r
";

fn post(body: &str) -> String {
    format!(
        "POST /api/orders HTTP/1.1\r
Host: shop.example.com\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r
Accept: application/json\r
Accept-Language: en-US,en;q=0.9\r
Accept-Encoding: gzip, deflate, br\r
Origin: https://shop.example.com\r
Referer: https://shop.example.com/cart\r
Cookie: session=6f1ed002ab5595859014ebf0951522d9; theme=dark\r
Content-Type: application/json\r
Content-Length: {}\r
Connection: keep-alive\r
\r
{body}",
        body.len()
    )
}

/// About 900 bytes for each order of this many lines.
fn orders(lines: usize) -> String {
    let line = |number: usize| {
        format!(
            r#"{{"sku":"SHOE-{number:05}","title":"Trail running shoe, men's, blue","quantity":{},"price":129.95,"options":{{"size":"43","width":"regular","gift":false}}}}"#,
            number % 3 + 1
        )
    };
    let lines: Vec<String> = (0..lines).map(line).collect();
    format!(
        r#"{{"customer":{{"id":48213,"name":"Ada Lovelace","email":"ada@example.com","phone":"+44 20 7946 0958"}},"lines":[{}],"address":{{"street":"12 St James's Square","city":"London","postcode":"SW1Y 4JH","country":"GB"}},"notes":"Please ring the bell twice; leave it with the neighbour if nobody is in.","coupon":null,"newsletter":true}}"#,
        lines.join(",")
    )
}

fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let only = std::env::args().nth(2);
    let start = Instant::now();
    let begun = cpu();
    let mut directives = astraler_waf::seclang::read_text(BASE, Path::new("base.conf")).unwrap();
    directives.extend(
        astraler_waf::seclang::read_files(&files(Path::new(&folder))).unwrap_or_else(|error| {
            println!("{error}");
            std::process::exit(1);
        }),
    );
    let read = start.elapsed();
    let program = Program::new(&directives).unwrap_or_else(|error| {
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
        (
            "JSON 64K",
            post(&orders(130).replace("blue", &"blue, with a sole that grips on wet rock. ".repeat(8))),
            5,
        ),
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
    if only.as_deref() == Some("growth") {
        growth(&program);
    }
    println!(
        "RSS       {} KB, caches {} KB",
        resident(),
        program.scratch_bytes() / 1024
    );
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
        for size in [1_000, 10_000, 100_000] {
            let value = piece
                .repeat(size / piece.len())
                .replace('%', "%25")
                .replace('&', "%26");
            let request = format!(
                "POST /a HTTP/1.1\r\nHost: a.example\r\nUser-Agent: a\r\nAccept: */*\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\na={value}",
                value.len() + 2
            );
            let times = 2_000_000 / size;
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
