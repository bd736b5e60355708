//! What a worker answers, looked at before a client or the cache gets it.
//!
//! The head at once; the beginning of the body where its type is one that rules look at ([`HELD`] says for how long it is
//! waited for). What streams by nature (events, tunnels) is of no such type and flows. Answers of the cache, 304s and
//! files are none of a worker: they are not looked at.

use super::beginning::{Beginning, Keep};
use super::custom::{Stage, leave_out};
use super::notes::Notes;
use super::refusal::{Elsewhere, Refusal};
use super::room::{ANSWER_AT_ONCE, Room};
use super::seen::{self, Seen};
use super::{CUT_SHORT, Waf};
use crate::body::Body;
use crate::fault::Fault;
use crate::record::Access;
use astraler_waf::compile::Program;
use astraler_waf::engine::{self, Known, Paused, Transaction};
use astraler_waf::expression;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode, response};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the beginning of an answer is waited for: a page that is written piece by piece must not stand still.
const HELD: Duration = Duration::from_secs(1);

/// What looks at the answer to one request.
#[derive(Debug)]
pub(crate) struct Inspection(Arc<About>);

/// The request, and how far the rules have come with it.
#[derive(Debug)]
struct About {
    waf: Arc<Waf>,
    seen: Arc<Seen>,
    /// The beginning of the request's body, where a rule looks back at it.
    body: Beginning,
    asks_custom: bool,
    /// A response that nobody waits for: its request was counted already.
    behind: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    paused: Option<Paused>,
    /// An answer has been looked at.
    done: bool,
    notes: Notes,
    /// Where the client is sent instead.
    elsewhere: Option<Elsewhere>,
}

impl Inspection {
    pub(super) fn new(
        waf: Arc<Waf>,
        seen: Arc<Seen>,
        body: Beginning,
        paused: Option<Paused>,
        asks_custom: bool,
    ) -> Self {
        Self(Arc::new(About {
            waf,
            seen,
            body,
            asks_custom,
            behind: false,
            state: Mutex::new(State {
                paused,
                done: false,
                notes: Notes::default(),
                elsewhere: None,
            }),
        }))
    }

    /// Whether rules will look at the body of an answer.
    pub(crate) fn reads_body(&self) -> bool {
        let program = self.0.waf.program.as_deref();
        program.is_some_and(Program::reads_response_body)
    }

    /// For the same request, sent once more behind the client's back.
    pub(crate) fn behind(&self) -> Self {
        let about = &self.0;
        Self(Arc::new(About {
            waf: about.waf.clone(),
            seen: about.seen.clone(),
            body: about.body.clone(),
            asks_custom: about.asks_custom,
            behind: true,
            state: Mutex::new(State {
                paused: about.state().paused.clone(),
                done: false,
                notes: Notes::default(),
                elsewhere: None,
            }),
        }))
    }

    /// Looks at what a worker has answered. It comes back as if nobody had, or not at all.
    pub(crate) async fn look_at(
        &self,
        response: Response<Body>,
        room: &Arc<Room>,
    ) -> Result<Response<Body>, Fault> {
        let about = &self.0;
        if matches!(
            response.status(),
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NOT_MODIFIED
        ) {
            return Ok(response);
        }
        let paused = {
            let mut state = about.state();
            if std::mem::replace(&mut state.done, true) {
                return Ok(response);
            }
            state.paused.take()
        };
        let (head, body) = response.into_parts();
        let has_body = !http_body::Body::is_end_stream(&body) && !is_encoded(&head.headers);
        let Some((paused, wanted)) = about.look_at_head(paused, &head, has_body)? else {
            return Ok(Response::from_parts(head, body));
        };
        // Where nobody waits any more, it ends as it is.
        about.state().paused = Some(paused);
        // What is not refused for what it says is not refused for lack of room either: the worker has done its work.
        let keep = Keep {
            limit: wanted,
            share: room.share(),
            refuses: false,
        };
        let (beginning, body) = keep.answer(body, HELD).await?;
        if beginning.crowded {
            about.cut_short();
        }
        let Ok(turn) = room.turn(beginning.bytes.len(), ANSWER_AT_ONCE).await else {
            about.cut_short();
            return Ok(Response::from_parts(head, body));
        };
        let own = about.clone();
        let rules = move || (own.look_at_body(&head, &beginning), head);
        let (looked, head) = turn.run(rules).await?;
        looked.map(|()| Response::from_parts(head, body))
    }

    /// Where a rule sends the client in place of the answer.
    pub(crate) fn elsewhere(&self) -> Option<Elsewhere> {
        self.0.state().elsewhere.clone()
    }

    /// Tells the record what rules have found in the answer.
    pub(crate) fn tell(&self, access: &mut Access) {
        self.0.state().notes.tell(access);
    }
}

impl About {
    /// Phase 3, and phase 4 where there is no body to wait for; otherwise how much of it is wanted.
    fn look_at_head(
        &self,
        mut paused: Option<Paused>,
        head: &response::Parts,
        has_body: bool,
    ) -> Result<Option<(Paused, usize)>, Fault> {
        let request = self.seen.fields();
        let fields: Vec<_> = seen::fields(&head.headers).collect();
        let mut transaction = match (&mut paused, self.waf.program.as_deref()) {
            (Some(paused), Some(program)) => {
                let known = self.known(&request, None);
                let mut transaction = program.resume(paused, known, Some(&self.waf.stores));
                self.seen.tell(&mut transaction);
                Some(transaction)
            }
            _ => None,
        };
        if self.asks_custom {
            let subject = expression::Subject {
                body: Some(self.seen.body(&self.body.bytes, self.body.cut)),
                response: Some(expression::Response {
                    status: head.status.as_u16(),
                    headers: &fields,
                }),
                ..self.seen.subject(&request)
            };
            let mut notes = Notes::default();
            let asked = self.waf.ask_custom(Stage::Response, &subject, &mut notes);
            self.state().notes.append(notes);
            let skip = asked?;
            transaction = transaction.filter(|_| !skip.managed.all);
            if let Some(transaction) = &mut transaction {
                leave_out(transaction, &skip.managed);
            }
        }
        let Some(mut transaction) = transaction else {
            return Ok(None);
        };
        let told = transaction.matched_so_far().len();
        transaction.response_headers(response_of(head, &fields));
        let wanted = transaction.wanted_of_response_body();
        if has_body && wanted > 0 {
            self.note(&transaction, told);
            return Ok(Some((transaction.pause(), wanted)));
        }
        transaction.response_body(&[], false);
        self.settle(transaction, told).map(|()| None)
    }

    /// Phase 4.
    fn look_at_body(&self, head: &response::Parts, beginning: &Beginning) -> Result<(), Fault> {
        let paused = self.state().paused.take();
        let (Some(mut paused), Some(program)) = (paused, self.waf.program.as_deref()) else {
            return Ok(());
        };
        let request = self.seen.fields();
        let fields: Vec<_> = seen::fields(&head.headers).collect();
        let known = self.known(&request, Some(response_of(head, &fields)));
        let mut transaction = program.resume(&mut paused, known, Some(&self.waf.stores));
        self.seen.tell(&mut transaction);
        let told = transaction.matched_so_far().len();
        transaction.response_body(&beginning.bytes, beginning.cut);
        self.settle(transaction, told)
    }

    /// Says what was found since `told` matches, ends the transaction, and refuses what it has stopped.
    fn settle(&self, transaction: Transaction<'_>, told: usize) -> Result<(), Fault> {
        self.note(&transaction, told);
        let stop = transaction.interruption().cloned();
        if !self.behind {
            transaction.finish();
        }
        let Some(stop) = stop else { return Ok(()) };
        if self.behind {
            tracing::warn!(
                rule = stop.rule,
                path = self.seen.checked.path(),
                "the firewall refuses what a worker answers: a stored response is not renewed"
            );
        }
        let refusal = Refusal::of_answer(&stop);
        self.state().elsewhere = refusal.elsewhere;
        Err(refusal.fault)
    }

    fn note(&self, transaction: &Transaction<'_>, told: usize) {
        let matches = transaction.matched_so_far().get(told..).unwrap_or_default();
        self.state()
            .notes
            .managed(transaction.interruption(), transaction.outbound_score(), matches);
    }

    fn known<'t>(
        &'t self,
        fields: &'t seen::Fields<'t>,
        response: Option<engine::Response<'t>>,
    ) -> Known<'t> {
        Known {
            request: self.seen.request(fields),
            request_body: &self.body.bytes,
            response,
        }
    }

    fn cut_short(&self) {
        self.state().notes.custom(CUT_SHORT.0, CUT_SHORT.1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a request that no worker has answered, or whose client has left.
impl Drop for About {
    fn drop(&mut self) {
        let paused = self.state().paused.take();
        if let (Some(paused), false) = (paused, self.behind) {
            self.waf.end(&self.seen, &self.body.bytes, paused);
        }
    }
}

fn response_of<'t>(head: &response::Parts, fields: &'t seen::Fields<'t>) -> engine::Response<'t> {
    engine::Response {
        status: head.status.as_u16(),
        protocol: b"HTTP/1.1",
        headers: fields,
    }
}

/// Rules would look at noise.
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
