//! The syntax of HTTP/1.1: heads and chunked bodies, strictly. Pure: bytes in, words out; nothing here reads or waits.
//!
//! One parser for both directions, in `crate::h1` for what clients send and in [`crate::upstream`] for what upstreams
//! answer. Whoever reads a connection finds the end of a head with [`head::find_end`] and hands exactly those bytes to
//! [`head::parse`]; the body behind it is counted by its one Content-Length or by [`chunk`], and the next head is looked
//! for where that count ends, and nowhere else.

pub mod chunk;
pub mod head;
