//! Certificates: who issues one for a name, how it is issued, and when the next one is due.
//!
//! For: `control`, which decides what is wanted, keeps what there is and hands it to the edge, and the edge that stands
//! alone, which does the same for itself. Names that only this machine or this network knows get theirs from a local
//! [`Authority`]; public names may ask a CA by ACME (RFC 8555), in an attempt ([`obtain`]) that any successor goes on with.
//!
//! It does *not* know: the manifest, the store, where files lie, or the clock: the caller says what time it is, so that
//! weeks of failing renewals take a test no time.

mod acme;
mod attempt;
mod authority;
mod inspect;
mod name;
mod record;
mod schedule;

pub use acme::{Acme, AcmeConfig, AcmeError, Challenge, Order, Proof};
pub use attempt::{AttemptError, Failed, Keeper, Wish, ask, obtain};
pub use authority::{Authority, AuthorityError, Issued, LEAF_LIFETIME};
pub use inspect::{Facts, InspectError, inspect};
pub use name::{Kind, classify};
pub use record::{Current, OrderRecord, Record, dice};
pub use schedule::{Standing, Timing, due_ms, next_try_ms, standing, waits};
