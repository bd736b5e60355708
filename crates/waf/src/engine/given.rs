//! What a server decides of one transaction, beside the rules: its mode, and which rules are not for it.

use super::Transaction;
use super::tx::TxValue;
use crate::country::Place;
use crate::seclang::Mode;

impl Transaction<'_> {
    /// Another mode than the rules say. To be said before the first phase; the rules may still change it (`ctl`).
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// A number in a variable of `TX`. To be said before the first phase; the rules may still change it (`setvar`).
    pub fn set_variable(&mut self, name: &str, value: i64) {
        self.tx.set_named(name, TxValue::Number(value));
    }

    /// How long it has taken by now, in microseconds: `DURATION`. This crate has no clock.
    pub fn set_elapsed(&mut self, microseconds: u64) {
        self.elapsed = microseconds;
    }

    /// Rules, by id and tags, that are not run from here on.
    pub fn leave_out(&mut self, mut is_meant: impl FnMut(u64, &[Box<str>]) -> bool) {
        let program = self.program;
        for step in program.phases.iter().flatten() {
            let Some(head) = &program.rule(*step).head else {
                continue;
            };
            if is_meant(head.id, &head.tags) {
                let (word, bit) = (*step as usize / 64, *step as usize % 64);
                if self.removed.len() <= word {
                    self.removed.resize(word + 1, 0);
                }
                self.removed[word] |= 1 << bit;
            }
        }
    }
}

impl<'t> Transaction<'t> {
    /// Where the client is, beside its country: `GEO`. Where [`crate::compile::Program::looks_at_places`]; after a pause
    /// again.
    pub fn set_place(&mut self, place: &'t Place) {
        self.place = Some(place);
    }
}
