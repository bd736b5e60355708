//! `astraler pipeline run`.

use crate::support::PROGRAM;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const CI: &str = r#"on: push
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: test ! -e ignored && cat kept.txt
  test:
    runs-on: ubuntu-latest
    steps:
      - run: mkdir coverage && printf 'SF:a\nLF:10\nLH:8\n' > coverage/lcov.info
      - uses: codecov/codecov-action@v5
  deploy:
    needs: [lint, test]
    runs-on: ubuntu-latest
    environment: production
    steps: [{ run: astraler deploy }]
"#;

/// An application in a folder that any user may enter.
fn application(manifest: &str, ci: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("astraler.toml", manifest),
        (".github/workflows/ci.yml", ci),
        (".gitignore", "ignored\n.astraler\n"),
        ("ignored", "x"),
        ("kept.txt", "kept\n"),
    ] {
        let path = folder.path().join("app").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    folder
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["pipeline", "run"])
        .args(arguments)
        .arg("--dir")
        .arg(folder.join("app"))
        .arg("--state")
        .arg(folder.join("state"))
        .stdin(Stdio::null());
    command
}

fn report(folder: &Path, arguments: &[&str]) -> (i32, Value, String) {
    let output = command(folder, arguments).arg("--json").output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = out.lines().last().unwrap_or_else(|| panic!("{err}"));
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["type"], "run_ended", "{out}\n{err}");
    (output.status.code().unwrap_or(-1), last["report"].clone(), out)
}

fn gate<'a>(report: &'a Value, name: &str) -> &'a str {
    let gates = report["gates"].as_array().unwrap();
    let found = gates.iter().find(|gate| gate["name"] == name).unwrap();
    found["state"].as_str().unwrap()
}

#[test]
fn the_working_folder_runs_as_it_is_and_nothing_is_deployed() {
    let folder = application("name = \"board\"\ndomain = \"board.example\"\n", CI);
    let output = command(folder.path(), &[]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for wanted in ["left out: deploy", "lint |   kept", "80.0 % of lines", "success"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let (code, report, _) = report(folder.path(), &["lint"]);
    assert_eq!((code, report["jobs"].as_array().unwrap().len()), (0, 1));
}

#[test]
fn what_is_wrong_has_its_exit_code() {
    let manifest = "name = \"board\"\ndomain = \"board.example\"\n";
    let failing = "on: push\njobs:\n  job: { runs-on: x, steps: [{ run: exit 3 }] }\n";
    let folder = application(manifest, failing);
    assert_eq!(report(folder.path(), &[]).0, 1);
    let folder = application(
        manifest,
        "on: push\njobs:\n  job: { runs-on: x, steps: [{ uses: a/b@v1 }] }\n",
    );
    let output = command(folder.path(), &[]).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(
        err.contains("`a/b@v1` is not supported") && err.contains("ci.yml"),
        "{err}"
    );
}

#[test]
fn an_interrupt_cleans_up_and_is_code_130() {
    let ci = "on: push\njobs:\n  job:\n    runs-on: x\n    steps:\n      - run: echo begun; sleep 60\n      - { if: always(), run: echo cleaned }\n";
    let folder = application("name = \"board\"\ndomain = \"board.example\"\n", ci);
    let mut child = command(folder.path(), &[])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.ends_with("|   begun") {
            let status = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .status()
                .unwrap();
            assert!(status.success());
        }
        text.push_str(&line);
        text.push('\n');
    }
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.contains("|   cleaned"), "{text}");
    let left = std::fs::read_dir(folder.path().join("state/pipeline/work"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "the run's folder is gone");
}

#[test]
fn the_manifest_says_what_jobs_may_and_must() {
    let ci = r#"on: push
jobs:
  style: { runs-on: x, steps: [{ run: "true" }] }
  test:
    runs-on: x
    steps:
      - run: mkdir coverage && printf 'SF:a\nLF:10\nLH:8\n' > coverage/lcov.info
      - uses: codecov/codecov-action@v5
      - run: curl -s --max-time 10 https://registry.npmjs.org/ || true
      - run: curl -s --max-time 10 https://nowhere.invalid/ || true
  slow: { runs-on: x, steps: [{ run: sleep 300 }] }
"#;
    let manifest = "name = \"board\"\ndomain = \"board.example\"\n[pipeline]\ngates = [\"style\"]\ncoverage_percent = 90\nregistries = [\"nowhere.invalid\"]\njob_timeout_minutes = 1\n";
    let folder = application(manifest, ci);
    let (code, report, out) = report(folder.path(), &[]);
    assert_eq!(code, 1, "{out}");
    assert_eq!(gate(&report, "style"), "passed");
    assert_eq!(gate(&report, "coverage"), "failed");
    assert_eq!(report["gates"].as_array().unwrap().len(), 2);
    assert!(out.contains("registry.npmjs.org:443 was refused"), "{out}");
    assert!(!out.contains("nowhere.invalid:443 was refused"), "{out}");
    let jobs = report["jobs"].as_array().unwrap();
    let slow = jobs.iter().find(|job| job["id"] == "slow").unwrap();
    assert_eq!(slow["conclusion"], "failure");
    assert!(slow["duration_ms"].as_u64().unwrap() < 120_000, "{slow}");
}

#[test]
fn secrets_variables_and_inputs_reach_the_jobs_and_secrets_no_log() {
    let folder = application(
        "name = \"board\"\ndomain = \"board.example\"\n",
        "on:\n  workflow_dispatch:\n    inputs:\n      count: { type: number, default: 2 }\n      level: { type: string, required: true }\n\
         jobs:\n  job:\n    runs-on: x\n    steps:\n      - env: { TOKEN: \"${{ secrets.TOKEN }}\", FILED: \"${{ secrets.FILED }}\" }\n        \
         run: |\n          test \"$TOKEN\" = hunter2hunter2 && test \"$FILED\" = fromafile1\n          echo \"it is $TOKEN and $FILED\"\n          \
         echo \"${{ vars.PLACE }} ${{ inputs.level }} ${{ inputs.count > 1 }}\"\n",
    );
    let file = folder.path().join("secrets");
    std::fs::File::create(&file)
        .unwrap()
        .write_all(b"FILED='fromafile1'\n")
        .unwrap();
    let run = |arguments: &[&str]| {
        let mut words = vec!["--event", "workflow_dispatch"];
        words.extend(arguments);
        let output = command(folder.path(), &words)
            .env("TOKEN", "hunter2hunter2")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let given = [
        "--secret",
        "TOKEN",
        "--secret-file",
        file.to_str().unwrap(),
        "--var",
        "PLACE=here",
    ];
    let (code, text) = run(&[&given[..], &["--input", "level=high"]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("it is *** and ***") && text.contains("here high true"),
        "{text}"
    );
    assert!(!text.contains("hunter2") && !text.contains("fromafile"), "{text}");
    let (code, text) = run(&given);
    assert!(code == Some(1) && text.contains("`level` is required"), "{text}");
    let (code, text) = run(&["--secret", "NO_SUCH"]);
    assert!(code == Some(1) && text.contains("no variable NO_SUCH"), "{text}");
}
