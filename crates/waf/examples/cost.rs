//! What a usual request costs in each part: `cargo run --release -p astraler-waf --example cost`. Nanoseconds for one run.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use astraler_waf::body::{self, Limits};
use astraler_waf::expression::{Expression, List, Lists, Subject};
use astraler_waf::libinjection;
use astraler_waf::transform::{Transformation as T, apply};

/// Values as they come: most of them pass every transformation unchanged.
const VALUES: &[&str] = &[
    "12",
    "john.doe@example.com",
    "550e8400-e29b-41d4-a716-446655440000",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "the quick brown fox jumps over the lazy dog, and then it sleeps until the morning comes again to the village",
    "/api/v1/users/12/orders",
    "sid=8a7f1c0e2b; theme=dark; lang=de",
    "It's a \"nice\" day; isn't it?",
    "caf\u{e9} & cr\u{e8}me 50% off",
];

/// Chains of the Core Rule Set.
const CHAINS: &[(&str, &[T])] = &[
    ("urlDecodeUni", &[T::UrlDecodeUni]),
    ("urlDecodeUni,lowercase", &[T::UrlDecodeUni, T::Lowercase]),
    ("cmdLine", &[T::CmdLine]),
    (
        "utf8toUnicode,urlDecodeUni,htmlEntityDecode,jsDecode,cssDecode,removeNulls",
        &[
            T::Utf8ToUnicode,
            T::UrlDecodeUni,
            T::HtmlEntityDecode,
            T::JsDecode,
            T::CssDecode,
            T::RemoveNulls,
        ],
    ),
    (
        "urlDecodeUni,replaceComments,compressWhitespace",
        &[T::UrlDecodeUni, T::ReplaceComments, T::CompressWhitespace],
    ),
    (
        "urlDecodeUni,normalizePathWin",
        &[T::UrlDecodeUni, T::NormalizePathWin],
    ),
];

fn main() {
    let limits = Limits::default();
    let bytes: usize = VALUES.iter().map(|value| value.len()).sum();
    println!("{} values of {bytes} bytes together", VALUES.len());
    for (name, chain) in CHAINS {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        time(name, || {
            for value in VALUES {
                let mut changed = false;
                for transformation in *chain {
                    let input = if changed { &here[..] } else { value.as_bytes() };
                    if apply(*transformation, input, &mut there) {
                        std::mem::swap(&mut here, &mut there);
                        changed = true;
                    }
                }
                black_box(changed);
            }
        });
    }
    time("detectSQLi", || {
        for value in VALUES {
            black_box(libinjection::sqli(value.as_bytes()));
        }
    });
    time("detectXSS", || {
        for value in VALUES {
            black_box(libinjection::xss(value.as_bytes()));
        }
    });

    println!("bodies");
    let member = |index: usize| {
        format!(r#"{{"id":{index},"name":"item {index}","price":12.5,"tags":["a","b"],"note":"as \"new\""}}"#)
    };
    let json = |count: usize| format!("[{}]", (0..count).map(member).collect::<Vec<_>>().join(","));
    let json_limits = Limits {
        arguments: 1 << 20,
        ..Limits::default()
    };
    for (count, name) in [(12, "JSON"), (830, "JSON")] {
        let text = json(count);
        time(&format!("{name} of {} bytes", text.len()), || {
            black_box(body::json(text.as_bytes(), &json_limits, &mut |item| {
                black_box(item);
            }));
        });
    }
    let form =
        "name=J%C3%B6rg+M&mail=j%40example.com&text=a+longer+text+with+some+words+in+it&agree=on&page=12"
            .repeat(9);
    time(&format!("form of {} bytes", form.len()), || {
        black_box(body::urlencoded(form.as_bytes(), b'&', &limits, &mut |item| {
            black_box(item);
        }));
    });
    let xml = format!(
        "<list>{}</list>",
        "<item id='1' note='a &amp; b'><name>some text</name></item>".repeat(15)
    );
    time(&format!("XML of {} bytes", xml.len()), || {
        black_box(body::xml(xml.as_bytes(), &limits, &mut |item| {
            black_box(item);
        }));
    });
    let upload = format!(
        "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.bin\"\r\n\r\n{}\r\n--x--\r\n",
        "some line of a file\n".repeat(3000)
    );
    time(&format!("upload of {} bytes", upload.len()), || {
        black_box(body::multipart(
            b"multipart/form-data; boundary=x",
            upload.as_bytes(),
            &limits,
            &mut |item| {
                black_box(item);
            },
        ));
    });

    println!("custom rules");
    let mut lists = Lists::default();
    lists.insert(
        "office",
        List::ips(["10.0.0.0/8", "192.168.0.0/16"]).unwrap_or(List::ints([])),
    );
    let subject = Subject {
        client: [192, 0, 2, 1].into(),
        place: None,
        network: None,
        client_port: 40_000,
        country: Some("DE"),
        method: b"GET",
        host: b"app.example",
        path: b"/api/v1/users/12",
        target: b"/api/v1/users/12?page=2&sort=name",
        version: b"HTTP/2",
        headers: &[
            (b"host", b"app.example"),
            (
                b"user-agent",
                b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0",
            ),
            (b"accept", b"application/json"),
            (b"cookie", b"sid=8a7f1c0e2b; theme=dark"),
        ],
        server_port: 443,
        tls: Some("TLSv1.3"),
        id: "1",
        now_ms: 0,
        body: None,
        response: None,
    };
    for source in [
        r#"http.request.uri.path contains "/admin" and not ip.src in $office"#,
        r#"http.user_agent matches "(?i)curl|python|sqlmap""#,
        r#"any(http.request.headers.names[*] eq "x-debug")"#,
        r#"lower(http.request.uri.path) wildcard "/wp-*/*.php""#,
        r#"http.request.uri.args["page"][0] eq "x""#,
    ] {
        if let Ok(expression) = Expression::compile(source, &lists) {
            time(source, || {
                black_box(expression.matches(black_box(&subject)));
            });
        }
    }
}

/// The fastest of five tries.
fn time(name: &str, mut run: impl FnMut()) {
    const RUNS: u32 = 2000;
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..RUNS {
                run();
            }
            start.elapsed() / RUNS
        })
        .min();
    println!("{:>8} ns  {name}", best.unwrap_or_default().as_nanos());
}
