//! What GitHub means: jobs, conditions, contexts, outputs.

use crate::support::{Fixture, job};
use astraler_pipeline::{Conclusion, RunEvent};

#[tokio::test(flavor = "multi_thread")]
async fn steps_hand_on_outputs_variables_and_paths() {
    let ci = r##"
name: CI
on: push
env: { LEVEL: workflow, TOP: "1" }
jobs:
  first:
    runs-on: ubuntu-latest
    env: { LEVEL: job }
    outputs:
      version: ${{ steps.make.outputs.version }}
      text: ${{ steps.make.outputs.text }}
    steps:
      - id: make
        env: { LEVEL: step }
        run: |
          echo "version=1.2.3" >> "$GITHUB_OUTPUT"
          printf 'text<<EOF\none\ntwo\nEOF\n' >> "$GITHUB_OUTPUT"
          echo "HANDED=on" >> "$GITHUB_ENV"
          mkdir -p "$RUNNER_TEMP/bin" && printf '#!/bin/sh\necho tool runs\n' > "$RUNNER_TEMP/bin/tool" && chmod +x "$RUNNER_TEMP/bin/tool"
          echo "$RUNNER_TEMP/bin" >> "$GITHUB_PATH"
          echo "# Summary" >> "$GITHUB_STEP_SUMMARY"
          echo "level $LEVEL $TOP"
      - run: |
          echo "level $LEVEL, handed ${{ env.HANDED }} $HANDED"
          tool
          echo "$GITHUB_REPOSITORY $GITHUB_REF_NAME $GITHUB_RUN_NUMBER $CI $GITHUB_JOB ${{ github.event.number }}"
          echo "::set-output name=old::way"
        id: second
      - run: echo "old ${{ steps.second.outputs.old }} ${{ steps.second.conclusion }}"
        shell: sh
      - shell: python
        run: |
          import os
          print("python", os.environ["GITHUB_WORKSPACE"])
  second:
    needs: first
    runs-on: ubuntu-latest
    steps:
      - run: echo "got ${{ needs.first.outputs.version }} ${{ needs.first.result }}"
      - run: test "$(printf 'one\ntwo')" = "$TEXT"
        env: { TEXT: "${{ needs.first.outputs.text }}" }
"##;
    let fixture = Fixture::new(ci, &[]);
    let ran = fixture.run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    assert_eq!(
        ran.output("first"),
        [
            "level step 1",
            "level job, handed on on",
            "tool runs",
            "team/board main 7 true first 3",
            "old way success",
            "python /runner/work/board/board",
        ]
    );
    assert_eq!(ran.output("second"), ["got 1.2.3 success"]);
    assert!(
        ran.events
            .iter()
            .any(|event| matches!(event, RunEvent::Summary { markdown, .. } if markdown == "# Summary\n"))
    );
    assert!(matches!(ran.events.last(), Some(RunEvent::RunEnded { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_conditions() {
    let ci = r#"
on: push
jobs:
  ok: { runs-on: x, steps: [{ run: "true" }] }
  bad: { runs-on: x, steps: [{ run: "false" }] }
  allowed: { runs-on: x, continue-on-error: true, steps: [{ run: "false" }] }
  skipped: { runs-on: x, if: false, steps: [{ run: "true" }] }
  after-ok: { needs: ok, runs-on: x, steps: [{ run: "true" }] }
  after-bad: { needs: bad, runs-on: x, steps: [{ run: "true" }] }
  after-allowed: { needs: allowed, runs-on: x, steps: [{ run: "true" }] }
  after-skipped: { needs: skipped, runs-on: x, steps: [{ run: "true" }] }
  failure-after-bad: { needs: [ok, bad], if: failure(), runs-on: x, steps: [{ run: "true" }] }
  failure-after-skipped: { needs: skipped, if: failure(), runs-on: x, steps: [{ run: "true" }] }
  always-after-skipped: { needs: skipped, if: always(), runs-on: x, steps: [{ run: "true" }] }
  not-cancelled-after-bad: { needs: bad, if: "!cancelled()", runs-on: x, steps: [{ run: "true" }] }
  not-status: { needs: bad, if: "1 == 1", runs-on: x, steps: [{ run: "true" }] }
  after-always: { needs: always-after-skipped, runs-on: x, steps: [{ run: "true" }] }
  result: { needs: bad, if: "always() && needs.bad.result == 'failure'", runs-on: x, steps: [{ run: "true" }] }
"#;
    let ran = Fixture::new(ci, &[]).run().await;
    use Conclusion::{Failure, Skipped, Success};
    for (job, expected) in [
        ("ok", Success),
        ("bad", Failure),
        ("allowed", Failure),
        ("skipped", Skipped),
        ("after-ok", Success),
        ("after-bad", Skipped),
        ("after-allowed", Success),
        ("after-skipped", Skipped),
        ("failure-after-bad", Success),
        ("failure-after-skipped", Skipped),
        ("always-after-skipped", Success),
        ("not-cancelled-after-bad", Success),
        ("not-status", Skipped),
        // success() looks at all that came before, not only at what is named.
        ("after-always", Skipped),
        ("result", Success),
    ] {
        assert_eq!(ran.job(job), expected, "{job}");
    }
    assert_eq!(ran.report.conclusion, Failure);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_go_on_or_not_after_a_failure() {
    let steps = r#"
      - id: soft
        run: exit 3
        continue-on-error: true
      - run: echo "soft ${{ steps.soft.outcome }} ${{ steps.soft.conclusion }}"
      - run: exit 1
      - run: echo unseen
      - if: failure()
        run: echo seen by failure
      - if: always()
        run: echo "always ${{ job.status }}"
      - if: success()
        run: echo unseen too
"#;
    let ran = Fixture::new(&job(steps), &[]).run().await;
    assert_eq!(ran.job("job"), Conclusion::Failure);
    let output = ran.output("job");
    for line in ["soft failure success", "seen by failure", "always failure"] {
        assert!(output.contains(&line), "{output:?}");
    }
    assert!(!output.iter().any(|line| line.contains("unseen")), "{output:?}");
    let steps: Vec<Conclusion> = ran.report.jobs[0]
        .steps
        .iter()
        .map(|step| step.conclusion)
        .collect();
    use Conclusion::{Failure, Skipped, Success};
    assert_eq!(
        steps,
        [Success, Success, Failure, Skipped, Success, Success, Skipped]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_matrix_becomes_jobs_and_one_failure_cancels_the_others() {
    let ci = r#"
on: push
jobs:
  build:
    runs-on: x
    strategy:
      max-parallel: 1
      matrix: { os: [a, b, c] }
    steps:
      - run: echo "os ${{ matrix.os }} ${{ strategy.job-index }}/${{ strategy.job-total }}"
      - run: test "${{ matrix.os }}" != b
  free:
    runs-on: x
    strategy:
      fail-fast: false
      matrix: { n: [1, 2], include: [{ n: 3, extra: yes }] }
    outputs: { last: "${{ matrix.extra }}" }
    steps: [{ run: "test ${{ matrix.n }} != 1" }]
  after: { needs: [free], if: always(), runs-on: x, steps: [{ run: "echo ${{ needs.free.result }}" }] }
"#;
    let ran = Fixture::new(ci, &[]).run().await;
    assert_eq!(ran.job("build (a)"), Conclusion::Success, "{}", ran.all());
    assert_eq!(ran.job("build (b)"), Conclusion::Failure);
    assert_eq!(ran.job("build (c)"), Conclusion::Cancelled);
    assert_eq!(ran.output("build (a)"), ["os a 0/3"]);
    assert_eq!(ran.job("free (1)"), Conclusion::Failure);
    assert_eq!(ran.job("free (2)"), Conclusion::Success);
    assert_eq!(ran.output("after"), ["failure"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_masked_and_do_not_leave_in_outputs() {
    let ci = r#"
on: push
jobs:
  job:
    runs-on: x
    outputs: { leak: "${{ steps.s.outputs.leak }}", fine: "${{ steps.s.outputs.fine }}" }
    steps:
      - id: s
        env: { TOKEN: "${{ secrets.TOKEN }}" }
        run: |
          echo "the token is $TOKEN and ${{ secrets.TOKEN }}"
          echo "$TOKEN" | base64
          printf '%s' "${TOKEN%-value}"; sleep 0.1; printf '%s\n' '-value'
          V=made-up; echo "::add-mask::$V-value"
          echo "$V-value"
          echo "leak=$TOKEN" >> "$GITHUB_OUTPUT"
          echo "fine=1" >> "$GITHUB_OUTPUT"
          echo "$TOKEN" >> "$GITHUB_STEP_SUMMARY"
          echo "::warning::$TOKEN"
"#;
    let mut fixture = Fixture::new(ci, &[]);
    fixture
        .spec
        .secrets
        .all
        .insert("TOKEN".into(), "a-s3cret-token-value".into());
    let ran = fixture.run().await;
    let all = ran.all();
    assert!(!all.contains("s3cret"), "{all}");
    assert!(!all.contains("made-up-value"), "{all}");
    assert!(!all.contains("YS1zM2NyZXQ"), "base64: {all}");
    assert_eq!(ran.report.jobs[0].outputs.keys().collect::<Vec<_>>(), ["fine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_a_run_still_cleans_up() {
    let steps = r#"
      - run: echo begun; sleep 60
      - run: echo unseen
      - if: cancelled()
        run: echo cleaning up
      - if: always()
        run: echo "always ${{ job.status }}"
"#;
    let fixture = Fixture::new(&job(steps), &[]);
    let cancel = tokio_util::sync::CancellationToken::new();
    let token = cancel.clone();
    let begun = std::time::Instant::now();
    let ran = fixture
        .run_with(cancel, move |event| {
            if matches!(event, RunEvent::Log { line, .. } if line == "begun") {
                token.cancel();
            }
        })
        .await
        .unwrap();
    assert!(
        begun.elapsed().as_secs() < 30,
        "the step did not end when it was asked to"
    );
    assert_eq!(ran.report.conclusion, Conclusion::Cancelled);
    let output = ran.output("job");
    assert!(
        output.contains(&"cleaning up") && output.contains(&"always cancelled"),
        "{output:?}"
    );
    assert!(!output.contains(&"unseen"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_jobs_that_are_asked_for_run_with_those_they_need() {
    let ci = r#"
on: push
jobs:
  a: { runs-on: x, steps: [{ run: "true" }] }
  b: { needs: a, runs-on: x, steps: [{ run: "true" }] }
  c: { runs-on: x, steps: [{ uses: "nobody/knows@v1" }] }
"#;
    let mut fixture = Fixture::new(ci, &[]);
    fixture.spec.jobs = vec!["B".into()];
    let ran = fixture.run().await;
    let keys: Vec<&str> = ran.report.jobs.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(keys, ["a", "b"]);
    fixture.spec.jobs = vec!["z".into()];
    assert!(fixture.refused().await.to_string().contains("there are: a, b, c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_calls_another_with_inputs_and_secrets() {
    let ci = r#"
on: push
jobs:
  call:
    uses: ./.github/workflows/inner.yml
    with: { who: world }
    secrets: { KEY: "${{ secrets.OUTER }}" }
  after:
    needs: call
    runs-on: x
    steps: [{ run: "echo ${{ needs.call.outputs.said }}" }]
"#;
    let inner = r#"
on:
  workflow_call:
    inputs: { who: { type: string, required: true }, times: { type: number, default: 2 } }
    secrets: { KEY: { required: true } }
    outputs: { said: { value: "${{ jobs.greet.outputs.said }}" } }
jobs:
  greet:
    runs-on: x
    outputs: { said: "${{ steps.s.outputs.said }}" }
    steps:
      - id: s
        run: |
          test "${{ secrets.KEY }}" = outer-secret-value
          echo "said=hello ${{ inputs.who }} ${{ inputs.times }}" >> "$GITHUB_OUTPUT"
"#;
    let mut fixture = Fixture::new(ci, &[(".github/workflows/inner.yml", inner)]);
    fixture
        .spec
        .secrets
        .all
        .insert("OUTER".into(), "outer-secret-value".into());
    let ran = fixture.run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    assert_eq!(ran.output("after"), ["hello world 2"]);
    assert_eq!(ran.job("call / greet"), Conclusion::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_one_group_do_not_run_at_once() {
    let one = |name: &str| {
        format!(
            "  {name}:\n    runs-on: x\n    concurrency: {{ group: same, queue: max }}\n    steps: [{{ run: 'echo begin; sleep 0.3; echo end' }}]\n"
        )
    };
    let ci = format!("on: push\njobs:\n{}{}{}", one("a"), one("b"), one("c"));
    let mut fixture = Fixture::new(&ci, &[]);
    fixture.spec.limits.jobs = 3;
    let ran = fixture.run().await;
    assert_eq!(ran.report.conclusion, Conclusion::Success, "{}", ran.all());
    let words: Vec<&str> = ran
        .events
        .iter()
        .filter_map(|event| match event {
            RunEvent::Log { line, .. } if line == "begin" || line == "end" => Some(line.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(words, ["begin", "end", "begin", "end", "begin", "end"]);
}
