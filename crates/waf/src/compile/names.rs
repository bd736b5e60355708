//! Variables of the transaction by number: no name is hashed while a request waits.

use std::collections::HashMap;

/// A variable of `TX`.
pub(crate) type Slot = u32;

/// All names of `TX` that a program mentions, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_name: HashMap<Box<str>, Slot>,
    names: Vec<Box<str>>,
}

impl Names {
    pub(crate) fn intern(&mut self, name: &str) -> Slot {
        let name = name.to_ascii_lowercase();
        if let Some(slot) = self.by_name.get(name.as_str()) {
            return *slot;
        }
        let slot = Slot::try_from(self.names.len()).unwrap_or(Slot::MAX);
        self.names.push(name.clone().into());
        self.by_name.insert(name.into(), slot);
        slot
    }

    pub(crate) fn find(&self, lower: &str) -> Option<Slot> {
        self.by_name.get(lower).copied()
    }

    pub(crate) fn name(&self, slot: Slot) -> &str {
        &self.names[slot as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}
