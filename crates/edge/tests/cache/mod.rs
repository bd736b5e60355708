//! The cache, with a real origin behind it and raw sockets in front.

mod concurrent;
mod disk;
mod origin;
mod purge;
mod reuse;
mod rules;
