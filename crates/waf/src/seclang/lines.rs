//! Physical lines to logical ones.

/// A logical line: continuations joined, comments gone.
pub(super) struct Line {
    /// The line on which it begins, from 1.
    pub(super) number: u32,
    pub(super) text: String,
}

/// A backslash at the end of a line joins the next, also in comments: so does Apache.
pub(super) fn logical(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    for (index, physical) in text.lines().enumerate() {
        let physical = physical.trim_end_matches(['\r', ' ', '\t']);
        let (content, goes_on) = match physical.strip_suffix('\\') {
            Some(content) => (content, true),
            None => (physical, false),
        };
        let line = open.get_or_insert_with(|| Line {
            number: u32::try_from(index + 1).unwrap_or(u32::MAX),
            text: String::new(),
        });
        line.text.push_str(content);
        if !goes_on && let Some(line) = open.take() {
            push(&mut lines, line);
        }
    }
    lines.extend(open.filter(is_content));
    lines
}

fn push(lines: &mut Vec<Line>, line: Line) {
    if is_content(&line) {
        lines.push(line);
    }
}

fn is_content(line: &Line) -> bool {
    let text = line.text.trim_start();
    !text.is_empty() && !text.starts_with('#')
}
