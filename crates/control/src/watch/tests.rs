//! The watch on a daemon whose units and whose signal role are simulated; the store is real.

use super::*;
use crate::words::Origin;
use astraler_alert::State;
use astraler_host::sim::{SimClock, SimFaults, SimSupervisor};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const PRODUCTION: Environment = Environment::Production;

fn application(release: &str) -> Application {
    Application {
        config: serde_json::from_value(json!({ "name": "sim", "domain": "sim.example" })).unwrap(),
        release: release.into(),
        workers: vec![],
        assets: None,
        migrations: None,
        mask: None,
    }
}

fn deploy(platform: &Platform, release: &str, origin: &Origin, actor: &str) -> Deployment {
    let new = platform.new_deployment(PRODUCTION, &application(release), actor, origin);
    let new = new.unwrap();
    platform.start_deployment(&new).unwrap();
    platform.switch_live(&new).unwrap();
    platform.deployment(new.id).unwrap()
}

fn daemon(folder: &std::path::Path) -> Arc<Daemon> {
    let supervisor = SimSupervisor::new(7, SimFaults::NONE, SimClock::automatic(1_000));
    Arc::new(Daemon::new(Platform::simulated(folder, Arc::new(supervisor))))
}

fn firing(daemon: &Daemon) -> Vec<(String, String)> {
    let open = daemon.open_alerts().unwrap().into_iter();
    open.filter(|alert| alert.state == State::Firing)
        .map(|alert| (alert.key.rule, alert.summary))
        .collect()
}

#[test]
fn new_releases_of_production_are_watched_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let of = |action| Origin {
        action,
        ..Origin::default()
    };
    for (action, watched) in [
        (Action::Up, true),
        (Action::Deploy, true),
        (Action::Promote, true),
        (Action::Rollback, false),
        (Action::Apply, false),
    ] {
        let new = deploy(&daemon.platform, "sha256:a", &of(action), "ada");
        let until = watched_until_ms(PRODUCTION, &new, &application("sha256:a"));
        assert_eq!(
            until,
            watched.then(|| new.switched_ms.unwrap() + 600_000),
            "{action:?}"
        );
        assert_eq!(
            watched_until_ms(Environment::Staging, &new, &application("sha256:a")),
            None
        );
    }
}

/// Killed after the verdict, after the way back, after people were told: what is left to do is done, once.
#[tokio::test]
async fn from_any_prefix_the_next_look_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = daemon(folder.path());
    first.platform.want(PRODUCTION).unwrap();
    deploy(&first.platform, "sha256:good", &Origin::default(), "ada");
    let bad = deploy(&first.platform, "sha256:bad", &Origin::default(), "ada");
    condemn(&first.platform, &bad, "d-2 fails").unwrap();
    drop(first);

    // It still serves, and going back fails: there is no such release. People hear of it, once.
    let next = daemon(folder.path());
    let mut tries = Tries::new();
    look(&next, &mut tries).await.unwrap();
    let said = firing(&next);
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].0, "deployment d-2");
    assert!(
        said[0]
            .1
            .starts_with("production: d-2 fails; it cannot be rolled back"),
        "{said:?}"
    );
    look(&next, &mut tries).await.unwrap();
    assert_eq!(tries.values().map(|(count, _)| *count).collect::<Vec<_>>(), [1]);
    drop(next);

    // Somebody, or the daemon before it was killed, has gone back: that is no longer told anew, and not undone.
    let last = daemon(folder.path());
    let back = Origin {
        action: Action::Rollback,
        from: Some("d-2".into()),
        ..Origin::default()
    };
    let live = deploy(&last.platform, "sha256:good", &back, ACTOR);
    look(&last, &mut Tries::new()).await.unwrap();
    assert_eq!(firing(&last).len(), 1);
    let shown = words(&last.platform, &live, &application("sha256:good")).unwrap();
    assert_eq!(shown.as_deref(), Some("rolled back by itself: d-2 fails"));
    assert_eq!(
        last.platform.deployments(None, 10).unwrap().len(),
        3,
        "nothing was deployed"
    );
}

#[tokio::test]
async fn who_is_killed_between_the_way_back_and_its_alert_tells_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let platform = &daemon.platform;
    platform.want(PRODUCTION).unwrap();
    deploy(platform, "sha256:good", &Origin::default(), "ada");
    let bad = deploy(platform, "sha256:bad", &Origin::default(), "ada");
    condemn(platform, &bad, "d-2 fails").unwrap();
    let back = Origin {
        action: Action::Rollback,
        from: Some("d-2".into()),
        ..Origin::default()
    };
    deploy(platform, "sha256:good", &back, ACTOR);
    for _ in 0..2 {
        look(&daemon, &mut Tries::new()).await.unwrap();
        assert_eq!(
            firing(&daemon),
            [(
                "deployment d-2".to_owned(),
                "production: d-2 fails; rolled back: d-3 serves release good".to_owned()
            )]
        );
    }
    assert!(platform.store.deployments_bad().unwrap()[0].told);

    // The next one that somebody deploys ends it.
    deploy(platform, "sha256:better", &Origin::default(), "ada");
    look(&daemon, &mut Tries::new()).await.unwrap();
    daemon
        .raise_alert("a step", None, Severity::Low, "time passes".to_owned())
        .unwrap();
    assert_eq!(firing(&daemon).len(), 1, "that step alone");
}

/// By deployment: failed requests, of so many.
type Counted = &'static [(&'static str, u64, u64)];

/// A signal role that has counted so many failed requests of so many, by deployment.
fn signal(daemon: &Daemon, counts: Counted) -> tokio::task::JoinHandle<()> {
    let socket = daemon.platform.installation.layout.status_socket("signal");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&socket);
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut asked = String::new();
            while !asked.ends_with("\r\n\r\n") && stream.read_line(&mut asked).await.unwrap_or(0) > 0 {}
            let (_, errors, requests) = counts
                .iter()
                .find(|(deployment, ..)| {
                    asked.contains(&format!("deployment={deployment}&"))
                        || asked.contains(&format!("deployment={deployment} "))
                })
                .unwrap();
            let windows = [300, 3_600].map(|seconds| astraler_model::Window {
                seconds,
                requests: *requests,
                errors: *errors,
                ..astraler_model::Window::default()
            });
            let body = serde_json::to_string(&windows).unwrap();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).await.ok();
        }
    })
}

#[tokio::test]
async fn a_deployment_is_bad_when_it_fails_critically_and_the_one_before_did_not() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(folder.path());
    let platform = &daemon.platform;
    platform.want(PRODUCTION).unwrap();
    let first = deploy(platform, "sha256:good", &Origin::default(), "ada");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = deploy(platform, "sha256:other", &Origin::default(), "ada");
    assert_eq!(judge(platform, &second).await.unwrap(), None, "nobody measures");
    let cases: [(Counted, bool); 6] = [
        (&[("d-1", 0, 1_000), ("d-2", 10, 20)], true),
        (&[("d-1", 100, 1_000), ("d-2", 101, 1_000)], true),
        // Too few, or not critical, or no worse than before.
        (&[("d-1", 0, 1_000), ("d-2", 9, 9)], false),
        (&[("d-1", 0, 1_000), ("d-2", 100, 1_000)], false),
        (&[("d-1", 101, 1_000), ("d-2", 900, 1_000)], false),
        // Nobody asked the one before.
        (&[("d-1", 0, 0), ("d-2", 50, 100)], true),
    ];
    for (counts, bad) in cases {
        let role = signal(&daemon, counts);
        let why = judge(platform, &second).await.unwrap();
        assert_eq!(why.is_some(), bad, "{counts:?}: {why:?}");
        role.abort();
    }
    let role = signal(&daemon, &[("d-1", 50, 100), ("d-2", 10, 20)]);
    assert_eq!(
        judge(platform, &first).await.unwrap(),
        None,
        "there is none before it"
    );
    role.abort();
    let role = signal(&daemon, &[("d-1", 3, 1_000), ("d-2", 10, 20)]);
    let why = judge(platform, &second).await.unwrap();
    assert_eq!(
        why.as_deref(),
        Some(
            "d-2 (release other) answers 10 of 20 requests with a server error; d-1 before it answered 3 of 1000 so"
        )
    );
    role.abort();
}
