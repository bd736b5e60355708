//! The frames that a client sends, as far as their heads tell (RFC 9113 section 4.1): counted against floods before
//! anybody works on them. Pure: bytes and the time in, verdict out.
//!
//! HTTP/2 has many frames that cost the sender nothing and ask for work: resets, pings, settings, empty ones. Each
//! draws on an allowance that grows with time and with bytes that carry something.

use std::time::Duration;
use tokio::time::Instant;

const PREFACE_BYTES: u8 = 24;
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Requests taken back (CVE-2023-44487): a page left behind takes back a hundred at once, not thousands.
const RESETS: Allowance = Allowance::of(256, 32);
/// Frames that only ask for work.
const IDLE_FRAMES: Allowance = Allowance::of(1000, 200);
/// Bytes that pay for one such frame: a client that downloads sends a WINDOW_UPDATE or two for each 16 KiB.
const BYTES_PER_FRAME: u64 = 4 << 10;

/// The client sends more frames that carry nothing than anybody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood;

/// Follows a connection from its preface on.
#[derive(Debug)]
pub struct Frames {
    at: At,
    resets: Allowance,
    idle_frames: Allowance,
    /// A header block was begun and has not ended.
    block: bool,
    moved: u64,
}

#[derive(Debug)]
enum At {
    Preface(u8),
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes to the end of a frame, and whether it ends a header block.
    Payload(u32, bool),
}

#[derive(Debug, Clone, Copy)]
struct Allowance {
    most: u32,
    per_s: u32,
    left: u32,
    filled: Option<Instant>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            at: At::Preface(0),
            resets: RESETS,
            idle_frames: IDLE_FRAMES,
            block: false,
            moved: 0,
        }
    }
}

impl Frames {
    /// Goes on by what was read.
    ///
    /// # Errors
    /// [`Flood`]: the connection should end with `ENHANCE_YOUR_CALM`.
    pub fn follow(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while let Some(&byte) = bytes.first() {
            match &mut self.at {
                At::Preface(seen) => {
                    let rest = usize::from(PREFACE_BYTES - *seen).min(bytes.len());
                    bytes = &bytes[rest..];
                    *seen += u8::try_from(rest).unwrap_or(PREFACE_BYTES);
                    if *seen == PREFACE_BYTES {
                        self.at = At::Head([0; HEAD_BYTES], 0);
                    }
                }
                At::Head(head, have) => {
                    head[*have] = byte;
                    *have += 1;
                    bytes = &bytes[1..];
                    if *have == HEAD_BYTES {
                        let head = *head;
                        self.begin(head, now)?;
                    }
                }
                At::Payload(left, ends_block) => {
                    let skip = (*left).min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                    bytes = &bytes[skip as usize..];
                    *left -= skip;
                    if *left == 0 {
                        self.block &= !*ends_block;
                        self.at = At::Head([0; HEAD_BYTES], 0);
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, head: [u8; HEAD_BYTES], now: Instant) -> Result<(), Flood> {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let mut ends_block = false;
        let cost = match kind {
            DATA if length > 0 || flags & END_STREAM != 0 => {
                self.pay(u64::from(length));
                0
            }
            HEADERS => {
                self.block = true;
                ends_block = flags & END_HEADERS != 0;
                0
            }
            CONTINUATION => {
                ends_block = flags & END_HEADERS != 0;
                1
            }
            RST_STREAM => {
                self.resets.take(1, now)?;
                0
            }
            GOAWAY => 0,
            SETTINGS => 4,
            _ => 1,
        };
        self.idle_frames.take(cost, now)?;
        if length == 0 {
            self.block &= !ends_block;
            self.at = At::Head([0; HEAD_BYTES], 0);
        } else {
            self.at = At::Payload(length, ends_block);
        }
        Ok(())
    }

    /// Bytes that carried something, in either direction.
    pub fn pay(&mut self, bytes: u64) {
        self.moved += bytes;
        let frames = self.moved / BYTES_PER_FRAME;
        self.moved %= BYTES_PER_FRAME;
        self.idle_frames.give(frames);
    }

    /// The client is in the middle of a head (or of its preface): the rest should come soon.
    pub fn in_head(&self) -> bool {
        self.block || matches!(self.at, At::Preface(_))
    }
}

impl Allowance {
    const fn of(most: u32, per_s: u32) -> Self {
        Self {
            most,
            per_s,
            left: most,
            filled: None,
        }
    }

    fn take(&mut self, cost: u32, now: Instant) -> Result<(), Flood> {
        if cost == 0 {
            return Ok(());
        }
        let filled = *self.filled.get_or_insert(now);
        let due = now.saturating_duration_since(filled).as_millis() * u128::from(self.per_s) / 1000;
        if due > 0 {
            self.give(u64::try_from(due).unwrap_or(u64::MAX));
            self.filled = Some(
                filled
                    + Duration::from_millis(u64::try_from(due).unwrap_or(0) * 1000 / u64::from(self.per_s)),
            );
        }
        self.left = self.left.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }

    fn give(&mut self, more: u64) {
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn floods_of_every_kind_end_and_a_download_does_not() {
        for (name, flood, most) in [
            ("resets", frame(RST_STREAM, 0, &[0; 4]), 257),
            ("pings", frame(6, 0, &[0; 8]), 1001),
            ("settings", frame(SETTINGS, 0, &[]), 251),
            ("window updates", frame(8, 0, &[0; 4]), 1001),
            ("continuations", frame(CONTINUATION, 0, &[]), 1001),
            ("empty data", frame(DATA, 0, &[]), 1001),
            ("unknown", frame(0x42, 0, &[1, 2, 3]), 1001),
        ] {
            let now = Instant::now();
            let mut frames = Frames::default();
            frames.follow(PREFACE, now).unwrap();
            let passed = (0..).take_while(|_| frames.follow(&flood, now).is_ok()).count();
            assert_eq!(passed + 1, most, "{name}");
        }
        let now = Instant::now();
        let mut frames = Frames::default();
        frames.follow(PREFACE, now).unwrap();
        for _ in 0..10_000 {
            frames.pay(16 << 10);
            frames.follow(&frame(8, 0, &[0; 4]), now).unwrap();
            frames.follow(&frame(8, 0, &[0; 4]), now).unwrap();
        }
    }

    #[test]
    fn time_gives_back_what_was_taken() {
        let mut now = Instant::now();
        let mut frames = Frames::default();
        frames.follow(PREFACE, now).unwrap();
        // Thirty resets a second for ever.
        for _ in 0..10_000 {
            frames.follow(&frame(RST_STREAM, 0, &[0; 4]), now).unwrap();
            now += Duration::from_micros(33_333);
        }
    }

    #[test]
    fn a_head_is_open_from_its_first_frame_to_its_last() {
        let now = Instant::now();
        let mut frames = Frames::default();
        assert!(frames.in_head());
        frames.follow(PREFACE, now).unwrap();
        assert!(!frames.in_head());
        frames.follow(&frame(HEADERS, 0, b"abc"), now).unwrap();
        assert!(frames.in_head());
        let last = frame(CONTINUATION, END_HEADERS, b"def");
        frames.follow(&last[..11], now).unwrap();
        assert!(frames.in_head());
        frames.follow(&last[11..], now).unwrap();
        assert!(!frames.in_head());
        frames
            .follow(&frame(HEADERS, END_HEADERS | END_STREAM, b"abc"), now)
            .unwrap();
        assert!(!frames.in_head());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_bytes_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 1_usize..50) {
            let now = Instant::now();
            let mut whole = Frames::default();
            let mut pieces = Frames::default();
            let one = whole.follow(&bytes, now);
            let many = bytes.chunks(cut).try_for_each(|piece| pieces.follow(piece, now));
            prop_assert_eq!(one, many);
            if one.is_ok() {
                prop_assert_eq!(whole.in_head(), pieces.in_head());
            }
        }
    }
}
