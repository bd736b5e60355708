//! Answers without sockets, for fuzzing.

use crate::server::{Memory, Outcome, Served, Shared, Transport, answer};
use std::net::IpAddr;
use std::sync::Arc;

/// A server that is asked by a call.
#[derive(Debug)]
pub struct Local {
    shared: Shared,
    served: Arc<Served>,
    memory: Memory,
}

impl Local {
    /// Of what is served.
    pub fn new(served: Served) -> Self {
        Self {
            shared: Shared::new(),
            served: Arc::new(served),
            memory: Memory::default(),
        }
    }

    /// What is sent back over UDP, if anything.
    pub fn ask(&mut self, message: &[u8], client: IpAddr) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let asked = (message, client, Transport::Udp);
        match answer(&self.shared, &self.served, &mut self.memory, asked, &mut out) {
            Outcome::Send => Some(out),
            _ => None,
        }
    }
}
