//! The actions that are built in, and those of the application.

use crate::support::{Fixture, job};
use astraler_pipeline::{Conclusion, GateState, RunEvent};

#[tokio::test(flavor = "multi_thread")]
async fn checkout_brings_the_commit_and_its_branch() {
    let steps = "
      - uses: actions/checkout@v4
        id: co
      - run: |
          cat hello.txt
          git status --short
          git rev-parse --abbrev-ref HEAD
          test \"$(git rev-parse HEAD)\" = \"$GITHUB_SHA\" && echo same commit
          echo \"${{ steps.co.outputs.ref }} ${{ hashFiles('**/*.txt') != '' }} ${{ hashFiles('none') == '' }}\"
      - uses: actions/checkout@v4
        with: { path: again, ref: '${{ github.sha }}', fetch-depth: 0 }
      - run: cat again/hello.txt
";
    let ran = Fixture::new(&job(steps), &[("hello.txt", "hello\n")]).run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    let output = ran.output("job");
    for line in ["hello", "main", "same commit", "refs/heads/main true true"] {
        assert!(output.contains(&line), "{line}: {output:?}");
    }
    assert_eq!(output.iter().filter(|line| **line == "hello").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_go_from_job_to_job() {
    let ci = r#"
on: push
jobs:
  make:
    runs-on: x
    steps:
      - run: |
          mkdir -p out/sub && echo one > out/a.txt && echo two > out/sub/b.txt && echo h > out/.hidden
          ln -s /etc/passwd out/link
      - uses: actions/upload-artifact@v4
        with: { name: built, path: out, if-no-files-found: error }
      - uses: actions/upload-artifact@v4
        with: { name: other, path: "out/*.txt\n!out/b*" }
      - uses: actions/upload-artifact@v4
        with: { name: none, path: nothing, if-no-files-found: ignore }
      - id: again
        continue-on-error: true
        uses: actions/upload-artifact@v4
        with: { name: built, path: out }
      - run: echo "again ${{ steps.again.outcome }}"
  use:
    needs: make
    runs-on: x
    steps:
      - uses: actions/download-artifact@v4
        with: { name: built, path: got }
      - uses: actions/download-artifact@v4
        with: { path: all }
      - run: find got all -type f | sort | xargs; cat got/sub/b.txt
      - id: missing
        continue-on-error: true
        uses: actions/download-artifact@v4
        with: { name: nobody }
      - run: echo "missing ${{ steps.missing.outcome }}"
      - run: ln -s / evil
      - id: escape
        continue-on-error: true
        uses: actions/download-artifact@v4
        with: { name: built, path: evil/tmp/escaped }
      - run: echo "escape ${{ steps.escape.outcome }}"
"#;
    let ran = Fixture::new(ci, &[]).run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    assert!(ran.output("make").contains(&"again failure"), "written once");
    let output = ran.output("use");
    for line in [
        "all/built/a.txt all/built/sub/b.txt all/other/a.txt got/a.txt got/sub/b.txt",
        "two",
        "missing failure",
        "escape failure",
    ] {
        assert!(output.contains(&line), "{line}: {output:?}");
    }
    assert_eq!(ran.report.artifacts, ["built", "other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_written_at_the_end_and_found_by_the_next_run() {
    let steps = r#"
      - uses: actions/cache@v4
        id: c
        with: { path: "~/.deps", key: "deps-${{ github.run_number }}", restore-keys: deps- }
      - run: echo "hit '${{ steps.c.outputs.cache-hit }}' $(cat ~/.deps/x 2>/dev/null)"; mkdir -p ~/.deps; echo kept > ~/.deps/x
"#;
    let mut fixture = Fixture::new(&job(steps), &[]);
    let first = fixture.run().await;
    assert!(first.output("job").contains(&"hit '' "), "{}", first.all());
    assert_eq!(
        first.report.jobs[0].steps.last().unwrap().name,
        "Post Run actions/cache@v4"
    );
    let second = fixture.run().await;
    assert!(
        second.output("job").contains(&"hit 'true' kept"),
        "{}",
        second.all()
    );
    fixture.spec.number = 8;
    let third = fixture.run().await;
    assert!(
        third.output("job").contains(&"hit 'false' kept"),
        "{}",
        third.all()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn composite_actions_have_inputs_outputs_and_steps_of_their_own() {
    let action = r#"
name: Greet
inputs:
  who: { default: "${{ github.actor }}" }
  greeting: { required: true }
outputs:
  said: { value: "${{ steps.say.outputs.said }}" }
runs:
  using: composite
  steps:
    - id: say
      shell: bash
      run: |
        echo "said=${{ inputs.greeting }} ${{ inputs.who }} $EXTRA" >> "$GITHUB_OUTPUT"
        echo "path $(basename "$GITHUB_ACTION_PATH")"
    - uses: ./.github/actions/inner
    - shell: bash
      if: inputs.who == 'fail'
      run: exit 1
    - shell: bash
      if: failure()
      run: echo composite cleans up
"#;
    let inner = "name: Inner\nruns:\n  using: composite\n  steps:\n    - { shell: sh, run: echo inner }\n";
    let steps = "
      - id: g
        uses: ./.github/actions/greet
        with: { greeting: hello }
        env: { EXTRA: more }
      - run: echo \"${{ steps.g.outputs.said }} ${{ steps.say.outputs.said == '' }}\"
      - uses: ./.github/actions/greet
        with: { greeting: hi, who: fail }
";
    let files = [
        (".github/actions/greet/action.yml", action),
        (".github/actions/inner/action.yaml", inner),
    ];
    let ran = Fixture::new(&job(steps), &files).run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Failure, "{}", ran.all());
    let output = ran.output("job");
    for line in [
        "path greet",
        "inner",
        "hello ada more true",
        "composite cleans up",
    ] {
        assert!(output.contains(&line), "{line}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_and_gates_end_in_a_table() {
    let ci = r#"
on: push
jobs:
  lint: { runs-on: x, steps: [{ run: "true" }] }
  test:
    runs-on: x
    needs: lint
    steps:
      - run: mkdir coverage; printf 'SF:a\nLF:10\nLH:6\n' > coverage/lcov.info
      - uses: codecov/codecov-action@v5
"#;
    let mut fixture = Fixture::new(ci, &[]);
    fixture.spec.gates = ["lint", "test", "e2e"].map(str::to_owned).to_vec();
    let ran = fixture.run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    let states: Vec<(&str, GateState)> = ran
        .report
        .gates
        .iter()
        .map(|gate| (gate.name.as_str(), gate.state))
        .collect();
    assert_eq!(
        states,
        [
            ("lint", GateState::Passed),
            ("test", GateState::Passed),
            ("e2e", GateState::Missing),
            ("coverage", GateState::Failed)
        ]
    );
    assert!(ran.report.gates_passed(), "coverage only warns");
    // A gate is told before the jobs that need its job begin: one of them may deploy.
    let place = |wanted: &dyn Fn(&RunEvent) -> bool| ran.events.iter().position(wanted).unwrap();
    let told = place(
        &|event| matches!(event, RunEvent::Gates { gates } if gates[0].name == "lint" && gates[0].state == GateState::Passed),
    );
    let next = place(&|event| matches!(event, RunEvent::JobStarted { job, .. } if job == "test"));
    assert!(told < next, "{:?}", ran.events);
    let table = astraler_pipeline::gates_table(&ran.report.gates).join("\n");
    assert!(table.contains("60.0 % of lines, wanted 70 %"), "{table}");
}
