//! A client's names of statements and what they are called on servers: made, found, closed, taken back.

use super::super::server::{State, statement_name};
use super::super::wire::{message, put_text};
use super::*;

impl Relay {
    pub(super) fn parse(
        &mut self,
        name: Bytes,
        definition: Bytes,
        state: &mut State,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        let replaced = if name.is_empty() { self.forget(b"") } else { None };
        if self.statements.contains_key(&name) {
            // The server says what is wrong with it, in its own words.
            let on_server = self.prepare(&name, state, out);
            self.expect(Due::Parse {
                name: None,
                id: 0,
                replaced: None,
            });
            write_parse(&on_server, &definition, out);
            return Ok(());
        }
        self.statement_bytes += definition.len();
        if self.statement_bytes > MAX_STATEMENT_BYTES || self.statements.len() >= MAX_STATEMENTS {
            return Err(Broken::TooLarge("the set of prepared statements"));
        }
        let id = NEXT_STATEMENT.fetch_add(1, Ordering::Relaxed);
        let effects = Effects::of(&definition);
        if name.is_empty() {
            state.unnamed = Some(id);
            write_parse(b"", &definition, out);
        } else {
            state.prepared.insert(id, state.clock);
            write_parse(&statement_name(id), &definition, out);
        }
        self.expect(Due::Parse {
            name: Some(name.clone()),
            id,
            replaced,
        });
        self.statements.insert(
            name,
            Arc::new(Statement {
                id,
                definition,
                effects,
            }),
        );
        Ok(())
    }

    /// Makes sure that the client's statement is prepared on this server; its name there.
    pub(super) fn prepare(&mut self, name: &Bytes, state: &mut State, out: &mut BytesMut) -> Bytes {
        let Some(statement) = self.statements.get(name).cloned() else {
            // Unknown, or made with SQL's PREPARE: the server knows better. But what it has without a name is
            // another client's.
            return if name.is_empty() {
                Bytes::from_static(b"astraler_none")
            } else {
                name.clone()
            };
        };
        let id = statement.id;
        state.clock += 1;
        let on_server = if name.is_empty() {
            Bytes::new()
        } else {
            statement_name(id)
        };
        let there = if name.is_empty() {
            state.unnamed.replace(id) == Some(id)
        } else {
            state.prepared.insert(id, state.clock).is_some()
        };
        if !there {
            self.expect(Due::Parse {
                name: None,
                id,
                replaced: None,
            });
            write_parse(&on_server, &statement.definition, out);
        }
        on_server
    }

    pub(super) fn close(&mut self, name: &Bytes, state: &mut State) -> Bytes {
        let Some(statement) = self.forget(name) else {
            self.expect(Due::Close(None));
            if name.is_empty() {
                state.unnamed = None;
            }
            return name.clone();
        };
        let (on_server, there) = if name.is_empty() {
            (Bytes::new(), state.unnamed.take().is_some())
        } else {
            (
                statement_name(statement.id),
                state.prepared.remove(&statement.id).is_some(),
            )
        };
        self.expect(Due::Close(Some((name.clone(), statement, there))));
        on_server
    }

    pub(super) fn forget(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let statement = self.statements.remove(name)?;
        self.statement_bytes -= statement.definition.len();
        Some(statement)
    }

    /// Takes back what was noted when a message was sent that did not come to anything.
    pub(super) fn undo(&mut self, due: Due, begun: bool, state: &mut State) {
        match due {
            Due::Parse { name, id, replaced } => {
                state.prepared.remove(&id);
                if state.unnamed == Some(id) {
                    state.unnamed = None;
                }
                let Some(name) = name else { return };
                if self
                    .statements
                    .get(&name)
                    .is_some_and(|statement| statement.id == id)
                {
                    self.forget(&name);
                }
                // Even a Parse that fails ends the statement without a name.
                if let (Some(statement), false) = (replaced, begun) {
                    self.restore(name, statement);
                }
            }
            Due::Close(Some((name, statement, there))) => {
                if there && !name.is_empty() {
                    state.prepared.insert(statement.id, state.clock);
                }
                self.restore(name, statement);
            }
            Due::Query(_, Some(statement)) => self.restore(Bytes::new(), statement),
            _ => {}
        }
    }

    fn restore(&mut self, name: Bytes, statement: Arc<Statement>) {
        // A later batch may have used the name again.
        if !self.statements.contains_key(&name) {
            self.statement_bytes += statement.definition.len();
            self.statements.insert(name, statement);
        }
    }
}

fn write_parse(name: &[u8], definition: &[u8], out: &mut BytesMut) {
    message(b'P', out, |out| {
        put_text(name, out);
        out.put_slice(definition);
    });
}
