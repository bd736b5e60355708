//! The planner: what is wanted and what is there go in, ordered actions with their reasons come out.
//!
//! For: `control`, which finds out what is there and carries the actions out. A plan leaves its execution no choice:
//! everything that is decided is decided here, so that it can be read, saved, compared and tested without a machine.
//!
//! It does *not* know: what a manifest looks like, how an engine is asked or changed, who may do what, or what time
//! it is. No I/O and no clock: the same input gives the same plan, byte for byte.
//!
//! What is compared are *resources*: an [`Address`] and its attributes. Three states of one are told apart: what is
//! wanted (the manifest), what is recorded (how the platform made it last), what is there. Where what is there is not
//! what was recorded, somebody changed it by hand: that is [`Cause::Drift`]. Where it is as recorded and the manifest
//! wants something else: [`Cause::Wanted`].
//!
//! Source of the words: OpenTofu's plan (<https://opentofu.org/docs/internals/json-format/>): create, change
//! (`update` there), replace, destroy.

mod address;
mod plan;
mod resource;
mod text;

pub use address::{Address, ParseAddressError, Part};
pub use plan::{Action, AttributeChange, Cause, Kind, Plan, Retained, plan};
pub use resource::{Attributes, Desired, EnvironmentWanted, Observed, PROTECTED, SharedWanted};
