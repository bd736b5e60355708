//! Reconcilers, deployment and the admin API: where the capabilities meet.
