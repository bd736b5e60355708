//! Signals: what happened, kept and searched.
//!
//! The edge writes a line for each request, `keep` one for each line of a unit; both rotate their files and know nothing
//! of this crate. Those files are the write-ahead segment: a [`Store`] reads them from where it stopped and writes what
//! it read into Parquet files, a folder for each stream and day, which any other engine opens as well. A request waits
//! for nothing here; a reader killed at any instant goes on where the last whole file ends.
//!
//! [`Metrics`] are counted from the same lines, [`Errors`] grouped from what the workers' tails wrote, each beside the
//! position up to which it had read.
//!
//! A [`Reader`] answers questions from the files alone, with [`Query`] and [`Filter`]. It needs no running process.
//!
//! What it does not know: the daemon, deployments, how a process is started, who may ask.

mod errors;
mod filter;
mod histogram;
mod keeper;
mod metrics;
mod query;
mod segment;
mod source;
mod store;
mod stream;

pub use errors::{Errors, ErrorsError, Frame, Group, Occurrence, exception_words};
pub use filter::{Filter, FilterError};
pub use histogram::Histogram;
pub use keeper::{KeeperConfig, KeeperError, Retention, Shared, Told, keep};
pub use metrics::{Asked, Connections, EXPOSITION_TYPE, Metrics, MetricsError, PROBE_AGENT, Summary};
pub use query::{Follow, Minute, Query, Reader, Row};
pub use segment::SegmentError;
pub use store::{Counts, Store, StoreError};
pub use stream::{STREAMS, Stream, StreamError};
