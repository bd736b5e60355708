//! Response rules: what every answer carries, whoever made it.

use crate::body::Body;
use crate::compress;
use crate::policy::Asked;
use crate::record::Access;
use crate::run::Edge;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Takes away what tells about our insides, adds what the environment's rules say and the request id, compresses, and
/// hands the body to the access record, which ends with it. `Date` is the server's.
pub(crate) fn apply(
    mut response: Response<Body>,
    edge: &Edge,
    asked: &Asked,
    mut access: Access,
) -> Response<Body> {
    let headers = response.headers_mut();
    headers.remove(header::SERVER);
    if let Some(site) = &asked.site {
        site.policy.apply_headers(&asked.headers, headers);
    }
    if let Some([limit, policy]) = &asked.rates {
        // Lists: what a worker says of limits of its own stays.
        headers.append(RATE_LIMIT, limit.clone());
        headers.append(RATE_LIMIT_POLICY, policy.clone());
    }
    if let Ok(id) = HeaderValue::from_str(&access.request_id()) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // The tunnel has taken the record along.
        access.answered(response.status());
        return response;
    }
    let response = compress::apply(response, &asked.wish, &edge.compressing);
    access.answered(response.status());
    access.content(response.headers());
    response.map(|body| Body::recorded(access.with_body(body)))
}
