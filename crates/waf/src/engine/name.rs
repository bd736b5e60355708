//! What matched, by name and value; written out only where somebody asks.

use super::texts::TextId;
use crate::compile::names::Slot;
use crate::seclang::Collection;

/// The name of a variable.
#[derive(Debug, Clone)]
pub(super) enum Name {
    /// A collection of one value, or `&` of any.
    Plain(Collection),
    /// A member of a collection.
    Member(Collection, TextId),
    /// A variable of `TX`.
    Slot(Slot),
    /// `TX:0` to `TX:9`.
    Capture(u8),
    /// A member under a name of its own.
    Own(Collection, Box<[u8]>),
}

/// The value of a variable.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Text(TextId),
    Number(i64),
}

/// What matched.
#[derive(Debug, Clone)]
pub(super) struct Matched {
    pub(super) name: Name,
    pub(super) value: Held,
}

impl super::Transaction<'_> {
    pub(super) fn write_name(&self, name: &Name, out: &mut Vec<u8>) {
        let member = |collection: &Collection, member: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(collection.name().as_bytes());
            out.push(b':');
            out.extend_from_slice(member);
        };
        match name {
            Name::Plain(collection) => out.extend_from_slice(collection.name().as_bytes()),
            Name::Member(collection, text) => member(collection, self.text(*text), out),
            Name::Slot(slot) => {
                member(&Collection::Tx, self.program.names.name(*slot).as_bytes(), out);
            }
            Name::Capture(digit) => member(&Collection::Tx, &[b'0' + digit], out),
            Name::Own(collection, own) => member(collection, own, out),
        }
    }

    pub(super) fn write_held(&self, held: &Held, out: &mut Vec<u8>) {
        match held {
            Held::Text(text) => out.extend_from_slice(self.text(*text)),
            Held::Number(number) => super::write::number(*number, out),
        }
    }
}
