//! Cutting an SQL script into statements, as `psql` does: at semicolons outside of quotes, dollar quotes,
//! comments and parentheses. Bodies in `BEGIN ATOMIC` form are not recognised.

/// The statements with their byte offsets; those of white space and comments only are left out.
pub(crate) fn statements(sql: &str) -> Vec<(usize, &str)> {
    let bytes = sql.as_bytes();
    let (mut found, mut start, mut at, mut depth) = (vec![], 0, 0, 0usize);
    let mut has_words = false;
    while at < bytes.len() {
        let next = match bytes[at] {
            b'\'' => quoted(bytes, at, b'\'', at > 0 && matches!(bytes[at - 1], b'e' | b'E')),
            b'"' => quoted(bytes, at, b'"', false),
            b'-' if bytes[at..].starts_with(b"--") => {
                at = end_of(bytes, at, b"\n");
                continue;
            }
            b'/' if bytes[at..].starts_with(b"/*") => {
                at = block_comment(bytes, at);
                continue;
            }
            b'$' => dollar_quoted(bytes, at),
            b';' if depth == 0 => {
                if has_words {
                    found.push((start, &sql[start..at]));
                }
                (start, has_words) = (at + 1, false);
                at += 1;
                continue;
            }
            byte => {
                match byte {
                    b'(' => depth += 1,
                    b')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                at + 1
            }
        };
        has_words |= !bytes[at].is_ascii_whitespace();
        at = next;
    }
    if has_words {
        found.push((start, &sql[start..]));
    }
    found
}

fn end_of(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    bytes[from..]
        .windows(what.len())
        .position(|w| w == what)
        .map_or(bytes.len(), |i| from + i + what.len())
}

/// A doubled quote reads as an end and a beginning, which comes to the same.
fn quoted(bytes: &[u8], from: usize, quote: u8, backslashes: bool) -> usize {
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if backslashes => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn block_comment(bytes: &[u8], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if bytes[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn dollar_quoted(bytes: &[u8], from: usize) -> usize {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    // `a$b` is one identifier, `$1` a parameter.
    if from > 0 && (is_word(bytes[from - 1]) || bytes[from - 1] == b'$') {
        return from + 1;
    }
    let length = bytes[from + 1..].iter().take_while(|b| is_word(**b)).count();
    let end = from + 1 + length;
    if bytes.get(end) != Some(&b'$') || (length > 0 && bytes[from + 1].is_ascii_digit()) {
        return from + 1;
    }
    end_of(bytes, end + 1, &bytes[from..=end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(sql: &str) -> Vec<&str> {
        statements(sql).into_iter().map(|(_, text)| text.trim()).collect()
    }

    #[test]
    fn semicolons_inside_of_things_do_not_cut() {
        assert_eq!(texts("a; b;"), ["a", "b"]);
        assert_eq!(
            texts("SELECT ';', \";\", E'\\';' ; x"),
            ["SELECT ';', \";\", E'\\';'", "x"]
        );
        assert_eq!(
            texts("DO $do$ a; $x$ b; $do$; c"),
            ["DO $do$ a; $x$ b; $do$", "c"]
        );
        assert_eq!(
            texts("SELECT $1; /* ; /* ; */ ; */ -- ;\n ; b -- ;"),
            ["SELECT $1", "b -- ;"]
        );
        assert_eq!(
            texts("CREATE RULE r AS ON INSERT TO t DO (a; b); c"),
            ["CREATE RULE r AS ON INSERT TO t DO (a; b)", "c"]
        );
        assert_eq!(texts("-- nothing\n;;"), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_offsets_point_at_the_text(sql in "[a$';\"()/*\\-\n E é1]{0,60}") {
            for (offset, text) in statements(&sql) {
                prop_assert_eq!(&sql[offset..offset + text.len()], text);
                prop_assert!(!text.trim().is_empty());
            }
        }
    }
}
