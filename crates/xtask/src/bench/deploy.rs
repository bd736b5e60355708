//! `cargo xtask bench deploy [dev]`: what a deployment costs those who are being served, how long a rollback takes, and
//! how long a preview of a 100 MB database. `dev` drives the dev profile's binary instead of the release profile's.

use super::{load_average, shown};
use crate::load::{Load, Wanted};
use crate::platform::Platform;
use crate::{Failure, output, run as run_command};
use std::io::Write;
use std::path::Path;
use std::process::Command;
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
    let (mut deploys, mut rollbacks) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    let mut load = Load::start(Wanted {
        port: platform.port,
        host: "localhost",
        paths: PATHS.map(str::to_owned).to_vec(),
        clients: CLIENTS,
        requests_per_s: REQUESTS_PER_S,
    });
    let changed = (|| {
        for _ in 0..ROUNDS {
            deploys.push(timed(platform, &["deploy", "--release", &first])?);
            rollbacks.push(timed(platform, &["rollback", "--reason", "bench"])?);
        }
        Ok::<(), Failure>(())
    })();
    load.stop();
    changed?;
    let seconds = begun.elapsed().as_secs_f64();
    let (sent, failed) = (load.sent(), load.failed());
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = sent as f64 / seconds;
    println!(
        "\nunder load: {sent} requests in {seconds:.1} s ({rate:.0}/s, {REQUESTS_PER_S}/s wanted), {ROUNDS} deploys, {ROUNDS} rollbacks"
    );
    println!("{busy}");
    println!("failed requests                  {failed} (goal: 0)");
    if let Some(first) = load.failures().first() {
        println!("the first of them                {}", first.why);
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
