//! What belongs together. Version 1: worker, name, and functions and files of the innermost calls; lines are left out, so
//! that a change elsewhere in a file makes no new group. Without a stack, the message without its numbers.

use super::Frame;
use sha2::{Digest, Sha256};

const VERSION: &str = "1";
/// Calls that count.
const INNERMOST: usize = 5;

pub(super) fn id(environment: &str, worker: &str, name: &str, message: &str, frames: &[Frame]) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    for text in [VERSION, environment, worker, name] {
        add(text);
    }
    for frame in frames.iter().take(INNERMOST) {
        add(frame.function.as_deref().unwrap_or_default());
        add(&frame.file);
    }
    if frames.is_empty() {
        let words: String = message
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        // Numbers of any length are one.
        let mut plain = words;
        while plain.contains("00") {
            plain = plain.replace("00", "0");
        }
        add(&plain);
    }
    hex::encode(&hash.finalize()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, line: u32) -> Frame {
        Frame {
            function: Some(function.into()),
            file: "src/index.ts".into(),
            line,
            column: 1,
            mapped: true,
        }
    }

    #[test]
    fn a_group_is_a_place_not_a_line() {
        let of = |message: &str, frames: &[Frame]| id("production", "api", "TypeError", message, frames);
        assert_eq!(of("a", &[frame("f", 1)]), of("b", &[frame("f", 9)]));
        assert_ne!(of("a", &[frame("f", 1)]), of("a", &[frame("g", 1)]));
        assert_ne!(
            of("a", &[frame("f", 1)]),
            id("staging", "api", "TypeError", "a", &[frame("f", 1)])
        );
        assert_eq!(of("order 17 is gone", &[]), of("order 4711 is gone", &[]));
        assert_ne!(of("order 17 is gone", &[]), of("user 17 is gone", &[]));
        assert_eq!(of("a", &[]).len(), 12);
    }
}
