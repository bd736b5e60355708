//! The encoders, behind one shape: bytes in, bytes out, nothing kept that could be bounded smaller.

use astraler_model::Coding;
use bytes::Bytes;
use std::io::{self, Write};

/// How hard each tries: about where a further step costs more time than it saves bytes.
const BROTLI_QUALITY: u32 = 4;
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 5;
/// log2 of how far back matches are looked for. It bounds the memory of an encoder to about a megabyte, and is what every
/// client accepts.
const MAX_WINDOW_LOG: u32 = 18;
const MIN_WINDOW_LOG: u32 = 16;
const BROTLI_BUFFER: usize = 4096;

/// A stream being compressed.
pub(super) enum Encoder {
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
}

impl Encoder {
    /// `size`: how much is to come, where that is known.
    pub(super) fn new(coding: Coding, size: Option<u64>) -> io::Result<Self> {
        let window = window_log(size);
        Ok(match coding {
            Coding::Br => Self::Br(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                BROTLI_QUALITY,
                window,
            ))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(window)?;
                encoder.include_contentsize(false)?;
                Self::Zstd(Box::new(encoder))
            }
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Br(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    /// So that a client can read all that was written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Br(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }

    /// What has come out since.
    pub(super) fn take(&mut self) -> Bytes {
        let out = match self {
            Self::Br(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }

    pub(super) fn has_output(&mut self) -> bool {
        let out = match self {
            Self::Br(encoder) => encoder.get_ref(),
            Self::Zstd(encoder) => encoder.get_ref(),
            Self::Gzip(encoder) => encoder.get_ref(),
        };
        !out.is_empty()
    }

    /// Ends the stream; what has come out since.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        match self {
            Self::Br(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
        .map(Bytes::from)
    }
}

fn window_log(size: Option<u64>) -> u32 {
    let needed = size.map_or(MAX_WINDOW_LOG, |size| 64 - size.max(1).leading_zeros());
    needed.clamp(MIN_WINDOW_LOG, MAX_WINDOW_LOG)
}

/// All at once.
pub(crate) fn whole(coding: Coding, bytes: &[u8]) -> io::Result<Bytes> {
    let mut encoder = Encoder::new(coding, Some(bytes.len() as u64))?;
    encoder.write(bytes)?;
    encoder.finish()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    pub(in crate::compress) const ALL: [Coding; 3] = [Coding::Br, Coding::Zstd, Coding::Gzip];

    /// As far as it can be read.
    pub(in crate::compress) fn decoded(coding: Coding, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let whole = match coding {
            Coding::Br => brotli::Decompressor::new(bytes, 4096)
                .read_to_end(&mut out)
                .is_ok(),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)
                .unwrap()
                .read_to_end(&mut out)
                .is_ok(),
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).is_ok(),
        };
        (out, whole)
    }

    #[test]
    fn text_shrinks_and_comes_back() {
        let text = "The quick brown fox jumps over the lazy dog. "
            .repeat(5_000)
            .into_bytes();
        for coding in ALL {
            let small = whole(coding, &text).unwrap();
            assert!(small.len() < text.len() / 20, "{coding:?} {}", small.len());
            assert_eq!(decoded(coding, &small), (text.clone(), true), "{coding:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_was_flushed_can_be_read(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..6)) {
            for coding in ALL {
                let mut encoder = Encoder::new(coding, None).unwrap();
                let (mut sent, mut written) = (Vec::new(), Vec::new());
                for piece in &pieces {
                    encoder.write(piece).unwrap();
                    encoder.flush().unwrap();
                    sent.extend_from_slice(&encoder.take());
                    written.extend_from_slice(piece);
                    prop_assert_eq!(&decoded(coding, &sent).0, &written);
                }
                sent.extend_from_slice(&encoder.finish().unwrap());
                prop_assert_eq!(decoded(coding, &sent), (written, true));
            }
        }
    }
}
