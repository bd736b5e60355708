//! Response rules: what every answer carries, whoever made it.

use crate::body::Body;
use crate::record::Access;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// Adds the request id, takes away what tells about our insides, and hands the body to the access record, which ends
/// with it. `Date` is hyper's.
pub(crate) fn apply(mut response: Response<Body>, mut access: Access) -> Response<Body> {
    let headers = response.headers_mut();
    headers.remove(header::SERVER);
    if let Ok(id) = HeaderValue::from_str(access.request_id()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    access.answered(response.status());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // The tunnel has taken the record along.
        return response;
    }
    response.map(|body| Body::new(access.with_body(body)))
}
