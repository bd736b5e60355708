//! Comments of C, HTML and SQL.

use memchr::memmem;

use super::scan::Bytes;

/// Each `/* … */` becomes a space; one without an end too.
pub(super) fn replace(input: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = input;
    let mut changed = false;
    while let Some(start) = memmem::find(rest, b"/*") {
        changed = true;
        out.extend_from_slice(&rest[..start]);
        out.push(b' ');
        let inside = &rest[start + 2..];
        rest = match memmem::find(inside, b"*/") {
            Some(end) => &inside[end + 2..],
            None => &[],
        };
    }
    out.extend_from_slice(rest);
    changed
}

/// What may begin or end a comment.
const MARKS: Bytes = Bytes::of(b"/*<-#");

/// `/* … */` and `<!-- … -->` go, and all from `--` or `#` on.
pub(super) fn remove(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(mut at) = MARKS.find(input) else {
        return false;
    };
    out.extend_from_slice(&input[..at]);
    let mut inside = false;
    let mut changed = false;
    while let Some(byte) = input.get(at) {
        let rest = &input[at..];
        if inside {
            let end = if rest.starts_with(b"*/") {
                2
            } else if rest.starts_with(b"-->") {
                3
            } else {
                0
            };
            if end > 0 {
                inside = false;
                at += end;
            } else {
                at += 1;
            }
        } else if rest.starts_with(b"/*") {
            inside = true;
            changed = true;
            at += 2;
        } else if rest.starts_with(b"<!--") {
            inside = true;
            changed = true;
            at += 4;
        } else if rest.starts_with(b"--") || *byte == b'#' {
            changed = true;
            break;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    if inside {
        out.push(b' ');
    }
    changed
}

/// `/*`, `*/`, `<!--`, `-->`, `--` and `#` go; what is between them stays.
pub(super) fn remove_marks(input: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(mut at) = MARKS.find(input) else {
        return false;
    };
    out.extend_from_slice(&input[..at]);
    while let Some(byte) = input.get(at) {
        let rest = &input[at..];
        at += if rest.starts_with(b"<!--") {
            4
        } else if rest.starts_with(b"-->") {
            3
        } else if rest.starts_with(b"/*") || rest.starts_with(b"*/") || rest.starts_with(b"--") {
            2
        } else if *byte == b'#' {
            1
        } else {
            out.push(*byte);
            1
        };
    }
    out.len() != input.len()
}
