//! `cargo xtask bench recover [dev]`: how long the starter's database takes back to the moment before its tasks were dropped.
//! `dev` drives the dev profile's binary instead of the release profile's.

use super::{load_average, shown};
use crate::platform::Platform;
use crate::{Failure, output};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const ROUNDS: usize = 5;
const ROWS: u32 = 100_000;

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    super::on_a_platform(root, arguments, measure)
}

fn measure(platform: &Platform) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("cannot prepare the destination: {error}");
    let target = platform.application().with_file_name("backups");
    std::fs::create_dir(&target).map_err(failed)?;
    let settings = format!("\n[backups]\ntarget_url = \"file://{}\"\n", target.display());
    std::fs::File::options()
        .append(true)
        .open(platform.application().join("astraler.toml"))
        .and_then(|mut manifest| manifest.write_all(settings.as_bytes()))
        .map_err(failed)?;
    platform.astraler(&["up", "--port", &platform.port.to_string()])?;
    let control = platform.application().with_file_name("state").join("control");
    let owner = std::fs::metadata(control).map_err(failed)?;
    chown(&target, Some(owner.uid()), Some(owner.gid())).map_err(failed)?;

    let fill = format!(
        "INSERT INTO task (title, notes, board_column, position)
         SELECT 'task ' || n, repeat(md5(n::text), 20), 'todo', n FROM generate_series(1, {ROWS}) n"
    );
    sql(platform, &fill)?;
    platform.astraler(&["backup", "run"])?;
    let busy = load_average();
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        sql(
            platform,
            &format!("UPDATE task SET notes = 'round {round}' WHERE position = 7"),
        )?;
        let point = sql(
            platform,
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
             FROM pg_sleep(0.1)",
        )?;
        sql(platform, "SELECT pg_sleep(0.1); DROP TABLE task CASCADE")?;
        let begun = Instant::now();
        platform.astraler(&[
            "recover",
            "database",
            "--env",
            "development",
            "--to",
            point.trim(),
        ])?;
        took.push(begun.elapsed());
        let there = sql(
            platform,
            "SELECT count(*) || ' ' || max(notes) FILTER (WHERE position = 7) FROM task WHERE position > 0",
        )?;
        if !there.contains(&format!("round {round}")) {
            return Err(format!("what came back is not what was there: {there}"));
        }
    }
    let size = sql(
        platform,
        "SELECT pg_size_pretty(pg_database_size(current_database()))",
    )?;
    println!("{busy}");
    println!(
        "recovery of a database of {} to a second: {}",
        size.trim(),
        shown(&mut took)
    );
    Ok(())
}

/// A statement as the owner of development's database.
fn sql(platform: &Platform, statement: &str) -> Result<String, Failure> {
    let password =
        output(&mut platform.command(&["env", "credential", "development", "postgres_owner_password"]))?;
    let shown = output(&mut platform.command(&["env", "show", "development", "--json"]))?;
    let url = shown
        .split('"')
        .find(|word| word.starts_with("postgresql://development_owner@"))
        .ok_or("no URL of the database")?;
    output(
        Command::new("psql")
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, url])
            .env("PGPASSWORD", password.trim()),
    )
}
