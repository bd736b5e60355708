use proptest::prelude::*;

use super::dialect::translate;
use super::equivalents::EQUIVALENTS;
use super::pattern::{Flags, Pattern};
use super::{ByteSet, Need};

fn pattern(text: &str) -> Pattern {
    Pattern::new(text, Flags::default()).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn matches(text: &str, value: &[u8]) -> bool {
    let pattern = pattern(text);
    pattern.is_match(&mut pattern.cache(), value)
}

#[test]
fn the_dialect_of_pcre_is_read() {
    for (text, value, wanted) in [
        (r"a\x{bc}", &b"a\xbc"[..], true),
        (r"\xbc", b"\xbc", true),
        (r"\h\v\R", b"\t\n\r\n", true),
        (r"[\h]", b"\xa0", true),
        (r"^\N$", b"\n", false),
        (r"\Qa.b*\Ec", b"a.b*c", true),
        (r"\ca", b"\x01", true),
        (r"\e[\e]", b"\x1b\x1b", true),
        (r"\/\-\'\<\>", b"/-'<>", true),
        (r"[^[]", b"[", false),
        (r"[a&&b]", b"&", true),
        (r"[a\-z]", b"b", false),
        (r"[]a]", b"]", true),
        (r"[a-\d]", b"-", true),
        (r"[\w-]", b"-", true),
        (r"[[:alpha:]]", b"a", true),
        (r"a{2}", b"aa", true),
        (r"a{,2}", b"a{,2}", true),
        (r"{x}", b"{x}", true),
        (r"a(?#comment)b", b"ab", true),
        (r"(?i)a(?-i)b", b"AB", false),
        (r"(?<n>a)", b"a", true),
        (r"a$", b"a\n", false),
        (r"a\Z", b"a\n", true),
        (r"a.b", b"a\nb", true),
        (r"^b", b"a\nb", false),
        // A character beyond ASCII is its bytes, one by one in a class.
        ("[é]", b"\xc3", true),
        ("é", b"\xc3\xa9", true),
    ] {
        assert_eq!(matches(text, value), wanted, "{text} {value:?}");
    }
}

#[test]
fn what_needs_more_than_linear_time_is_refused() {
    for text in [
        r"a(?!b)", r"(?<=a)b", r"(?>a)", r"a++", r"a*+", r"(a)\1", r"\k<n>", r"(?R)", r"a{2}+", r"(?|a)",
    ] {
        let error = translate(text).unwrap_err();
        assert!(error.message.contains("linear time"), "{text}: {error:?}");
    }
    for text in [r"\p{L}", r"(*UTF8)a", r"\x{100}", "a)", "[b-a]", "[a", "\\"] {
        assert!(translate(text).is_err(), "{text}");
    }
}

/// The pattern of the Core Rule Set 3 that begins like this.
fn known(start: &str) -> &'static str {
    let found = EQUIVALENTS.iter().find(|(text, _)| text.starts_with(start));
    found.map_or_else(|| panic!("{start}"), |(text, _)| *text)
}

/// The verdicts are those of PCRE on the originals.
#[test]
fn equivalents_match_what_the_originals_match() {
    let php = known(r"<\?(?!xml)");
    for (value, wanted) in [
        ("<?php", true),
        ("<?", true),
        ("<?x", true),
        ("<?xm", true),
        ("<?xmp", true),
        ("<?xml version", false),
        ("a <?xml b <? c", true),
        ("none", false),
    ] {
        assert_eq!(matches(php, value.as_bytes()), wanted, "953120 {value}");
    }
    let upload = known("(?<!&");
    for (value, wanted) in [
        ("file.txt", false),
        ("f&uuml;r.txt", false),
        ("&amp;&apos;&Eacute;.txt", false),
        ("a;b", true),
        ("&auml", false),
        ("&auml;;", true),
        ("&xuml;", true),
        ("a\"b", true),
        ("a'b", true),
        ("a=b", true),
        ("", false),
    ] {
        assert_eq!(matches(upload, value.as_bytes()), wanted, "920120 {value}");
    }
    let tautology = known("(?i:[\\s");
    for (value, wanted) in [
        ("1=1", true),
        ("1=2", false),
        ("a' = 'A", true),
        ("1 != 2", true),
        ("1!=1", false),
        ("1 <> 2", true),
        ("1 <=> 1", true),
        ("x like x", true),
        ("x sounds like y", false),
        ("x not like y", true),
        ("x is not y", true),
        ("x is not x", false),
        ("a=b and 2=2", true),
        ("5 > 3", true),
        ("plain words", false),
    ] {
        assert_eq!(matches(tautology, value.as_bytes()), wanted, "942130 {value}");
    }
    let accept = known(r"^(?:(?:\*|[^");
    for (value, wanted) in [
        ("*/*", true),
        ("text/html", true),
        ("text/html,application/xml;q=0.9, */*;q=0.8", true),
        ("text/html; charset=utf-8", true),
        ("text/html; charset=\"iso-8859-1\"", true),
        ("text/html; charset=utf-7", false),
        ("text/html; q= ", false),
        ("text/html,   /x", false),
        ("text/html; =x", false),
        ("a/b;chars=1", false),
        ("nothing", false),
    ] {
        assert_eq!(matches(accept, value.as_bytes()), wanted, "920600 {value}");
    }
    let like = known("(?i:[\"'`]\\s*?(?:(?:n(?:and");
    for (value, wanted) in [
        ("' - (x+y", true),
        ("' \" a b", true),
        ("' * a b'", true),
        ("union select ", true),
        ("x like 'y", true),
        ("it's fine", false),
        ("find_in_set (", true),
    ] {
        assert_eq!(matches(like, value.as_bytes()), wanted, "942370 {value}");
    }
}

#[test]
fn captures_are_numbered_as_they_are_written() {
    let pattern = pattern(r"(a)|(b)(c)?");
    let mut cache = pattern.cache();
    let groups = pattern.captures(&mut cache, b"xb").unwrap();
    let range = |index: usize| groups[index].map(|span| (span.start, span.end));
    assert_eq!(
        (range(0), range(1), range(2), range(3)),
        (Some((1, 2)), None, Some((1, 2)), None)
    );
}

#[test]
fn captures_without_groups_are_where_the_match_is() {
    for (text, value, wanted) in [
        (r"b+", "abbc", Some((1, 3))),
        (r"b+", "ac", None),
        (r"^.*$", "a\nb", Some((0, 3))),
        (r"^.*$", "", Some((0, 0))),
        (r"^.*?$", "ab", Some((0, 2))),
        (r"^.+$", "", None),
        (r"^.*a$", "b", None),
    ] {
        let pattern = pattern(text);
        let mut cache = pattern.cache();
        let groups = pattern.captures(&mut cache, value.as_bytes());
        let found = groups
            .and_then(|groups| groups[0])
            .map(|span| (span.start, span.end));
        assert_eq!(found, wanted, "{text} {value:?}");
        assert_eq!(
            pattern.is_match(&mut cache, value.as_bytes()),
            wanted.is_some(),
            "{text} {value:?}"
        );
    }
}

/// Patterns of the kinds that rules have, without anchors: those cannot be written backwards.
const KINDS: &[&str] = &[
    r"(?i)union\s+(?:all\s+)?select",
    r"(?:get|p(?:os|u)t|delete)[\s\x0b]+[^\s]+",
    r"['\x22`][\s\d]*?[^\w\s]\W*?\d",
    r"[\n\r;`\{]|\|\|?|&&?",
    r"(?i)<[a-z]*script|on(?:load|error)\s*=",
    r"\$(?:\((?:[^\)]+)\)|\{[^\}]+\})",
    r"(?:ab|cd){2,4}x?",
    r"a(?:b|)c",
    r"(?:/\*!?|\*/|[';]--)",
    r"(?i)b[\x22'\)\[\\]*u[\x22'\)\[\\]*s[\x22'\)\[\\]*y",
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}",
    r"x(?:longword|anotherone|third)?y",
    r"\.{2,3}[/;\\]",
    r"(?i:sleep\s*?\(\s*?\d+|benchmark\()",
    r"\xac\xed\x00\x05",
];

proptest! {
    /// What a pattern needs is in every text that it matches: otherwise a rule would be passed over.
    #[test]
    fn what_matches_has_what_is_needed(
        (text, value) in proptest::sample::select(KINDS).prop_flat_map(|text| {
            let values = proptest::string::bytes_regex(&format!("(?s-u:{text})")).unwrap();
            (Just(text), values)
        }),
        around in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let pattern = pattern(text);
        let value = [around.as_slice(), &value, &around].concat();
        prop_assume!(pattern.is_match(&mut pattern.cache(), &value));
        prop_assert!(has(&pattern.need, &value), "{text} {value:?} {:?}", pattern.need);
    }
}

fn has(need: &Need, value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let occurring = ByteSet::of(value);
    let word = need.words.as_ref().is_none_or(|words| {
        words
            .iter()
            .any(|word| memchr::memmem::find(&lower, word).is_some())
    });
    word && value.len() >= need.length && need.bytes.iter().all(|set| set.meets(&occurring))
}

#[test]
fn most_patterns_need_something() {
    let none: Vec<&&str> = KINDS
        .iter()
        .filter(|text| {
            let need = pattern(text).need;
            need.words.is_none() && need.bytes.is_empty()
        })
        .collect();
    assert!(none.is_empty(), "{none:?}");
}
