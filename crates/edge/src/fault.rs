//! Why a request was not answered as its sender hoped: who is to blame, and whether trying again can help.
//! The shape follows pingora-error.

use http::StatusCode;
use std::fmt;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client sent something wrong, or went away.
    Client,
    /// The worker did.
    Upstream,
    /// We did.
    Edge,
}

impl Blame {
    /// Its word in the record.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Edge => "edge",
        }
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request breaks RFC 9110 or RFC 9112.
    Malformed,
    /// Head too large or too many fields.
    HeadTooLarge,
    /// Target too long.
    UriTooLong,
    /// Body too large.
    BodyTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body did not arrive in time.
    BodyTimeout,
    /// CONNECT, TRACE, or an unsafe method on a file.
    MethodNotAllowed,
    /// `Expect` is something other than `100-continue`.
    ExpectationFailed,
    /// Not HTTP/1.0 or HTTP/1.1.
    VersionNotSupported,
    /// An allow-list does not have the client.
    Forbidden,
    /// The firewall refuses the request.
    Blocked,
    /// The firewall closes the connection without an answer.
    Dropped,
    /// A rate rule blocks the client.
    TooManyRequests,
    /// The environment is closed.
    Maintenance,
    /// No environment has this host.
    UnknownHost,
    /// No worker and no file.
    NotFound,
    /// The client went away before the answer.
    ClientGone,
    /// Too many connections.
    Overloaded,
    /// Nothing accepts connections on the worker's socket.
    UpstreamUnavailable,
    /// The worker closed the connection before it answered.
    UpstreamClosed,
    /// The worker's answer is not HTTP, or its body ended early.
    UpstreamInvalid,
    /// The worker did not answer in time.
    UpstreamTimeout,
    /// A file that was there could not be read.
    AssetUnreadable,
    /// The client wants a stored response, and there is none to use.
    NotCached,
}

/// A kind with a reason in plain words. The reason is ours, never text of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Fault {
    /// What went wrong.
    pub kind: Kind,
    /// Why, in plain words.
    pub reason: &'static str,
    /// The answer's, where a rule says another than the kind's.
    status: Option<StatusCode>,
}

impl Fault {
    /// The answer's status.
    pub fn status(self) -> StatusCode {
        self.status.unwrap_or(self.kind.status())
    }

    /// With the status that a rule says, where that is one of an error.
    pub(crate) fn with_status(self, status: u16) -> Self {
        let status = StatusCode::from_u16(status).ok();
        Self {
            status: status.filter(|status| status.is_client_error() || status.is_server_error()),
            ..self
        }
    }
}

impl Kind {
    /// With a reason.
    pub const fn because(self, reason: &'static str) -> Fault {
        Fault {
            kind: self,
            reason,
            status: None,
        }
    }

    /// The answer's status. 499 (client closed request) and 444 (no answer), nginx's numbers, are only ever logged.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Forbidden | Self::Blocked => StatusCode::FORBIDDEN,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Dropped => StatusCode::from_u16(444).unwrap_or(StatusCode::FORBIDDEN),
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::ClientGone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Overloaded | Self::Maintenance | Self::UpstreamUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UpstreamClosed | Self::UpstreamInvalid => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout | Self::NotCached => StatusCode::GATEWAY_TIMEOUT,
            Self::AssetUnreadable => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whose fault it is.
    pub fn blame(self) -> Blame {
        match self {
            Self::UpstreamUnavailable
            | Self::UpstreamClosed
            | Self::UpstreamInvalid
            | Self::UpstreamTimeout => Blame::Upstream,
            Self::Overloaded | Self::Maintenance | Self::AssetUnreadable => Blame::Edge,
            _ => Blame::Client,
        }
    }

    /// Whether the same request may succeed when it is sent again after a while.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::HeadTimeout
                | Self::BodyTimeout
                | Self::TooManyRequests
                | Self::Maintenance
                | Self::Overloaded
                | Self::UpstreamUnavailable
                | Self::UpstreamClosed
                | Self::UpstreamTimeout
        )
    }

    /// Seconds for `Retry-After`, where there is something to wait for (RFC 9110 section 10.2.3).
    pub fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::Overloaded | Self::UpstreamUnavailable | Self::UpstreamClosed => Some(1),
            _ => None,
        }
    }

    /// A stable word for logs and JSON error pages.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_request",
            Self::HeadTooLarge => "head_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ExpectationFailed => "expectation_failed",
            Self::VersionNotSupported => "version_not_supported",
            Self::Forbidden => "forbidden",
            Self::Blocked => "blocked",
            Self::Dropped => "dropped",
            Self::TooManyRequests => "too_many_requests",
            Self::Maintenance => "maintenance",
            Self::UnknownHost => "unknown_host",
            Self::NotFound => "not_found",
            Self::ClientGone => "client_gone",
            Self::Overloaded => "overloaded",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamInvalid => "upstream_invalid",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::AssetUnreadable => "asset_unreadable",
            Self::NotCached => "not_cached",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The fault somewhere in the chain of an error, when one of ours caused it.
pub(crate) fn find(error: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(*fault);
        }
        if let Some(inner) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            && let Some(fault) = find(inner)
        {
            return Some(fault);
        }
        next = error.source();
    }
    None
}
