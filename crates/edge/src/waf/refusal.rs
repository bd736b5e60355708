//! What the firewall stops, in the words of the edge.

use crate::fault::{Fault, Kind};
use astraler_waf::engine::{Interruption, Stop};
use http::{HeaderValue, StatusCode};

/// Why a request or its answer does not go on.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    /// Where the client is sent instead.
    pub(crate) elsewhere: Option<Elsewhere>,
}

/// Where a client is sent, and with which status.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere {
    pub(crate) status: StatusCode,
    pub(crate) location: HeaderValue,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            elsewhere: None,
        }
    }
}

impl Refusal {
    /// Of a request. What a rule says of the size or the shape of a body, the edge says the same way.
    pub(super) fn of_request(stop: &Interruption) -> Self {
        let kind = match stop.status {
            400 => Kind::Malformed.because("the request cannot be read as what it says it is"),
            404 => Kind::NotFound.because("nothing is served at this path"),
            413 => Kind::BodyTooLarge.because("request body too large to be inspected"),
            429 => Kind::TooManyRequests.because("the firewall refuses further requests"),
            503 if stop.rule == 0 => Kind::Overloaded.because("the request takes too much to be inspected"),
            _ => Kind::Blocked.because("the firewall refuses this request"),
        };
        Self::of(stop, kind)
    }

    /// Of what a worker has answered.
    pub(super) fn of_answer(stop: &Interruption) -> Self {
        let kind = match stop.status {
            404 => Kind::NotFound.because("nothing is served at this path"),
            503 if stop.rule == 0 => Kind::Overloaded.because("the answer takes too much to be inspected"),
            _ => Kind::Blocked.because("the firewall refuses the answer to this request"),
        };
        Self::of(stop, kind)
    }

    fn of(stop: &Interruption, denied: Fault) -> Self {
        match &stop.action {
            Stop::Deny if denied.kind == Kind::Blocked => denied.with_status(stop.status).into(),
            Stop::Deny => denied.into(),
            Stop::Drop => Kind::Dropped.because("the firewall closes the connection").into(),
            Stop::Redirect(location) => Self {
                fault: Kind::Blocked.because("the firewall sends this request elsewhere"),
                elsewhere: elsewhere(stop.status, location),
            },
        }
    }
}

/// Nothing where there is no place to go to: then it is refused.
fn elsewhere(status: u16, location: &str) -> Option<Elsewhere> {
    Some(Elsewhere {
        status: StatusCode::from_u16(status).ok()?,
        location: HeaderValue::from_str(location)
            .ok()
            .filter(|_| !location.is_empty())?,
    })
}

/// In the record.
pub(super) fn word(stop: &Interruption) -> &'static str {
    match stop.action {
        Stop::Deny => "block",
        Stop::Drop => "drop",
        Stop::Redirect(_) => "redirect",
    }
}
