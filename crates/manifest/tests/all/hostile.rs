//! No input panics, and every error stands inside its file.

use astraler_manifest::{load, parse};
use proptest::prelude::*;

const STARTER: &str = include_str!("../../../../starter/astraler.toml");
const WRANGLER: &str = include_str!("../../../../starter/workers/api/wrangler.jsonc");

/// A valid file with one piece removed, doubled or replaced.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just(String::new()),
        "[\\[\\]{}=\"'.,:#/\\\\\\n\\r\\t a-z0-9äß\u{0}\u{feff}]{0,12}",
        any::<String>(),
    ];
    (0..=text.len(), 0..40_usize, pieces).prop_map(move |(at, length, piece)| {
        let boundary = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (boundary(at), boundary(at + length));
        format!("{}{piece}{}", &text[..start], &text[end..])
    })
}

fn check_manifest(text: &str) {
    if let Err(errors) = parse("astraler.toml", text) {
        let lines = text.split('\n').count();
        for error in errors.iter() {
            assert!((1..=lines).contains(&error.line), "{error}");
            assert!(error.column >= 1, "{error}");
        }
        // What people see must not panic either, at any width.
        errors.render(false, 20);
        errors.render(true, 100);
    }
}

fn check_wrangler(name: &str, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    crate::write(
        &folder.path().join("astraler.toml"),
        "name = \"a\"\ndomain = \"a.example\"\n[workers.api]\npath = \"api\"\n",
    );
    crate::write(&folder.path().join("api").join(name), text);
    if let Err(errors) = load(folder.path()) {
        let lines = text.split('\n').count();
        for error in errors.iter().filter(|error| error.file != "astraler.toml") {
            assert!((1..=lines).contains(&error.line), "{error}");
        }
        errors.render(false, 80);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        check_manifest(&text);
    }

    #[test]
    fn no_mutation_of_a_manifest_panics(text in mutated(STARTER)) {
        check_manifest(&text);
    }

    #[test]
    fn no_mutation_of_wranglers_file_panics(text in mutated(WRANGLER)) {
        check_wrangler("wrangler.jsonc", &text);
        check_wrangler("wrangler.toml", &text);
    }
}

#[test]
fn nothing_nests_deep_enough_to_end_the_process() {
    for piece in ["[", "{", "a.", "[[", "a = [", "a = {a="] {
        check_manifest(&piece.repeat(200_000));
    }
}

#[test]
fn files_that_are_too_large_or_not_text_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("astraler.toml");
    for bytes in [vec![b'#'; (4 << 20) + 1], vec![0xff, 0xfe, 0x00]] {
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &bytes).unwrap();
        assert_eq!(load(folder.path()).unwrap_err().len(), 1);
    }
    std::fs::remove_file(&path).unwrap();
    assert!(
        load(folder.path())
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
}
