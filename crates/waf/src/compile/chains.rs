//! Chains of transformations as a tree: what two rules do alike is done once.

use crate::operator::ByteSet;
use crate::transform::Transformation;

/// A chain; 0 is the value as it came.
pub(crate) type ChainId = u16;

/// A chain is its parent and one transformation more.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) parent: ChainId,
    pub(crate) last: Transformation,
    /// The last transformation changes nothing in a value without one of these bytes.
    pub(crate) touches: Option<ByteSet>,
    /// All of it changes nothing in a value without one of these.
    pub(crate) whole: Option<ByteSet>,
}

/// All chains of a program.
#[derive(Debug)]
pub(crate) struct Chains(Vec<Chain>);

impl Default for Chains {
    fn default() -> Self {
        Self(vec![Chain {
            parent: 0,
            last: Transformation::None,
            touches: Some(ByteSet::default()),
            whole: Some(ByteSet::default()),
        }])
    }
}

impl Chains {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, id: ChainId) -> &Chain {
        &self.0[usize::from(id)]
    }

    /// The chain of these; none where there are more than can be numbered.
    pub(crate) fn intern(&mut self, transformations: &[Transformation]) -> Option<ChainId> {
        let mut at: ChainId = 0;
        for last in transformations {
            let known =
                (1..self.0.len()).find(|index| self.0[*index].parent == at && self.0[*index].last == *last);
            at = match known {
                Some(index) => ChainId::try_from(index).ok()?,
                None => {
                    let id = ChainId::try_from(self.0.len()).ok()?;
                    let touches = touches(*last);
                    let before = self.get(at).whole;
                    self.0.push(Chain {
                        parent: at,
                        last: *last,
                        touches,
                        whole: before.zip(touches).map(|(before, last)| before.join(&last)),
                    });
                    id
                }
            };
        }
        Some(at)
    }

    /// The chain step by step, beginning with the value as it came.
    pub(crate) fn steps(&self, id: ChainId) -> Vec<ChainId> {
        let mut steps = vec![id];
        let mut at = id;
        while at != 0 {
            at = self.get(at).parent;
            steps.push(at);
        }
        steps.reverse();
        steps
    }
}

/// The bytes without which a transformation changes nothing; none where it changes (nearly) everything.
pub(crate) fn touches(transformation: Transformation) -> Option<ByteSet> {
    use Transformation as T;
    let set = match transformation {
        T::None => ByteSet::default(),
        T::Lowercase => ByteSet::range(b'A', b'Z'),
        T::Uppercase => ByteSet::range(b'a', b'z'),
        T::UrlDecode | T::UrlDecodeUni => ByteSet::of(b"%+"),
        T::HtmlEntityDecode => ByteSet::of(b"&"),
        T::JsDecode | T::CssDecode | T::EscapeSeqDecode => ByteSet::of(b"\\"),
        T::RemoveNulls | T::ReplaceNulls => ByteSet::of(&[0]),
        T::Utf8ToUnicode | T::ParityZero7bit => ByteSet::range(0x80, 0xff),
        T::NormalizePath => ByteSet::of(b"/."),
        T::NormalizePathWin => ByteSet::of(b"/.\\"),
        T::RemoveComments | T::RemoveCommentsChar | T::ReplaceComments => ByteSet::of(b"/*-#<!>"),
        T::RemoveWhitespace | T::CompressWhitespace | T::Trim | T::TrimLeft | T::TrimRight => {
            ByteSet::range(0, 0x20).join(&ByteSet::range(0x80, 0xff))
        }
        T::CmdLine => ByteSet::range(0, 0x20)
            .join(&ByteSet::range(b'A', b'Z'))
            .join(&ByteSet::range(0x80, 0xff))
            .join(&ByteSet::of(b"\"'\\^,;/(")),
        T::SqlHexDecode => ByteSet::of(b"xX"),
        _ => return None,
    };
    Some(set)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::touches;
    use crate::transform::{Transformation, apply};

    proptest! {
        /// A value that has none of a transformation's bytes must come out as it went in: otherwise rules would look at
        /// the wrong text.
        #[test]
        fn what_a_transformation_does_not_touch_it_leaves_alone(value in proptest::collection::vec(any::<u8>(), 0..24)) {
            for transformation in Transformation::ALL {
                let Some(set) = touches(*transformation) else { continue };
                let untouched: Vec<u8> = value.iter().copied().filter(|byte| !set.contains(*byte)).collect();
                let mut out = Vec::new();
                let changed = apply(*transformation, &untouched, &mut out);
                prop_assert!(!changed || out == untouched, "{transformation} changed {untouched:?} to {out:?}");
            }
        }
    }
}
