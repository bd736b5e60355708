//! The program as users meet it: real engines, real processes, one platform for each test.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod alerts;
mod backups;
mod canary;
mod cli;
mod crash;
mod deploy;
mod disk;
mod dns;
mod docs;
mod edge;
mod edge_acme;
mod edge_dns;
mod edge_rules;
mod faults;
mod gates;
mod git;
mod jobs;
mod keys;
mod lifecycle;
mod pipeline;
mod pipeline_run;
mod plan;
mod push;
mod recover_service;
mod recovery_key;
mod release;
mod secrets;
mod signals;
mod sink;
mod starter;
mod support;
mod tls;
mod to_production;
mod tokens;
mod waf;
mod waf_rules;
mod waf_update;
mod watch;
