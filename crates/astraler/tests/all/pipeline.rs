//! `astraler pipeline eval` and `astraler pipeline check`.

use crate::support::PROGRAM;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(PROGRAM)
        .arg("pipeline")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

#[test]
fn eval_gives_the_kind_and_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let contexts =
        json!({ "github": { "ref": "refs/heads/main", "labels": [{ "name": "a" }, { "name": "b" }] } });
    write(folder.path(), "contexts.json", &contexts.to_string());
    let cases = [
        ("1 < 2 && 'yes'", json!({ "kind": "String", "value": "yes" })),
        (
            "github.labels.*.name",
            json!({ "kind": "Array", "value": ["a", "b"] }),
        ),
        (
            "GITHUB.Ref == 'REFS/heads/MAIN'",
            json!({ "kind": "Boolean", "value": true }),
        ),
        ("-1.5", json!({ "kind": "Number", "value": -1.5 })),
        ("Infinity", json!({ "kind": "Number", "value": "Infinity" })),
        ("github.nothing", json!({ "kind": "Null", "value": null })),
        (
            "fromJSON('{\"a\":[1]}')",
            json!({ "kind": "Object", "value": { "a": [1] } }),
        ),
    ];
    for (expression, expected) in cases {
        let arguments = ["eval", "--contexts", "contexts.json", "--json", "--", expression];
        let (code, out, err) = run(folder.path(), &arguments);
        assert_eq!(code, 0, "{expression}: {err}");
        assert_eq!(
            serde_json::from_str::<Value>(&out).unwrap(),
            expected,
            "{expression}"
        );
    }
    let (code, out, _) = run(folder.path(), &["eval", "--", "format('{0}-{1}', 1, true)"]);
    assert_eq!((code, out.as_str()), (0, "1-true\n"));
}

#[test]
fn eval_says_of_which_kind_an_error_is() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "'a",
            "lexing",
            "Unexpected symbol: ''a'. Located at position 1 within expression: 'a",
        ),
        (
            "env.X",
            "parsing",
            "Unrecognized named-value: 'env'. Located at position 1 within expression: env.X",
        ),
        (
            "format('{0}')",
            "evaluation",
            "The following format string references more arguments than were supplied: {0}",
        ),
    ];
    for (expression, kind, message) in cases {
        let (code, out, err) = run(folder.path(), &["eval", "--json", "--", expression]);
        assert_eq!(code, 1);
        assert_eq!(err, "", "JSON says it");
        let expected = json!({ "error": { "kind": kind, "message": message } });
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);
        let (code, out, err) = run(folder.path(), &["eval", "--", expression]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains(message), "{err}");
    }
    let (code, _, err) = run(folder.path(), &["eval", "--contexts", "none.json", "--", "1"]);
    assert_eq!(code, 1);
    assert!(err.contains("none.json"), "{err}");
}

#[test]
fn check_says_all_that_is_wrong_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("shop");
    std::fs::create_dir_all(&dir).unwrap();
    let init = Command::new(PROGRAM)
        .arg("init")
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    let (code, out, err) = run(&dir, &["check"]);
    assert_eq!(code, 0, "the workflow of `init` is valid: {err}");
    assert!(out.starts_with("1 workflow with "), "{out}");

    write(
        &dir,
        ".github/workflows/bad.yml",
        "on: push\njobs:\n  a:\n    needs: b\n    runs-on: ubuntu-latest\n    container: node:20\n    steps:\n      - \
         run: echo ${{ secret.X }}\n      - uses: docker://alpine\n  b:\n    runs-on: ubuntu-latest\n    stepz: []\n",
    );
    write(
        &dir,
        ".github/workflows/refused.yml",
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    container: node:20\n    steps:\n      - uses: \
         docker://alpine\n      - uses: ./actions/none\n      - uses: ./actions/box\n  c:\n    uses: \
         ./.github/workflows/called.yml\n    with: { n: x }\n",
    );
    write(
        &dir,
        ".github/workflows/called.yml",
        "on:\n  workflow_call:\n    inputs:\n      n: { type: number }\njobs:\n  x:\n    runs-on: ubuntu-latest\n    \
         steps: [{ run: 'true' }]\n",
    );
    write(
        &dir,
        "actions/box/action.yml",
        "name: box\nruns: { using: docker, image: Dockerfile }\n",
    );
    let (code, out, _) = run(&dir, &["check", "--json"]);
    assert_eq!(code, 3);
    let errors: Value = serde_json::from_str(&out).unwrap();
    let found: Vec<String> = errors["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            let file = text("file").replace(".github/workflows/", "");
            format!("{file}:{}:{} {}", error["line"], error["column"], text("message"))
        })
        .collect();
    assert_eq!(
        found,
        [
            "bad.yml:8:14 Unrecognized named-value: 'secret'. Located at position 1 within expression: secret.X",
            "bad.yml:12:5 Unexpected value 'stepz'",
            "refused.yml:12:16 Unexpected value 'x'",
        ]
    );
    write(
        &dir,
        ".github/workflows/called.yml",
        "on:\n  workflow_call:\n    inputs:\n      n: { type: string }\njobs:\n  x:\n    runs-on: ubuntu-latest\n    \
         steps: [{ run: 'true' }]\n",
    );
    let file = ".github/workflows/refused.yml";
    let (code, _, err) = run(&dir, &["check", file]);
    assert_eq!(code, 3);
    for words in [
        "`container` of the job `a` is not supported",
        "`docker://alpine` runs in a container",
        "there is no action.yml in `./actions/none`",
        "runs in the container `Dockerfile`",
        "refused.yml:5:16",
        "docker://alpine\n",
        "4 errors",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
}
