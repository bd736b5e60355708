//! What each transformation does, by examples that ModSecurity 3.0.9 was asked about (by hand, through its library), and
//! what holds for all of them.

use proptest::prelude::*;

use super::Transformation as T;
use super::*;

/// The new value, or the old one.
fn of(transformation: T, input: &[u8]) -> Vec<u8> {
    let mut out = b"what was there before".to_vec();
    if apply(transformation, input, &mut out) {
        out
    } else {
        input.to_vec()
    }
}

#[track_caller]
fn check(transformation: T, cases: &[(&[u8], &[u8])]) {
    for (input, wanted) in cases {
        let found = of(transformation, input);
        assert_eq!(
            found,
            *wanted,
            "{transformation} of {:?}: {:?}",
            String::from_utf8_lossy(input),
            String::from_utf8_lossy(&found)
        );
    }
}

#[test]
fn names_are_read_in_any_case_and_both_spellings() {
    for transformation in T::ALL {
        assert_eq!(transformation.name().parse(), Ok(*transformation));
        assert_eq!(transformation.name().to_uppercase().parse(), Ok(*transformation));
    }
    assert_eq!("normalisePathWin".parse(), Ok(T::NormalizePathWin));
    assert_eq!("base64decode".parse(), Ok(T::Base64Decode));
    let error = "lower".parse::<T>().unwrap_err();
    assert_eq!(error.to_string(), "no transformation is called 'lower'");
}

#[test]
fn url_encoding() {
    let both: &[(&[u8], &[u8])] = &[
        (b"", b""),
        (b"plain", b"plain"),
        (b"a+b%20c%2F", b"a b c/"),
        (b"%", b"%"),
        (b"%4", b"%4"),
        (b"%zz%4g%41", b"%zz%4gA"),
        (b"%%41", b"%A"),
        (b"%00", b"\0"),
    ];
    check(T::UrlDecode, both);
    check(T::UrlDecodeUni, both);
    check(T::UrlDecode, &[(b"%u0041", b"%u0041")]);
    check(
        T::UrlDecodeUni,
        &[
            (b"%u0041%U0042", b"AB"),
            (b"%uff1cscript%uff1e", b"<script>"),
            (b"%u0 %uZZZZ", b"%u0 %uZZZZ"),
            (b"%u2019", b"\x19"),
            (b"%u", b"%u"),
        ],
    );
    check(
        T::UrlEncode,
        &[(b"a *b/\xff", b"a+*b%2f%ff"), (b"Az09*", b"Az09*")],
    );

    let map = UnicodeMap::parse("20127\n2019:27\n", 20127).unwrap();
    let mut out = Vec::new();
    assert!(apply_with(T::UrlDecodeUni, b"%u2019%u0041", &mut out, Some(&map)));
    assert_eq!(out, b"'A");
}

#[test]
fn html_entities() {
    check(
        T::HtmlEntityDecode,
        &[
            (b"&lt;script&gt;&quot;&amp;&nbsp;", b"<script>\"&\xa0"),
            (b"&LT;&lt", b"<<"),
            (b"&#60;&#x3C;&#X3c&#60", b"<<<<"),
            (b"&#;&#x;&#xg;&", b"&#;&#x;&#xg;&"),
            (b"&ltx;&hellip;", b"&ltx;&hellip;"),
            (b"&#8217;", b"\x19"),
            (b"&#99999999999999999999;", b"\xff"),
        ],
    );
}

#[test]
fn backslashes() {
    check(
        T::JsDecode,
        &[
            (b"\\u0041\\x41\\101", b"AAA"),
            (b"\\uff41\\n\\'\\/\\q", b"a\n'/q"),
            (b"\\777", b"\x3f7"),
            (b"\\u12\\xg", b"u12xg"),
            (b"\\", b"\\"),
        ],
    );
    check(
        T::CssDecode,
        &[
            (b"\\41 \\000042\\43x", b"ABCx"),
            (b"\\ja\\\nvascript", b"javascript"),
            (b"\\0ff41\\00ff41", b"aa"),
            (b"\\1ff41", b"A"),
            (b"\\zq\\", b"zq"),
        ],
    );
    check(
        T::EscapeSeqDecode,
        &[
            (
                b"\\a\\b\\f\\n\\r\\t\\v\\\\\\?\\'\\\"",
                b"\x07\x08\x0c\n\r\t\x0b\\?'\"",
            ),
            (b"\\x41\\101\\7z", b"AA\x07z"),
            (b"\\q\\x4", b"qx4"),
            (b"\\777", b"\xff"),
            (b"\\", b"\\"),
        ],
    );
}

#[test]
fn comments() {
    check(
        T::ReplaceComments,
        &[
            (b"a/*b*/c", b"a c"),
            (b"UNION/**/SELECT", b"UNION SELECT"),
            (b"a/*b", b"a "),
            (b"a*/b", b"a*/b"),
        ],
    );
    check(
        T::RemoveComments,
        &[
            (b"a/*b*/c", b"ac"),
            (b"a<!--b-->c", b"ac"),
            (b"a--b", b"a"),
            (b"a#b", b"a"),
            (b"a/*b", b"a "),
        ],
    );
    check(
        T::RemoveCommentsChar,
        &[(b"a/*b*/c<!--d-->e--f#g", b"abcdefg"), (b"a-b/c", b"a-b/c")],
    );
}

#[test]
fn white_space_and_shells() {
    check(
        T::CompressWhitespace,
        &[
            (b" a \t\r\n b\x0bc ", b" a b c "),
            (b"a b", b"a b"),
            (b"\n", b" "),
        ],
    );
    check(
        T::RemoveWhitespace,
        &[
            (b" a\t\xa0b\xc2\xa0c ", b"abc"),
            (b"\xc3\xa9\xc2", b"\xc3\xa9\xc2"),
        ],
    );
    check(T::Trim, &[(b" \na b\t ", b"a b"), (b"   ", b""), (b"a", b"a")]);
    check(T::TrimLeft, &[(b" a ", b"a ")]);
    check(T::TrimRight, &[(b" a ", b" a")]);
    check(
        T::CmdLine,
        &[
            (b"c^a\"t'  \\/etc ;(x), y\t", b"cat/etc(x) y "),
            (b"PING  -c", b"ping -c"),
            (b"ls -l", b"ls -l"),
            (b" /", b"/"),
        ],
    );
}

#[test]
fn paths() {
    check(
        T::NormalizePath,
        &[
            (b"/a/./b//c/../d", b"/a/b/d"),
            (b"/../../etc", b"/etc"),
            (b"../../a/..", b"../.."),
            (b"a/../../b", b"../b"),
            (b"/a/b/", b"/a/b/"),
            (b"/a/b/..", b"/a"),
            (b"/", b"/"),
            (b".", b""),
            (b"a...b/c", b"a...b/c"),
            (b"a\\..\\b", b"a\\..\\b"),
        ],
    );
    check(
        T::NormalizePathWin,
        &[(b"a\\..\\b\\.\\c", b"b/c"), (b"\\\\x", b"/x")],
    );
}

#[test]
fn bytes_and_digits() {
    check(T::Lowercase, &[(b"AbC\xc9", b"abc\xc9")]);
    check(T::Uppercase, &[(b"AbC\xe9", b"ABC\xe9")]);
    check(T::RemoveNulls, &[(b"a\0b\0", b"ab")]);
    check(T::ReplaceNulls, &[(b"a\0b\0", b"a b ")]);
    check(T::Length, &[(b"", b"0"), (b"hello worlds", b"12")]);
    check(T::HexEncode, &[(b"\x00aZ", b"00615a")]);
    check(T::HexDecode, &[(b"00615a", b"\x00aZ"), (b"6161f", b"aa")]);
    check(T::SqlHexDecode, &[(b"a=0x4142 0X43z 0xq", b"a=AB Cz 0xq")]);
    check(T::ParityEven7bit, &[(b"abc", b"\xe1\xe2c")]);
    check(T::ParityOdd7bit, &[(b"abc", b"ab\xe3")]);
    check(T::ParityZero7bit, &[(b"\xe1b", b"ab")]);
    check(
        T::Md5,
        &[(
            b"",
            b"\xd4\x1d\x8c\xd9\x8f\x00\xb2\x04\xe9\x80\x09\x98\xec\xf8\x42\x7e",
        )],
    );
    check(
        T::Sha1,
        &[(
            b"abc",
            b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d",
        )],
    );
    check(
        T::Utf8ToUnicode,
        &[
            ("é€😀".as_bytes(), b"%u00e9%u20ac%u1f600"),
            (b"\xc0\xaf", b"%u002f\xc0"),
            (b"\xed\xa0\x80", b"%ud800\xed"),
            (b"\xe2\x82x\x80", b"\x82x\x80"),
        ],
    );
}

#[test]
fn base64() {
    check(
        T::Base64Decode,
        &[
            (b"VGVzdENhc2U=", b"TestCase"),
            (b"VGVz\r\ndENhc2U", b"TestCase"),
            (b"not base64!", b"not base64!"),
            (b"VGVz=VGVz", b"VGVz=VGVz"),
        ],
    );
    check(T::Base64DecodeExt, &[(b"V.G!V@zdENhc2U=", b"TestCase")]);
    check(T::Base64Encode, &[(b"TestCase", b"VGVzdENhc2U="), (b"", b"")]);
}

/// Bytes of which transformations make something.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => prop::sample::select(b"%u+&#;x\\/.*-!<>0aAfF9 \t\n\0\xa0\xc2\xe2\x82\xac\"'^,(=".to_vec()),
        1 => any::<u8>(),
    ];
    prop::collection::vec(piece, 0..120)
}

proptest! {
    #[test]
    fn an_answer_of_changed_is_true_and_an_unchanged_value_stays(input in hostile()) {
        let mut out = Vec::new();
        for transformation in T::ALL {
            if apply(*transformation, &input, &mut out) {
                prop_assert_ne!(&out, &input, "{}", transformation);
            }
        }
    }

    #[test]
    fn a_second_time_changes_nothing(input in hostile()) {
        let once = [T::Lowercase, T::Uppercase, T::CompressWhitespace, T::RemoveWhitespace, T::RemoveNulls,
            T::ReplaceNulls, T::Trim, T::ReplaceComments, T::ParityZero7bit];
        for transformation in once {
            let first = of(transformation, &input);
            let second = of(transformation, &first);
            prop_assert_eq!(second, first, "{}", transformation);
        }
    }

    #[test]
    fn what_is_encoded_comes_back(input in prop::collection::vec(any::<u8>(), 0..60)) {
        for (there, back) in [(T::Base64Encode, T::Base64DecodeExt), (T::HexEncode, T::HexDecode),
            (T::UrlEncode, T::UrlDecode)] {
            prop_assert_eq!(&of(back, &of(there, &input)), &input, "{}", there);
        }
    }

    #[test]
    fn no_value_grows_beyond_its_bound(input in hostile()) {
        let mut out = Vec::new();
        for transformation in T::ALL {
            if apply(*transformation, &input, &mut out) {
                prop_assert!(out.len() <= 4 * input.len() + 32, "{}", transformation);
            }
        }
    }
}
