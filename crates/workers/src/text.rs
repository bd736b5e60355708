//! Cap'n Proto's text form of strings.

use std::fmt::Write;

/// A string literal. Everything that is not plain ASCII is written as bytes, so that no input can end the
/// literal. Cap'n Proto text cannot hold NUL at its end only in C; workerd reads it by length.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::literal;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_literal_ends_where_it_should(text in ".*") {
            let literal = literal(&text);
            let inside = &literal[1..literal.len() - 1];
            let mut escaped = false;
            for byte in inside.bytes() {
                prop_assert!((b' '..=b'~').contains(&byte));
                if escaped { escaped = false; continue; }
                prop_assert_ne!(byte, b'"');
                escaped = byte == b'\\';
            }
            prop_assert!(!escaped);
        }
    }
}
