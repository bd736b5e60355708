//! Lists, summed up: what all their members together have. A rule that needs what none of them has is through with all
//! of them at once, and nearly all rules are with honest requests.

use super::Transaction;
use super::texts::{Side, TextId};
use crate::compile::chains::ChainId;
use crate::compile::rule::{Gated, Test};
use crate::compile::target::Listed;
use crate::operator::ByteSet;

/// What the members of a list have after a chain of transformations.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    /// How many members are in it.
    members: usize,
    /// The bytes that occur in any of them.
    set: ByteSet,
    longest: usize,
    /// Of how many members the search's answers are in it, and where these answers are.
    searched: usize,
    answers: Option<u32>,
}

impl<'t> Transaction<'t> {
    /// Whether a test could hold for a member of a list.
    pub(super) fn list_may_match(&mut self, test: &'t Test, listed: &Listed, chain: ChainId) -> bool {
        let Some(number) = listed.sum else { return true };
        let count = self.items.list(listed.family).len();
        let place = number as usize;
        let mut sum = self.sums[place];
        if sum.members < count {
            for index in sum.members..count {
                let text = self.member(listed, index, chain);
                sum.set = sum.set.join(self.texts.set(text));
                sum.longest = sum.longest.max(self.texts.get(text).len());
            }
            sum.members = count;
            self.sums[place] = sum;
        }
        match test {
            Test::Pattern(_, _, gated) | Test::Phrases(gated) | Test::Verify(_, _, _, gated) => {
                gated.bytes.iter().all(|needed| needed.meets(&sum.set))
                    && gated.length as usize <= sum.longest
                    && self.list_has_word(gated, listed, place, chain)
            }
            Test::Sqli => sum.set.exceeds(&super::test::WORD),
            Test::Xss => sum.set.meets(&super::test::XSS_NEEDS),
            Test::ByteOutside(set) => sum.set.exceeds(set),
            Test::BadEscape => sum.set.contains(b'%'),
            Test::BadUtf8 => sum.set.meets(&BEYOND_ASCII),
            Test::Never => false,
            _ => true,
        }
    }

    fn list_has_word(&mut self, gated: &Gated, listed: &Listed, place: usize, chain: ChainId) -> bool {
        let Some(bit) = gated.bit else { return true };
        let program = self.program;
        let gate = match self.side {
            Side::Request => &program.request_gate,
            Side::Response => &program.response_gate,
        };
        let Sum {
            members,
            mut searched,
            answers,
            ..
        } = self.sums[place];
        let answers = answers.unwrap_or_else(|| self.texts.answers(gate.width));
        while searched < members {
            let text = self.member(listed, searched, chain);
            self.texts.join_answers(text, self.side, gate, answers);
            searched += 1;
        }
        self.sums[place].searched = searched;
        self.sums[place].answers = Some(answers);
        self.texts.answer(answers, bit)
    }

    fn member(&mut self, listed: &Listed, index: usize, chain: ChainId) -> TextId {
        let node = if listed.names {
            self.items.name_node(listed.family, index, &mut self.texts)
        } else {
            self.items.list(listed.family)[index].value
        };
        self.texts.chained(node, chain)
    }
}

const BEYOND_ASCII: ByteSet = ByteSet([0, 0, u64::MAX, u64::MAX]);
