//! A chunked body: the same data, end and verdict whether it arrives at once or byte by byte.
#![no_main]

use astraler_edge::wire::chunk::{Chunked, Part};

/// Data and bytes used; `None` when refused.
fn read<'a>(chunked: &mut Chunked, pieces: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() && !chunked.is_done() {
            match chunked.next(&piece[at..]).ok()? {
                Part::Data { skip, length } => {
                    assert!(length > 0);
                    data.extend_from_slice(&piece[at + skip..at + skip + length]);
                    at += skip + length;
                }
                Part::More => at = piece.len(),
                Part::End(end) => at += end,
            }
        }
        used += at;
    }
    if chunked.is_done() {
        chunked.take_trailers().ok()?;
    }
    Some((data, used))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut at_once = Chunked::default();
    let whole = read(&mut at_once, std::iter::once(bytes));
    let mut by_bytes = Chunked::default();
    let pieces = read(&mut by_bytes, bytes.chunks(1));
    assert_eq!(whole, pieces);
    if whole.is_some() {
        assert_eq!(at_once.is_done(), by_bytes.is_done());
    }
});
