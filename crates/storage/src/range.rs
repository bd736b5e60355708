//! Byte ranges: RFC 9110 section 14.1.2 and R2's own form.

use std::ops::Range;

/// A range that was asked for, before the object's size is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From an offset, inclusive, to an offset, inclusive, or to the end.
    FromTo {
        /// First byte.
        first: u64,
        /// Last byte.
        last: Option<u64>,
    },
    /// The last so many bytes.
    Suffix(u64),
    /// R2's form: from an offset, so many bytes or to the end.
    OffsetLength {
        /// First byte.
        offset: u64,
        /// How many.
        length: Option<u64>,
    },
}

/// The range holds no byte of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsatisfiable;

impl ByteRange {
    /// Reads a `Range` header. `None` is a header that must be ignored: another unit, several ranges, nonsense
    /// (RFC 9110 section 14.2).
    pub fn parse(header: &str) -> Option<Self> {
        let spec = header.strip_prefix("bytes=")?.trim();
        let (first, last) = spec.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", suffix) => Some(Self::Suffix(number(suffix)?)),
            (first, "") => Some(Self::FromTo {
                first: number(first)?,
                last: None,
            }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::FromTo {
                    first,
                    last: Some(last),
                })
            }
        }
    }

    /// The bytes of an object of a size that it means.
    pub fn resolve(self, size: u64) -> Result<Range<u64>, Unsatisfiable> {
        match self {
            Self::FromTo { first, last } if first < size => {
                let end = last.map_or(size, |last| last.saturating_add(1).min(size));
                Ok(first..end)
            }
            Self::Suffix(length) if length > 0 && size > 0 => Ok(size - length.min(size)..size),
            Self::OffsetLength { offset, length } if length != Some(0) && offset < size => {
                let end = length.map_or(size, |length| offset.saturating_add(length).min(size));
                Ok(offset..end)
            }
            _ => Err(Unsatisfiable),
        }
    }
}

/// Decimal digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let resolve = |header: &str| ByteRange::parse(header).map(|range| range.resolve(10_000));
        assert_eq!(resolve("bytes=0-499"), Some(Ok(0..500)));
        assert_eq!(resolve("bytes=500-999"), Some(Ok(500..1000)));
        assert_eq!(resolve("bytes=-500"), Some(Ok(9500..10_000)));
        assert_eq!(resolve("bytes=9500-"), Some(Ok(9500..10_000)));
        assert_eq!(resolve("bytes=9500-20000"), Some(Ok(9500..10_000)));
        assert_eq!(resolve("bytes=-20000"), Some(Ok(0..10_000)));
        assert_eq!(resolve("bytes=10000-"), Some(Err(Unsatisfiable)));
        assert_eq!(resolve("bytes=-0"), Some(Err(Unsatisfiable)));
        for ignored in [
            "bytes=0-0,-1",
            "bytes=5-4",
            "lines=1-2",
            "bytes=",
            "bytes=-",
            "bytes=+1-2",
            "bytes=a-b",
        ] {
            assert_eq!(resolve(ignored), None, "{ignored}");
        }
    }

    proptest! {
        /// The model walks over every byte and asks whether the header names it.
        #[test]
        fn a_range_is_the_bytes_that_it_names(size in 0u64..50, first in 0u64..60, last in 0u64..60, form in 0..4) {
            let (range, named): (ByteRange, Box<dyn Fn(u64) -> bool>) = match form {
                0 => (
                    ByteRange::parse(&format!("bytes={first}-")).unwrap(),
                    Box::new(move |at| at >= first),
                ),
                1 => (
                    ByteRange::parse(&format!("bytes=-{last}")).unwrap(),
                    Box::new(move |at| size - at <= last),
                ),
                2 => (
                    ByteRange::OffsetLength { offset: first, length: Some(last) },
                    Box::new(move |at| at >= first && at < first + last),
                ),
                _ => match ByteRange::parse(&format!("bytes={first}-{last}")) {
                    Some(range) => (range, Box::new(move |at| at >= first && at <= last)),
                    None => {
                        prop_assert!(first > last);
                        return Ok(());
                    }
                },
            };
            let expected: Vec<u64> = (0..size).filter(|at| named(*at)).collect();
            match range.resolve(size) {
                Ok(bytes) => prop_assert_eq!(bytes.collect::<Vec<_>>(), expected),
                Err(Unsatisfiable) => prop_assert!(expected.is_empty()),
            }
        }

        #[test]
        fn no_header_panics(header in ".*", size: u64) {
            if let Some(Ok(range)) = ByteRange::parse(&header).map(|range| range.resolve(size)) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
