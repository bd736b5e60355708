//! Buckets at their second location. The data role sends them; here is how that stands, the alert when it is behind, and
//! the way back. Only the data role holds the store and the credentials, so it is asked.

use crate::backups::Progress;
use crate::client::{Answer, ClientError};
use crate::daemon::Daemon;
use crate::platform::{Platform, PlatformError, now_ms};
use crate::words::{Fault, chain};
use astraler_alert::Severity;
use astraler_model::{Environment, ReplicationStanding};
use astraler_store::{Outcome, StepDescription};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const KIND: &str = "recover storage";
const PART: &str = "storage replication";
/// The alert of an environment whose replica is behind.
const RULE: &str = "storage-replication";
/// How often it is asked whether a replica is behind.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long the data role may take to say how it stands.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects of a bucket that are read back when not all are.
const SAMPLE: u64 = 200;

/// What is to be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverStorageRequest {
    /// Whose buckets.
    pub environment: Environment,
    /// Only this one, by the name that the application uses.
    #[serde(default)]
    pub bucket: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// What the data role says of one bucket.
#[derive(Debug, Deserialize)]
struct Bucket {
    objects: u64,
    bytes: u64,
    #[serde(default)]
    present: u64,
    #[serde(default)]
    waiting: u64,
    #[serde(default)]
    failed: u64,
    #[serde(default)]
    damaged: u64,
    errors: Vec<String>,
}

async fn ask(platform: &Platform, method: http::Method, path: &str) -> Result<Answer, ClientError> {
    let socket = platform.installation.layout.status_socket("data");
    crate::client::ask(&socket, method, path).await
}

/// How it stands with every environment that is replicated.
pub(crate) async fn standings(platform: &Platform) -> Result<Vec<ReplicationStanding>, Fault> {
    let asked = tokio::time::timeout(PATIENCE, ask(platform, http::Method::GET, "/replication")).await;
    let silent = |_| {
        fault(format!(
            "the data role does not answer within {} s",
            PATIENCE.as_secs()
        ))
    };
    let answer = asked.map_err(silent)?.map_err(|error| Fault::of(PART, &error))?;
    said(&answer)
}

/// As [`standings`], with what the manifests say where the data role says nothing.
pub(crate) async fn reported(platform: &Platform) -> Result<Vec<ReplicationStanding>, PlatformError> {
    let (mut all, silent) = match standings(platform).await {
        Ok(all) => (all, "the data role does not replicate it yet".to_owned()),
        Err(fault) => (vec![], fault.message),
    };
    for (environment, (_, application)) in platform.live()? {
        let config = &application.config;
        let Some(url) = &config.storage.replication_url else {
            continue;
        };
        let told = all.iter().any(|standing| standing.environment == environment);
        if told || !config.environments.replicates(environment) {
            continue;
        }
        all.push(ReplicationStanding {
            environment,
            destination: url.clone(),
            waiting: 0,
            lag_ms: 0,
            error: Some(silent.clone()),
            objects: 0,
            bytes: 0,
            last_ms: None,
        });
    }
    Ok(all)
}

fn said<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Fault> {
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status != 200 {
        return Err(fault(
            told["message"]
                .as_str()
                .unwrap_or("the data role refused")
                .to_owned(),
        ));
    }
    serde_json::from_value(told).map_err(|error| Fault::of(PART, &error))
}

fn fault(message: String) -> Fault {
    Fault {
        part: PART.into(),
        message,
        log: vec![],
        hint: None,
    }
}

/// Most time that the oldest change may wait: what is lost with the machine is no older.
fn limit_ms(platform: &Platform, environment: Environment) -> u64 {
    let live = platform.live().unwrap_or_default();
    let seconds = live.get(&environment).map_or(120, |(_, application)| {
        application.config.recovery.recovery_point_s
    });
    u64::from(seconds) * 1_000
}

/// Whether a replica is further behind than the manifest allows.
pub(crate) fn is_behind(platform: &Platform, standing: &ReplicationStanding) -> bool {
    standing.lag_ms > limit_ms(platform, standing.environment)
}

/// Raises an alert while a replica is behind, or cannot be written to for as long. Runs as long as the daemon.
pub(crate) async fn keep(daemon: Arc<Daemon>) {
    // Since when it fails, and whether the alert is raised.
    let mut known: BTreeMap<Environment, (Option<u64>, bool)> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // While the data role is away nothing is known; that it is away is another alert's.
        let Ok(standings) = standings(&daemon.platform).await else {
            continue;
        };
        for standing in &standings {
            let (failing, raised) = known.entry(standing.environment).or_insert((None, false));
            let now = now_ms();
            *failing = standing.error.as_ref().map(|_| failing.unwrap_or(now));
            let fails =
                failing.is_some_and(|since| now - since > limit_ms(&daemon.platform, standing.environment));
            let behind = is_behind(&daemon.platform, standing) || fails;
            let told = match (behind, *raised) {
                (true, false) => daemon
                    .raise_alert(
                        RULE,
                        Some(standing.environment),
                        Severity::High,
                        summary(standing),
                    )
                    .map(drop),
                // An alert of the daemon before this one may be open.
                (false, _) => daemon.lower_alert(RULE, Some(standing.environment)),
                (true, true) => Ok(()),
            };
            match told {
                Ok(()) => *raised = behind,
                Err(error) => tracing::error!(error = chain(&error), "an alert about replication"),
            }
        }
        let gone: Vec<Environment> = known
            .keys()
            .filter(|known| standings.iter().all(|standing| standing.environment != **known))
            .copied()
            .collect();
        for environment in gone {
            match daemon.lower_alert(RULE, Some(environment)) {
                Ok(()) => drop(known.remove(&environment)),
                Err(error) => tracing::error!(error = chain(&error), "an alert about replication"),
            }
        }
    }
}

fn summary(standing: &ReplicationStanding) -> String {
    let why = standing
        .error
        .as_deref()
        .unwrap_or("more is written than can be sent");
    format!(
        "storage replication of {} is behind: {} objects wait, the oldest for {} s: {why}",
        standing.environment,
        standing.waiting,
        standing.lag_ms / 1_000
    )
}

/// Brings back what is missing here; returns what was done, in words. Nothing that is here and newer is touched.
pub(crate) async fn restore(
    platform: &Platform,
    request: &RecoverStorageRequest,
    actor: &str,
    events: &mpsc::Sender<Progress>,
) -> Result<String, Fault> {
    let subject = request.environment.to_string();
    let path = path(request)?;
    if request.dry_run {
        let (objects, bytes, _) = told(&asked(platform, &path).await?, events, "").await?;
        return Ok(format!("would bring back {objects} objects with {bytes} bytes"));
    }
    let journal = |error: &dyn std::error::Error| Fault::of(PART, error);
    let detail = json!({ "bucket": request.bucket });
    platform
        .audit(actor, KIND, &subject, &detail)
        .map_err(|error| journal(&error))?;
    let step = StepDescription {
        name: format!("objects {subject}"),
        detail,
    };
    let operation = platform
        .begin(KIND, &subject, &[step])
        .map_err(|error| journal(&error))?;
    platform.intent(operation, 0).map_err(|error| journal(&error))?;
    let done = match asked(platform, &path).await {
        Ok(buckets) => told(&buckets, events, "came back").await,
        Err(fault) => Err(fault),
    };
    let outcome = match &done {
        Ok(_) => Outcome::Done,
        Err(fault) => Outcome::Failed {
            error: fault.message.clone(),
        },
    };
    let recorded = platform.result(operation, 0, &outcome, &json!(null));
    platform.end(operation, &outcome);
    let (objects, bytes, present) = done?;
    recorded.map_err(|error| journal(&error))?;
    Ok(format!(
        "{objects} objects with {bytes} bytes came back, {present} were here"
    ))
}

fn path(request: &RecoverStorageRequest) -> Result<String, Fault> {
    let mut path = format!("/replication/restore?environment={}", request.environment);
    if let Some(bucket) = &request.bucket {
        if !bucket
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        {
            return Err(fault(format!("`{bucket}` is no name of a bucket")));
        }
        path.push_str(&format!("&bucket={bucket}"));
    }
    if request.dry_run {
        path.push_str("&dry_run=1");
    }
    Ok(path)
}

async fn asked(platform: &Platform, path: &str) -> Result<BTreeMap<String, Bucket>, Fault> {
    let answer = ask(platform, http::Method::POST, path)
        .await
        .map_err(|error| Fault::of(PART, &error))?;
    said(&answer)
}

/// Tells of each bucket; what failed in any of them is the answer.
async fn told(
    buckets: &BTreeMap<String, Bucket>,
    events: &mpsc::Sender<Progress>,
    what: &str,
) -> Result<(u64, u64, u64), Fault> {
    let mut sum = (0, 0, 0);
    let mut errors = Vec::new();
    for (name, bucket) in buckets {
        sum = (
            sum.0 + bucket.objects,
            sum.1 + bucket.bytes,
            sum.2 + bucket.present,
        );
        errors.extend(bucket.errors.iter().map(|error| format!("{name}: {error}")));
        if what.is_empty() {
            continue;
        }
        let detail = format!("{} objects with {} bytes {what}", bucket.objects, bucket.bytes);
        end(events, format!("bucket {name}"), detail, Duration::ZERO).await;
    }
    let failed: u64 = buckets.values().map(|bucket| bucket.failed).sum();
    match failed {
        0 => Ok(sum),
        failed => Err(Fault {
            part: PART.into(),
            message: format!("{failed} objects could not be brought back"),
            log: errors,
            hint: Some(
                "the others are back; the same command again tries these alone. Where a copy is lost for good, delete the \
                 description that is named there, and run it again: replication goes on after"
                    .into(),
            ),
        }),
    }
}

async fn end(events: &mpsc::Sender<Progress>, part: String, detail: String, took: Duration) {
    let end = Progress::End {
        part,
        detail,
        elapsed_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    };
    events.send(end).await.ok();
}

/// Reads the replicas back, a sample or all of them, and compares them with the buckets; returns how many buckets.
pub(crate) async fn verify(
    platform: &Platform,
    full: bool,
    events: &mpsc::Sender<Progress>,
) -> Result<usize, Fault> {
    let mut verified = 0;
    for standing in standings(platform).await? {
        let began = Instant::now();
        let mut path = format!("/replication/verify?environment={}", standing.environment);
        if !full {
            path.push_str(&format!("&most={SAMPLE}"));
        }
        let buckets = asked(platform, &path).await?;
        for (name, bucket) in buckets {
            let part = format!("replica {name}");
            if bucket.damaged > 0 {
                return Err(Fault {
                    part,
                    message: format!(
                        "{} objects at {} are missing or were changed",
                        bucket.damaged, standing.destination
                    ),
                    log: bucket.errors,
                    hint: Some("they are sent anew; verify again, and look who can write there".into()),
                });
            }
            verified += 1;
            let detail = format!(
                "{} objects with {} bytes are as they are here, {} wait",
                bucket.objects, bucket.bytes, bucket.waiting
            );
            end(events, part, detail, began.elapsed()).await;
        }
    }
    Ok(verified)
}
