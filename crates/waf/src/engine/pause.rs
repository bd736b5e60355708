//! A transaction between two of its phases, while the server waits for more of the message.
//!
//! A transaction borrows what it looks at, and holds what it has made of it: neither is worth keeping for as long as a
//! client takes to send its body, or a worker to answer. What rules have set is little. So a pause keeps that, borrows
//! nothing, and may go on in another thread.

use std::sync::Arc;

use super::tx::Kept;
use super::{Interruption, Limits, Match, Request, Response, RuleSet, Stores, Transaction};
use crate::body::Outcome;
use crate::compile::Program;
use crate::compile::target::Exclusion;
use crate::seclang::{Allow, Mode, Processor, Store};

/// What rules have set, and what became of the transaction so far.
#[derive(Debug, Clone)]
pub struct Paused {
    tx: Kept,
    captures: [Option<Box<[u8]>>; 10],
    env: Vec<(Box<str>, Box<[u8]>)>,
    keys: Vec<(Store, Box<str>)>,
    mode: Mode,
    phase: u8,
    removed: Vec<u64>,
    exceptions: Vec<(RuleSet, Arc<[Exclusion]>)>,
    processor: Option<Processor>,
    force_request_body: bool,
    request_body_access: bool,
    response_body_access: bool,
    request_body_limit: usize,
    response_body_limit: usize,
    body: Outcome,
    body_cut: [bool; 2],
    allowed: Option<(Allow, u8)>,
    interruption: Option<Interruption>,
    matches: Vec<Match>,
    matches_left_out: usize,
    highest_severity: Option<u8>,
    work: u64,
    exceeded: bool,
    limits: Limits,
}

/// What a transaction was about before it paused: the same again.
#[derive(Debug, Clone)]
pub struct Known<'t> {
    /// The request.
    pub request: Request<'t>,
    /// The beginning of its body that phase 2 has seen, where [`Program::looks_back_at_request_body`]; none otherwise.
    pub request_body: &'t [u8],
    /// The head of the response, if phase 3 has seen it.
    pub response: Option<Response<'t>>,
}

impl Paused {
    /// What stopped the transaction.
    pub fn interruption(&self) -> Option<&Interruption> {
        self.interruption.as_ref()
    }
}

impl Transaction<'_> {
    /// Leaves off until there is more to look at.
    pub fn pause(mut self) -> Paused {
        let exceptions = self.exceptions.iter();
        let exceptions = exceptions.map(|(rules, exclusions)| (Arc::clone(rules), Arc::clone(exclusions)));
        Paused {
            tx: self.tx.keep(),
            captures: std::mem::take(&mut self.captures),
            env: std::mem::take(&mut self.env),
            keys: std::mem::take(&mut self.keys),
            mode: self.mode,
            phase: self.phase,
            removed: std::mem::take(&mut self.removed),
            exceptions: exceptions.collect(),
            processor: self.processor,
            force_request_body: self.force_request_body,
            request_body_access: self.request_body_access,
            response_body_access: self.response_body_access,
            request_body_limit: self.request_body_limit,
            response_body_limit: self.response_body_limit,
            body: std::mem::take(&mut self.body),
            body_cut: self.body_cut,
            allowed: self.allowed,
            interruption: self.interruption.take(),
            matches: std::mem::take(&mut self.matches),
            matches_left_out: self.matches_left_out,
            highest_severity: self.highest_severity,
            work: self.work + self.texts.work,
            exceeded: self.exceeded,
            limits: self.limits.clone(),
        }
    }
}

impl Program {
    /// Goes on with a transaction that has paused, of this very program.
    pub fn resume<'t>(
        &'t self,
        paused: &'t mut Paused,
        known: Known<'t>,
        stores: Option<&'t Stores>,
    ) -> Transaction<'t> {
        let Known {
            request,
            request_body,
            response,
        } = known;
        let mut transaction = self.blank(request, stores, paused.limits.clone());
        transaction.captures = std::mem::take(&mut paused.captures);
        transaction.env = std::mem::take(&mut paused.env);
        transaction.keys = std::mem::take(&mut paused.keys);
        transaction.mode = paused.mode;
        transaction.phase = paused.phase;
        transaction.removed = std::mem::take(&mut paused.removed);
        transaction.processor = paused.processor;
        transaction.force_request_body = paused.force_request_body;
        transaction.request_body_access = paused.request_body_access;
        transaction.response_body_access = paused.response_body_access;
        transaction.request_body_limit = paused.request_body_limit;
        transaction.response_body_limit = paused.response_body_limit;
        transaction.body_cut = paused.body_cut;
        transaction.allowed = paused.allowed;
        transaction.interruption = paused.interruption.take();
        transaction.matches = std::mem::take(&mut paused.matches);
        transaction.matches_left_out = paused.matches_left_out;
        transaction.highest_severity = paused.highest_severity;
        transaction.work = paused.work;
        transaction.exceeded = paused.exceeded;
        let body = std::mem::take(&mut paused.body);
        let before_body = paused.phase < 2;
        let paused: &'t Paused = paused;
        transaction.exceptions = paused
            .exceptions
            .iter()
            .map(|(rules, exclusions)| (rules, exclusions))
            .collect();
        transaction.tx.take_kept(&paused.tx);
        if transaction.mode != Mode::Off {
            if before_body || self.reach.request_head {
                transaction.read_head();
            }
            if !before_body {
                transaction.read_body_again(request_body);
            }
            if let Some(response) = response {
                transaction.take_response(response);
            }
        }
        transaction.body = body;
        transaction
    }
}
