//! A directive's words: bare, or in quotes.

use super::Wrong;

/// Splits a logical line. In double quotes `\"` is a quote, and every other backslash stands for itself: patterns keep
/// theirs.
pub(super) fn split(line: &str) -> Result<Vec<String>, Wrong> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => quoted(rest, first)?,
            _ => bare(rest),
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn bare(text: &str) -> (String, &str) {
    let mut quote: Option<char> = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            // ARGS:'/a b/': a quoted selector is part of its word.
            (None, '\'') if text[..at].ends_with(':') => quote = Some('\''),
            (Some(open), c) if c == open => quote = None,
            (None, c) if c.is_whitespace() => return (text[..at].to_owned(), &text[at..]),
            _ => {}
        }
    }
    (text.to_owned(), "")
}

fn quoted(text: &str, quote: char) -> Result<(String, &str), Wrong> {
    let mut word = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => match characters.peek() {
                Some((_, next)) if *next == quote => {
                    word.push(quote);
                    characters.next();
                }
                // The pair stays together: the second backslash must not hide a quote.
                Some((_, '\\')) => {
                    word.push_str("\\\\");
                    characters.next();
                }
                _ => word.push('\\'),
            },
            c if c == quote => return Ok((word, &text[at + c.len_utf8()..])),
            c => word.push(c),
        }
    }
    Err(Wrong::new(format!("a {quote} is opened and never closed"))
        .hint("a line that goes on ends in a backslash, and nothing may follow that"))
}
