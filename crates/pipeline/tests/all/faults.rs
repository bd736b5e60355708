//! What goes wrong, and what is left of it: nothing.

use crate::support::{Fixture, helper, job};
use astraler_pipeline::{Conclusion, PipelineError};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_action_is_refused_by_name_before_anything_runs() {
    let ci = r#"on: push
jobs:
  job:
    runs-on: x
    steps:
      - run: touch /tmp/ran
      - uses: evil/action@v1
      - uses: ./missing
  boxed:
    runs-on: x
    container: node:24
    services: { db: { image: postgres } }
    steps: [{ run: "true" }]
"#;
    let fixture = Fixture::new(ci, &[]);
    let PipelineError::Workflows(problems) = fixture.refused().await else {
        panic!("it is the workflow that is wrong");
    };
    let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let has = |wanted: &str| {
        assert!(
            text.iter().any(|line| line.contains(wanted)),
            "{wanted}: {text:?}"
        );
    };
    has(".github/workflows/ci.yml (Line: 7, Col: 15): the action `evil/action@v1` is not supported");
    has("there is no action.yml in `./missing`");
    has("container");
    has("services");
    assert!(problems.iter().all(|problem| problem.hint.is_some()));
    assert!(!fixture.spec.folders.work.exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_is_wrong_says_where() {
    let fixture = Fixture::new(
        "on: push\njobs:\n  a:\n    needs: b\n    runs-on: x\n    steps: []\n  b:\n    needs: a\n    runs-on: x\n    steps: []\n",
        &[],
    );
    let PipelineError::Workflows(problems) = fixture.refused().await else {
        panic!("it is the workflow that is wrong");
    };
    assert!(
        problems[0].hint.as_ref().unwrap().contains("need each other"),
        "{problems:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_loops_for_ever_is_ended_though_it_ignores_signals() {
    let steps = "
      - timeout-minutes: 0.02
        run: |
          trap '' INT TERM
          while true; do sleep 0.1; done
      - if: always()
        run: echo after
";
    let begun = Instant::now();
    let ran = Fixture::new(&job(steps), &[]).run().await;
    assert_eq!(ran.job("job"), Conclusion::Failure);
    assert!(
        ran.lines("job").iter().any(|line| line.contains("timed out")),
        "{}",
        ran.all()
    );
    assert!(ran.output("job").contains(&"after"));
    assert!(begun.elapsed() < Duration::from_secs(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_its_time_and_no_more() {
    let ci = "on: push\njobs:\n  job:\n    runs-on: x\n    timeout-minutes: 0.02\n    steps: [{ run: sleep 60 }]\n";
    let ran = Fixture::new(ci, &[]).run().await;
    assert_eq!(ran.job("job"), Conclusion::Failure);
    assert!(
        ran.lines("job")
            .iter()
            .any(|line| line.contains("used up its time")),
        "{}",
        ran.all()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_a_step_forks_ends_with_it() {
    let marker = format!("{}.5", 40_000 + std::process::id() % 10_000);
    let steps = format!(
        "
      - run: |
          setsid nohup sleep {marker} > /dev/null 2>&1 &
          (setsid sleep {marker} &)
          sleep 0.2
          ps -ef 2>/dev/null | grep -c '[s]leep {marker}' || true
          echo forked
      - run: echo next
"
    );
    let ran = Fixture::new(&job(&steps), &[]).run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    assert!(ran.output("job").contains(&"forked"));
    assert_eq!(sleepers(&marker), 0, "a daemon outlived its step");
}

fn sleepers(marker: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(marker)
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fills_the_disk_is_stopped_with_a_reason() {
    let steps = "
      - run: |
          for i in $(seq 1 1000); do head -c 4000000 /dev/zero > file$i || exit 9; sleep 0.01; done
";
    let mut fixture = Fixture::new(&job(steps), &[]);
    fixture.spec.limits.disk_bytes = 64 << 20;
    let ran = fixture.run().await;
    assert_eq!(ran.job("job"), Conclusion::Failure);
    assert!(
        ran.lines("job")
            .iter()
            .any(|line| line.contains("more than 64 MiB of disk")),
        "{}",
        ran.all()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_for_commands_that_are_links_are_not_followed() {
    let steps = "
      - id: s
        run: |
          rm \"$GITHUB_OUTPUT\" && ln -s /etc/shadow \"$GITHUB_OUTPUT\"
";
    let ran = Fixture::new(&job(steps), &[]).run().await;
    assert_eq!(ran.job("job"), Conclusion::Failure);
    assert!(!ran.all().contains("root:"), "{}", ran.all());
}

/// Root's processes have no bound: the runner is another user then, as in the product.
#[test]
fn a_step_that_forks_without_end_fails_and_leaves_nothing() {
    let marker = format!("{}.75", 60_000 + std::process::id() % 10_000);
    let steps = format!(
        "
      - shell: sh -e {{0}}
        run: |
          cat /proc/self/oom_score_adj
          while true; do sleep {marker} & done
      - if: always()
        run: echo the next one has all of them again; (true | true | true)
"
    );
    let mut fixture = Fixture::new(&job(&steps), &[]);
    fixture.spec.limits.processes = 100;
    let folder = fixture.folder.path().to_owned();
    let own = |name: &str| {
        let copy = folder.join(name);
        std::fs::copy(helper().with_file_name(name), &copy).unwrap();
        copy
    };
    let (init, runner) = (own("sandbox-init"), own("run-spec"));
    fixture.spec.tools.helper = vec![init.display().to_string()];
    let file = folder.join("spec.json");
    std::fs::write(&file, serde_json::to_vec(&fixture.spec).unwrap()).unwrap();
    let mut command = std::process::Command::new(runner);
    command.arg(&file);
    if nix::unistd::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        let nobody = 65_534;
        give(&folder, nobody);
        command.uid(nobody).gid(nobody);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for words in [
        "1000",
        "Cannot fork",
        "the next one has all of them again",
        "\"conclusion\":\"failure\"",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert_eq!(sleepers(&marker), 0, "a process outlived its step");
}

fn give(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid);
        }
    }
}

/// A run in a process of its own, so that it can be killed.
#[test]
fn killed_in_the_middle_of_a_step_nothing_is_left() {
    let marker = format!("{}.25", 50_000 + std::process::id() % 10_000);
    let fixture = Fixture::new(&job(&format!("      - run: sleep {marker}\n")), &[]);
    let file = fixture.folder.path().join("spec.json");
    std::fs::write(&file, serde_json::to_vec(&fixture.spec).unwrap()).unwrap();
    let runner = helper().with_file_name("run-spec");
    let mut child = std::process::Command::new(runner)
        .arg(&file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the step begins", || sleepers(&marker) > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the step ends with its runner", || sleepers(&marker) == 0);
    assert!(
        fixture.spec.folders.work.join("r1").exists(),
        "killed, it could not clear away"
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut next = Fixture::new(&job("      - run: 'true'\n"), &[]);
    next.spec.folders = fixture.spec.folders.clone();
    next.spec.id = "r2".into();
    let ran = runtime.block_on(next.run());
    assert_eq!(ran.report.conclusion, Conclusion::Success);
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
