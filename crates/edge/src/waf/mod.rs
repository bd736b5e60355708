//! WAF: whether a request is what it seems to be, and whether its answer gives away what it should not. Custom rules
//! first (those about the head even before rate rules, which they may pass over), then the managed rules, whose program
//! is compiled off the path of requests ([`programs`]) and shared by all environments that set it up alike.
//!
//! The managed rules' first phase runs on the head. If they want to see the body, and there is one, its beginning is
//! kept ([`beginning`]), looked at, and then goes on to the worker with the rest of it; what is beyond the limit passes
//! unseen. A request without a body waits for nothing. What the worker answers is looked at by the same transaction
//! ([`answer`]), which pauses meanwhile and holds nothing of the request but what rules have set.

mod answer;
mod beginning;
mod custom;
mod databases;
mod notes;
mod programs;
mod refusal;
mod room;
mod seen;

pub(crate) use answer::Inspection;
pub(crate) use programs::Programs;
pub(crate) use refusal::{Elsewhere, Refusal};
pub(crate) use room::Room;
pub(crate) use seen::Call;

use crate::body::Body;
use crate::fault::{Fault, Kind};
use crate::record::Access;
use astraler_model::{WafConfig, WafMode};
use astraler_waf::compile::Program;
use astraler_waf::engine::{Known, Limits, Paused, Stores, Transaction};
use astraler_waf::expression::{self, Rule, Skip};
use astraler_waf::ruleset::Setup;
use astraler_waf::seclang::Mode;
use beginning::{Beginning, Keep};
use custom::{Exception, Stage, leave_out};
use databases::Places;
use notes::Notes;
use programs::Standing;
use seen::{Fields, Seen};
use std::sync::Arc;

/// In the record, in the place of a rule and what it led to: a body passed that was not looked at as far as it should be.
const CUT_SHORT: (&str, &str) = ("inspection", "cut short");

/// The firewall of one environment, ready to be asked.
#[derive(Debug)]
pub(crate) struct Waf {
    mode: WafMode,
    /// None where the managed rules cannot be used, or are not wanted.
    program: Option<Arc<Program>>,
    /// What rules remember of clients.
    stores: Arc<Stores>,
    places: Places,
    /// Rules ask where a client is beside its country, and in whose network.
    wants: expression::Needs,
    setup: Setup,
    body_limit: usize,
    /// By when they can be asked.
    custom: [Vec<Rule>; 3],
    /// A custom rule that is asked of the response looks at the request's body too.
    custom_looks_back: bool,
    exceptions: Vec<Exception>,
}

impl Waf {
    fn of(config: &WafConfig, standing: Standing) -> Self {
        let mut custom: [Vec<Rule>; 3] = Default::default();
        let lists = custom::lists(config);
        let rules = config.custom_rules.iter();
        for rule in rules.filter_map(|rule| custom::rule(rule, &lists)) {
            custom[Stage::of(&rule) as usize].push(rule);
        }
        let of_response = &custom[Stage::Response as usize];
        Self {
            mode: config.mode,
            wants: wants(&custom, standing.program.as_deref()),
            program: standing.program,
            stores: standing.stores,
            places: standing.places,
            setup: Setup {
                paranoia_level: Some(config.paranoia_level),
                inbound_threshold: Some(config.inbound_threshold),
                outbound_threshold: Some(config.outbound_threshold),
            },
            body_limit: usize::try_from(config.body_limit_bytes).unwrap_or(usize::MAX),
            custom_looks_back: of_response.iter().any(|rule| rule.expression.needs().body),
            custom,
            exceptions: config.exceptions.iter().map(Exception::of).collect(),
        }
    }

    fn seen(&self, call: &Call<'_>, access: &Access) -> Seen {
        let client = call.client.address.ip();
        let whence = self.places.whence(client, self.wants.place, self.wants.network);
        Seen::of(call, &access.request_id(), whence)
    }

    /// Asks the custom rules that look at the head alone. They come before rate rules, and may pass over those.
    pub(crate) fn open(&self, call: &Call<'_>, access: &mut Access) -> Result<Opened, Fault> {
        if self.mode == WafMode::Off || self.custom[Stage::Head as usize].is_empty() {
            return Ok(Opened::default());
        }
        let seen = self.seen(call, access);
        let mut notes = Notes::default();
        let asked = {
            let fields = seen.fields();
            self.ask_custom(Stage::Head, &seen.subject(&fields), &mut notes)
        };
        notes.tell(access);
        Ok(Opened {
            skip: asked?,
            seen: Some(seen),
        })
    }

    /// Looks at a request. Its body comes back as if nobody had, and with it what looks at the answer, where any rule
    /// does.
    pub(crate) async fn inspect(
        self: &Arc<Self>,
        opened: Opened,
        call: &Call<'_>,
        body: Body,
        room: &Arc<Room>,
        access: &mut Access,
    ) -> Result<(Body, Option<Inspection>), Refusal> {
        if self.mode == WafMode::Off
            || (self.program.is_none() && self.custom.iter().all(|rules| rules.is_empty()))
        {
            return Ok((body, None));
        }
        let seen = match opened.seen {
            Some(seen) => seen,
            None => self.seen(call, access),
        };
        let seen = Arc::new(seen);
        let mut notes = Notes::default();
        let has_body = !http_body::Body::is_end_stream(&body);
        let first = self.look_at_head(&seen, &opened.skip, has_body, &mut notes);
        notes.tell(access);
        let (paused, wanted, skips_custom) = match first? {
            Head::Done(done) => return Ok((body, self.inspection(seen, done, Beginning::default()))),
            Head::Wants {
                paused,
                wanted,
                skips_custom,
            } => (paused, wanted, skips_custom),
        };
        let keep = Keep {
            limit: wanted,
            share: room.share(),
            refuses: self.mode == WafMode::Block,
        };
        let mut waiting = Waiting {
            waf: self,
            seen: &seen,
            paused,
        };
        let (beginning, body) = keep.request(body).await?;
        if beginning.crowded {
            notes.custom(CUT_SHORT.0, CUT_SHORT.1);
        }
        let kept = match self.keeps_body() {
            true => beginning.clone(),
            false => Beginning::default(),
        };
        let turn = match room.turn(beginning.bytes.len(), room::REQUEST_AT_ONCE).await {
            Ok(turn) => turn,
            Err(fault) if self.mode == WafMode::Block => return Err(fault.into()),
            Err(_) => {
                access.decided(CUT_SHORT.0, CUT_SHORT.1);
                return Ok((body, None));
            }
        };
        let (own, about, paused) = (self.clone(), seen.clone(), waiting.paused.take());
        drop(waiting);
        let rules = move || {
            let second = own.look_at_body(&about, paused, &beginning, skips_custom, &mut notes);
            (second, notes)
        };
        let (second, mut notes) = turn.run(rules).await?;
        notes.tell(access);
        Ok((body, self.inspection(seen, second?, kept)))
    }

    /// All that can be said before the body; all there is to say, where there is none.
    fn look_at_head(
        &self,
        seen: &Seen,
        skip: &Skip,
        has_body: bool,
        notes: &mut Notes,
    ) -> Result<Head, Refusal> {
        let fields = seen.fields();
        let subject = seen.subject(&fields);
        let mut transaction = self
            .program
            .as_deref()
            .filter(|_| !skip.managed.all)
            .map(|program| self.begin(program, seen, &fields, &skip.managed));
        let stopped = transaction
            .as_mut()
            .is_some_and(|transaction| transaction.request_headers().is_some());
        let asks_custom = !stopped && !skip.custom_rules && !self.custom[Stage::Body as usize].is_empty();
        let wanted = match &transaction {
            _ if asks_custom || (self.custom_looks_back && !skip.custom_rules) => self.body_limit,
            Some(transaction) => transaction.wanted_of_request_body().min(self.body_limit),
            None => 0,
        };
        if has_body && wanted > 0 && !stopped {
            return Ok(Head::Wants {
                paused: transaction.map(Transaction::pause),
                wanted,
                skips_custom: skip.custom_rules,
            });
        }
        if asks_custom {
            let body = Some(seen.body(&[], false));
            let subject = expression::Subject { body, ..subject };
            transaction = self.ask_custom_of_body(&subject, transaction, notes)?;
        }
        Ok(Head::Done(Done {
            paused: match transaction {
                Some(mut transaction) => {
                    if !stopped {
                        transaction.request_body(&[], false);
                    }
                    settle(transaction, notes)?
                }
                None => None,
            },
            skips_custom: skip.custom_rules,
        }))
    }

    fn look_at_body(
        &self,
        seen: &Seen,
        mut paused: Option<Paused>,
        beginning: &Beginning,
        skips_custom: bool,
        notes: &mut Notes,
    ) -> Result<Done, Refusal> {
        let fields = seen.fields();
        let mut transaction = match (&mut paused, self.program.as_deref()) {
            (Some(paused), Some(program)) => {
                let known = Known {
                    request: seen.request(&fields),
                    request_body: &[],
                    response: None,
                };
                let mut transaction = program.resume(paused, known, Some(&self.stores));
                seen.tell(&mut transaction);
                Some(transaction)
            }
            _ => None,
        };
        if !skips_custom {
            let subject = expression::Subject {
                body: Some(seen.body(&beginning.bytes, beginning.cut)),
                ..seen.subject(&fields)
            };
            transaction = self.ask_custom_of_body(&subject, transaction, notes)?;
        }
        Ok(Done {
            paused: match transaction {
                Some(mut transaction) => {
                    transaction.request_body(&beginning.bytes, beginning.cut);
                    settle(transaction, notes)?
                }
                None => None,
            },
            skips_custom,
        })
    }

    fn ask_custom_of_body<'t>(
        &self,
        subject: &expression::Subject<'_>,
        transaction: Option<Transaction<'t>>,
        notes: &mut Notes,
    ) -> Result<Option<Transaction<'t>>, Fault> {
        let skip = self.ask_custom(Stage::Body, subject, notes)?;
        Ok(transaction.filter(|_| !skip.managed.all).map(|mut transaction| {
            leave_out(&mut transaction, &skip.managed);
            transaction
        }))
    }

    fn ask_custom(
        &self,
        stage: Stage,
        subject: &expression::Subject<'_>,
        notes: &mut Notes,
    ) -> Result<Skip, Fault> {
        let decision = expression::decide(&self.custom[stage as usize], subject);
        for rule in &decision.applied {
            notes.custom(&rule.name, custom::word(&rule.action));
        }
        let Some(rule) = decision.block else {
            return Ok(decision.skip);
        };
        if self.mode == WafMode::Detect {
            notes.custom(&rule.name, "detect");
            return Ok(decision.skip);
        }
        notes.custom(&rule.name, "block");
        Err(Kind::Blocked.because(match stage {
            Stage::Head | Stage::Body => "a rule of the firewall refuses this request",
            Stage::Response => "a rule of the firewall refuses the answer to this request",
        }))
    }

    fn begin<'t>(
        &'t self,
        program: &'t Program,
        seen: &'t Seen,
        fields: &'t Fields<'t>,
        managed: &expression::Managed,
    ) -> Transaction<'t> {
        let mut transaction = program.begin(seen.request(fields), Some(&self.stores), Limits::default());
        transaction.set_mode(match self.mode {
            WafMode::Block => Mode::On,
            WafMode::Detect => Mode::DetectionOnly,
            WafMode::Off => Mode::Off,
        });
        self.setup.tell(&mut transaction);
        seen.tell(&mut transaction);
        leave_out(&mut transaction, managed);
        let (host, path) = (seen.checked.host.as_str(), seen.checked.path());
        for exception in &self.exceptions {
            if exception.about.matches(host, path, &seen.method) {
                leave_out(&mut transaction, &exception.managed);
            }
        }
        transaction
    }

    /// Phase 5 of a transaction that pauses, and nothing comes any more.
    fn end(&self, seen: &Seen, body: &[u8], mut paused: Paused) {
        let Some(program) = self.program.as_deref() else {
            return;
        };
        let fields = seen.fields();
        let known = Known {
            request: seen.request(&fields),
            request_body: body,
            response: None,
        };
        let mut transaction = program.resume(&mut paused, known, Some(&self.stores));
        seen.tell(&mut transaction);
        transaction.finish();
    }

    /// Whether rules look at the request's body once more when the answer is there.
    fn keeps_body(&self) -> bool {
        let program = self.program.as_deref();
        self.custom_looks_back || program.is_some_and(Program::looks_back_at_request_body)
    }

    /// Nothing where no rule looks at answers.
    fn inspection(self: &Arc<Self>, seen: Arc<Seen>, done: Done, body: Beginning) -> Option<Inspection> {
        let asks_custom = !done.skips_custom && !self.custom[Stage::Response as usize].is_empty();
        (done.paused.is_some() || asks_custom)
            .then(|| Inspection::new(self.clone(), seen, body, done.paused, asks_custom))
    }
}

/// What any of them looks at.
fn wants(custom: &[Vec<Rule>; 3], program: Option<&Program>) -> expression::Needs {
    let all = custom.iter().flatten().map(|rule| rule.expression.needs());
    let managed = expression::Needs {
        place: program.is_some_and(Program::looks_at_places),
        ..expression::Needs::default()
    };
    all.fold(managed, |one, other| expression::Needs {
        body: one.body || other.body,
        response: one.response || other.response,
        country: one.country || other.country,
        place: one.place || other.place,
        network: one.network || other.network,
    })
}

/// What custom rules have said of a head.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    skip: Skip,
    /// None where nobody has asked.
    seen: Option<Seen>,
}

impl Opened {
    pub(crate) fn skips_rate_rules(&self) -> bool {
        self.skip.rate_rules
    }
}

/// A transaction until the body is there, if it ever is.
struct Waiting<'a> {
    waf: &'a Waf,
    seen: &'a Seen,
    paused: Option<Paused>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(paused) = self.paused.take() {
            self.waf.end(self.seen, &[], paused);
        }
    }
}

/// What came of the head.
enum Head {
    Done(Done),
    /// The body has to be looked at.
    Wants {
        paused: Option<Paused>,
        wanted: usize,
        skips_custom: bool,
    },
}

/// A request that may go on.
struct Done {
    /// The managed rules, where they look at the answer.
    paused: Option<Paused>,
    skips_custom: bool,
}

/// Says what the phases of the request have found, and refuses what they have stopped. Where no rule looks at the answer
/// the transaction ends here.
fn settle(transaction: Transaction<'_>, notes: &mut Notes) -> Result<Option<Paused>, Refusal> {
    let stop = transaction.interruption().cloned();
    notes.managed(
        stop.as_ref(),
        transaction.inbound_score(),
        transaction.matched_so_far(),
    );
    if let Some(stop) = stop {
        transaction.finish();
        return Err(Refusal::of_request(&stop));
    }
    if transaction.looks_at_response() {
        return Ok(Some(transaction.pause()));
    }
    transaction.finish();
    Ok(None)
}
