//! The texts that rules look at: each value as it came, and what chains of transformations make of it.
//!
//! A transformation is done once for each value, whichever rules want it. A value that it does not change is the same
//! text, which is searched once for all of them.

use crate::compile::chains::{ChainId, Chains};
use crate::compile::gate::Gate;
use crate::operator::ByteSet;
use crate::transform::{Transformation, UnicodeMap, apply_with};

/// A text of a transaction.
pub(super) type TextId = u32;
/// A value with all that chains make of it.
pub(super) type NodeId = u32;

/// Which of a program's two searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

#[derive(Debug, Clone, Copy)]
enum Source<'t> {
    Borrowed(&'t [u8]),
    Owned { start: usize, length: usize },
}

#[derive(Debug, Clone, Copy)]
struct Text<'t> {
    source: Source<'t>,
    /// The bytes that occur.
    set: ByteSet,
    /// Where the answers of the two searches are; [`UNKNOWN`] if not yet asked.
    bits: [u32; 2],
    /// A text that differs in case only: the searches, to which case means nothing, find the same in it.
    alike: TextId,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    base: TextId,
    /// Its row in the table of chains; [`UNKNOWN`] if it has none yet.
    row: u32,
}

const UNKNOWN: u32 = u32::MAX;

/// What is kept between transactions, for its capacity.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    owned: Vec<u8>,
    table: Vec<TextId>,
    bits: Vec<u64>,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The texts of one transaction.
#[derive(Debug)]
pub(super) struct Texts<'t> {
    chains: &'t Chains,
    unicode_map: Option<&'t UnicodeMap>,
    texts: Vec<Text<'t>>,
    nodes: Vec<Node>,
    buffers: Buffers,
    limit: usize,
    /// Whether texts were not made because there were too many bytes of them.
    pub(super) exhausted: bool,
    /// Bytes that transformations and searches looked at.
    pub(super) work: u64,
}

impl<'t> Texts<'t> {
    pub(super) fn new(
        chains: &'t Chains,
        unicode_map: Option<&'t UnicodeMap>,
        mut buffers: Buffers,
        limit: usize,
    ) -> Self {
        buffers.owned.clear();
        buffers.table.clear();
        buffers.bits.clear();
        Self {
            chains,
            unicode_map,
            texts: Vec::with_capacity(128),
            nodes: Vec::with_capacity(96),
            buffers,
            limit,
            exhausted: false,
            work: 0,
        }
    }

    /// Gives the buffers back, unless they have grown beyond what is worth keeping.
    pub(super) fn buffers(&mut self) -> Buffers {
        let mut buffers = std::mem::take(&mut self.buffers);
        for buffer in [&mut buffers.owned, &mut buffers.input, &mut buffers.output] {
            buffer.clear();
            buffer.shrink_to(KEPT);
        }
        buffers.table.clear();
        buffers.table.shrink_to(KEPT / 4);
        buffers.bits.clear();
        buffers.bits.shrink_to(KEPT / 8);
        buffers
    }

    pub(super) fn get(&self, text: TextId) -> &[u8] {
        bytes(&self.texts[text as usize], &self.buffers.owned)
    }

    pub(super) fn set(&self, text: TextId) -> &ByteSet {
        &self.texts[text as usize].set
    }

    pub(super) fn borrowed(&mut self, bytes: &'t [u8]) -> TextId {
        self.push(Source::Borrowed(bytes), bytes)
    }

    /// A text that is copied; empty where there is no room left.
    pub(super) fn owned(&mut self, bytes: &[u8]) -> TextId {
        if self.buffers.owned.len() + bytes.len() > self.limit {
            self.exhausted = true;
            return self.push(Source::Borrowed(&[]), &[]);
        }
        let start = self.buffers.owned.len();
        self.buffers.owned.extend_from_slice(bytes);
        let source = Source::Owned {
            start,
            length: bytes.len(),
        };
        self.push(source, bytes)
    }

    pub(super) fn cow(&mut self, bytes: std::borrow::Cow<'t, [u8]>) -> TextId {
        match bytes {
            std::borrow::Cow::Borrowed(bytes) => self.borrowed(bytes),
            std::borrow::Cow::Owned(bytes) => self.owned(&bytes),
        }
    }

    fn push(&mut self, source: Source<'t>, bytes: &[u8]) -> TextId {
        let id = number(self.texts.len());
        self.texts.push(Text {
            source,
            set: occurring(bytes),
            bits: [UNKNOWN; 2],
            alike: id,
        });
        id
    }

    pub(super) fn node(&mut self, base: TextId) -> NodeId {
        let id = number(self.nodes.len());
        self.nodes.push(Node { base, row: UNKNOWN });
        id
    }

    pub(super) fn base(&self, node: NodeId) -> TextId {
        self.nodes[node as usize].base
    }

    /// What a chain makes of a value.
    pub(super) fn chained(&mut self, node: NodeId, chain: ChainId) -> TextId {
        let Node { base, row } = self.nodes[node as usize];
        let unchanged = self.chains.get(chain).whole;
        if unchanged.is_some_and(|touches| !touches.meets(&self.texts[base as usize].set)) {
            return base;
        }
        let row = if row == UNKNOWN {
            let row = self.buffers.table.len();
            self.buffers.table.resize(row + self.chains.len(), UNKNOWN);
            self.buffers.table[row] = base;
            self.nodes[node as usize].row = number(row);
            row
        } else {
            row as usize
        };
        self.resolve(row, chain)
    }

    /// As deep as the longest chain that a rule writes.
    fn resolve(&mut self, row: usize, chain: ChainId) -> TextId {
        let known = self.buffers.table[row + usize::from(chain)];
        if known != UNKNOWN {
            return known;
        }
        let parent = self.resolve(row, self.chains.get(chain).parent);
        let text = self.step(parent, chain);
        self.buffers.table[row + usize::from(chain)] = text;
        text
    }

    /// What the last transformation of a chain makes of a text.
    fn step(&mut self, text: TextId, chain: ChainId) -> TextId {
        let chain = self.chains.get(chain);
        let source = &self.texts[text as usize];
        if chain.touches.is_some_and(|touches| !touches.meets(&source.set)) {
            return text;
        }
        let mut output = std::mem::take(&mut self.buffers.output);
        output.clear();
        let input = bytes(source, &self.buffers.owned);
        self.work += input.len() as u64;
        let changed =
            apply_with(chain.last, input, &mut output, self.unicode_map) && output.as_slice() != input;
        let result = if !changed {
            text
        } else if self.buffers.owned.len() + output.len() > self.limit {
            self.exhausted = true;
            text
        } else {
            let made = self.owned(&output);
            if matches!(chain.last, Transformation::Lowercase | Transformation::Uppercase) {
                self.texts[made as usize].alike = self.texts[text as usize].alike;
            }
            made
        };
        self.buffers.output = output;
        result
    }

    /// What a chain makes of a text that is looked at once.
    pub(super) fn transformed(&mut self, text: TextId, chain: ChainId) -> TextId {
        if chain == 0 {
            return text;
        }
        let parent = self.transformed(text, self.chains.get(chain).parent);
        self.step(parent, chain)
    }

    /// Whether the search found what this bit stands for.
    pub(super) fn has_bit(&mut self, text: TextId, side: Side, gate: &Gate, bit: u32) -> bool {
        let answers = self.searched(text, side, gate);
        self.answer(answers, bit)
    }

    /// Room for the answers of a search of this many words: none is found.
    pub(super) fn answers(&mut self, width: usize) -> u32 {
        let start = self.buffers.bits.len();
        self.buffers.bits.resize(start + width, 0);
        number(start)
    }

    /// Adds what the search finds in a text to other answers.
    pub(super) fn join_answers(&mut self, text: TextId, side: Side, gate: &Gate, answers: u32) {
        let found = self.searched(text, side, gate) as usize;
        let (found, answers) = (found..found + gate.width, answers as usize);
        for (index, from) in found.enumerate() {
            self.buffers.bits[answers + index] |= self.buffers.bits[from];
        }
    }

    /// Whether answers have this bit.
    pub(super) fn answer(&self, answers: u32, bit: u32) -> bool {
        self.buffers.bits[answers as usize + (bit / 64) as usize] & (1 << (bit % 64)) != 0
    }

    /// Where the answers of the search in a text are.
    fn searched(&mut self, text: TextId, side: Side, gate: &Gate) -> u32 {
        let side = side as usize;
        let text = self.texts[text as usize].alike;
        let entry = &self.texts[text as usize];
        if entry.bits[side] != UNKNOWN {
            return entry.bits[side];
        }
        let start = self.buffers.bits.len();
        self.buffers.bits.resize(start + gate.width, 0);
        let text_bytes = bytes(entry, &self.buffers.owned);
        self.work += text_bytes.len() as u64;
        gate.search(text_bytes, &mut self.buffers.bits[start..]);
        self.texts[text as usize].bits[side] = number(start);
        number(start)
    }
}

/// How large a buffer may be that waits for the next transaction.
const KEPT: usize = 1 << 18;

fn bytes<'a>(text: &Text<'a>, owned: &'a [u8]) -> &'a [u8] {
    match text.source {
        Source::Borrowed(bytes) => bytes,
        Source::Owned { start, length } => &owned[start..start + length],
    }
}

fn occurring(bytes: &[u8]) -> ByteSet {
    let mut set = ByteSet::default();
    for byte in bytes {
        set.insert(*byte);
    }
    set
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(UNKNOWN - 1)
}
