//! `astraler recover full`: the platform from its backups alone, on a machine that has nothing of it.
//!
//! Runs without a daemon, because there is none. Each step is in a journal in the state folder, before and after it, and
//! begins anew where it was interrupted: killed anywhere, the same command finishes. Nothing is touched where anything is.
//!
//! The order is that of trust: two shares open the root key; the root key opens the control plane's database; the database
//! says what was live, and which description each backup had when it was made.

mod engines;
mod journal;
mod keys;
mod sets;
mod source;

use crate::assemble;
use crate::cli::{Arguments, RecoverFull, Shares};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::{self, Place};
use crate::progress::{Progress, line};
use crate::table;
use astraler_control::{
    AdminClient, EnvironmentReport, Fault, Installation, RecoverServiceRequest, RecoverStorageRequest,
};
use astraler_recovery::{Destination, DestinationConfig};
use astraler_secrets::RecoveryKey;
use journal::{Asked, Journal};
use keys::Known;
use serde_json::json;
use sets::Sets;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What does not come back.
const NOTES: [&str; 3] = [
    "Redis begins empty",
    "buckets that are not replicated begin empty",
    "logs and metrics of before are not part of this recovery",
];
/// The step after which a recovery is done.
const LAST: &str = "objects";
/// Names that an error shows.
const MAX_NAMED: usize = 5;

pub(super) fn run(arguments: &Arguments, asked: &RecoverFull) -> Outcome {
    let began = Instant::now();
    let to_ms = asked.to.as_deref().map(super::recover::time_ms).transpose()?;
    let config = DestinationConfig {
        url: asked.from.clone(),
        endpoint: asked.endpoint_url.clone(),
        credentials_file: asked.credentials_file.clone(),
    };
    let key = match asked.shares.is_empty() && asked.dry_run {
        true => None,
        false => Some(super::recovery_key::combine(&Shares {
            files: asked.shares.clone(),
        })?),
    };
    super::block_on(async {
        let name = sets::name(&config, asked.name.as_deref()).await?;
        let destination = Destination::open(&config, &name).map_err(|error| Failure::of(&error))?;
        let wanted = Asked {
            from: destination.url().to_owned(),
            name,
            to_ms,
        };
        let place = Place::to_be(arguments, !asked.dry_run)?;
        empty(&place)?;
        let Some(key) = key.filter(|_| !asked.dry_run) else {
            return sets::show(&destination, &wanted, asked.json).await;
        };
        assemble::check_requirements()?;
        let mut progress = Progress::new(asked.json);
        let recovery = Recovery {
            destination,
            place,
            asked: wanted,
            port: asked.port,
        };
        let work = Box::pin(recovery.run(&key, &mut progress));
        let result = tokio::select! {
            result = work => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Kind::Interrupted, "interrupted")
                .hint("run the same command again: it goes on from what was done")),
        };
        progress.clear();
        finish(&result?, asked.json, began)
    })
}

struct Recovery {
    destination: Destination,
    place: Place,
    asked: Asked,
    port: Option<u16>,
}

impl Recovery {
    async fn run(&self, key: &RecoveryKey, progress: &mut Progress) -> Outcome<Vec<EnvironmentReport>> {
        let Self {
            destination,
            place,
            asked,
            port,
        } = self;
        let to_ms = asked.to_ms;
        astraler_host::file::make_dir(&place.layout.state, 0o755, None, None)?;
        let _lock = place.lock("astraler recover full")?;
        let mut journal = Journal::open(&place.layout.state, asked)?;
        let work = Work(place.layout.state.join("recovery"));
        let installation = || place.installation();
        if journal.is_done(LAST) {
            progress.say(&format!(
                "{} was recovered here before: nothing to do",
                asked.name
            ));
            return end(&work, &installation()?).await;
        }
        astraler_host::file::make_dir(&work.0, 0o700, None, None)?;
        let sets = Sets::list(destination).await?;
        let opened = keys::recover(destination, place, &work, &sets, key, to_ms);
        journal.step(progress, "keys", opened).await?;
        let known = Known::read(&work)?;
        if known.governing()?.config.name != asked.name {
            return Err(Failure::new(
                Kind::Damaged,
                format!(
                    "the backups of {} are of `{}`",
                    asked.name,
                    known.governing()?.config.name
                ),
            ));
        }
        let sources = async { source::recover(place, &work, &known) };
        journal.step(progress, "sources", sources).await?;
        let placed = async { engines::place(place, &work, &known, *port) };
        journal.step(progress, "place", placed).await?;
        let installation = installation()?;
        let releases = engines::releases(destination, &installation, &work, &sets, &known);
        journal.step(progress, "releases", releases).await?;
        super::up::keep(&installation, progress).await?;
        for cluster in known.clusters() {
            let brought = engines::cluster(destination, &installation, &work, &known, cluster, to_ms);
            journal
                .step(progress, &format!("postgres {cluster}"), brought)
                .await?;
        }
        assemble::install_tools(place, progress).await?;
        journal
            .step(progress, "platform", serve(place, &installation, &known))
            .await?;
        journal
            .step(progress, LAST, objects(&installation, &known))
            .await?;
        end(&work, &installation).await
    }
}

/// Removes what was fetched, and asks what serves.
async fn end(work: &Work, installation: &Installation) -> Outcome<Vec<EnvironmentReport>> {
    work.remove()?;
    let client = AdminClient::new(installation.layout.admin_socket());
    let status = client.status().await.map_err(|error| super::not_up(&error))?;
    Ok(status.environments)
}

/// Starts the daemon, which brings up what its database says is live, and waits until each of them answers.
async fn serve(place: &Place, installation: &Installation, known: &Known) -> Outcome<String> {
    let machine = std::thread::spawn(astraler_pipeline::Machine::probe);
    super::up::start_daemon(installation).await?;
    let client = AdminClient::new(installation.layout.admin_socket());
    for environment in &known.awake {
        let request = RecoverServiceRequest {
            environment: *environment,
            to: None,
            dry_run: false,
        };
        let mut last = Last::default();
        client
            .recover_service(&request, |event| last.hear(event))
            .await
            .map_err(|error| super::not_up(&error))?;
        last.end()?;
    }
    if let Ok(machine) = machine.join() {
        place::keep_machine(installation, &machine)?;
    }
    super::git::remote(place, installation);
    Ok(format!("{} environments serve", known.awake.len()))
}

/// What buckets held, from the second location, while the platform serves.
async fn objects(installation: &Installation, known: &Known) -> Outcome<String> {
    let client = AdminClient::new(installation.layout.admin_socket());
    let mut done = Vec::new();
    for environment in known.replicated() {
        let request = RecoverStorageRequest {
            environment,
            bucket: None,
            dry_run: false,
        };
        let mut last = Last::default();
        client
            .recover_storage(&request, |event| last.hear(event))
            .await
            .map_err(|error| super::not_up(&error))?;
        let told = last.end().map_err(|failure| {
            let hint = "everything else is back, and serves; run the same command again, or `astraler recover storage`";
            failure.hint(hint)
        })?;
        done.push(format!("{environment}: {told}"));
    }
    Ok(match done.is_empty() {
        true => "no bucket is replicated".to_owned(),
        false => done.join("; "),
    })
}

/// How a request to the daemon ended.
#[derive(Default)]
struct Last(Option<Result<String, Fault>>);

impl Last {
    fn hear(&mut self, event: astraler_control::Progress) -> bool {
        match event {
            astraler_control::Progress::Done { message } => self.0 = Some(Ok(message)),
            astraler_control::Progress::Failed(fault) => self.0 = Some(Err(fault)),
            _ => {}
        }
        true
    }

    fn end(self) -> Outcome<String> {
        match self.0 {
            Some(Ok(message)) => Ok(message),
            Some(Err(fault)) => Err(super::up::failed(&fault)),
            None => Err(super::up::stopped()),
        }
    }
}

/// Refuses a place where anything is that a recovery has not left.
fn empty(place: &Place) -> Outcome {
    let layout = &place.layout;
    if Journal::is_begun(&layout.state) {
        return Ok(());
    }
    let own = |path: &Path| {
        path == layout.state
            || *path == layout.change_lock()
            || path.file_name() == Some(journal::FILE.as_ref())
    };
    for (what, folder) in [
        ("state folder", &layout.state),
        ("folder of the root key", &layout.config),
        ("application's folder", &place.application),
    ] {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed_at(folder)(error)),
        };
        let mut found: Vec<String> = entries
            .flatten()
            .filter(|entry| !own(&entry.path()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        if found.is_empty() {
            continue;
        }
        found.sort();
        let more = found.len().saturating_sub(MAX_NAMED);
        found.truncate(MAX_NAMED);
        let mut shown = found.join(", ");
        if more > 0 {
            shown.push_str(&format!(" and {more} more"));
        }
        return Err(Failure::new(
            Kind::General,
            format!("the {what} {} is not empty: it holds {shown}", folder.display()),
        )
        .hint(
            "a platform is recovered where nothing of one is: name empty folders with --dir and --state, or move that away",
        ));
    }
    Ok(())
}

fn finish(environments: &[EnvironmentReport], json: bool, began: Instant) -> Outcome {
    if json {
        line(&json!({ "event": "recovered", "environments": environments, "notes": NOTES }).to_string());
        return Ok(());
    }
    table::print(
        &["environment", "url", "deployment"],
        environments.iter().map(|report| {
            vec![
                report.environment.to_string(),
                report.urls.join("\n"),
                report.deployment.clone().unwrap_or_else(|| "-".into()),
            ]
        }),
    );
    for note in NOTES {
        line(&format!("note: {note}"));
    }
    line(&format!("recovered in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// What is fetched and opened, for as long as the recovery takes. The root key is never in it.
struct Work(PathBuf);

impl Work {
    fn folder(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn remove(&self) -> Outcome {
        remove(&self.0)
    }

    /// The folder, with nothing in it.
    fn emptied(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.folder(name);
        remove(&folder)?;
        std::fs::create_dir(&folder).map_err(failed_at(&folder))?;
        Ok(folder)
    }

    /// The control plane's database, to look into.
    fn database(&self) -> PathBuf {
        self.folder("database").join("control.sqlite")
    }

    /// The copy of it that the daemon gets.
    fn installed(&self) -> PathBuf {
        self.folder("control.db")
    }

    fn repository(&self) -> PathBuf {
        self.folder("repository.git")
    }
}

/// With all that is in it; one that is gone is fine.
fn remove(folder: &Path) -> Outcome {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed_at(folder)(error)),
        _ => Ok(()),
    }
}

fn failed_at(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| Failure::of(&error).context(format!("{} cannot be used", path.display()))
}
