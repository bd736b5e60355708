//! The cache, with a real origin behind it and raw sockets in front.

mod concurrent;
mod disk;
pub(crate) mod origin;
mod parts;
mod purge;
mod reuse;
mod rules;
