//! `cargo xtask scenario day [dev]`: a day in the life of a team, on a real platform of the starter, with the real clock and
//! the manifest's default thresholds. Once production has its first release, a constant load asks it until the end; what
//! fails is counted, and must be the bad release's own answers, or fall into the time in which a table was missing.
//!
//! `dev` drives the dev profile's binary instead of the release profile's.

use super::sink::{Heard, Sink};
use crate::git::{commit, git};
use crate::load::{Failed, Load, Wanted};
use crate::platform::Platform;
use crate::{Failure, bench, output};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const HOST: &str = "app.localhost";
const REQUESTS_PER_S: u32 = 200;
const CLIENTS: u32 = 20;
const TASKS: &str = "500";
/// A worker's answer without anything behind it, the page, a list from the cache, a row from the database.
const PATHS: [&str; 4] = [
    "/auth/health",
    "/",
    "/api/tasks",
    "/api/tasks/00000000-0000-4000-8000-000000000001",
];
/// How long the watch may take from the first bad answer until the old release serves.
const ROLLED_BACK_WITHIN: Duration = Duration::from_secs(180);
const HEARD_WITHIN: Duration = Duration::from_secs(60);
/// Requests that were on their way when a state ended.
const SETTLES: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(200);
/// What makes the sign-in worker's answer bad, and in production only: no test sees it.
const GOOD: &str = "handle: (env) => json(";
const BAD: &str = "handle: (env) => env.APP_ENVIRONMENT === \"production\" ? problem(new Error(\"no session key\")) : json(";

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    bench::on_a_platform(root, arguments, play)
}

fn play(platform: &Platform) -> Result<(), Failure> {
    let mut day = Day {
        platform,
        sink: Sink::start()?,
        load: None,
        steps: vec![],
        excused: vec![],
    };
    println!("{}", bench::load_average());
    let result = day.pass();
    if let Some(load) = &mut day.load {
        load.stop();
    }
    day.tell();
    result?;
    let stray = day.stray();
    match stray.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} requests failed that had no reason to; the first: {}",
            stray.len(),
            first.why
        )),
    }
}

/// What happens, and what is known of it.
struct Day<'a> {
    platform: &'a Platform,
    sink: Sink,
    load: Option<Load>,
    steps: Vec<Step>,
    /// From when until when requests may fail.
    excused: Vec<(Instant, Instant)>,
}

/// A step that is over.
struct Step {
    name: &'static str,
    took: Duration,
    sent: u64,
    failed: u64,
    said: String,
}

impl Day<'_> {
    fn pass(&mut self) -> Result<(), Failure> {
        self.step("an application and its platform", Self::begin)?;
        self.step("feature branch, pull request with preview", Self::feature)?;
        self.step("merged: develop, staging and E2E", |day| {
            let expected = ["develop → staging, success", "e2e: success"];
            day.push(&["feature/title:develop"], &expected)
        })?;
        self.step("main, production", |day| {
            day.push(&["feature/title:main"], &["main → production, success"])
        })?;
        self.step("tasks, a session key, a backup", Self::fill)?;
        self.load = Some(Load::start(Wanted {
            port: self.platform.port,
            host: HOST,
            paths: PATHS.map(str::to_owned).to_vec(),
            clients: CLIENTS,
            requests_per_s: REQUESTS_PER_S,
        }));
        self.step("a bad release passes staging", |day| {
            day.edit("workers/auth/src/index.ts", GOOD, BAD)?;
            commit(day.platform, "Sign-in reads the session key")?;
            let expected = ["develop → staging, success", "e2e: success"];
            day.push(&["feature/title:develop"], &expected)
        })?;
        self.step("it reaches production, and is rolled back by itself", Self::bad)?;
        self.step("the alert is heard: PagerDuty and Slack", Self::heard)?;
        self.step("a table is dropped; back to the second before", Self::dropped)?;
        self.step("secrets and keys are rotated", Self::rotated)?;
        self.step("drill", |day| {
            day.astraler(&["drill", "--env", "production"])?;
            let status = day.json(&["status", "--json"])?;
            match status["last_proven_restore"]["proof"].is_object() {
                true => Ok("a random second of production is proven".into()),
                false => Err("status knows of no proven restore".to_owned()),
            }
        })
    }

    fn step(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Self) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        println!("\n=== {name}");
        let begun = Instant::now();
        let (sent, failed) = self.counted();
        let result = work(self);
        let (sent_now, failed_now) = self.counted();
        let (said, result) = match result {
            Ok(said) => (said, Ok(())),
            Err(failure) => ("FAILED".to_owned(), Err(format!("{name}: {failure}"))),
        };
        println!("=== {:.1} s: {said}", begun.elapsed().as_secs_f64());
        self.steps.push(Step {
            name,
            took: begun.elapsed(),
            sent: sent_now - sent,
            failed: failed_now - failed,
            said,
        });
        result
    }

    fn begin(&mut self) -> Result<String, Failure> {
        let application = self.platform.application();
        let backups = application.with_file_name("backups");
        fs::create_dir(&backups).map_err(|error| format!("{}: {error}", backups.display()))?;
        let manifest = format!(
            "\n[alerts.pagerduty]\nurl = \"{}\"\n\n# One machine has one disk.\n[backups]\ntarget_url = \"file://{}\"\nallow_same_device = true\n",
            self.sink.url("/pagerduty"),
            backups.display()
        );
        fs::File::options()
            .append(true)
            .open(application.join("astraler.toml"))
            .and_then(|mut file| file.write_all(manifest.as_bytes()))
            .map_err(|error| format!("the manifest: {error}"))?;
        git(self.platform, &["init", "--quiet", "--initial-branch", "main"])?;
        commit(self.platform, "The starter")?;
        self.astraler(&["up", "--port", &self.platform.port.to_string()])?;
        // The daemon's own user writes the backups.
        let control = application.with_file_name("state").join("control");
        let owner = fs::metadata(&control).map_err(|error| format!("{}: {error}", control.display()))?;
        std::os::unix::fs::chown(&backups, Some(owner.uid()), Some(owner.gid()))
            .map_err(|error| format!("{}: {error}", backups.display()))?;
        for (name, value) in [
            (
                "PAGERDUTY_ROUTING_KEY",
                "0123456789abcdef0123456789abcdef".to_owned(),
            ),
            ("SLACK_WEBHOOK_URL", self.sink.url("/slack")),
        ] {
            self.secret("set", name, "platform", &value)?;
            self.astraler(&["secrets", "grant", name, "--env", "platform", "--to", "alerts"])?;
        }
        Ok("development serves".into())
    }

    fn feature(&mut self) -> Result<String, Failure> {
        git(self.platform, &["switch", "--quiet", "-c", "feature/title"])?;
        self.edit("web/index.html", "<title>", "<title>Ours: ")?;
        commit(self.platform, "The page is ours")?;
        let expected = ["→ development, success", "→ pr-1, success"];
        self.push(&["-o", "pr=1", "feature/title"], &expected)
    }

    fn fill(&mut self) -> Result<String, Failure> {
        self.sql(&format!(
            "INSERT INTO task (id, title, board_column, position)
             SELECT ('00000000-0000-4000-8000-' || lpad(g::text, 12, '0'))::uuid, 'Task ' || g, 'todo', g
             FROM generate_series(1, {TASKS}) g"
        ))?;
        self.secret(
            "set",
            "SESSION_KEY",
            "production",
            "the session key of the morning",
        )?;
        self.astraler(&[
            "secrets",
            "grant",
            "SESSION_KEY",
            "--env",
            "production",
            "--to",
            "auth",
        ])?;
        self.astraler(&["secrets", "apply", "--env", "production", "--wait"])?;
        self.astraler(&["backup", "run"])?;
        Ok(format!("{TASKS} tasks"))
    }

    fn bad(&mut self) -> Result<String, Failure> {
        let good = self.live()?;
        let from = Instant::now();
        self.push(&["feature/title:main"], &["main → production"])?;
        let deadline = Instant::now() + ROLLED_BACK_WITHIN;
        let after = loop {
            let now = self.live()?;
            if now["id"] != good["id"] && now["release"] == good["release"] {
                break now;
            }
            if Instant::now() > deadline {
                return Err(format!("it still serves {now}"));
            }
            pause();
        };
        self.excused.push((from, Instant::now() + SETTLES));
        pause_for(SETTLES);
        let failures = self.since(from);
        let others = failures
            .iter()
            .find(|one| !one.why.starts_with("/auth/health answered"));
        if let Some(other) = others {
            return Err(format!(
                "what is not the bad release's own answer failed: {}",
                other.why
            ));
        }
        let (Some(first), Some(last)) = (failures.first(), failures.last()) else {
            return Err("the bad release answered nothing bad".to_owned());
        };
        Ok(format!(
            "{} serves again, {:.1} s after the first bad answer; {} bad answers",
            after["id"].as_str().unwrap_or_default(),
            last.at.duration_since(first.at).as_secs_f64(),
            failures.len()
        ))
    }

    fn heard(&mut self) -> Result<String, Failure> {
        let begun = Instant::now();
        let paged = |one: &&Heard| {
            one.path == "/pagerduty"
                && one.body["event_action"] == "trigger"
                && one.body["payload"]["severity"] == "critical"
        };
        let posted = |one: &&Heard| one.path == "/slack" && one.body.to_string().contains("CRITICAL");
        loop {
            let heard = self.sink.heard();
            if let (Some(page), Some(_)) = (heard.iter().find(paged), heard.iter().find(posted)) {
                let bad = self.excused.last().map_or(begun, |(from, _)| *from);
                let first = self.since(bad).first().map_or(bad, |first| first.at);
                return Ok(format!(
                    "{:.1} s after the first bad answer: {}",
                    page.at.duration_since(first).as_secs_f64(),
                    page.body["payload"]["summary"].as_str().unwrap_or_default()
                ));
            }
            if begun.elapsed() > HEARD_WITHIN {
                return Err(format!("nobody was told of it; heard: {heard:?}"));
            }
            pause();
        }
    }

    fn dropped(&mut self) -> Result<String, Failure> {
        // A second in which nothing else happens, so that "the second before" has one meaning.
        pause_for(Duration::from_secs(2));
        let to = self.sql(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        )?;
        pause_for(Duration::from_secs(1));
        let from = Instant::now();
        self.sql("DROP TABLE task CASCADE")?;
        let begun = Instant::now();
        self.astraler(&["recover", "database", "--env", "production", "--to", &to])?;
        let took = begun.elapsed();
        self.excused.push((from, Instant::now() + SETTLES));
        pause_for(SETTLES);
        let tasks = self.sql("SELECT count(*) FROM task")?;
        match tasks == TASKS {
            true => Ok(format!("{TASKS} tasks are back, {:.1} s", took.as_secs_f64())),
            false => Err(format!("{tasks} tasks came back of {TASKS}")),
        }
    }

    fn rotated(&mut self) -> Result<String, Failure> {
        self.secret(
            "rotate",
            "SESSION_KEY",
            "production",
            "the session key of the evening",
        )?;
        self.astraler(&["secrets", "apply", "--env", "production", "--wait"])?;
        self.astraler(&["secrets", "rotate-keys"])?;
        self.astraler(&["secrets", "rotate-keys", "--root"])?;
        let history = self.json(&[
            "secrets",
            "history",
            "SESSION_KEY",
            "--env",
            "production",
            "--json",
        ])?;
        let versions = history.as_array().map_or(0, Vec::len);
        match versions {
            2 => Ok("a secret, the environments' keys, the root key".into()),
            other => Err(format!("the session key has {other} versions")),
        }
    }

    /// Pushes, and looks for what the pusher must have seen.
    fn push(&self, words: &[&str], expected: &[&str]) -> Result<String, Failure> {
        let said = git(self.platform, &[&["push", "astraler"], words].concat())?;
        match expected.iter().find(|one| !said.contains(**one)) {
            None => Ok(expected.join("; ")),
            Some(missing) => Err(format!("the push said nothing of `{missing}`:\n{said}")),
        }
    }

    fn edit(&self, file: &str, from: &str, to: &str) -> Result<(), Failure> {
        let path = self.platform.application().join(file);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(failed)?;
        let changed = text.replacen(from, to, 1);
        if changed == text {
            return Err(format!("{file} has no `{from}`"));
        }
        fs::File::create(&path)
            .and_then(|mut file| file.write_all(changed.as_bytes()))
            .map_err(failed)
    }

    fn secret(&self, action: &str, name: &str, place: &str, value: &str) -> Result<(), Failure> {
        let path = self.platform.application().with_file_name("value");
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = fs::File::create(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        file.write_all(value.as_bytes()).map_err(failed)?;
        let file = path.to_string_lossy();
        self.astraler(&["secrets", action, name, "--env", place, "--from-file", &file])?;
        fs::remove_file(&path).map_err(failed)
    }

    /// A statement to production's database, as its owner.
    fn sql(&self, statement: &str) -> Result<String, Failure> {
        let words = ["env", "credential", "production", "postgres_owner_password"];
        let password = output(&mut self.platform.command(&words))?;
        let shown = output(&mut self.platform.command(&["env", "show", "production", "--json"]))?;
        let url = shown
            .split('"')
            .find(|word| word.starts_with("postgresql://production_owner@"))
            .ok_or("no URL of production's database")?;
        let answer = output(
            Command::new("psql")
                .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement, url])
                .env("PGPASSWORD", password.trim()),
        )?;
        Ok(answer.trim().to_owned())
    }

    fn live(&self) -> Result<Value, Failure> {
        let all = self.json(&["deployments", "--env", "production", "--json"])?;
        all.as_array()
            .and_then(|all| all.iter().find(|one| one["state"] == "live"))
            .cloned()
            .ok_or_else(|| "production runs nothing".to_owned())
    }

    fn astraler(&self, words: &[&str]) -> Result<(), Failure> {
        self.platform.astraler(words)
    }

    fn json(&self, words: &[&str]) -> Result<Value, Failure> {
        let out = output(&mut self.platform.command(words))?;
        serde_json::from_str(&out).map_err(|error| format!("`astraler {}`: {error}", words.join(" ")))
    }

    fn counted(&self) -> (u64, u64) {
        self.load
            .as_ref()
            .map_or((0, 0), |load| (load.sent(), load.failed()))
    }

    fn since(&self, from: Instant) -> Vec<Failed> {
        let mut failures = self.load.as_ref().map(Load::failures).unwrap_or_default();
        failures.retain(|one| one.at >= from);
        failures.sort_by_key(|one| one.at);
        failures
    }

    /// Requests that failed outside of the times in which they may.
    fn stray(&self) -> Vec<Failed> {
        let mut failures = self.load.as_ref().map(Load::failures).unwrap_or_default();
        failures.retain(|one| {
            !self
                .excused
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&one.at))
        });
        failures.sort_by_key(|one| one.at);
        failures
    }

    fn tell(&self) {
        println!(
            "\n{:<52} {:>8} {:>9} {:>7}",
            "step", "seconds", "requests", "failed"
        );
        for step in &self.steps {
            println!(
                "{:<52} {:>8.1} {:>9} {:>7}  {}",
                step.name,
                step.took.as_secs_f64(),
                step.sent,
                step.failed,
                step.said
            );
        }
        let whole: Duration = self.steps.iter().map(|step| step.took).sum();
        let (sent, failed) = self.counted();
        println!(
            "{:<52} {:>8.1} {sent:>9} {failed:>7}  {} without a reason",
            "the day",
            whole.as_secs_f64(),
            self.stray().len()
        );
    }
}

fn pause() {
    pause_for(LOOK);
}

fn pause_for(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "there is no executor to block")]
    std::thread::sleep(time);
}
