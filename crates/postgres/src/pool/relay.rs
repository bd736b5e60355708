//! What happens to messages between a client and the server it holds: which need a server, which statement
//! is prepared where, which answers belong to whom, and when the server is free again. No input or output
//! here: bytes go from buffer to buffer.
//!
//! Prepared statements: each of a client's statements gets a name of its own on servers and is prepared there
//! when it is first used. Answers to what the client did not ask for are swallowed. For that, the relay keeps
//! the list of answers that are due, in order (PostgreSQL manual, 55.2.3).

use super::server::State;
use super::wire::{ErrorResponse, HIGH, Malformed, head, message, put_text, ready_for_query, text};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::effects::{Effects, session_effect};

mod names;

/// Longest Parse: its text is kept to prepare it again elsewhere.
const MAX_PARSE: usize = 4 << 20;
/// Text of all statements that one client keeps.
const MAX_STATEMENT_BYTES: usize = 16 << 20;
/// Statements that one client keeps.
const MAX_STATEMENTS: usize = 4_096;
/// Answers due at once; more messages are read when some have come.
const MAX_DUE: usize = 8_192;
/// Longest message that only carries names.
const MAX_NAMES: usize = 16 << 10;
/// The beginning of a simple query in which effects on the session are looked for.
const PEEK: usize = HIGH;

/// A number for each statement of each client, never used twice.
static NEXT_STATEMENT: AtomicU64 = AtomicU64::new(1);

#[derive(Debug)]
struct Statement {
    id: u64,
    /// Query, zero byte, types of parameters: a Parse without its name.
    definition: Bytes,
    effects: Effects,
}

/// An answer that the server owes.
#[derive(Debug)]
enum Due {
    /// ParseComplete; `name` is the client's, absent when the client did not ask.
    Parse {
        name: Option<Bytes>,
        id: u64,
        replaced: Option<Arc<Statement>>,
    },
    Bind,
    /// CloseComplete; the statement that is closed, and whether it was prepared on this server.
    Close(Option<(Bytes, Arc<Statement>, bool)>),
    /// RowDescription or NoData, after ParameterDescription or not.
    Describe,
    Execute(Effects),
    /// ReadyForQuery after everything else; the statement without a name that the query ends.
    Query(Effects, Option<Arc<Statement>>),
    Sync,
    /// No answer: where the client said that its COPY data ends.
    CopyEnd,
}

/// What the session must do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Go on when bytes have come or gone; a message of so many bytes is needed whole.
    Wait(usize),
    /// Get a server first.
    NeedServer,
    /// The client says good-bye.
    Terminate,
}

/// The conversation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the client sent an {0}")]
    Client(Malformed),
    #[error("{0} is too large")]
    TooLarge(&'static str),
    #[error("the server sent an {0}")]
    Server(Malformed),
}

/// One client's side of the relay.
#[derive(Debug, Default)]
pub(super) struct Relay {
    statements: HashMap<Bytes, Arc<Statement>>,
    statement_bytes: usize,
    /// Changes of statements that are due: before the last Sync that was sent, and after it. Until the former
    /// are answered, it is open which names there are.
    unsettled: usize,
    unsettled_in_batch: usize,
    portals: HashMap<Bytes, Effects>,
    due: VecDeque<Due>,
    /// Bytes of the client's present message that are still to come, and whether they are thrown away.
    client_rest: usize,
    client_drop: bool,
    server_rest: usize,
    server_drop: bool,
    /// After an error: nothing counts until Sync.
    ignoring: bool,
    copying_in: bool,
    /// Why the server must stay with this client.
    pub(super) pinned: Option<&'static str>,
    /// The transaction's state, as the server said last: `I`, `T` or `E`.
    status: u8,
    /// Whole transactions so far.
    pub(super) transactions: u64,
}

impl Relay {
    /// Whether the server it holds is between messages, so that it can be reset instead of closed.
    pub(super) fn is_quiet(&self) -> bool {
        self.due.is_empty()
            && self.client_rest == 0
            && self.server_rest == 0
            && !self.ignoring
            && !self.copying_in
    }

    /// Whether the held server has nothing to do: a transaction has just ended and nothing is on its way.
    pub(super) fn is_free(&self) -> bool {
        self.status == b'I' && self.is_quiet()
    }

    /// Begins with a fresh server.
    pub(super) fn hold(&mut self) {
        self.status = 0;
    }

    /// Takes back what belongs to a server that is gone.
    pub(super) fn release(&mut self) {
        self.portals.clear();
        self.pinned = None;
        self.status = 0;
    }

    /// No server could be had for the message at the front: the client gets the error, and is in step again.
    pub(super) fn refuse(&mut self, error: &ErrorResponse, input: &BytesMut, client: &mut BytesMut) {
        error.write(client);
        if input.first().is_some_and(|tag| matches!(tag, b'Q' | b'F')) {
            if let Ok(Some((_, length))) = head(input) {
                (self.client_rest, self.client_drop) = (length, true);
            }
            ready_for_query(client);
        } else {
            self.ignoring = true;
        }
    }

    /// Moves what the client sent. `server` is what it holds, with the bytes to be written there.
    pub(super) fn client_said(
        &mut self,
        input: &mut BytesMut,
        mut server: Option<(&mut State, &mut BytesMut)>,
        client: &mut BytesMut,
    ) -> Result<Step, Broken> {
        loop {
            if let Some((_, out)) = &server
                && (out.len() >= HIGH || self.due.len() >= MAX_DUE)
            {
                return Ok(Step::Wait(0));
            }
            if self.client_rest > 0 {
                let chunk = input.split_to(input.len().min(self.client_rest));
                self.client_rest -= chunk.len();
                if let (Some((_, out)), false) = (&mut server, self.client_drop) {
                    out.extend_from_slice(&chunk);
                }
                if self.client_rest > 0 {
                    return Ok(Step::Wait(0));
                }
            }
            let Some((tag, length)) = head(input).map_err(Broken::Client)? else {
                return Ok(Step::Wait(0));
            };
            self.client_drop = false;
            if tag == b'X' {
                return Ok(Step::Terminate);
            }
            if self.ignoring && tag != b'S' {
                (self.client_rest, self.client_drop) = (length, true);
                continue;
            }
            let Some((state, out)) = &mut server else {
                match tag {
                    // Nothing is open: what would end, flush or continue something does nothing.
                    b'S' if input.len() < length => return Ok(Step::Wait(0)),
                    b'S' => {
                        self.ignoring = false;
                        input.advance(length);
                        ready_for_query(client);
                    }
                    b'H' | b'd' | b'c' | b'f' => (self.client_rest, self.client_drop) = (length, true),
                    _ => return Ok(Step::NeedServer),
                }
                continue;
            };
            let needed = needed(tag, length)?;
            if input.len() < needed {
                return Ok(Step::Wait(needed));
            }
            if self.must_settle(tag) {
                return Ok(Step::Wait(0));
            }
            self.forward(tag, length, input, state, out)?;
        }
    }

    /// Forwards the message at the front, of which enough is there.
    fn forward(
        &mut self,
        tag: u8,
        length: usize,
        input: &mut BytesMut,
        state: &mut State,
        out: &mut BytesMut,
    ) -> Result<(), Broken> {
        const NAMES: Broken = Broken::Client(Malformed("message whose names do not end"));
        let body = &input[5..length.min(input.len())];
        self.status = 0;
        match tag {
            b'Q' => {
                let effects = Effects::of(body);
                self.note(&effects);
                // A simple query ends the statement without a name.
                state.unnamed = None;
                let replaced = self.forget(b"");
                self.expect(Due::Query(effects, replaced));
            }
            b'F' => self.expect(Due::Query(Effects::default(), None)),
            b'S' => {
                self.ignoring = false;
                if !self.copying_in {
                    self.expect(Due::Sync);
                }
            }
            b'c' | b'f' => {
                self.copying_in = false;
                if !self.due.is_empty() {
                    self.expect(Due::CopyEnd);
                }
            }
            b'P' => {
                let name = Bytes::copy_from_slice(text(body).ok_or(NAMES)?.0);
                let message = input.split_to(length).freeze();
                return self.parse(name.clone(), message.slice(5 + name.len() + 1..), state, out);
            }
            b'B' => {
                let (portal, rest) = text(body).ok_or(NAMES)?;
                let (name, _) = text(rest).ok_or(NAMES)?;
                let (portal, name) = (Bytes::copy_from_slice(portal), Bytes::copy_from_slice(name));
                let on_server = self.prepare(&name, state, out);
                if let Some(statement) = self.statements.get(&name)
                    && self.portals.len() < MAX_STATEMENTS
                {
                    self.portals.insert(portal.clone(), statement.effects);
                }
                self.expect(Due::Bind);
                let old = 5 + portal.len() + 1 + name.len() + 1;
                let rest = length - old;
                out.put_u8(b'B');
                let new = 4 + portal.len() + 1 + on_server.len() + 1 + rest;
                out.put_u32(u32::try_from(new).map_err(|_| Broken::TooLarge("a Bind message"))?);
                put_text(&portal, out);
                put_text(&on_server, out);
                input.advance(old);
                self.client_rest = rest;
                return Ok(());
            }
            b'D' | b'C' => {
                let (&kind, name) = body.split_first().ok_or(NAMES)?;
                let name = Bytes::copy_from_slice(text(name).ok_or(NAMES)?.0);
                if kind != b'S' {
                    self.expect(if tag == b'D' {
                        Due::Describe
                    } else {
                        Due::Close(None)
                    });
                } else {
                    let on_server = if tag == b'D' {
                        let on_server = self.prepare(&name, state, out);
                        self.expect(Due::Describe);
                        on_server
                    } else {
                        self.close(&name, state)
                    };
                    message(tag, out, |out| {
                        out.put_u8(kind);
                        put_text(&on_server, out);
                    });
                    input.advance(length);
                    return Ok(());
                }
            }
            b'E' => {
                let (portal, _) = text(body).ok_or(NAMES)?;
                let effects = self.portals.get(portal).copied().unwrap_or_default();
                self.note(&effects);
                self.expect(Due::Execute(effects));
            }
            b'H' | b'd' => {}
            _ => return Err(Broken::Client(Malformed("message of an unknown kind"))),
        }
        self.client_rest = length;
        Ok(())
    }

    /// Whether it depends on answers that are due what a message means: a driver may send the next batch
    /// before it knows that a statement of the last one failed, or was skipped. Batches that use what was
    /// prepared before are not held up.
    fn must_settle(&self, tag: u8) -> bool {
        self.unsettled > 0 && matches!(tag, b'P' | b'B' | b'D' | b'C' | b'Q')
    }

    /// Adds to what is due.
    fn expect(&mut self, due: Due) {
        match &due {
            Due::Parse { .. } | Due::Close(Some(_)) => self.unsettled_in_batch += 1,
            Due::Query(_, replaced) => {
                self.unsettled += self.unsettled_in_batch + usize::from(replaced.is_some());
                self.unsettled_in_batch = 0;
            }
            Due::Sync => {
                self.unsettled += std::mem::take(&mut self.unsettled_in_batch);
            }
            _ => {}
        }
        self.due.push_back(due);
    }

    /// What was due first is answered, or will not be.
    fn settle(&mut self, due: &Due) {
        let changed = matches!(
            due,
            Due::Parse { .. } | Due::Close(Some(_)) | Due::Query(_, Some(_))
        );
        if changed && self.unsettled > 0 {
            self.unsettled -= 1;
        } else if changed {
            self.unsettled_in_batch -= 1;
        }
    }

    fn pop_due(&mut self) {
        if let Some(due) = self.due.pop_front() {
            self.settle(&due);
        }
    }

    fn note(&mut self, effects: &Effects) {
        if let Some(reason) = effects.pins_when_sent() {
            self.pinned.get_or_insert(reason);
        }
    }

    /// Moves what the server sent.
    pub(super) fn server_said(
        &mut self,
        input: &mut BytesMut,
        state: &mut State,
        client: &mut BytesMut,
    ) -> Result<(), Broken> {
        while client.len() < HIGH {
            if self.server_rest > 0 {
                let chunk = input.split_to(input.len().min(self.server_rest));
                self.server_rest -= chunk.len();
                if !self.server_drop {
                    client.extend_from_slice(&chunk);
                }
                if self.server_rest > 0 {
                    return Ok(());
                }
            }
            let Some((tag, length)) = head(input).map_err(Broken::Server)? else {
                return Ok(());
            };
            self.server_drop = false;
            if matches!(tag, b'C' | b'S' | b'Z') {
                if length > HIGH / 2 {
                    return Err(Broken::Server(Malformed("message that is too long for its kind")));
                }
                if input.len() < length {
                    return Ok(());
                }
            }
            self.answered(tag, &input[5..length.min(input.len())], state)?;
            self.server_rest = length;
        }
        Ok(())
    }

    /// Ticks off what is due.
    fn answered(&mut self, tag: u8, body: &[u8], state: &mut State) -> Result<(), Broken> {
        const OUT_OF_STEP: Broken = Broken::Server(Malformed("answer that is not due"));
        match (tag, self.due.front()) {
            (b'1', Some(Due::Parse { name, .. })) => {
                self.server_drop = name.is_none();
                self.pop_due();
            }
            (b'2', Some(Due::Bind)) | (b'3', Some(Due::Close(_))) | (b'T' | b'n', Some(Due::Describe)) => {
                self.pop_due();
            }
            (b'C', Some(Due::Execute(effects) | Due::Query(effects, _))) => {
                let effects = *effects;
                if matches!(self.due.front(), Some(Due::Execute(_))) {
                    self.pop_due();
                }
                self.completed(body.strip_suffix(&[0]).unwrap_or(body), &effects, state);
            }
            (b'I' | b's', Some(Due::Execute(_))) => {
                self.pop_due();
            }
            (b'Z', Some(Due::Query(..) | Due::Sync)) => {
                self.pop_due();
                self.copying_in = false;
                self.status = body.first().copied().unwrap_or(b'I');
                if self.status == b'I' {
                    self.portals.clear();
                    self.transactions += 1;
                }
            }
            (b'E', _) => self.failed(state),
            (b'G', Some(Due::Execute(_))) => self.copy_in(),
            (b'S', _) => state.status(body),
            (b'1' | b'2' | b'3' | b's' | b'Z', _) => return Err(OUT_OF_STEP),
            _ => {}
        }
        while let Some(Due::CopyEnd) = self.due.front() {
            self.pop_due();
        }
        Ok(())
    }

    /// A statement has come to its end: what it did to the session decides whether the server stays.
    fn completed(&mut self, tag: &[u8], effects: &Effects, state: &mut State) {
        match tag {
            b"DEALLOCATE ALL" => {
                state.prepared.clear();
                self.statements.clear();
                self.statement_bytes = 0;
            }
            b"DISCARD ALL" => {
                // The session is as at its start, for the next client too.
                state.prepared.clear();
                state.applied.clear();
                self.statements.clear();
                self.statement_bytes = 0;
                self.pinned = None;
            }
            _ => {
                if let Some(reason) = session_effect(tag, effects) {
                    self.pinned.get_or_insert(reason);
                }
            }
        }
    }

    /// After an error in the extended protocol, the server does nothing until Sync.
    fn failed(&mut self, state: &mut State) {
        self.copying_in = false;
        if matches!(self.due.front(), Some(Due::Query(..) | Due::Sync) | None) {
            return;
        }
        let skipped = self
            .due
            .iter()
            .position(|due| matches!(due, Due::Sync))
            .unwrap_or(self.due.len());
        // Backwards, as a name may have been closed and used again.
        let mut skipped: Vec<Due> = self.due.drain(..skipped).collect();
        while let Some(due) = skipped.pop() {
            // What failed was begun; what comes after it was not.
            let begun = skipped.is_empty();
            self.settle(&due);
            self.undo(due, begun, state);
        }
        // Sync is not even sent: what comes before it would be skipped by the server and is not sent either.
        self.ignoring = self.due.is_empty();
    }

    /// COPY FROM STDIN began in the extended protocol: the server ignores Sync until the data end.
    fn copy_in(&mut self) {
        let end = self.due.iter().position(|due| matches!(due, Due::CopyEnd));
        self.copying_in = end.is_none();
        let mut index = 0;
        let end = end.unwrap_or(self.due.len());
        self.due.retain(|due| {
            index += 1;
            index > end || !matches!(due, Due::Sync)
        });
    }
}

/// How much of a message must be there before it can be forwarded.
fn needed(tag: u8, length: usize) -> Result<usize, Broken> {
    let whole = |limit: usize, what: &'static str| {
        if length > limit {
            Err(Broken::TooLarge(what))
        } else {
            Ok(length)
        }
    };
    match tag {
        b'P' => whole(MAX_PARSE, "a Parse message"),
        b'D' | b'C' | b'E' | b'S' | b'H' | b'c' => whole(MAX_NAMES, "a message of names"),
        b'B' => Ok(length.min(MAX_NAMES)),
        b'Q' => Ok(length.min(PEEK)),
        _ => Ok(5),
    }
}

#[cfg(test)]
mod tests;
