//! One search for all words that any rule needs.
//!
//! Every text that rules look at is searched once, whatever its chain of transformations and however many rules: honest
//! values come out of most chains as they went in, and are then one text. The answer is a set of bits, one for each
//! operator that needs a word.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// To which depth the search steps by a table: honest texts seldom go deeper, and each level costs memory.
const DENSE: usize = 3;

/// Which bit stands for an operator.
pub(crate) type Bit = u32;

/// Collects words.
#[derive(Debug, Default)]
pub(crate) struct GateBuilder {
    words: BTreeMap<Vec<u8>, Vec<Bit>>,
    bits: Bit,
}

/// The search.
#[derive(Debug)]
pub(crate) struct Gate {
    search: Option<AhoCorasick>,
    bits: Vec<Box<[Bit]>>,
    /// How many words of 64 bits an answer has.
    pub(crate) width: usize,
}

impl GateBuilder {
    /// A bit that is set where one of these words is in the text, whatever its case.
    pub(crate) fn add(&mut self, words: &[Vec<u8>]) -> Bit {
        let bit = self.bits;
        self.bits += 1;
        for word in words {
            let bits = self.words.entry(word.to_ascii_lowercase()).or_default();
            if bits.last() != Some(&bit) {
                bits.push(bit);
            }
        }
        bit
    }

    pub(crate) fn build(self) -> Result<Gate, aho_corasick::BuildError> {
        let width = (self.bits as usize).div_ceil(64);
        if self.words.is_empty() {
            return Ok(Gate {
                search: None,
                bits: Vec::new(),
                width,
            });
        }
        let search = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .dense_depth(DENSE)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(self.words.keys())?;
        Ok(Gate {
            search: Some(search),
            bits: self.words.into_values().map(Into::into).collect(),
            width,
        })
    }
}

impl Gate {
    /// Sets the bits of a text.
    pub(crate) fn search(&self, text: &[u8], bits: &mut [u64]) {
        let Some(search) = &self.search else {
            return;
        };
        for found in search.find_overlapping_iter(text) {
            for bit in &*self.bits[found.pattern().as_usize()] {
                bits[(*bit / 64) as usize] |= 1 << (*bit % 64);
            }
        }
    }

    /// Where the first word of one bit stands.
    pub(crate) fn first(&self, text: &[u8], bit: Bit) -> Option<std::ops::Range<usize>> {
        self.search
            .as_ref()?
            .find_overlapping_iter(text)
            .find(|found| self.bits[found.pattern().as_usize()].contains(&bit))
            .map(|found| found.range())
    }

    /// Bytes in memory.
    pub(crate) fn memory(&self) -> usize {
        self.search.as_ref().map_or(0, AhoCorasick::memory_usage)
    }
}
