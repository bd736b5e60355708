//! Paths without detours.

/// Doubled slashes, `.` and `..` go; `..` at the beginning of a relative path stays, for there is nothing to go up to.
pub(super) fn normalize(input: &[u8], out: &mut Vec<u8>, windows: bool) -> bool {
    let slash = |byte: &u8| *byte == b'/' || windows && *byte == b'\\';
    let backslash = windows && memchr::memchr(b'\\', input).is_some();
    // An empty part is as it should be only before the first slash.
    let mut parts = input.split(|byte| *byte == b'/').enumerate();
    if !backslash && parts.all(|(at, part)| !matches!(part, b"." | b"..") && (at == 0 || !part.is_empty())) {
        return false;
    }
    let rooted = input.first().is_some_and(slash);
    if rooted {
        out.push(b'/');
    }
    // What stays of the path in any case: the root, and leading `..`.
    let mut floor = out.len();
    let mut parts = input.split(slash).skip(usize::from(rooted)).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            b"" | b"." => {}
            b".." if out.len() > floor => {
                out.truncate(out.len() - 1);
                let up = out[floor..]
                    .iter()
                    .rposition(|byte| *byte == b'/')
                    .map_or(floor, |at| floor + at + 1);
                out.truncate(up);
            }
            b".." if rooted => {}
            b".." => {
                out.extend_from_slice(b"..");
                if !last {
                    out.push(b'/');
                }
                floor = out.len();
            }
            name => {
                out.extend_from_slice(name);
                if !last {
                    out.push(b'/');
                }
            }
        }
    }
    // A path that ends in a detour names a folder, and ends without a slash, as in ModSecurity.
    let detour = matches!(input.rsplit(slash).next(), Some(b"." | b".."));
    if detour && out.last() == Some(&b'/') {
        out.pop();
    }
    out != input
}
