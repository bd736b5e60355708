//! No answer at all: the connection ends, as a rule of the firewall wants it.

use crate::body::{self, Body};
use crate::fault::Kind;
use http::Response;

/// Stands in the extensions of what goes the way of an answer, so that its record is written, and is never sent.
#[derive(Debug, Clone, Copy)]
struct HangUp;

pub(crate) fn answer() -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = Kind::Dropped.status();
    response.extensions_mut().insert(HangUp);
    response
}

/// Whether the connection is to end without this answer.
pub(crate) fn is_meant(response: &Response<Body>) -> bool {
    response.extensions().get::<HangUp>().is_some()
}
