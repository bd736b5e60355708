//! The values that a rule's targets name, one after the other.

use super::Transaction;
use super::items;
use super::name::{Held, Name};
use super::texts::{NodeId, TextId};
use super::tx::TxValue;
use crate::compile::target::{PLACE, Pick, Target};
use crate::seclang::{Collection, Kind, Store};

/// A value that a rule looks at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject {
    /// With what chains make of it kept.
    Node(NodeId),
    /// Looked at once.
    Text(TextId),
    /// A number.
    Number(i64),
}

impl<'t> Transaction<'t> {
    /// The first value that a macro names.
    pub(super) fn first(&mut self, collection: Collection, pick: &Pick) -> Option<Subject> {
        if let Some((lists, names)) = items::families(collection, pick) {
            for (family, _) in lists {
                for index in 0..self.items.list(*family).len() {
                    let item = self.items.list(*family)[index];
                    if pick.takes(self.texts.get(item.name)) {
                        let node = if names {
                            self.items.name_node(*family, index, &mut self.texts)
                        } else {
                            item.value
                        };
                        return Some(Subject::Node(node));
                    }
                }
            }
            return None;
        }
        if collection.kind() == Kind::Single {
            return self.single(collection);
        }
        match (collection, pick) {
            (Collection::Tx, Pick::Slot(slot)) => self.slot(*slot),
            _ => {
                let others = self.others(collection, pick);
                others.into_iter().next().map(|(_, subject)| subject)
            }
        }
    }

    /// A variable of `TX` as a subject.
    pub(super) fn slot(&mut self, slot: u32) -> Option<Subject> {
        match self.tx.get(slot) {
            TxValue::Unset => None,
            TxValue::Number(number) => Some(Subject::Number(*number)),
            TxValue::Literal(text, _) => {
                let text: &'t [u8] = text;
                Some(Subject::Text(self.texts.borrowed(text)))
            }
            TxValue::Text(text) => Some(Subject::Text(self.texts.owned(text))),
        }
    }

    /// The members of collections that have no lists of their own. They are copied: rules may change them while they are
    /// looked at.
    pub(super) fn others(&mut self, collection: Collection, pick: &Pick) -> Vec<(Name, Subject)> {
        let mut found: Vec<(Name, Subject)> = Vec::new();
        match (collection, pick) {
            (Collection::Tx, Pick::Capture(digit)) => {
                if let Some(text) = &self.captures[usize::from(*digit)] {
                    let text = self.texts.owned(text);
                    found.push((Name::Capture(*digit), Subject::Text(text)));
                }
            }
            (Collection::Tx, pick) => {
                let mut own: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
                for (name, value) in self.tx.all().filter(|(name, _)| pick.takes(name.as_bytes())) {
                    let mut held = Vec::new();
                    value.write(&mut held);
                    own.push((name.as_bytes().to_vec(), held));
                }
                self.own_values(collection, own, &mut found);
            }
            (Collection::MatchedVars, _) => {
                for matched in self.matched.clone() {
                    let subject = match matched.value {
                        Held::Text(text) => Subject::Text(text),
                        Held::Number(number) => Subject::Number(number),
                    };
                    found.push((matched.name, subject));
                }
            }
            (Collection::MatchedVarsNames, _) => {
                for matched in self.matched.clone() {
                    let mut name = Vec::new();
                    self.write_name(&matched.name, &mut name);
                    found.push((matched.name, Subject::Text(self.texts.owned(&name))));
                }
            }
            (Collection::Env, pick) => {
                let own: Vec<_> = self
                    .env
                    .iter()
                    .filter(|(name, _)| pick.takes(name.as_bytes()))
                    .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
                    .collect();
                self.own_values(collection, own, &mut found);
            }
            (Collection::Geo, pick) => {
                let own = self.geo().into_iter().filter(|(name, text)| {
                    // What nobody knows is not there.
                    !text.is_empty() && pick.takes(name.as_bytes())
                });
                let own = own.map(|(name, text)| (name.as_bytes().to_vec(), text.as_bytes().to_vec()));
                self.own_values(collection, own.collect(), &mut found);
            }
            (Collection::Rule, pick) => {
                let head = self.program.rule(self.head).head.as_ref();
                let own: Vec<_> = head
                    .map(|head| {
                        vec![
                            (b"id".to_vec(), head.id.to_string().into_bytes()),
                            (
                                b"severity".to_vec(),
                                head.severity
                                    .map_or(Vec::new(), |one| one.to_string().into_bytes()),
                            ),
                        ]
                    })
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|(name, _)| pick.takes(name))
                    .collect();
                self.own_values(collection, own, &mut found);
            }
            (other, pick) => {
                if let Some(store) = stored(other) {
                    let own: Vec<_> = self
                        .with_key(store, |stores, key, now, _| stores.all(store, key, now))
                        .unwrap_or_default()
                        .into_iter()
                        .filter(|(name, _)| pick.takes(name.as_bytes()))
                        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
                        .collect();
                    self.own_values(collection, own, &mut found);
                }
            }
        }
        found
    }

    /// The members of `GEO`.
    fn geo(&self) -> Vec<(&'static str, &'t str)> {
        let country = self.request.country.unwrap_or_default();
        let place = self.place.map_or([""; 7], |place| {
            [
                place.continent.as_str(),
                &place.region_code,
                &place.city,
                &place.postal_code,
                &place.latitude,
                &place.longitude,
                &place.metro_code,
            ]
        });
        PLACE
            .into_iter()
            .zip(std::iter::once(country).chain(place))
            .collect()
    }

    fn own_values(
        &mut self,
        collection: Collection,
        own: Vec<(Vec<u8>, Vec<u8>)>,
        found: &mut Vec<(Name, Subject)>,
    ) {
        for (name, value) in own {
            let text = self.texts.owned(&value);
            found.push((Name::Own(collection, name.into()), Subject::Text(text)));
        }
    }

    /// How many members a target has.
    pub(super) fn count(&mut self, target: &Target) -> i64 {
        let collection = target.collection;
        let members = if let Some((lists, _)) = items::families(collection, &target.pick) {
            let mut members = 0;
            for (family, _) in lists {
                members += match &target.pick {
                    Pick::All => self.items.list(*family).len(),
                    pick => self
                        .items
                        .list(*family)
                        .iter()
                        .filter(|item| pick.takes(self.texts.get(item.name)))
                        .count(),
                };
            }
            members
        } else {
            match (collection, &target.pick) {
                (Collection::Tx, Pick::Slot(slot)) => usize::from(self.tx.get(*slot).is_set()),
                (collection, _) if collection.kind() == Kind::Single => {
                    usize::from(self.single(collection).is_some())
                }
                (collection, pick) => self.others(collection, pick).len(),
            }
        };
        super::write::count(members)
    }
}

fn stored(collection: Collection) -> Option<Store> {
    match collection {
        Collection::Ip => Some(Store::Ip),
        Collection::Global => Some(Store::Global),
        Collection::Session => Some(Store::Session),
        Collection::User => Some(Store::User),
        Collection::Resource => Some(Store::Resource),
        _ => None,
    }
}
