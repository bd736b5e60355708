//! What a job with `environment:` gets, and workflows that come after the others.

use crate::support::Fixture;
use astraler_pipeline::{Conclusion, DeployAccess, JobAnswer, JobRequest, WorkflowFile};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};

/// The other end of a run's control socket: staging is deployed to from here, and nothing else.
struct Control {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<JobRequest>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Control {
    fn start(folder: &Path, access: DeployAccess) -> Self {
        let socket = folder.join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(vec![]));
        let seen = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = String::new();
                BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
                let request: JobRequest = serde_json::from_str(&line).unwrap();
                let answer = match &request {
                    JobRequest::Begins(job) if job.environment == "staging" => {
                        JobAnswer::Access(access.clone())
                    }
                    JobRequest::Begins(job) => JobAnswer::Refused {
                        message: format!("runs of `develop` deploy to staging, not to {}", job.environment),
                    },
                    JobRequest::Ended { .. } => JobAnswer::Noted,
                };
                seen.lock().unwrap().push(request);
                let answer = serde_json::to_string(&answer).unwrap();
                stream.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
        });
        Self {
            socket,
            asked,
            serving,
        }
    }

    /// The keys of the jobs that were announced, and how many of them ended.
    fn told(&self) -> (Vec<String>, usize) {
        let asked = self.asked.lock().unwrap();
        let begun = asked.iter().filter_map(|request| match request {
            JobRequest::Begins(job) => Some(job.key.clone()),
            JobRequest::Ended { .. } => None,
        });
        let begun: Vec<String> = begun.collect();
        let ended = asked.len() - begun.len();
        (begun, ended)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A folder with a job's socket, and its token.
fn access(folder: &Path) -> DeployAccess {
    let own = folder.join("job");
    std::fs::create_dir(&own).unwrap();
    let token_file = folder.join("token");
    std::fs::File::create(&token_file)
        .unwrap()
        .write_all(b"job-token-of-staging\n")
        .unwrap();
    DeployAccess {
        socket: own.join("s.sock"),
        token_file,
        url: Some("http://staging.localhost:3000".into()),
        variables: [("ASTRALER_ENVIRONMENT".to_owned(), "staging".to_owned())].into(),
    }
}

/// Answers one request on a socket with a text; gives the request's head.
fn answer_once(socket: &Path, text: &'static str) -> std::thread::JoinHandle<String> {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut head = vec![0; 4096];
        let count = client.read(&mut head).unwrap();
        let length = text.len();
        write!(
            client,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        )
        .unwrap();
        String::from_utf8_lossy(&head[..count]).into_owned()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_an_environment_gets_its_socket_and_token_and_no_other_job_does() {
    let folder = tempfile::tempdir().unwrap();
    let access = access(folder.path());
    let serving = answer_once(&access.socket, "deployed\n");
    let edge = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = edge.local_addr().unwrap().port();
    let reached = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut client, _) = edge.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let _ = client.read(&mut head).await.unwrap();
            client
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\npage\n")
                .await
                .unwrap();
        }
    });
    let ci = format!(
        r#"
on: push
jobs:
  plain:
    runs-on: x
    steps:
      - run: |
          test ! -e /run/astraler/deploy && test -z "$ASTRALER_TOKEN_FILE" && test -z "${{{{ secrets.ASTRALER_TOKEN }}}}"
          ! curl -s --max-time 5 http://staging.localhost:{port}/
          ! curl -s --max-time 5 -x "$http_proxy" http://staging.board.example:{port}/ -f
  deploy:
    runs-on: x
    environment: {{ name: staging, url: "${{{{ steps.d.outputs.url }}}}" }}
    steps:
      - id: d
        env: {{ TOKEN: "${{{{ secrets.ASTRALER_TOKEN }}}}" }}
        run: |
          test "$TOKEN" = "$(cat "$ASTRALER_TOKEN_FILE")"
          test "$ASTRALER_ENVIRONMENT" = staging
          curl -sS --unix-socket "$ASTRALER_SOCKET" -H "Authorization: Bearer $TOKEN" http://astraler/v1/deploy
          echo "url=http://elsewhere.example" >> "$GITHUB_OUTPUT"
      - run: getent hosts staging.board.example | grep -q '^127.0.0.1 '
      - run: curl -sS http://staging.localhost:{port}/
      - run: curl -sS -x "$http_proxy" http://staging.board.example:{port}/
  seen:
    needs: deploy
    runs-on: x
    environment: staging
    steps: [{{ run: "true" }}]
  other:
    runs-on: x
    environment: production
    steps: [{{ run: echo it ran }}]
"#
    );
    let mut fixture = Fixture::new(&ci, &[]);
    fixture.spec.ports = vec![port];
    fixture.spec.hosts = vec!["staging.localhost".into(), "staging.board.example".into()];
    let control = Control::start(folder.path(), access);
    fixture.spec.control = Some(control.socket.clone());
    let ran = fixture.run().await;
    assert_eq!(ran.job("plain"), Conclusion::Success, "{}", ran.all());
    assert_eq!(ran.job("deploy"), Conclusion::Success, "{}", ran.all());
    assert!(serving.join().unwrap().contains("Bearer job-token-of-staging"));
    reached.await.unwrap();
    assert!(!ran.all().contains("job-token-of-staging"), "{}", ran.all());
    assert_eq!(ran.output("deploy"), ["deployed", "page", "page"]);
    let report = |id: &str| ran.report.jobs.iter().find(|job| job.id == id).unwrap();
    assert_eq!(report("deploy").environment.as_deref(), Some("staging"));
    assert_eq!(report("deploy").url.as_deref(), Some("http://elsewhere.example"));
    assert_eq!(
        report("seen").url.as_deref(),
        Some("http://staging.localhost:3000"),
        "where the workflow names none, the platform does"
    );
    assert_eq!(ran.job("other"), Conclusion::Failure);
    assert_eq!(
        ran.lines("other"),
        ["##[error]runs of `develop` deploy to staging, not to production"],
        "no step of it ran"
    );
    let (mut begun, ended) = control.told();
    begun.sort();
    assert_eq!(begun, ["deploy", "other", "seen"]);
    assert_eq!(ended, 3, "the end of each is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_made_anew_is_reached_from_a_step_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let access = access(folder.path());
    let socket = access.socket.clone();
    let first = answer_once(&socket, "first\n");
    let ci = r#"
on: push
jobs:
  deploy:
    runs-on: x
    environment: staging
    steps:
      - run: |
          curl -sS --unix-socket "$ASTRALER_SOCKET" http://astraler/
          echo again
          for _ in $(seq 100); do
            curl -s --unix-socket "$ASTRALER_SOCKET" http://astraler/ && exit 0
            sleep 0.1
          done
          exit 1
"#;
    let mut fixture = Fixture::new(ci, &[]);
    let control = Control::start(folder.path(), access);
    fixture.spec.control = Some(control.socket.clone());
    let running = fixture.run();
    let anew = tokio::task::spawn_blocking(move || {
        first.join().unwrap();
        // As a daemon that was killed leaves it, and as the next one takes it up.
        std::fs::remove_file(&socket).unwrap();
        answer_once(&socket, "second\n").join().unwrap();
    });
    let ran = running.await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    anew.await.unwrap();
    assert_eq!(ran.output("deploy"), ["first", "again", "second"]);
}

const LATE: &str = r#"
on: push
jobs:
  late:
    runs-on: x
    steps: [{ run: echo late }]
  later:
    needs: late
    runs-on: x
    steps: [{ run: echo later }]
"#;

/// A run of two workflows, the second one after the first.
async fn one_after(first: &str) -> crate::support::Ran {
    let ci = format!(
        "on: push\njobs:\n  early:\n    runs-on: x\n    steps: [{{ run: {first} }}]\n  skipped:\n    if: false\n    runs-on: x\n    steps: [{{ run: 'true' }}]\n"
    );
    let mut fixture = Fixture::new(&ci, &[]);
    // The order in which they are named does not count.
    fixture.spec.workflows.insert(
        0,
        WorkflowFile {
            path: "astraler/deploy.yml".into(),
            text: LATE.into(),
            after: true,
        },
    );
    fixture.run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_after_the_others_begins_when_all_of_them_have_ended_well() {
    let ran = one_after("'true'").await;
    let order: Vec<&str> = ran.report.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(order, ["skipped", "early", "late", "later"]);
    assert_eq!(ran.report.conclusion, Conclusion::Success);

    let ran = one_after("'false'").await;
    assert_eq!(ran.report.conclusion, Conclusion::Failure);
    for job in ["late", "later"] {
        assert_eq!(ran.job(job), Conclusion::Skipped);
    }
    assert!(ran.lines("late").is_empty());
}

#[tokio::test]
async fn a_name_that_is_more_than_a_name_is_refused() {
    let mut fixture = Fixture::new(LATE, &[]);
    fixture.spec.hosts = vec!["staging.localhost\n10.0.0.1 registry.npmjs.org".into()];
    let error = fixture.refused().await;
    assert!(format!("{error:?}").contains("Host"), "{error:?}");
}
