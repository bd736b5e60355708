//! Jobs of a run that deploy: what they get of the platform, and the workflow that deploys where none does.

#![allow(dead_code, unused_imports, reason = "runs, which call this, are under way")]

mod workflow;

pub(crate) use workflow::{deploy_workflow, deploys};
