//! Time for growing inputs, of every function that reads what a client sends: `cargo run --release -p astraler-waf
//! --example growth`. Each line is a function and its worst input: nanoseconds a byte for 1, 10 and 100 KB and 1 MB. A
//! function of quadratic time would show ten times the number in the next column. With a name: only that function.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use astraler_waf::body::{Item, Limits};
use astraler_waf::transform::{Transformation, apply};
use astraler_waf::{body, libinjection, url};

/// What parsers get lost in.
const PIECES: &[&str] = &[
    "a",
    " ",
    "%",
    "%u",
    "%41",
    "+",
    "&",
    "&#",
    "&#x41;",
    "&lt",
    "\\",
    "\\u",
    "\\x41",
    "/",
    "../",
    "./",
    "/*",
    "*/",
    "<!--",
    "--",
    "'",
    "\"",
    "`",
    "$",
    "$a$",
    "(",
    "[",
    "{",
    "}",
    "]",
    "0x",
    "1",
    ".",
    ",",
    ";",
    "=",
    "@",
    "<",
    ">",
    "<a ",
    "<![CDATA[",
    "q'(",
    "\u{e9}",
    "\0",
    "\r\n",
    "\n",
    "select ",
    "on=1 ",
    "<a>",
    "</a>",
    "<a b='c'>",
    "[1,",
    "{\"a\":",
    "\"a\",",
    "--x\r\n",
    "a=b&",
    "a: b\r\n",
    "-",
    "union",
    "/*!",
    "not ",
    "1,",
    "binary ",
    "a.",
    "or.",
    "`or",
    "a`",
    "$.",
    "e!",
    "on--",
];

const LIMITS: Limits = Limits {
    arguments: 1 << 20,
    depth: 512,
    files: 1 << 20,
    part_headers: 32,
    part_header_bytes: 8192,
    name_bytes: 4096,
};

fn main() {
    let only = std::env::args().nth(1);
    let measure = |name: &str, run: &mut dyn FnMut(&[u8])| match &only {
        Some(only) if only != name => (0.0, String::new()),
        _ => measure(name, run),
    };
    let mut worst = Vec::new();
    for transformation in Transformation::ALL {
        let mut out = Vec::new();
        worst.push(measure(transformation.name(), &mut |input| {
            black_box(apply(*transformation, input, &mut out));
        }));
    }
    worst.push(measure("sqli", &mut |input| {
        black_box(libinjection::sqli(input));
    }));
    worst.push(measure("xss", &mut |input| {
        black_box(libinjection::xss(input));
    }));
    worst.push(measure("cookies", &mut |input| {
        black_box(url::cookies(input).count());
    }));
    worst.push(measure("urlencoded", &mut |input| {
        black_box(body::urlencoded(input, b'&', &LIMITS, &mut sink));
    }));
    // Each begins well, so that a parser goes on to the piece.
    for begin in ["", "[", "{\"a\":[", "\""] {
        worst.push(measure(&format!("json {begin}"), &mut |input| {
            black_box(body::json(
                &[begin.as_bytes(), input].concat(),
                &LIMITS,
                &mut sink,
            ));
        }));
    }
    for begin in ["", "<a>", "<a b='", "<!DOCTYPE a [", "<!--"] {
        worst.push(measure(&format!("xml {begin}"), &mut |input| {
            black_box(body::xml(&[begin.as_bytes(), input].concat(), &LIMITS, &mut sink));
        }));
    }
    for begin in [
        "",
        "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n",
        "--x\r\nContent-Disposition: form-data; a=\"",
    ] {
        worst.push(measure(&format!("multipart {}", begin.len()), &mut |input| {
            let body = [begin.as_bytes(), input].concat();
            black_box(body::multipart(
                b"multipart/form-data; boundary=x",
                &body,
                &LIMITS,
                &mut sink,
            ));
        }));
    }
    worst.sort_by(|one, other| other.0.total_cmp(&one.0));
    println!("steepest: {} {:.1}x", worst[0].1, worst[0].0);
}

fn sink(item: Item<'_>) {
    black_box(item);
}

/// Prints the piece that costs most, and returns how much more a byte of 1 MB costs than one of 100 KB at worst.
fn measure(name: &str, run: &mut dyn FnMut(&[u8])) -> (f64, String) {
    let mut time = |piece: &str, bytes: usize| {
        let input = piece.repeat(bytes.div_ceil(piece.len()));
        // The best of some: other programs take from the others, the longer they run.
        let best = (0..5)
            .map(|_| {
                let start = Instant::now();
                run(input.as_bytes());
                start.elapsed().as_nanos()
            })
            .min();
        best.unwrap_or(0) as f64 / input.len() as f64
    };
    let mut steepest = (0.0, String::new());
    let mut dearest = (0.0, "", [0.0; 4]);
    for piece in PIECES {
        let costs = [1_000, 10_000, 100_000, 1_000_000].map(|bytes| time(piece, bytes));
        let slope = costs[3] / costs[2].max(0.5);
        if slope > steepest.0 {
            steepest = (slope, format!("{name} of {piece:?}"));
        }
        if costs[3] > dearest.0 {
            dearest = (costs[3], piece, costs);
        }
    }
    let [small, middle, large, huge] = dearest.2;
    println!(
        "{name:20} {small:8.2} {middle:8.2} {large:8.2} {huge:8.2} ns/B  {:?}",
        dearest.1
    );
    steepest
}
