//! WAF: whether a request is what it seems to be. Custom rules first, then the managed rules, whose program is compiled
//! off the path of requests ([`programs`]) and shared by all environments that set it up alike.
//!
//! The managed rules' first phase runs on the head. If they want to see the body, and there is one, its beginning is
//! kept ([`beginning`]), looked at, and then goes on to the worker with the rest of it; what is beyond the limit passes
//! unseen. A request without a body waits for nothing.

mod beginning;
mod programs;

pub(crate) use programs::Programs;

use crate::body::Body;
use crate::checks::Checked;
use crate::client::{Client, Scheme};
use crate::fault::{Fault, Kind};
use crate::policy::Matcher;
use crate::record::Access;
use astraler_model::{WafAction, WafConfig, WafException, WafMode, WafRule};
use astraler_waf::compile::Program;
use astraler_waf::engine::{self, Interruption, Limits, Report, Stores, Transaction};
use astraler_waf::expression::{self, Expression, Lists, Managed, Rule, Skip};
use astraler_waf::seclang::Mode;
use beginning::Beginning;
use http::request::Parts;
use http::{Version, header};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// The firewall of one environment, ready to be asked.
#[derive(Debug)]
pub(crate) struct Waf {
    mode: WafMode,
    /// None where the managed rules cannot be used, or are not wanted.
    program: Option<Arc<Program>>,
    /// What rules remember of clients.
    stores: Arc<Stores>,
    body_limit: usize,
    custom: Vec<Rule>,
    /// A custom rule looks at the body.
    custom_wants_body: bool,
    exceptions: Vec<Exception>,
}

#[derive(Debug)]
struct Exception {
    about: Matcher,
    managed: Managed,
}

/// What is known of a request by now.
pub(crate) struct Call<'a> {
    pub(crate) client: &'a Client,
    pub(crate) checked: &'a Checked,
    pub(crate) parts: &'a Parts,
}

impl Waf {
    pub(crate) fn of(config: &WafConfig, program: Option<Arc<Program>>, stores: Arc<Stores>) -> Self {
        let custom: Vec<Rule> = config.custom_rules.iter().filter_map(rule).collect();
        Self {
            mode: config.mode,
            program,
            stores,
            body_limit: usize::try_from(config.body_limit_bytes).unwrap_or(usize::MAX),
            custom_wants_body: custom.iter().any(|rule| rule.expression.needs().body),
            custom,
            exceptions: config.exceptions.iter().map(Exception::of).collect(),
        }
    }

    /// Looks at a request. Its body comes back as if nobody had.
    pub(crate) async fn inspect(
        &self,
        call: &Call<'_>,
        body: Body,
        access: &mut Access,
    ) -> Result<Body, Fault> {
        if self.mode == WafMode::Off || (self.program.is_none() && self.custom.is_empty()) {
            return Ok(body);
        }
        let seen = Seen::of(call, &access.request_id());
        // The transaction borrows the beginning of the body, which comes while it is on its way.
        let kept: OnceLock<Beginning> = OnceLock::new();
        let fields: Vec<(&[u8], &[u8])> = seen.fields(call);
        let subject = seen.subject(call, &fields);
        let skip = self.ask_custom(|rule| !rule.expression.needs().body, &subject, access)?;
        let mut transaction = self
            .program
            .as_deref()
            .filter(|_| !skip.managed.all)
            .map(|program| self.begin(program, call, &seen, &fields, &skip.managed));

        let stopped = transaction
            .as_mut()
            .is_some_and(|transaction| transaction.request_headers().is_some());
        let wanted = match &transaction {
            Some(transaction) if !stopped => transaction.wanted_of_request_body().min(self.body_limit),
            _ => 0,
        };
        let custom_wants_body = self.custom_wants_body && !stopped && !skip.custom_rules;
        let wanted = if custom_wants_body {
            self.body_limit
        } else {
            wanted
        };
        let body = if wanted > 0 && !http_body::Body::is_end_stream(&body) {
            let (beginning, body) = beginning::keep(body, wanted).await?;
            kept.get_or_init(|| beginning);
            body
        } else {
            body
        };
        let (bytes, cut) = kept.get().map_or((&[][..], false), |beginning| {
            (&beginning.bytes[..], beginning.cut)
        });
        if custom_wants_body {
            let subject = expression::Subject {
                body: Some(expression::Body {
                    kept: bytes,
                    size: seen.length.unwrap_or(bytes.len() as u64),
                    truncated: cut,
                }),
                ..subject
            };
            let skip = self.ask_custom(|rule| rule.expression.needs().body, &subject, access)?;
            if skip.managed.all {
                return Ok(body);
            }
            if let Some(transaction) = &mut transaction {
                leave_out(transaction, &skip.managed);
            }
        }
        if let Some(mut transaction) = transaction {
            if !stopped {
                transaction.request_body(bytes, cut);
            }
            self.judge(&transaction.finish(), access)?;
        }
        Ok(body)
    }

    fn ask_custom(
        &self,
        is_asked: impl Fn(&Rule) -> bool,
        subject: &expression::Subject<'_>,
        access: &mut Access,
    ) -> Result<Skip, Fault> {
        let decision = expression::decide(self.custom.iter().filter(|rule| is_asked(rule)), subject);
        for rule in &decision.applied {
            access.decided(&rule.name, word(&rule.action));
        }
        let Some(rule) = decision.block else {
            return Ok(decision.skip);
        };
        if self.mode == WafMode::Detect {
            access.decided(&rule.name, "detect");
            return Ok(decision.skip);
        }
        access.decided(&rule.name, "block");
        Err(Kind::Blocked.because("a rule of the firewall refuses this request"))
    }

    fn begin<'t>(
        &'t self,
        program: &'t Program,
        call: &Call<'t>,
        seen: &'t Seen,
        fields: &'t [(&'t [u8], &'t [u8])],
        managed: &Managed,
    ) -> Transaction<'t> {
        let request = engine::Request {
            client: call.client.address.ip(),
            client_port: call.client.address.port(),
            server: IpAddr::V4(Ipv4Addr::LOCALHOST),
            server_port: seen.server_port,
            method: call.parts.method.as_str().as_bytes(),
            target: seen.target.as_bytes(),
            protocol: protocol(call.parts.version),
            headers: fields,
            unique_id: &seen.id,
            now: seen.now_ms / 1000,
            country: None,
        };
        let mut transaction = program.begin(request, Some(&self.stores), Limits::default());
        transaction.set_mode(match self.mode {
            WafMode::Block => Mode::On,
            WafMode::Detect => Mode::DetectionOnly,
            WafMode::Off => Mode::Off,
        });
        leave_out(&mut transaction, managed);
        let (host, path) = (call.checked.host.as_str(), call.checked.path());
        for exception in &self.exceptions {
            if exception.about.matches(host, path, &call.parts.method) {
                leave_out(&mut transaction, &exception.managed);
            }
        }
        transaction
    }

    /// Tells the record which rules matched, and refuses what they have stopped.
    fn judge(&self, report: &Report, access: &mut Access) -> Result<(), Fault> {
        if let Some(stop) = &report.interruption {
            access.inspected(stop.rule, "block", None, report.inbound_score);
        }
        let stopped_by = report.interruption.as_ref().map(|stop| stop.rule);
        for one in &report.matches {
            // What only opens the way for others has no message, and what stopped it stands there already.
            if !one.msg.is_empty() && Some(one.rule) != stopped_by {
                access.inspected(one.rule, "match", Some(&one.variable), one.score);
            }
        }
        match &report.interruption {
            Some(stop) => Err(fault(stop)),
            None => Ok(()),
        }
    }
}

/// A stop in the words of the edge. What a rule says of the size or the shape of a body, the edge says the same way.
fn fault(stop: &Interruption) -> Fault {
    match stop.status {
        400 => Kind::Malformed.because("the request cannot be read as what it says it is"),
        413 => Kind::BodyTooLarge.because("request body too large to be inspected"),
        503 if stop.rule == 0 => Kind::Overloaded.because("the request takes too much to be inspected"),
        _ => Kind::Blocked.because("the firewall refuses this request"),
    }
}

fn leave_out(transaction: &mut Transaction<'_>, managed: &Managed) {
    if !managed.is_none() {
        transaction.leave_out(|id, tags| managed.has(id, tags.iter().map(|tag| &**tag)));
    }
}

fn word(action: &expression::Action) -> &'static str {
    match action {
        expression::Action::Block => "block",
        expression::Action::Log => "log",
        expression::Action::Skip(_) => "skip",
        expression::Action::Exception(_) => "exception",
    }
}

/// The manifest has checked it: what cannot be read comes from a snapshot of another version, and is told.
fn rule(rule: &WafRule) -> Option<Rule> {
    let name = rule.name.as_str().to_owned();
    match Expression::compile(&rule.expression, &Lists::default()) {
        Ok(expression) => Some(Rule {
            name,
            expression,
            action: match rule.action {
                WafAction::Block => expression::Action::Block,
                WafAction::Log => expression::Action::Log,
                WafAction::Skip => expression::Action::Skip(Skip {
                    custom_rules: true,
                    managed: managed(&[], &[]),
                    rate_rules: false,
                }),
                WafAction::Exception => expression::Action::Exception(managed(&rule.rules, &rule.tags)),
            },
        }),
        Err(error) => {
            tracing::error!(
                rule = name,
                error = &error as &dyn std::error::Error,
                "a custom rule is left out"
            );
            None
        }
    }
}

/// All of them where none is named.
fn managed(ids: &[u64], tags: &[String]) -> Managed {
    Managed {
        all: ids.is_empty() && tags.is_empty(),
        ids: ids.iter().copied().collect(),
        tags: tags.iter().cloned().collect(),
    }
}

impl Exception {
    fn of(exception: &WafException) -> Self {
        Self {
            about: Matcher::new(&exception.hosts, &exception.paths, &[]),
            managed: managed(&exception.rules, &exception.tags),
        }
    }
}

/// What of a request is not there in the form that rules want.
struct Seen {
    target: String,
    /// HTTP/2 and HTTP/3 have no `Host`; rules look at one.
    host: Option<String>,
    id: String,
    now_ms: u64,
    server_port: u16,
    length: Option<u64>,
}

impl Seen {
    fn of(call: &Call<'_>, id: &str) -> Self {
        let parts = call.parts;
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let authority = call.checked.authority();
        let default_port = match call.client.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let port = authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(default_port);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = parts.headers.get(header::CONTENT_LENGTH);
        Self {
            target: target.to_owned(),
            host: (!parts.headers.contains_key(header::HOST)).then(|| authority.to_owned()),
            id: id.to_owned(),
            now_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            server_port: port,
            length: length.and_then(|length| length.to_str().ok()?.parse().ok()),
        }
    }

    fn fields<'t>(&'t self, call: &Call<'t>) -> Vec<(&'t [u8], &'t [u8])> {
        let host = self.host.iter().map(|host| (&b"host"[..], host.as_bytes()));
        let fields = call
            .parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        host.chain(fields).collect()
    }

    fn subject<'t>(&'t self, call: &Call<'t>, fields: &'t [(&'t [u8], &'t [u8])]) -> expression::Subject<'t> {
        expression::Subject {
            client: call.client.address.ip(),
            country: None,
            method: call.parts.method.as_str().as_bytes(),
            host: call.checked.host.as_str().as_bytes(),
            path: call.checked.path().as_bytes(),
            target: self.target.as_bytes(),
            version: match call.parts.version {
                Version::HTTP_10 => b"HTTP/1.0",
                Version::HTTP_2 => b"HTTP/2",
                Version::HTTP_3 => b"HTTP/3",
                _ => b"HTTP/1.1",
            },
            headers: fields,
            server_port: self.server_port,
            tls: call.client.tls.map(|agreed| agreed.version),
            id: &self.id,
            now_ms: self.now_ms,
            body: None,
            response: None,
        }
    }
}

/// As rules know versions. HTTP/3 carries the same messages as HTTP/2; the Core Rule Set 3 refuses what it has not
/// heard of.
fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_2 | Version::HTTP_3 => b"HTTP/2.0",
        _ => b"HTTP/1.1",
    }
}
