//! Verdicts of the C library (its source of 2025), asked about strings of our own and mutations of them: 2,000 for each of the two,
//! half of them attacks. In a run over 100,000 others each, three and 21 answers differed, all of strings with a NUL byte: in 22
//! we see an attack that C does not see, in one C does, and one has another fingerprint.

use libinjectionrs::sqli::{TokenType, sqli_data};
use proptest::prelude::*;

use super::*;

const SQL: &str = include_str!("../../tests/data/libinjection-sqli.tsv");
const HTML: &str = include_str!("../../tests/data/libinjection-xss.tsv");

/// A line of the files: the verdict, a tab, and the string with `\\` and `\xHH`.
fn cases(file: &str) -> Vec<(&str, Vec<u8>)> {
    let cases: Vec<_> = file
        .lines()
        .map(|line| {
            let (verdict, text) = line.split_once('\t').unwrap();
            let mut bytes = Vec::new();
            let mut rest = text.as_bytes();
            while let [byte, tail @ ..] = rest {
                rest = tail;
                match (byte, tail) {
                    (b'\\', [b'\\', after @ ..]) => {
                        bytes.push(b'\\');
                        rest = after;
                    }
                    (b'\\', [b'x', high, low, after @ ..]) => {
                        bytes.extend(hex::decode([*high, *low]).unwrap());
                        rest = after;
                    }
                    _ => bytes.push(*byte),
                }
            }
            (verdict, bytes)
        })
        .collect();
    assert_eq!(cases.len(), 2000);
    cases
}

#[test]
fn sql_injection_is_what_the_c_library_says() {
    let differences: Vec<_> = cases(SQL)
        .into_iter()
        .filter_map(|(wanted, input)| {
            let found = sqli(&input);
            let found = found.as_ref().map_or("-", Fingerprint::as_str).to_owned();
            (found != wanted).then(|| format!("{}: {found}, not {wanted}", input.escape_ascii()))
        })
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn xss_is_what_the_c_library_says() {
    for (wanted, input) in cases(HTML) {
        assert_eq!(xss(&input), wanted == "attack", "{}", input.escape_ascii());
    }
}

#[test]
fn into_is_known_in_any_case() {
    for text in [
        "1 into outfile '/x'",
        "1 INTO DUMPFILE '/x'",
        "1 Into oUTFILE '/x'",
    ] {
        assert_eq!(sqli(text.as_bytes()).unwrap().as_str(), "1ks", "{text}");
    }
    assert_eq!(sqli(b"put it into the box"), None);
}

#[test]
fn variables_that_are_functions_are_known_as_such() {
    for (text, wanted) in [
        ("@@database() --", "f()c"),
        ("@Current_User () -- ", "f()c"),
        ("id= @@user()sleepat]", "nof()"),
        ("form@@database()<svg/onload=1>", "nf()o"),
        ("'--@@database()char(65)", "sof()"),
        ("@@database(cast(1 as int)", "f(f(1"),
        ("@@@@database()|alter", "vf()o"),
    ] {
        assert_eq!(sqli(text.as_bytes()).unwrap().as_str(), wanted, "{text}");
    }
    for text in ["@user (cast(1 as int)", "@@users()", "a@example.com", "@database"] {
        assert_eq!(sqli(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn handlers_are_known_by_their_beginning() {
    for text in [
        "<a onclick=x>",
        "<a onclickx=x>",
        "<a onclick!=x>",
        "' ontoggle='x",
        "x onfocus%=1",
    ] {
        assert!(xss(text.as_bytes()), "{text}");
    }
    assert!(
        xss(b"<o\0onclickx=1>") && xss(b"<a on\0click=1>"),
        "a NUL byte ends a name, or is none of it"
    );
    for text in ["<a onclic=x>", "one=1&only=2", "onclick", "a=b", "x < y = onz"] {
        assert!(!xss(text.as_bytes()), "{text}");
    }
    assert!(
        xss("onx12=1 ".repeat(300).as_bytes()),
        "more of them than anyone means well"
    );
}

/// Each of these took quadratic time, seconds for 20 KB, in the port; the first of them in C too.
#[test]
fn words_of_many_dots_take_linear_time() {
    let start = std::time::Instant::now();
    for piece in ["or.", "`or", "a`", "`not", "$.", "a.", "`\u{e9}"] {
        sqli(format!("1' {}", piece.repeat(60_000 / piece.len())).as_bytes());
    }
    assert!(
        start.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    let start = std::time::Instant::now();
    for piece in ["@user(", "@@database (", "a@user\t", "@"] {
        sqli(piece.repeat(200_000 / piece.len()).as_bytes());
    }
    assert!(
        start.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    // What stands behind them is seen all the same.
    let attack = format!("{}x' or 1=1 -- ", "a.".repeat(40));
    assert!(sqli(attack.as_bytes()).is_some());
    assert_eq!(
        sqli(b"see www.example.com, or wait........................ and then 3.5"),
        None
    );
}

/// What lets [`sqli`] pass over single words and numbers: all that a word or a number can be.
#[test]
fn no_single_token_is_an_attack() {
    for token in "NKFUETO&V1AB".chars() {
        assert_ne!(
            sqli_data::lookup_word(&format!("0{token}")),
            TokenType::Fingerprint,
            "{token}"
        );
    }
}

proptest! {
    #[test]
    fn no_word_is_an_attack_to_the_port_either(
        word in "[A-Za-z_][A-Za-z0-9_.]{0,12}|[0-9]{1,30}\\.?[0-9]*|(json|a|union|select|or)(\\.(or|select|x|1)){0,4}",
    ) {
        prop_assume!(sql::is_one_token(word.as_bytes()));
        let mut state = libinjectionrs::SqliState::new(word.as_bytes(), libinjectionrs::SqliFlags::FLAG_NONE);
        prop_assert!(!state.detect());
    }

    #[test]
    fn any_bytes_get_an_answer(input in prop::collection::vec(any::<u8>(), 0..200)) {
        sqli(&input);
        xss(&input);
    }
}
