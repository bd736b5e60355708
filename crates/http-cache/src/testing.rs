//! What tests build their cases of.

use crate::{Asked, Refusal, Settings, Stored, Times, admit};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use std::time::{Duration, SystemTime};

pub(crate) fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(&value.chars().map(|c| c as u8).collect::<Vec<_>>()).unwrap(),
        );
    }
    headers
}

/// Sun, 06 Nov 1994 08:49:37 GMT, when all responses of these tests arrive.
pub(crate) fn epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
}

pub(crate) const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

pub(crate) fn after(seconds: u64) -> SystemTime {
    epoch() + Duration::from_secs(seconds)
}

pub(crate) fn date(offset: i64) -> String {
    let seconds = 784_111_777_i64 + offset;
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()))
}

pub(crate) fn at_once() -> Times {
    Times {
        requested: epoch(),
        received: epoch(),
    }
}

pub(crate) fn try_store(
    request: &[(&str, &str)],
    status: u16,
    response: &[(&str, &str)],
    settings: &Settings,
) -> Result<Stored, Refusal> {
    let headers = fields(request);
    let asked = Asked::new(&Method::GET, &headers, settings);
    admit(
        &asked,
        StatusCode::from_u16(status).unwrap(),
        &fields(response),
        at_once(),
        settings,
    )
}

/// A response to a GET without fields, arrived at [`epoch`].
pub(crate) fn stored(response: &[(&str, &str)]) -> Stored {
    try_store(&[], 200, response, &Settings::default()).unwrap()
}
