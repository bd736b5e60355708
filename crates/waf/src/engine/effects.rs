//! What a match does to its transaction.

use std::sync::Arc;

use super::subject::Subject;
use super::tx::TxValue;
use super::{Transaction, write};
use crate::compile::rule::{Change, Effect};
use crate::compile::target::Pick;
use crate::compile::value::{Part, Value};
use crate::seclang::{Collection, RuleField, Store};

/// How many names and values rules may put into `ENV`.
const ENVIRONMENT: usize = 64;

impl<'t> Transaction<'t> {
    pub(super) fn effect(&mut self, effect: &'t Effect) {
        match effect {
            Effect::SetTx(slot, change) => {
                let old = self.tx.get(*slot).number();
                if self.program.scores[*slot as usize] {
                    match change {
                        Change::Add(by) => self.score = self.score.saturating_add(self.number_of(by)),
                        Change::Subtract(by) => {
                            self.score = self.score.saturating_sub(self.number_of(by));
                        }
                        Change::Set(_) | Change::Unset => {}
                    }
                }
                let value = self.changed(old, change);
                self.tx.set(*slot, value);
            }
            Effect::SetNamed(store, name, change) => self.set_named(*store, name, change),
            Effect::Expire(store, name, seconds) => {
                let seconds = u64::try_from(self.number_of(seconds)).unwrap_or(0);
                let name = self.string_of(name).to_ascii_lowercase();
                self.with_key(*store, |stores, key, now, _| {
                    stores.expire((*store, key, &name), now, seconds);
                });
            }
            Effect::Deprecate(store, name, by) => {
                let by = self.number_of(by);
                let name = self.string_of(name).to_ascii_lowercase();
                self.with_key(*store, |stores, key, now, timeout| {
                    stores.change((*store, key, &name), now, timeout, |old| {
                        old.map(|old| {
                            let left = crate::operator::number(old).saturating_sub(by).max(0);
                            left.to_string().into_bytes()
                        })
                    });
                });
            }
            Effect::Init(store, key) => {
                let key = self.string_of(key);
                self.keys.retain(|(own, _)| own != store);
                self.keys.push((*store, key_of(&key)));
            }
            Effect::SetEnv(name, value) => {
                let name = self.string_of(name);
                let mut held = Vec::new();
                self.write_value(value, &mut held);
                self.env.retain(|(own, _)| **own != *name);
                if self.env.len() < ENVIRONMENT {
                    self.env.push((name.into(), held.into()));
                }
            }
            Effect::Engine(mode) => self.mode = *mode,
            Effect::Remove(set) => {
                if self.removed.len() < set.len() {
                    self.removed.resize(set.len(), 0);
                }
                for (word, more) in self.removed.iter_mut().zip(set.iter()) {
                    *word |= more;
                }
            }
            Effect::RemoveTarget(set, exclusions) => {
                let known = self.exceptions.iter().any(|(own, own_exclusions)| {
                    Arc::ptr_eq(own, set) && Arc::ptr_eq(own_exclusions, exclusions)
                });
                if !known {
                    self.exceptions.push((set, exclusions));
                }
            }
            Effect::Processor(processor) => self.processor = Some(*processor),
            Effect::RequestBodyAccess(on) => self.request_body_access = *on,
            Effect::ResponseBodyAccess(on) => self.response_body_access = *on,
            Effect::ForceRequestBody(on) => self.force_request_body = *on,
            Effect::RequestBodyLimit(bytes) => self.request_body_limit = *bytes,
            Effect::ResponseBodyLimit(bytes) => self.response_body_limit = *bytes,
        }
    }

    fn changed(&mut self, old: i64, change: &'t Change) -> TxValue<'t> {
        match change {
            Change::Unset => TxValue::Unset,
            Change::Add(by) => TxValue::Number(old.saturating_add(self.number_of(by))),
            Change::Subtract(by) => TxValue::Number(old.saturating_sub(self.number_of(by))),
            Change::Set(value) => match value {
                Value::Literal(text, number) => TxValue::Literal(text, *number),
                Value::Slot(slot) => match self.tx.get(*slot) {
                    // A variable that is not there leaves an empty one.
                    TxValue::Unset => TxValue::Literal(b"", 0),
                    other => other.clone(),
                },
                Value::Parts(_) => {
                    let mut text = Vec::new();
                    self.write_value(value, &mut text);
                    TxValue::Text(text.into())
                }
            },
        }
    }

    fn set_named(&mut self, store: Store, name: &'t Value, change: &'t Change) {
        let name = self.string_of(name);
        if store == Store::Tx {
            let old = self.tx.get_named(&name).number();
            let value = self.changed(old, change);
            self.tx.set_named(&name, value);
            return;
        }
        let mut value = Vec::new();
        let by = match change {
            Change::Unset => 0,
            Change::Set(set) => {
                self.write_value(set, &mut value);
                0
            }
            Change::Add(by) => self.number_of(by),
            Change::Subtract(by) => self.number_of(by).saturating_neg(),
        };
        let name = name.to_ascii_lowercase();
        self.with_key(store, |stores, key, now, timeout| {
            stores.change((store, key, &name), now, timeout, |old| match change {
                Change::Unset => None,
                Change::Set(_) => Some(value),
                Change::Add(_) | Change::Subtract(_) => {
                    let old = old.map_or(0, crate::operator::number);
                    Some(old.saturating_add(by).to_string().into_bytes())
                }
            });
        });
    }

    /// Does something with a store, where there is one and a rule has said under which key.
    pub(super) fn with_key<R>(
        &self,
        store: Store,
        then: impl FnOnce(&super::Stores, &str, u64, u64) -> R,
    ) -> Option<R> {
        let stores = self.stores?;
        let (_, key) = self.keys.iter().find(|(own, _)| *own == store)?;
        let timeout = self.program.settings.collection_timeout;
        Some(then(stores, key, self.request.now, timeout))
    }

    pub(super) fn number_of(&mut self, value: &Value) -> i64 {
        match value {
            Value::Literal(_, number) => *number,
            Value::Slot(slot) => self.tx.get(*slot).number(),
            Value::Parts(_) => {
                let mut text = Vec::new();
                self.write_value(value, &mut text);
                crate::operator::number(&text)
            }
        }
    }

    fn string_of(&mut self, value: &Value) -> String {
        let mut text = Vec::new();
        self.write_value(value, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Writes a value out, its macros replaced.
    pub(super) fn write_value(&mut self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Literal(text, _) => out.extend_from_slice(text),
            Value::Slot(slot) => self.tx.get(*slot).write(out),
            Value::Parts(parts) => {
                for part in parts {
                    match part {
                        Part::Literal(text) => out.extend_from_slice(text),
                        Part::Slot(slot) => self.tx.get(*slot).write(out),
                        Part::Rule(field) => self.write_rule_field(*field, out),
                        Part::Variable(collection, pick) => {
                            self.write_variable(*collection, pick, out);
                        }
                    }
                }
            }
        }
    }

    fn write_rule_field(&mut self, field: RuleField, out: &mut Vec<u8>) {
        let program = self.program;
        let Some(head) = &program.rule(self.head).head else {
            return;
        };
        match field {
            RuleField::Id => out.extend_from_slice(head.id.to_string().as_bytes()),
            RuleField::Rev => out.extend_from_slice(head.rev.as_deref().unwrap_or("").as_bytes()),
            RuleField::Severity => {
                if let Some(severity) = head.severity {
                    write::number(i64::from(severity), out);
                }
            }
            // Log data that quotes itself would never end.
            RuleField::Msg | RuleField::Logdata => {
                let text = match field {
                    RuleField::Msg => head.msg.as_ref(),
                    _ => head.logdata.as_ref(),
                };
                out.extend_from_slice(text.and_then(Value::as_literal).unwrap_or_default());
            }
        }
    }

    fn write_variable(&mut self, collection: Collection, pick: &Pick, out: &mut Vec<u8>) {
        match self.first(collection, pick) {
            Some(Subject::Number(number)) => write::number(number, out),
            Some(Subject::Text(text)) => out.extend_from_slice(self.text(text)),
            Some(Subject::Node(node)) => {
                let text = self.texts.base(node);
                out.extend_from_slice(self.text(text));
            }
            None => {}
        }
    }
}

/// A key as it is kept: a long one by its digest, so that what clients send does not say how much is kept of it.
fn key_of(key: &str) -> Box<str> {
    const LONGEST: usize = 256;
    if key.len() <= LONGEST {
        return key.into();
    }
    use sha1::Digest as _;
    hex::encode(sha1::Sha1::digest(key)).into()
}
