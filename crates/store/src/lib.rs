//! The control plane's database: journal, deployments, audit chain.
