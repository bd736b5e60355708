//! Alerts: rules over two windows, the life of an alert, whom it goes to, and the channels that carry it.
//!
//! For: `control`, which says what was measured and how much time has passed ([`Book::step`]), writes down what comes
//! of it, and has the notices sent ([`Delivery`], [`Sender`]). Rules, book and outbox are pure: the same input gives
//! the same notices.
//!
//! It does not know: where measures come from, where a book is kept, what time it is, who may acknowledge, or where a
//! channel's secret is.

mod book;
mod channel;
mod notice;
mod outbox;
mod rule;
mod severity;

pub use book::{
    Acknowledgement, Alert, Book, BookError, Key, MAX_ALERTS, MAX_SILENCES, Observation, Outcome, Raise,
    Silence, Standing, State, Tick, Told,
};
pub use channel::email::{Email, SmtpTls, message as email_message};
pub use channel::pagerduty::{PagerDuty, event as pagerduty_event};
pub use channel::slack::{Slack, message as slack_message};
pub use channel::{Patience, Sender, SenderError};
pub use notice::{Notice, NoticeKind, Subject};
pub use outbox::{Delivery, DeliveryState, GIVE_UP_MS, Retry, SendError, UNSURE_MS, due};
pub use rule::{Counts, Level, Metric, Question, Rule, Thresholds, evaluate, standard};
pub use severity::{Channel, Policy, Route, Severity, Unknown};
