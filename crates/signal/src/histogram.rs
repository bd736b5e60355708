//! Latency in buckets: eight for each power of two, so that a percentile is at most 6 % off, and histograms of different
//! minutes, routes and machines add up exactly. Sparse: a minute of a quiet route is some bytes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Buckets for each power of two.
const STEPS: u64 = 8;
/// Everything above, about 19 hours, is one bucket.
const MAX_BUCKET: u16 = 8 * 36 - 1;

/// Values in microseconds, counted in buckets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    buckets: BTreeMap<u16, u64>,
    sum_us: u64,
}

impl Histogram {
    /// Counts one value.
    pub fn add(&mut self, micros: u64) {
        *self.buckets.entry(bucket(micros)).or_default() += 1;
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// Their sum.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The value below which this share (0 to 1) of all lies; `None` when there is none.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let count = self.count();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count"
        )]
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += count;
            if seen >= rank {
                let (low, high) = (lower(*bucket), lower(bucket + 1));
                return Some(low + (high - low) / 2);
            }
        }
        None
    }

    /// How many values are at most this one; exact where a bucket ends there, else by the whole bucket.
    pub fn at_most(&self, micros: u64) -> u64 {
        let last = bucket(micros);
        self.buckets.range(..=last).map(|(_, count)| count).sum()
    }

    /// Bytes for a database.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.sum_us.to_le_bytes().to_vec();
        for (bucket, count) in &self.buckets {
            bytes.extend(bucket.to_le_bytes());
            bytes.extend(count.to_le_bytes());
        }
        bytes
    }

    /// Reads [`Histogram::encode`]; what is no histogram is an empty one.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let Some((sum, rest)) = bytes.split_first_chunk::<8>() else {
            return Self::default();
        };
        let buckets = rest
            .chunks_exact(10)
            .filter_map(|pair| {
                let (bucket, count) = pair.split_first_chunk::<2>()?;
                Some((
                    u16::from_le_bytes(*bucket),
                    u64::from_le_bytes(count.try_into().ok()?),
                ))
            })
            .collect();
        Self {
            buckets,
            sum_us: u64::from_le_bytes(*sum),
        }
    }
}

/// Values below eight have a bucket each.
fn bucket(micros: u64) -> u16 {
    if micros < STEPS {
        return u16::try_from(micros).unwrap_or(0);
    }
    let power = micros.ilog2();
    let step = (micros >> (power - 3)) & (STEPS - 1);
    let index = u64::from(power - 2) * STEPS + step;
    u16::try_from(index).unwrap_or(MAX_BUCKET).min(MAX_BUCKET)
}

/// The smallest value of a bucket.
fn lower(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < STEPS {
        return bucket;
    }
    let power = bucket / STEPS + 2;
    (1 << power) + ((bucket % STEPS) << (power - 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other() {
        for index in 0..MAX_BUCKET {
            assert_eq!(bucket(lower(index)), index);
            assert_eq!(bucket(lower(index + 1) - 1), index);
        }
        assert_eq!(bucket(u64::MAX), MAX_BUCKET);
    }

    proptest! {
        #[test]
        fn a_percentile_is_close_and_parts_add_up(
            mut values in prop::collection::vec(1_u64..100_000_000, 1..200),
            cut in 0_usize..200,
            share in 0.0_f64..1.0,
        ) {
            let (mut left, mut right) = (Histogram::default(), Histogram::default());
            for (index, value) in values.iter().enumerate() {
                if index < cut { left.add(*value) } else { right.add(*value) }
            }
            left.merge(&right);
            values.sort_unstable();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rank = ((values.len() as f64 * share).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64;
            let found = left.quantile_us(share).unwrap() as f64;
            prop_assert!((found - exact).abs() <= exact * 0.07 + 1.0, "{found} for {exact}");
            prop_assert_eq!(left.count(), values.len() as u64);
            prop_assert_eq!(left.sum_us(), values.iter().sum::<u64>());
            prop_assert_eq!(Histogram::decode(&left.encode()), left);
        }
    }

    #[test]
    fn an_empty_one_has_no_percentile() {
        assert_eq!(Histogram::default().quantile_us(0.5), None);
        assert_eq!(Histogram::decode(b"x"), Histogram::default());
    }
}
