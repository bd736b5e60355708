//! Triggers, matrices, templates, calls and actions, as GitHub documents them.

use astraler_workflow::expression::{Contexts, Functions, NoRun, Scope, Value};
use astraler_workflow::trigger::{self, Event, NoMatch};
use astraler_workflow::{
    Access, DefaultPermissions, Job, Options, Permissions, Runs, StepAction, Template, Workflow, action,
    link, matrix, parse, refused,
};
use std::collections::HashMap;

/// A workflow with these triggers and one job.
fn on(triggers: &str) -> Workflow {
    let text = format!("on:\n{triggers}\njobs:\n  a:\n    runs-on: x\n    steps: [{{ run: 'true' }}]\n");
    parse("w.yml", &text).unwrap()
}

/// The only job of a workflow, from its lines.
fn job(lines: &str) -> Job {
    let indented: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    let text = format!("on: push\njobs:\n  a:\n{indented}");
    parse("w.yml", &text).unwrap().jobs.remove(0)
}

fn errors(text: &str) -> Vec<String> {
    let problems = parse("w.yml", text).expect_err("it is not valid");
    problems.iter().map(ToString::to_string).collect()
}

fn contexts(json: serde_json::Value) -> Contexts {
    let serde_json::Value::Object(all) = json else {
        panic!("an object")
    };
    all.into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect()
}

fn with<T>(json: serde_json::Value, work: impl FnOnce(&Scope<'_>) -> T) -> T {
    let contexts = contexts(json);
    work(&Scope {
        contexts: &contexts,
        functions: &NoRun,
    })
}

fn push(branch: &str, files: &[&str]) -> Event {
    Event {
        name: "push".into(),
        branch: Some(branch.into()),
        changed_files: Some(files.iter().map(|file| (*file).to_owned()).collect()),
        ..Event::default()
    }
}

#[test]
fn branches_tags_and_paths_let_events_through() {
    let filtered = on(
        "  push:\n    branches: [main, 'release/**', '!release/old']\n    paths: ['src/**', '!src/docs/**']",
    );
    let starts = |event: &Event| trigger::matches(&filtered.on, event);
    assert_eq!(starts(&push("main", &["src/a.rs"])), Ok(()));
    assert_eq!(starts(&push("release/1/2", &["x", "src/a.rs"])), Ok(()));
    assert!(matches!(
        starts(&push("release/old", &["src/a"])),
        Err(NoMatch::Filtered { .. })
    ));
    assert!(matches!(
        starts(&push("dev", &["src/a"])),
        Err(NoMatch::Filtered { .. })
    ));
    assert!(matches!(
        starts(&push("main", &["src/docs/a", "b"])),
        Err(NoMatch::Paths { files: 2, .. })
    ));
    let unknown = Event {
        changed_files: None,
        ..push("main", &[])
    };
    assert_eq!(starts(&unknown), Ok(()), "what changed is not known");
    let tag = Event {
        name: "push".into(),
        tag: Some("v1".into()),
        ..Event::default()
    };
    assert!(matches!(
        starts(&tag),
        Err(NoMatch::OtherKind { kind: "tag", .. })
    ));

    let tags = on("  push:\n    tags-ignore: ['v*-rc?']");
    assert_eq!(trigger::matches(&tags.on, &tag), Ok(()));
    let branch = trigger::matches(&tags.on, &push("main", &[]));
    assert!(matches!(branch, Err(NoMatch::OtherKind { kind: "branch", .. })));
    let candidate = Event {
        tag: Some("v2-rc".into()),
        ..tag
    };
    assert!(matches!(
        trigger::matches(&tags.on, &candidate),
        Err(NoMatch::Ignored { .. })
    ));

    let ignored = on("  push:\n    branches-ignore: [wip]\n    paths-ignore: ['**.md']");
    assert_eq!(
        trigger::matches(&ignored.on, &push("main", &["a.md", "b.rs"])),
        Ok(())
    );
    assert!(trigger::matches(&ignored.on, &push("main", &["a.md", "docs/b.md"])).is_err());
    let why = trigger::matches(&ignored.on, &push("wip", &["b"])).unwrap_err();
    assert_eq!(why.to_string(), "`wip` is in `branches-ignore` of `push`: wip");
}

#[test]
fn activities_have_defaults() {
    let default = on("  pull_request:\n  issues:");
    let event = |name: &str, activity: &str| Event {
        name: name.into(),
        activity: Some(activity.into()),
        ..Event::default()
    };
    assert_eq!(
        trigger::matches(&default.on, &event("pull_request", "synchronize")),
        Ok(())
    );
    let closed = trigger::matches(&default.on, &event("pull_request", "closed")).unwrap_err();
    assert_eq!(
        closed.to_string(),
        "the activity `closed` is not among the types of `pull_request`: opened, synchronize, reopened"
    );
    assert_eq!(trigger::matches(&default.on, &event("issues", "closed")), Ok(()));
    let other = trigger::matches(&default.on, &event("push", "x")).unwrap_err();
    assert_eq!(
        other.to_string(),
        "the workflow does not run on `push`; it runs on pull_request, issues"
    );
    let named = on("  pull_request: { types: closed }");
    assert_eq!(
        trigger::matches(&named.on, &event("pull_request", "closed")),
        Ok(())
    );
}

#[test]
fn a_person_gives_inputs_in_their_types() {
    let workflow = on(
        "  workflow_dispatch:\n    inputs:\n      dry: { type: boolean, default: true }\n      level: { type: \
         choice, options: [low, high] }\n      count: { type: number }\n      note: { required: true }",
    );
    let trigger = workflow.on.event("workflow_dispatch").unwrap();
    let given = |all: &[(&str, &str)]| {
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        trigger::dispatch_inputs(trigger, &all)
    };
    let inputs = given(&[("note", "x"), ("COUNT", "3")]).unwrap();
    assert!(matches!(inputs.get("dry"), Some(Value::Boolean(true))));
    assert!(matches!(inputs.get("count"), Some(Value::Number(3.0))));
    assert_eq!(inputs.get("level").unwrap().to_text(), "low");
    for (all, message) in [
        (&[][..], "the input `note` is required"),
        (&[("note", "x"), ("other", "y")], "there is no input `other`"),
        (
            &[("note", "x"), ("dry", "yes")],
            "the input `dry` is `yes`, which is not `true` or `false`",
        ),
        (
            &[("note", "x"), ("level", "mid")],
            "the input `level` is `mid`, which is not one of low, high",
        ),
    ] {
        assert_eq!(given(all).unwrap_err().to_string(), message);
    }
}

fn combinations(strategy: &str, json: serde_json::Value) -> Vec<String> {
    let lines: String = strategy.lines().map(|line| format!("  {line}\n")).collect();
    let job = job(&format!(
        "runs-on: x\nstrategy:\n{lines}steps: [{{ run: 'true' }}]"
    ));
    let expanded = with(json, |scope| {
        matrix::expand(&job.strategy.unwrap(), scope).unwrap()
    });
    let all = expanded.combinations.unwrap().into_iter();
    all.map(|combination| {
        let values = combination
            .matrix
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_text()));
        values.collect::<Vec<_>>().join(" ")
    })
    .collect()
}

/// The example of GitHub's documentation, word for word.
#[test]
fn include_adds_to_combinations_or_makes_its_own() {
    let all = combinations(
        "matrix:\n  fruit: [apple, pear]\n  animal: [cat, dog]\n  include:\n    - color: green\n    - color: \
         pink\n      animal: cat\n    - fruit: apple\n      shape: circle\n    - fruit: banana\n    - fruit: \
         banana\n      animal: cat",
        serde_json::json!({}),
    );
    assert_eq!(
        all,
        [
            "fruit=apple animal=cat color=pink shape=circle",
            "fruit=apple animal=dog color=green shape=circle",
            "fruit=pear animal=cat color=pink",
            "fruit=pear animal=dog color=green",
            "fruit=banana",
            "fruit=banana animal=cat",
        ]
    );
}

#[test]
fn exclude_takes_out_what_matches_in_part() {
    let all = combinations(
        "matrix:\n  os: [a, b]\n  version: [1, 2]\n  exclude:\n    - os: a\n      version: '1'\n    - version: 2\n      os: b",
        serde_json::json!({}),
    );
    assert_eq!(all, ["os=a version=2", "os=b version=1"]);
    let all = combinations(
        "matrix: ${{ fromJSON(needs.x.outputs.matrix) }}",
        serde_json::json!({ "needs": { "x": { "outputs": { "matrix": "{\"n\": [1, 2], \"include\": [{\"n\": 2, \"m\": true}]}" } } } }),
    );
    assert_eq!(all, ["n=1", "n=2 m=true"]);
}

#[test]
fn a_strategy_has_its_context_and_names() {
    let job = job(
        "runs-on: x\nstrategy:\n  fail-fast: false\n  max-parallel: 2\n  matrix:\n    os: [a, b]\n    v: [{ n: 1 }, { n: 2 }]\nsteps: [{ run: 'true' }]",
    );
    let expanded = with(serde_json::json!({}), |scope| {
        matrix::expand(&job.strategy.unwrap(), scope).unwrap()
    });
    assert!(!expanded.fail_fast);
    let labels: Vec<&str> = expanded
        .combinations
        .iter()
        .flatten()
        .map(|one| one.label.as_str())
        .collect();
    assert_eq!(labels, ["a, 1", "a, 2", "b, 1", "b, 2"]);
    let context = expanded.context(3);
    let number = |name: &str| context.get(name).unwrap().to_number() as i64;
    assert_eq!(
        (number("job-index"), number("job-total"), number("max-parallel")),
        (3, 4, 2)
    );
    assert_eq!(matrix::job_name("build", labels[0]), "build (a, 1)");
    assert_eq!(matrix::job_name(&"x".repeat(120), "").len(), 100);
}

#[test]
fn a_matrix_that_is_wrong_says_where() {
    let text = |matrix: &str| {
        format!(
            "on: push\njobs:\n  a:\n    runs-on: x\n    strategy:\n      matrix:\n{matrix}    steps: [{{ run: 'true' }}]\n"
        )
    };
    for (matrix, message) in [
        (
            "        include: []\n",
            "w.yml (Line: 7, Col: 9): Matrix must define at least one vector",
        ),
        (
            "        a: [1]\n        exclude: [{ b: 1 }]\n",
            "w.yml (Line: 8, Col: 21): Matrix exclude key 'b' does not match any key within the matrix",
        ),
        (
            "        a: [1]\n        include: [{}]\n",
            "w.yml (Line: 8, Col: 19): Matrix include mapping does not contain any values",
        ),
    ] {
        assert_eq!(errors(&text(matrix)), [message]);
    }
    let list = (0..300).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let found = errors(&text(&format!("        a: [{list}]\n")));
    assert!(found[0].contains("at most 256 combinations"), "{found:?}");
    let huge = text(&format!(
        "        a: [{list}]\n        b: [{list}]\n        c: [{list}]\n        d: [{list}]\n"
    ));
    assert!(errors(&huge)[0].contains("at most 256 combinations"));
}

fn run_script(job: &Job) -> &Template {
    match &job.steps[0].action {
        StepAction::Run { script, .. } => script,
        StepAction::Uses { .. } => panic!("a script"),
    }
}

#[test]
fn templates_become_what_their_place_needs() {
    let job = job(
        "runs-on: ['x', '${{ matrix.os }}']\ntimeout-minutes: ${{ matrix.n }}\ncontinue-on-error: ${{ matrix.t \
         }}\nenvironment: { name: 'e-${{ matrix.n }}', url: '${{ steps.a.outputs.url }}' }\nconcurrency: { group: \
         'g ${{ matrix.os }}', cancel-in-progress: '${{ matrix.n == 5 }}' }\nenv:\n  A: ${{ matrix.n }}\n  ${{ insert \
         }}: ${{ matrix.more }}\ndefaults: { run: { shell: '${{ matrix.os }}' } }\nsteps:\n  - run: \"a ${{ \
         matrix.os }} {0} '${{ matrix.n }}' ${{ matrix.nothing }}\"",
    );
    let values = serde_json::json!({ "matrix": { "os": "linux", "n": 5, "t": true, "more": { "B": 1.5, "C": null } } });
    with(values, |scope| {
        assert_eq!(
            job.runs_on.as_ref().unwrap().runs_on(scope).unwrap().labels,
            ["x", "linux"]
        );
        assert_eq!(job.timeout_minutes.as_ref().unwrap().number(scope), Ok(5.0));
        assert_eq!(job.continue_on_error.as_ref().unwrap().boolean(scope), Ok(true));
        let environment = job
            .environment
            .as_ref()
            .unwrap()
            .environment(scope)
            .unwrap()
            .unwrap();
        assert_eq!(environment.name, "e-5");
        assert!(environment.url.is_some());
        let concurrency = job.concurrency.as_ref().unwrap().concurrency(scope).unwrap();
        assert_eq!(
            (concurrency.group.as_str(), concurrency.cancel_in_progress),
            ("g linux", true)
        );
        let env = job.env.as_ref().unwrap().string_map(scope).unwrap();
        let pairs: Vec<String> = env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(pairs, ["A=5", "B=1.5", "C="]);
        let defaults = job.defaults.as_ref().unwrap().run_defaults(scope).unwrap();
        assert_eq!(defaults.shell.as_deref(), Some("linux"));
        assert_eq!(run_script(&job).string(scope).unwrap(), "a linux {0} '5' ");
    });
    with(
        serde_json::json!({ "matrix": { "n": "5", "t": "true" } }),
        |scope| {
            let error = job.timeout_minutes.as_ref().unwrap().number(scope).unwrap_err();
            assert_eq!(error.to_string(), "(Line: 5, Col: 22): Unexpected value '5'");
            assert!(job.continue_on_error.as_ref().unwrap().boolean(scope).is_err());
        },
    );
}

struct Failed;

impl Functions for Failed {
    fn success(&self, jobs: &[String]) -> bool {
        jobs.iter().any(|job| job == "good")
    }
    fn failure(&self, _: &[String]) -> bool {
        true
    }
    fn cancelled(&self) -> bool {
        false
    }
    fn hash_files(&self, patterns: &[String]) -> Result<String, String> {
        if patterns.len() > 1 {
            return Err("too many".into());
        }
        Ok(format!("hash of {}", patterns.join(" ")))
    }
}

#[test]
fn conditions_ask_the_run() {
    let contexts = contexts(serde_json::json!({ "github": { "ref": "x" } }));
    let scope = Scope {
        contexts: &contexts,
        functions: &Failed,
    };
    let holds = |condition: &str| {
        let job = job(&format!(
            "runs-on: x\nif: {condition}\nsteps: [{{ run: 'true' }}]"
        ));
        job.condition.expression.evaluate(&scope).unwrap().is_truthy()
    };
    assert!(!holds("github.ref == 'x'"), "success() stands before it");
    assert!(holds("always() && github.ref == 'x'"));
    assert!(holds("failure()"));
    assert!(!holds("cancelled()"));
    assert!(holds("success('good')"));
    assert!(!holds("${{ success('bad') }}"));
    let job = job("runs-on: x\nsteps: [{ run: '${{ hashFiles(''a'') }}' }]");
    assert_eq!(run_script(&job).string(&scope).unwrap(), "hash of a");
}

#[test]
fn jobs_that_need_each_other_are_named() {
    let text = "on: push\njobs:\n  s: { runs-on: x, steps: [{ run: a }] }\n  a: { runs-on: x, needs: c, steps: [{ run: a }] }\n  \
                b: { runs-on: x, needs: [s, a], steps: [{ run: a }] }\n  c: { runs-on: x, needs: b, steps: [{ run: a }] }\n";
    let problems = parse("w.yml", text).unwrap_err();
    assert_eq!(problems.len(), 3);
    assert_eq!(
        problems[0].to_string(),
        "w.yml (Line: 4, Col: 27): Job 'a' depends on job 'c' which creates a cycle in the dependency graph."
    );
    assert_eq!(
        problems[0].hint.as_deref(),
        Some("the jobs need each other: a → c → b → a")
    );
}

#[test]
fn triggers_that_contradict_themselves_are_told() {
    let found = errors(
        "on:\n  push:\n    branches: [a, '[b']\n    branches-ignore: c\n  schedule:\n    - cron: '0 25 * * *'\njobs: { a: { \
         runs-on: x } }\n",
    );
    assert_eq!(
        found,
        [
            "w.yml (Line: 2, Col: 3): you may only define one of `branches` and `branches-ignore` for a single event",
            "w.yml (Line: 3, Col: 19): the pattern `[b` has a `[` without its `]`",
            "w.yml (Line: 6, Col: 13): `25` is no hour: 0 to 23, `*`, `/`, `-` and `,`",
        ]
    );
}

#[test]
fn anchors_stand_for_what_they_name_within_bounds() {
    let text = "on: push\njobs:\n  a: &job\n    runs-on: x\n    env: &env { A: 1 }\n    steps: &steps\n      - run: a\n  b: *job\n  \
                c:\n    runs-on: y\n    env: *env\n    steps: *steps\n";
    let workflow = parse("w.yml", text).unwrap();
    assert_eq!(workflow.jobs.len(), 3);
    assert_eq!(workflow.jobs[2].steps[0].place, workflow.jobs[0].steps[0].place);

    let mut bomb = String::from("a0: &a0 [x, x]\n");
    for level in 1..40 {
        bomb.push_str(&format!(
            "a{level}: &a{level} [*a{}, *a{}]\n",
            level - 1,
            level - 1
        ));
    }
    assert!(!errors(&bomb).is_empty());
    let inside = format!(
        "on: push\njobs:\n  j:\n    runs-on: x\n    strategy:\n      matrix:\n        v:\n{}    steps: [{{ run: a }}]\n",
        bomb.lines()
            .map(|line| format!("          - {line}\n"))
            .collect::<String>()
    );
    assert_eq!(errors(&inside), ["w.yml: Maximum YAML nodes exceeded"]);
    let endless = "on: push\njobs:\n  j:\n    strategy:\n      matrix:\n        v: &v [*v]\n    runs-on: x\n";
    assert!(!errors(endless).is_empty());
}

/// libyaml and its children take these; places are those of the text as it is.
#[test]
fn what_githubs_yaml_parser_lets_through_is_read() {
    let text = "name: \"a\nb\"\non:\tpush\nenv: { A: [\n] }\njobs:\n  a:\n    runs-on: [\n    x,\n    y\n    ]#z\n    env: { B: 'c\n  d ''e'' f', C: \
                '${{ nope }}' }\n";
    assert_eq!(
        errors(text),
        [
            "w.yml (Line: 4, Col: 11): A sequence was not expected",
            "w.yml (Line: 13, Col: 18): Unrecognized named-value: 'nope'. Located at position 1 within expression: nope",
        ]
    );
    let text = text.replace("A: [\n]", "A: 1\n").replace("${{ nope }}", "f");
    let workflow = parse("w.yml", &text).unwrap();
    assert_eq!(workflow.name.as_deref(), Some("a b"));
    with(serde_json::json!({}), |scope| {
        let job = &workflow.jobs[0];
        assert_eq!(
            job.runs_on.as_ref().unwrap().runs_on(scope).unwrap().labels,
            ["x", "y"]
        );
        assert_eq!(
            job.env.as_ref().unwrap().string_map(scope).unwrap()[0].1,
            "c d 'e' f"
        );
    });
}

#[test]
fn what_is_not_yaml_says_where() {
    for text in [
        "",
        "# nothing\n",
        "on: [push\njobs: x",
        "a: 1\n---\nb: 2\n",
        "on: push\n\tjobs: x\n",
        "- *x\n",
    ] {
        let problems = parse("w.yml", text).unwrap_err();
        assert!(
            problems
                .iter()
                .all(|problem| problem.file.as_deref() == Some("w.yml")),
            "{problems:?}"
        );
    }
    let problems = parse("w.yml", "on: push\njobs:\n  a: [1\n").unwrap_err();
    assert!(problems.last().unwrap().place.is_some(), "{problems:?}");
}

fn linked(files: &[(&str, &str)]) -> Result<Workflow, Vec<String>> {
    let all: HashMap<&str, &str> = files.iter().copied().collect();
    let mut find = |uses: &str| all.get(uses).map(|text| (*text).to_owned());
    let permissions = DefaultPermissions::LimitedRead;
    link("w.yml", files[0].1, &Options::default(), permissions, &mut find)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

const CALLED: &str = "on:\n  workflow_call:\n    inputs:\n      n: { type: number, default: 2 }\n      s: { type: string, \
                      required: true }\n    outputs: { o: { value: '${{ jobs.x.outputs.o }}' } }\njobs:\n  x:\n    runs-on: \
                      x\n    steps: [{ run: a }]\n";

#[test]
fn a_call_brings_its_workflow_and_its_inputs() {
    let caller = "on: push\npermissions: { contents: read }\njobs:\n  c:\n    uses: ./.github/workflows/x.yml\n    with: { s: \
                  '${{ github.ref }}' }\n";
    let workflow = linked(&[("w.yml", caller), ("./.github/workflows/x.yml", CALLED)]).unwrap();
    let call = workflow.jobs[0].call.as_ref().unwrap();
    let called = call.workflow.as_ref().unwrap();
    assert_eq!(called.file, ".github/workflows/x.yml");
    assert_eq!(
        called.jobs[0].permissions,
        Some(Permissions::Each(vec![("contents".into(), Access::Read)]))
    );
    let event = called.on.event("workflow_call").unwrap();
    assert_eq!(event.outputs[0].0, "o");
    let inputs = with(serde_json::json!({ "github": { "ref": "main" } }), |scope| {
        trigger::call_inputs(event, call.with.as_ref(), scope, scope).unwrap()
    });
    assert_eq!(inputs.get("s").unwrap().to_text(), "main");
    assert!(matches!(inputs.get("n"), Some(Value::Number(2.0))));
    let missing = linked(&[("w.yml", caller)]).unwrap_err();
    assert_eq!(
        missing,
        ["w.yml (Line: 5, Col: 11): The workflow './.github/workflows/x.yml' was not found."]
    );
}

#[test]
fn a_workflow_that_calls_itself_ends() {
    let own = "on: workflow_call\njobs:\n  c: { uses: ./w.yml }\n";
    assert_eq!(
        linked(&[("w.yml", own), ("./w.yml", own)]).unwrap_err(),
        ["Nested reusable workflow depth exceeded 9."]
    );
}

#[test]
fn actions_say_what_they_take_and_run() {
    let composite = action::parse(
        "action.yml",
        "name: a\ninputs:\n  one: { required: true }\n  two: { default: '${{ github.ref }}' }\noutputs:\n  o: { value: '${{ \
         steps.s.outputs.o }}' }\nruns:\n  using: composite\n  steps:\n    - { id: s, run: echo, shell: bash }\n    - { uses: \
         actions/cache@v4, if: failure() }\n",
    )
    .unwrap();
    assert_eq!((composite.inputs.len(), composite.inputs[0].required), (2, true));
    let Runs::Composite { steps } = &composite.runs else {
        panic!("composite")
    };
    assert_eq!(
        (steps[0].id.as_str(), steps[1].id.as_str()),
        ("s", "__actions_cache")
    );
    assert_eq!(steps[1].condition.expression.source(), "failure()");

    let node = action::parse(
        "a",
        "runs: { using: node24, main: d/i.js, post: d/p.js, post-if: success() }",
    )
    .unwrap();
    let Runs::Node {
        version: 24,
        main,
        pre: None,
        post: Some(post),
    } = &node.runs
    else {
        panic!("node")
    };
    assert_eq!(
        (main.as_str(), post.condition.as_deref()),
        ("d/i.js", Some("success()"))
    );
    let docker = action::parse("a", "runs: { using: docker, image: Dockerfile }").unwrap();
    assert!(matches!(docker.runs, Runs::Docker { .. }));

    let problems = action::parse(
        "a",
        "runs:\n  using: composite\n  steps:\n    - run: echo ${{ secrets.X }}\n",
    )
    .unwrap_err();
    let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "a (Line: 4, Col: 12): Unrecognized named-value: 'secrets'. Located at position 1 within expression: \
             secrets.X",
            "a (Line: 4, Col: 7): Required property is missing: shell",
        ]
    );
    let problems = action::parse("a", "runs: { using: perl, main: x }").unwrap_err();
    assert!(problems[0].to_string().contains("'using: perl' is not supported"));
}

#[test]
fn what_needs_containers_is_refused_by_name() {
    let workflow = parse(
        "w.yml",
        "on: push\njobs:\n  a:\n    runs-on: x\n    container: node\n    services: { db: postgres }\n    steps:\n      - uses: \
         docker://alpine\n  b: { uses: o/r/.github/workflows/x.yml@v1 }\n",
    )
    .unwrap();
    let found: Vec<String> = refused(&workflow).iter().map(|one| one.message.clone()).collect();
    assert_eq!(
        found,
        [
            "`container` of the job `a` is not supported",
            "`services` of the job `a` is not supported",
            "`docker://alpine` runs in a container, and there is no container runtime here",
            "`o/r/.github/workflows/x.yml@v1` is a workflow of another repository",
        ]
    );
}
