//! Jobs of a run on a daemon whose units are simulated; sockets, tokens and releases are real.

use super::{RunAccess, RunScope, open};
use crate::client::{AdminClient, ClientError};
use crate::daemon::Daemon;
use crate::platform::Platform;
use crate::words::{DeployRequest, Event, Origin, PromoteRequest};
use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
use astraler_model::Environment;
use astraler_pipeline::{ControlDeploys, DeployAccess, Deploys, JobNotice};
use astraler_release::{Input, Releases};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

const KEY: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

fn daemon(folder: &Path) -> Arc<Daemon> {
    let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
    let platform = Platform::simulated(folder, Arc::new(supervisor));
    Arc::new(Daemon::new(platform))
}

fn scope(number: u64, environment: Option<Environment>, tree: &str) -> RunScope {
    RunScope {
        number,
        environment,
        tree: tree.into(),
        commit: "c0ffee".into(),
        branch: Some("develop".into()),
        actor: "token anna".into(),
    }
}

fn notice(number: u64, environment: &str) -> JobNotice {
    JobNotice {
        number,
        key: "deploy".into(),
        environment: environment.into(),
    }
}

async fn begin(access: &RunAccess, notice: &JobNotice) -> Result<DeployAccess, String> {
    let begun = ControlDeploys::new(access.socket()).begins(notice).await;
    begun.map(Option::unwrap)
}

fn client(access: &DeployAccess) -> AdminClient {
    let token = std::fs::read_to_string(&access.token_file).unwrap();
    AdminClient::new(&access.socket).with_token(token)
}

/// The archive of a small release.
fn release(folder: &Path, application: &str) -> (String, Vec<u8>) {
    let releases = Releases::prepare(folder.join(application)).unwrap();
    let input = Input {
        application: application.into(),
        configuration: serde_json::json!({}),
        copies: vec![],
        workers: [].into(),
    };
    let digest = releases.build(&input).unwrap().digest;
    let mut archive = Vec::new();
    releases.export(&digest, &mut archive).unwrap();
    (digest, archive)
}

async fn upload(client: &AdminClient, archive: &[u8]) -> Result<String, ClientError> {
    let piece = Ok(Bytes::copy_from_slice(archive));
    let pieces = futures_util::stream::iter([piece]);
    client.upload(Some(KEY), pieces).await
}

fn status<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Refused { status, message }) => (status, message),
        other => panic!("{other:?}"),
    }
}

async fn deploy(client: &AdminClient, environment: &str) -> Result<Vec<Event>, ClientError> {
    let request = DeployRequest {
        environment: environment.into(),
        release: "sha256:0000".into(),
        origin: Origin::default(),
    };
    let mut events = Vec::new();
    client
        .deploy(&request, |event| {
            events.push(event);
            true
        })
        .await
        .map(|()| events)
}

fn actions(daemon: &Daemon) -> Vec<String> {
    let entries = daemon.platform.audit_list(100).unwrap();
    let shown = entries
        .iter()
        .map(|entry| format!("{}: {} {}", entry.actor, entry.action, entry.subject));
    shown.collect()
}

#[tokio::test]
async fn a_job_reaches_its_environment_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let access = open(&daemon, scope(12, Some(Environment::Staging), "tree")).unwrap();
    let job = begin(&access, &notice(0, "Staging")).await.unwrap();
    assert_eq!(job.url.as_deref(), Some("http://staging.localhost:3000"));
    assert_eq!(job.variables["ASTRALER_ENVIRONMENT"], "staging");
    assert_eq!(
        job.variables["ASTRALER_ENVIRONMENT_URL"],
        "http://staging.localhost:3000"
    );
    let client = client(&job);
    // It gets as far as the release, which is not there.
    let events = deploy(&client, "staging").await.unwrap();
    assert!(
        matches!(&events[..], [Event::Failed(fault)] if fault.part == "release"),
        "{events:?}"
    );
    for other in ["production", "development", "pr-7", "preview", "nowhere"] {
        let (status, message) = status(deploy(&client, other).await);
        assert_eq!(status, 403, "{message}");
        assert_eq!(message, format!("this job deploys to staging, not to {other}"));
    }
    let promote = PromoteRequest {
        from: Environment::Staging,
        to: Environment::Production,
        origin: Origin::default(),
    };
    assert_eq!(status(client.promote(&promote, |_| true).await).0, 403);
    assert_eq!(status(client.status().await).0, 404);
    assert_eq!(status(client.audit(1).await).0, 404);
    assert_eq!(status(client.session().await).0, 404);
    assert_eq!(status(client.releases().await).0, 405);
    assert_eq!(
        status(client.credential("staging", "redis_password").await).0,
        404
    );
    let heard = actions(&daemon);
    assert!(
        heard.contains(&"token anna: job token run 12 job deploy".to_owned()),
        "{heard:?}"
    );
    assert!(
        heard.contains(&"run 12 job deploy: refused deploy production".to_owned()),
        "{heard:?}"
    );
}

#[tokio::test]
async fn what_a_job_asks_for_is_for_its_runs_environment_to_allow() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let staging = open(&daemon, scope(1, Some(Environment::Staging), "tree")).unwrap();
    let refused = begin(&staging, &notice(0, "production")).await.unwrap_err();
    assert_eq!(refused, "runs of `develop` deploy to staging, not to production");
    let none = open(&daemon, scope(2, None, "tree")).unwrap();
    let refused = begin(&none, &notice(0, "staging")).await.unwrap_err();
    assert!(
        refused.starts_with("runs of `develop` deploy nowhere"),
        "{refused}"
    );
    let preview = open(&daemon, scope(3, Some(Environment::Preview(7)), "tree")).unwrap();
    let job = begin(&preview, &notice(0, "preview")).await.unwrap();
    assert_eq!(job.url.as_deref(), Some("http://pr-7.preview.localhost:3000"));
    let events = deploy(&client(&job), "preview").await.unwrap();
    assert!(matches!(&events[..], [Event::Failed(_)]), "{events:?}");
    let (_, message) = status(deploy(&client(&job), "pr-8").await);
    assert_eq!(message, "this job deploys to pr-7, not to pr-8");
    assert!(
        actions(&daemon).contains(&"run 1 job deploy: refused deploy production".to_owned()),
        "{:?}",
        actions(&daemon)
    );
}

#[tokio::test]
async fn a_socket_takes_its_own_token_and_a_token_opens_its_own_socket() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let access = open(&daemon, scope(1, Some(Environment::Staging), "tree")).unwrap();
    let one = begin(&access, &notice(0, "staging")).await.unwrap();
    let two = begin(&access, &notice(1, "staging")).await.unwrap();
    let anonymous = AdminClient::new(&one.socket);
    assert_eq!(status(deploy(&anonymous, "staging").await).0, 401);
    let crossed = DeployAccess {
        token_file: two.token_file.clone(),
        ..one.clone()
    };
    assert_eq!(status(deploy(&client(&crossed), "staging").await).0, 401);
    let token = std::fs::read_to_string(&one.token_file).unwrap();
    assert_eq!(
        daemon.platform.authenticate(&token).unwrap(),
        None,
        "it opens no other door"
    );
    // Nothing beside the socket is in the folder that the sandbox gets.
    let seen = std::fs::read_dir(one.socket.parent().unwrap()).unwrap().count();
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn a_release_is_found_by_the_jobs_of_its_tree_and_by_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let (digest, archive) = release(folder.path(), "board");
    let of = |number, tree: &str| open(&daemon, scope(number, Some(Environment::Staging), tree)).unwrap();
    let (first, same, other) = (of(1, "tree"), of(2, "tree"), of(3, "another"));
    let job = begin(&first, &notice(0, "staging")).await.unwrap();
    assert_eq!(client(&job).release_by_key(KEY).await.unwrap(), None);
    assert_eq!(upload(&client(&job), &archive).await.unwrap(), digest);
    let again = begin(&same, &notice(0, "staging")).await.unwrap();
    assert_eq!(
        client(&again).release_by_key(KEY).await.unwrap().as_deref(),
        Some(digest.as_str())
    );
    let elsewhere = begin(&other, &notice(0, "staging")).await.unwrap();
    assert_eq!(client(&elsewhere).release_by_key(KEY).await.unwrap(), None);
    let key = KEY.parse().unwrap();
    assert_eq!(
        daemon.platform.releases.find_by_key(&key).unwrap(),
        None,
        "the owner's builds do not take it for theirs"
    );
    let trees = daemon.platform.store.release_trees(&digest).unwrap();
    assert_eq!(trees, [("tree".to_owned(), 1)]);
}

#[tokio::test]
async fn what_a_job_has_outlives_the_daemon_and_ends_with_the_job_or_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let staging = || scope(1, Some(Environment::Staging), "tree");
    let access = open(&daemon, staging()).unwrap();
    let one = begin(&access, &notice(0, "staging")).await.unwrap();
    let two = begin(&access, &notice(1, "staging")).await.unwrap();
    assert_eq!(
        begin(&access, &notice(0, "staging")).await.unwrap(),
        one,
        "a runner that missed the answer asks again"
    );
    let stranger = JobNotice {
        key: "other".into(),
        ..notice(0, "staging")
    };
    begin(&access, &stranger).await.unwrap_err();
    // As a daemon that is killed and the next one.
    drop(access);
    let access = open(&daemon, staging()).unwrap();
    for job in [&one, &two] {
        assert_eq!(client(job).release_by_key(KEY).await.unwrap(), None);
    }
    let token = std::fs::read_to_string(&one.token_file).unwrap();
    let runner = ControlDeploys::new(access.socket());
    runner.ended(&notice(0, "staging")).await;
    assert!(!one.token_file.exists() && !one.socket.parent().unwrap().exists());
    let id = &token["ast_".len()..][..16];
    assert_eq!(daemon.platform.store.token(id).unwrap(), None);
    client(&two).release_by_key(KEY).await.unwrap();
    let token = std::fs::read_to_string(&two.token_file).unwrap();
    let sockets = daemon.platform.installation.layout.run_sockets(1);
    assert!(sockets.exists());
    access.close();
    assert!(!sockets.exists());
    let id = &token["ast_".len()..][..16];
    assert_eq!(daemon.platform.store.token(id).unwrap(), None);
}
