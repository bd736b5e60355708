//! Comparison of text without regard to case: .NET's `OrdinalIgnoreCase`, which compares the upper-case forms
//! character by character.

use std::cmp::Ordering;

/// The text in upper case, one character for each.
pub(crate) fn upper(text: &str) -> String {
    text.chars().map(upper_char).collect()
}

pub(crate) fn equal(left: &str, right: &str) -> bool {
    left.chars().map(upper_char).eq(right.chars().map(upper_char))
}

/// In the order of UTF-16 units.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    upper(left).encode_utf16().cmp(upper(right).encode_utf16())
}

/// Unicode's simple mapping. The dotless i and the long s stay as they are.
fn upper_char(c: char) -> char {
    match c {
        'ı' | 'ſ' => return c,
        // Their full mapping is two characters; their simple one is the letter with its iota beside it.
        '\u{1F80}'..='\u{1F87}' | '\u{1F90}'..='\u{1F97}' | '\u{1FA0}'..='\u{1FA7}' => {
            return char::from_u32(c as u32 + 8).unwrap_or(c);
        }
        'ᾳ' | 'ῃ' | 'ῳ' => return char::from_u32(c as u32 + 9).unwrap_or(c),
        _ => {}
    }
    let mut all = c.to_uppercase();
    match (all.next(), all.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded_through_upper_case() {
        for (left, right) in [("ς", "σ"), ("abc", "ABC"), ("é", "É"), ("ᾳ", "ᾼ"), ("𐐨", "𐐀")] {
            assert!(equal(left, right), "{left} {right}");
        }
        for (left, right) in [("i", "İ"), ("i", "ı"), ("s", "ſ"), ("ß", "ss"), ("a", "ab")] {
            assert!(!equal(left, right), "{left} {right}");
        }
    }
}
