//! `setvar:'tx.score=+%{tx.critical}'`.

use super::{Template, Wrong, action};

/// Where variables are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Store {
    /// This transaction.
    Tx,
    /// A client's address, beyond this transaction.
    Ip,
    /// All transactions.
    Global,
    /// A session.
    Session,
    /// A user.
    User,
    /// A resource.
    Resource,
}

impl Store {
    pub(super) fn parse(name: &str) -> Result<Self, Wrong> {
        match action::writable(name.trim())? {
            Self::Tx => Err(Wrong::new("tx is always there and is not initialised")),
            store => Ok(store),
        }
    }
}

/// A change of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetVar {
    /// Where.
    pub store: Store,
    /// Which.
    pub name: Template,
    /// How.
    pub change: Change,
}

/// What happens to a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `!name`.
    Unset,
    /// `name=value`; a name alone is 1.
    Set(Template),
    /// `name=+value`.
    Add(Template),
    /// `name=-value`.
    Subtract(Template),
}

pub(super) fn parse(text: &str) -> Result<SetVar, Wrong> {
    let text = text.trim();
    if let Some(name) = text.strip_prefix('!') {
        let (store, name) = variable(name)?;
        return Ok(SetVar {
            store,
            name,
            change: Change::Unset,
        });
    }
    let (name, value) = split(text);
    let (store, name) = variable(name)?;
    let change = match value {
        None => Change::Set(Template::literal("1")),
        Some(value) => match value.chars().next() {
            Some('+') => Change::Add(Template::parse(&value[1..])?),
            Some('-') => Change::Subtract(Template::parse(&value[1..])?),
            _ => Change::Set(Template::parse(value)?),
        },
    };
    Ok(SetVar { store, name, change })
}

/// `collection.name=value`, as `expirevar` writes it.
pub(super) fn assignment(text: &str) -> Result<(Store, Template, Template), Wrong> {
    let (name, value) = split(text.trim());
    let (store, name) = variable(name)?;
    let value = value.ok_or_else(|| Wrong::new(format!("{text}: a value is missing")))?;
    Ok((store, name, Template::parse(value)?))
}

/// At the first `=` that is not part of a macro in the name.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value)),
        None => (text, None),
    }
}

fn variable(text: &str) -> Result<(Store, Template), Wrong> {
    let (collection, name) = text
        .split_once(['.', ':'])
        .filter(|(_, name)| !name.is_empty())
        .ok_or_else(|| Wrong::new(format!("{text} names no variable")).hint("tx.name"))?;
    Ok((action::writable(collection)?, Template::parse(name)?))
}
