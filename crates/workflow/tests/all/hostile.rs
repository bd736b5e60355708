//! No text, whatever it is, ends in a panic or without an end.

use astraler_workflow::expression::{self, Allowed, Contexts, NoRun, Scope, Value};
use astraler_workflow::glob::{Pattern, any_matches};
use astraler_workflow::{action, matrix, parse};
use proptest::prelude::*;

/// Pieces of expressions in any order.
fn expression_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "(",
        ")",
        "[",
        "]",
        ".",
        "*",
        ",",
        "!",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "github",
        "a",
        "true",
        "null",
        "NaN",
        "Infinity",
        "-1",
        ".5",
        "0xff",
        "0o7",
        "1e3",
        "'x'",
        "'",
        "''",
        "format",
        "fromJSON",
        "toJSON",
        "join",
        "contains",
        "case",
        "'{0}'",
        "'{{0}'",
        "'[1,{\"a\":2}]'",
        " ",
        "é",
        "😀",
        "=",
        "&",
        "$",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Lines of workflow files in any order and depth.
fn workflow_text() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "on: push",
        "on:",
        "push:",
        "branches: [main]",
        "jobs:",
        "a:",
        "b:",
        "runs-on: x",
        "steps:",
        "- run: echo",
        "- uses: a/b@c",
        "needs: a",
        "needs: [a, b]",
        "strategy:",
        "matrix:",
        "v: [1, 2]",
        "include:",
        "- v: 1",
        "if: always()",
        "env:",
        "A: ${{ github.x }}",
        "${{ insert }}: ${{ matrix }}",
        "with:",
        "&x",
        "*x",
        "- *x",
        "a: &x [*x]",
        "? b",
        ": c",
        "|",
        ">-",
        "- |",
        "!!str",
        "!!int y",
        "{a: b}",
        "[",
        "}",
        "\"",
        "'",
        "#",
        "---",
        "...",
        "\t",
        "%YAML 1.2",
        "<<: *x",
        "concurrency: g",
        "container: {}",
    ]);
    prop::collection::vec((0..6_usize, line), 0..30).prop_map(|lines| {
        let lines = lines
            .iter()
            .map(|(depth, line)| format!("{}{line}\n", "  ".repeat(*depth)));
        lines.collect()
    })
}

fn evaluate(text: &str) {
    let mut contexts = Contexts::default();
    contexts.insert(
        "github",
        Value::from(serde_json::json!({ "a": [1, { "b": "c" }], "x": null })),
    );
    contexts.insert("a", Value::from("text"));
    if let Ok(value) = expression::evaluate(text, &contexts) {
        value.to_text();
    }
    if let Ok(expression) = expression::parse(text, &Allowed::anything()) {
        let scope = Scope {
            contexts: &contexts,
            functions: &NoRun,
        };
        let _ = expression.evaluate(&scope);
    }
}

fn read(text: &str) {
    if let Ok(workflow) = parse("w.yml", text) {
        let contexts = Contexts::default();
        let scope = Scope {
            contexts: &contexts,
            functions: &NoRun,
        };
        for job in &workflow.jobs {
            if let Some(strategy) = &job.strategy {
                let _ = matrix::expand(strategy, &scope);
            }
            if let Some(env) = &job.env {
                let _ = env.string_map(&scope);
            }
        }
    }
    let _ = action::parse("action.yml", text);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn expressions(text in any::<String>(), built in expression_text()) {
        evaluate(&text);
        evaluate(&built);
    }

    #[test]
    fn workflows(text in any::<String>(), built in workflow_text()) {
        read(&text);
        read(&built);
        read(&format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: {text:?}\n"));
    }

    #[test]
    fn patterns(text in "[a-z*?+!/\\[\\]\\\\-]{0,20}", name in any::<String>()) {
        if let Ok(pattern) = Pattern::new(&text) {
            pattern.matches(&name);
            any_matches(&[pattern], &text);
        }
    }
}

#[test]
fn deep_and_long_expressions_end() {
    for text in [
        "!".repeat(20_999),
        "(".repeat(20_999),
        format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("a{}", "[0]".repeat(6_900)),
        format!("a{}", ".*".repeat(10_000)),
        vec!["a"; 5_000].join("&&"),
        vec!["1"; 5_000].join("=="),
        format!("{}1{}", "format('{0}{0}',".repeat(1_300), ")".repeat(1_300)),
        "'".repeat(20_999),
        "x".repeat(30_000),
    ] {
        evaluate(&text);
    }
    // Each level doubles it: without a bound this would take 2^48 bytes.
    let doubling = format!("{}'x'{}", "format('{0}{0}',".repeat(48), ")".repeat(48));
    let error = expression::evaluate(&doubling, &Contexts::default()).unwrap_err();
    assert!(
        error
            .message
            .starts_with("The maximum allowed memory size was exceeded"),
        "{}",
        error.message
    );
    let deep = format!("fromJSON('{}{}')", "[".repeat(5_000), "]".repeat(5_000));
    assert!(expression::evaluate(&deep, &Contexts::default()).is_err());
}

#[test]
fn deep_and_long_files_end() {
    for text in [
        "[".repeat(10_000),
        "{a: ".repeat(10_000),
        "- ".repeat(10_000),
        format!("on: push\njobs: {}", "{a: ".repeat(200)),
        (0..2_000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect(),
        "a".repeat(2_000_000),
        "? ".repeat(20_000),
        "[one]#x\n".repeat(1_000),
        format!("a: [{}]", "\nb,".repeat(20_000)),
        "a:\tb\n".repeat(20_000),
        format!("a: \"{}\"", "x\n".repeat(20_000)),
        "a: |\n  x\n".repeat(20_000),
        format!(
            "on: push\njobs:\n  a: {{ runs-on: x, steps: [{}] }}\n",
            "{run: a}, ".repeat(2_000)
        ),
    ] {
        read(&text);
    }
}

#[test]
fn patterns_that_branch_end() {
    let pattern = Pattern::new(&"**a".repeat(300)).unwrap();
    assert!(pattern.matches(&"a".repeat(10_000)));
    assert!(!pattern.matches(&format!("{}b", "a".repeat(10_000))));
    let pattern = Pattern::new(&"*a+*b?".repeat(150)).unwrap();
    assert!(!pattern.matches(&format!("{}/", "ab".repeat(5_000))));
}
