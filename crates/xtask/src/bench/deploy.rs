//! `cargo xtask bench deploy [dev]`: what a deployment costs those who are being served, how long a rollback takes, and
//! how long a preview of a 100 MB database. `dev` drives the dev profile's binary instead of the release profile's.

use super::{load_average, shown};
use crate::platform::Platform;
use crate::{Failure, output, run as run_command};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10;
/// Connections that are kept alive: so many that one slow answer holds the others up little.
const CLIENTS: u32 = 25;
/// What a client asks for in turn: a worker alone, a list from the cache, and all layers.
const PATHS: [&str; 5] = [
    "/auth/health",
    "/api/tasks",
    "/auth/health",
    "/api/health",
    "/auth/health",
];
/// Of all clients together.
const REQUESTS_PER_S: u32 = 500;
/// The golden copy of staging is made in the background.
const GOLDEN_TRIES: u32 = 60;
const ROWS: u32 = 100_000;

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    super::on_a_platform(root, arguments, measure)
}

fn measure(platform: &Platform) -> Result<(), Failure> {
    let port = platform.port.to_string();
    platform.astraler(&["up", "--env", "development", "--env", "staging", "--port", &port])?;
    let first = digest(platform, "development")?;
    // Another release of the same application: a word of the manifest differs.
    let manifest = platform.application().join("astraler.toml");
    let mut text = std::fs::read_to_string(&manifest).map_err(|error| format!("{error}"))?;
    text.push_str("\n[environments.staging.vars]\nBENCH = \"second\"\n");
    std::fs::File::create(&manifest)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("cannot write the manifest: {error}"))?;
    platform.astraler(&["deploy", "--no-build", "--wait"])?;
    let second = digest(platform, "development")?;
    if first == second {
        return Err("both releases are the same".to_owned());
    }

    let busy = load_average();
    let load = Load::default();
    let (mut deploys, mut rollbacks) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| load.client(platform.port));
        }
        let changed = (|| {
            for _ in 0..ROUNDS {
                deploys.push(timed(platform, &["deploy", "--release", &first])?);
                rollbacks.push(timed(platform, &["rollback", "--reason", "bench"])?);
            }
            Ok::<(), Failure>(())
        })();
        load.stop.store(true, Ordering::Relaxed);
        changed
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let (sent, failed) = (
        load.sent.load(Ordering::Relaxed),
        load.failed.load(Ordering::Relaxed),
    );
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = sent as f64 / seconds;
    println!(
        "\nunder load: {sent} requests in {seconds:.1} s ({rate:.0}/s, {REQUESTS_PER_S}/s wanted), {ROUNDS} deploys, {ROUNDS} rollbacks"
    );
    println!("{busy}");
    println!("failed requests                  {failed} (goal: 0)");
    if let Some(why) = load.first.lock().ok().and_then(|mut first| first.take()) {
        println!("the first of them                {why}");
    }
    println!("deploy of a release              {}", shown(&mut deploys));
    println!("rollback (goal: at most 2 s)     {}", shown(&mut rollbacks));

    fill(platform)?;
    platform.astraler(&["deploy", "--env", "staging", "--release", &first, "--wait"])?;
    let (took, detail) = preview(platform, &first)?;
    println!(
        "preview, {detail} (goal: at most 3 s)  {:.2} s",
        took.as_secs_f64()
    );
    if failed > 0 {
        return Err(format!("{failed} requests failed"));
    }
    Ok(())
}

/// 100 MB of what cannot be compressed, in staging.
fn fill(platform: &Platform) -> Result<(), Failure> {
    let password =
        output(&mut platform.command(&["env", "credential", "staging", "postgres_owner_password"]))?;
    let shown = output(&mut platform.command(&["env", "show", "staging", "--json"]))?;
    let url = shown
        .split('"')
        .find(|word| word.starts_with("postgresql://staging_owner@"))
        .ok_or("no URL of staging's database")?;
    let sql = format!(
        "CREATE TABLE ballast AS SELECT g, (SELECT string_agg(md5(g || '-' || i), '') FROM generate_series(1, 31) i)
         FROM generate_series(1, {ROWS}) g"
    );
    run_command(
        Command::new("psql")
            .args(["-Xq", "-c", &sql, url])
            .env("PGPASSWORD", password.trim()),
    )
}

/// Makes previews until one is a copy of the filled database; tells how long that one took.
fn preview(platform: &Platform, release: &str) -> Result<(Duration, String), Failure> {
    for number in 1..=GOLDEN_TRIES {
        let name = format!("pr-{number}");
        let begun = Instant::now();
        let out = output(&mut platform.command(&["deploy", "--env", &name, "--release", release, "--json"]))?;
        let took = begun.elapsed();
        let copied = out
            .split('"')
            .find(|word| word.starts_with("a copy of staging's"))
            .unwrap_or_default();
        let mebibytes: u32 = copied
            .split_whitespace()
            .rev()
            .nth(1)
            .and_then(|size| size.parse().ok())
            .unwrap_or(0);
        platform.astraler(&["env", "remove", &name])?;
        if mebibytes >= 100 {
            return Ok((took, copied.to_owned()));
        }
    }
    Err("the golden copy was not made".to_owned())
}

fn digest(platform: &Platform, environment: &str) -> Result<String, Failure> {
    let out = output(&mut platform.command(&["deployments", "--env", environment, "-n", "1", "--json"]))?;
    out.split('"')
        .find(|word| word.starts_with("sha256:"))
        .map(str::to_owned)
        .ok_or_else(|| "no deployment".to_owned())
}

fn timed(platform: &Platform, words: &[&str]) -> Result<Duration, Failure> {
    let begun = Instant::now();
    platform.astraler(words)?;
    Ok(begun.elapsed())
}

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
    first: std::sync::Mutex<Option<String>>,
}

impl Load {
    /// One connection, kept alive, at its share of the rate.
    fn client(&self, port: u16) {
        let every = Duration::from_secs(1) * CLIENTS / REQUESTS_PER_S;
        let mut connection = None;
        let mut next = Instant::now();
        for path in PATHS.iter().cycle() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = exchange(&mut connection, port, path) {
                self.failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut first) = self.first.lock() {
                    first.get_or_insert(error);
                }
                connection = None;
            }
            next += every;
            #[expect(clippy::disallowed_methods, reason = "there is no executor to block")]
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

fn exchange(connection: &mut Option<BufReader<TcpStream>>, port: u16, path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let reader = match connection {
        Some(reader) => reader,
        None => {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
            let limit = Some(Duration::from_secs(20));
            stream.set_read_timeout(limit).map_err(failed)?;
            connection.insert(BufReader::new(stream))
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    reader.get_mut().write_all(request.as_bytes()).map_err(failed)?;
    let mut line = String::new();
    reader.read_line(&mut line).map_err(failed)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("{path} answered {line:?}"));
    }
    let (mut length, mut chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line).map_err(failed)?;
        let field = line.trim().to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| "no length".to_owned())?;
        }
        chunked |= field == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).map_err(failed)?;
    while chunked {
        line.clear();
        reader.read_line(&mut line).map_err(failed)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| format!("no chunk: {line:?}"))?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).map_err(failed)?;
        chunked = size > 0;
    }
    Ok(())
}
