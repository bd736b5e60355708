//! Against the real server of this machine, run exactly as `unit` says.

mod acl;
mod instance;
mod rest;
mod upstash;
