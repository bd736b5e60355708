//! `TX`: the variables of a transaction.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::names::{Names, Slot};

/// What the names of variables may take, for each that there may be.
const NAME_BYTES: usize = 256;

/// A value.
#[derive(Debug, Clone, Default)]
pub(super) enum TxValue<'t> {
    #[default]
    Unset,
    Number(i64),
    /// From the program: the text, and the number that it begins with.
    Literal(&'t [u8], i64),
    Text(Box<[u8]>),
}

impl TxValue<'_> {
    pub(super) fn is_set(&self) -> bool {
        !matches!(self, Self::Unset)
    }

    pub(super) fn number(&self) -> i64 {
        match self {
            Self::Unset => 0,
            Self::Number(number) | Self::Literal(_, number) => *number,
            Self::Text(text) => crate::operator::number(text),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unset => {}
            Self::Number(number) => super::write::number(*number, out),
            Self::Literal(text, _) => out.extend_from_slice(text),
            Self::Text(text) => out.extend_from_slice(text),
        }
    }
}

/// The variables: those that the program names by number, the others by name.
#[derive(Debug)]
pub(super) struct Tx<'t> {
    pub(super) names: &'t Names,
    slots: Vec<TxValue<'t>>,
    named: Vec<(Arc<str>, TxValue<'t>)>,
    /// Where in `named` one is: rules make one for each argument, under names that clients choose.
    places: HashMap<Arc<str>, usize>,
    name_bytes: usize,
    limit: usize,
    pub(super) exhausted: bool,
}

impl<'t> Tx<'t> {
    pub(super) fn new(names: &'t Names, limit: usize) -> Self {
        Self {
            names,
            slots: vec![TxValue::Unset; names.len()],
            named: Vec::new(),
            places: HashMap::new(),
            name_bytes: 0,
            limit,
            exhausted: false,
        }
    }

    /// All that is set, without what it borrows.
    pub(super) fn keep(&mut self) -> Kept {
        let mut kept = Kept::default();
        for (slot, value) in (0..).zip(&self.slots) {
            if value.is_set() {
                let value = kept.hold(value);
                kept.slots.push((slot, value));
            }
        }
        for (name, value) in std::mem::take(&mut self.named) {
            let value = kept.hold(&value);
            kept.named.push((name, value));
        }
        kept.places = std::mem::take(&mut self.places);
        kept.name_bytes = self.name_bytes;
        kept.exhausted = self.exhausted;
        kept
    }

    /// What was kept, into variables of which none is set.
    pub(super) fn take_kept(&mut self, kept: &'t Kept) {
        for (slot, held) in &kept.slots {
            self.set(*slot, kept.value(*held));
        }
        let named = kept.named.iter();
        self.named = named
            .map(|(name, held)| (Arc::clone(name), kept.value(*held)))
            .collect();
        self.places.clone_from(&kept.places);
        self.name_bytes = kept.name_bytes;
        self.exhausted = kept.exhausted;
    }

    pub(super) fn get(&self, slot: Slot) -> &TxValue<'t> {
        &self.slots[slot as usize]
    }

    pub(super) fn set(&mut self, slot: Slot, value: TxValue<'t>) {
        self.slots[slot as usize] = value;
    }

    pub(super) fn get_named(&self, name: &str) -> &TxValue<'t> {
        const UNSET: &TxValue<'static> = &TxValue::Unset;
        let name = name.to_ascii_lowercase();
        if let Some(slot) = self.names.find(&name) {
            return self.get(slot);
        }
        self.places
            .get(&*name)
            .and_then(|place| self.named.get(*place))
            .map_or(UNSET, |(_, value)| value)
    }

    pub(super) fn set_named(&mut self, name: &str, value: TxValue<'t>) {
        let name = name.to_ascii_lowercase();
        if let Some(slot) = self.names.find(&name) {
            return self.set(slot, value);
        }
        if let Some((_, own)) = self
            .places
            .get(&*name)
            .and_then(|place| self.named.get_mut(*place))
        {
            *own = value;
            return;
        }
        let bytes = self.name_bytes + name.len();
        if self.named.len() >= self.limit || bytes > self.limit.saturating_mul(NAME_BYTES) {
            self.exhausted = true;
            return;
        }
        self.name_bytes = bytes;
        let name: Arc<str> = name.into();
        self.places.insert(Arc::clone(&name), self.named.len());
        self.named.push((name, value));
    }

    /// All that are set, with their names.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &TxValue<'t>)> {
        let slots = self
            .slots
            .iter()
            .enumerate()
            .map(|(slot, value)| (self.names.name(u32::try_from(slot).unwrap_or(0)), value));
        let named = self.named.iter().map(|(name, value)| (&**name, value));
        slots.chain(named).filter(|(_, value)| value.is_set())
    }
}

/// Variables while a transaction pauses: texts in one piece.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    slots: Vec<(Slot, Held)>,
    named: Vec<(Arc<str>, Held)>,
    places: HashMap<Arc<str>, usize>,
    name_bytes: usize,
    exhausted: bool,
}

#[derive(Debug, Clone, Copy)]
enum Held {
    Unset,
    Number(i64),
    Text { start: usize, end: usize, number: i64 },
}

impl Kept {
    fn hold(&mut self, value: &TxValue<'_>) -> Held {
        let text = match value {
            TxValue::Unset => return Held::Unset,
            TxValue::Number(number) => return Held::Number(*number),
            TxValue::Literal(text, _) => text,
            TxValue::Text(text) => &**text,
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        Held::Text {
            start,
            end: self.bytes.len(),
            number: value.number(),
        }
    }

    fn value(&self, held: Held) -> TxValue<'_> {
        match held {
            Held::Unset => TxValue::Unset,
            Held::Number(number) => TxValue::Number(number),
            Held::Text { start, end, number } => TxValue::Literal(&self.bytes[start..end], number),
        }
    }
}
