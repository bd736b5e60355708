//! One request or response through a program.
//!
//! A server calls the phases in their order, with what it has read so far; a phase that stops the transaction says so,
//! and the server answers accordingly. The last call gives a [`Report`] of what matched and why.
//!
//! A transaction is bounded: [`Limits`] says by how much, and [`Report::exceeded`] whether it was.

mod body;
mod effects;
mod evaluate;
mod given;
pub(crate) mod items;
mod name;
mod pause;
mod report;
mod scratch;
mod secret;
mod single;
mod store;
mod subject;
mod sum;
mod test;
mod texts;
mod tx;
mod uri;
mod write;

use std::net::IpAddr;
use std::sync::Arc;

pub use pause::{Known, Paused};
pub use report::{Match, Report};
pub use scratch::Scratch;
pub use store::Stores;

use crate::body::Outcome;
use crate::compile::Program;
use crate::compile::rule::{Effect, RuleId};
use crate::compile::target::Exclusion;
use crate::country::Place;
use crate::seclang::{Allow, Mode, Processor};
use items::Items;
use name::Matched;
use single::Memo;
use sum::Sum;
use texts::{Side, TextId, Texts};
use tx::Tx;

/// What is known of a request before its body is.
#[derive(Debug, Clone)]
pub struct Request<'t> {
    /// Who asks.
    pub client: IpAddr,
    /// From which port.
    pub client_port: u16,
    /// Whom.
    pub server: IpAddr,
    /// At which port.
    pub server_port: u16,
    /// As it came.
    pub method: &'t [u8],
    /// The request target as it came.
    pub target: &'t [u8],
    /// `HTTP/1.1`.
    pub protocol: &'t [u8],
    /// Names and values as they came, in their order.
    pub headers: &'t [(&'t [u8], &'t [u8])],
    /// A name for the transaction.
    pub unique_id: &'t str,
    /// Seconds since 1970: this crate has no clock.
    pub now: u64,
    /// ISO code of the client's country, where the server knows it.
    pub country: Option<&'t str>,
}

/// What is known of a response before its body is.
#[derive(Debug, Clone)]
pub struct Response<'t> {
    /// The status.
    pub status: u16,
    /// `HTTP/1.1`.
    pub protocol: &'t [u8],
    /// Names and values in their order.
    pub headers: &'t [(&'t [u8], &'t [u8])],
}

/// How much one transaction may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that patterns, searches and transformations look at; a measure of time that is the same on every machine.
    pub work: u64,
    /// Bytes that transformed values take.
    pub text: usize,
    /// Matches that are recorded.
    pub matches: usize,
    /// Variables that rules make under names of their own: two rules of the Core Rule Set make one for each argument.
    pub variables: usize,
    /// What happens beyond any of them.
    pub beyond: Beyond,
}

/// What happens to a transaction that takes too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// It is stopped with this status, unless the mode is DetectionOnly.
    Stop(u16),
    /// Its rules are no longer run, and it passes.
    Pass,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            work: 512 << 20,
            text: 32 << 20,
            matches: 512,
            variables: 4096,
            beyond: Beyond::Stop(503),
        }
    }
}

/// A transaction is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interruption {
    /// By which rule; 0 where a limit did it.
    pub rule: u64,
    /// In which phase.
    pub phase: u8,
    /// How.
    pub action: Stop,
    /// With which status.
    pub status: u16,
}

/// How a transaction is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// With an answer of that status.
    Deny,
    /// By closing the connection.
    Drop,
    /// By sending the client elsewhere, with a status of 301, 302, 303 or 307. Fit for `Location`: without control bytes.
    Redirect(String),
}

/// Rules of a program, as bits by their numbers.
type RuleSet = Arc<[u64]>;

/// One request and its response on their way through the rules.
#[derive(Debug)]
pub struct Transaction<'t> {
    program: &'t Program,
    stores: Option<&'t Stores>,
    request: Request<'t>,
    response: Option<Response<'t>>,
    place: Option<&'t Place>,
    elapsed: u64,
    limits: Limits,
    scratch: Scratch,
    texts: Texts<'t>,
    items: Items,
    memo: Memo,
    sums: Vec<Sum>,
    tx: Tx<'t>,
    captures: [Option<Box<[u8]>>; 10],
    matched: Vec<Matched>,
    env: Vec<(Box<str>, Box<[u8]>)>,
    keys: Vec<(crate::seclang::Store, Box<str>)>,
    mode: Mode,
    phase: u8,
    side: Side,
    removed: Vec<u64>,
    exceptions: Vec<(&'t RuleSet, &'t Arc<[Exclusion]>)>,
    processor: Option<Processor>,
    force_request_body: bool,
    request_body_access: bool,
    response_body_access: bool,
    request_body_limit: usize,
    response_body_limit: usize,
    request_body: Option<&'t [u8]>,
    response_body: Option<&'t [u8]>,
    body: Outcome,
    body_cut: [bool; 2],
    allowed: Option<(Allow, u8)>,
    interruption: Option<Interruption>,
    matches: Vec<Match>,
    matches_left_out: usize,
    highest_severity: Option<u8>,
    /// What the rule at hand has added to scores.
    score: i64,
    /// The head of the rule at hand.
    head: RuleId,
    work: u64,
    exceeded: bool,
}

impl Program {
    /// Begins a transaction. `stores` keeps variables of clients and sessions beyond it; without, rules that want them
    /// find none.
    pub fn begin<'t>(
        &'t self,
        request: Request<'t>,
        stores: Option<&'t Stores>,
        limits: Limits,
    ) -> Transaction<'t> {
        let mut transaction = self.blank(request, stores, limits);
        if transaction.mode != Mode::Off {
            transaction.read_head();
        }
        transaction
    }

    /// A transaction that has not looked at anything.
    fn blank<'t>(
        &'t self,
        request: Request<'t>,
        stores: Option<&'t Stores>,
        limits: Limits,
    ) -> Transaction<'t> {
        let mut scratch = self.take_scratch();
        let buffers = std::mem::take(&mut scratch.buffers);
        let mut sums = std::mem::take(&mut scratch.sums);
        sums.clear();
        sums.resize(self.sums, Sum::default());
        let settings = &self.settings;
        let texts = Texts::new(&self.chains, self.unicode_map.as_ref(), buffers, limits.text);
        Transaction {
            program: self,
            stores,
            request,
            response: None,
            place: None,
            elapsed: 0,
            scratch,
            texts,
            items: Items::default(),
            memo: Memo::default(),
            sums,
            tx: Tx::new(&self.names, limits.variables),
            captures: Default::default(),
            matched: Vec::new(),
            env: Vec::new(),
            keys: Vec::new(),
            mode: settings.mode,
            phase: 1,
            side: Side::Request,
            removed: Vec::new(),
            exceptions: Vec::new(),
            processor: None,
            force_request_body: false,
            request_body_access: settings.request_body_access,
            response_body_access: settings.response_body_access,
            request_body_limit: settings.request_body_limit,
            response_body_limit: settings.response_body_limit,
            request_body: None,
            response_body: None,
            body: Outcome::default(),
            body_cut: [false; 2],
            allowed: None,
            interruption: None,
            matches: Vec::new(),
            matches_left_out: 0,
            highest_severity: None,
            score: 0,
            head: 0,
            work: 0,
            exceeded: false,
            limits,
        }
    }
}

impl<'t> Transaction<'t> {
    /// Phase 1: what is known before the body.
    pub fn request_headers(&mut self) -> Option<&Interruption> {
        self.run(1);
        self.interruption.as_ref()
    }

    /// How much of the request's body the rules want to see; none of it where that is 0.
    pub fn wanted_of_request_body(&self) -> usize {
        if self.mode == Mode::Off || !self.request_body_access || self.interruption.is_some() {
            0
        } else {
            self.request_body_limit
        }
    }

    /// Phase 2: the body, or as much of it as was wanted; `cut` says that there is more of it.
    pub fn request_body(&mut self, body: &'t [u8], cut: bool) -> Option<&Interruption> {
        if self.mode != Mode::Off && self.interruption.is_none() {
            self.take_request_body(body, cut);
        }
        self.run(2);
        self.interruption.as_ref()
    }

    /// Phase 3: the head of the response.
    pub fn response_headers(&mut self, response: Response<'t>) -> Option<&Interruption> {
        if self.mode != Mode::Off {
            self.take_response(response);
        }
        self.run(3);
        self.interruption.as_ref()
    }

    /// Whether rules would look at the response: a server that has not got one yet pauses for it.
    pub fn looks_at_response(&self) -> bool {
        self.mode != Mode::Off && self.interruption.is_none() && self.program.looks_at_responses()
    }

    /// How much of the response's body the rules want to see; none of it where that is 0.
    pub fn wanted_of_response_body(&self) -> usize {
        if self.mode == Mode::Off
            || !self.response_body_access
            || !self.program.reach.response_body
            || self.interruption.is_some()
            || !self.response_type_is_looked_at()
        {
            0
        } else {
            self.response_body_limit
        }
    }

    /// Phase 4: the body of the response, or as much of it as was wanted; `cut` says that there is more of it.
    pub fn response_body(&mut self, body: &'t [u8], cut: bool) -> Option<&Interruption> {
        if self.wanted_of_response_body() > 0 {
            let fits = body.len().min(self.response_body_limit);
            self.response_body = Some(&body[..fits]);
            self.body_cut[1] = cut || fits < body.len();
            self.memo.forget();
        }
        self.run(4);
        self.interruption.as_ref()
    }

    /// Phase 5: the log. It runs also where the transaction was stopped, and stops nothing.
    pub fn finish(mut self) -> Report {
        self.run(5);
        self.report()
    }

    /// The rules that have matched so far and are logged, in their order.
    pub fn matched_so_far(&self) -> &[Match] {
        &self.matches
    }

    /// What stopped the transaction.
    pub fn interruption(&self) -> Option<&Interruption> {
        self.interruption.as_ref()
    }

    fn apply(&mut self, effects: &'t [Effect]) {
        for effect in effects {
            self.effect(effect);
        }
    }

    fn text(&self, text: TextId) -> &[u8] {
        self.texts.get(text)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.sums = std::mem::take(&mut self.sums);
        scratch.buffers = self.texts.buffers();
        self.program.give_scratch(scratch);
    }
}
