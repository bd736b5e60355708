//! Steps in the journal: before each is taken, and after.

use crate::backups::Progress;
use crate::platform::Platform;
use crate::words::Fault;
use astraler_store::{OperationId, Outcome};
use serde_json::json;
use std::time::Instant;
use tokio::sync::mpsc;

/// A step that was begun.
pub(super) struct Begun<'a> {
    platform: &'a Platform,
    events: &'a mpsc::Sender<Progress>,
    operation: OperationId,
    index: usize,
    name: String,
    at: Instant,
}

impl<'a> Begun<'a> {
    /// Writes down that a step is about to be taken.
    pub(super) async fn step(
        platform: &'a Platform,
        events: &'a mpsc::Sender<Progress>,
        operation: OperationId,
        index: usize,
        name: String,
    ) -> Result<Self, Fault> {
        events.send(Progress::Begin { part: name.clone() }).await.ok();
        let at = Instant::now();
        platform
            .intent(operation, index)
            .map_err(|error| Fault::of(&name, &error))?;
        Ok(Self {
            platform,
            events,
            operation,
            index,
            name,
            at,
        })
    }

    /// Writes down how it ended.
    pub(super) async fn end(self, done: Result<String, Fault>) -> Result<(), Fault> {
        let outcome = match &done {
            Ok(_) => Outcome::Done,
            Err(fault) => Outcome::Failed {
                error: fault.message.clone(),
            },
        };
        let recorded = self
            .platform
            .result(self.operation, self.index, &outcome, &json!(null));
        let detail = done?;
        recorded.map_err(|error| Fault::of(&self.name, &error))?;
        let end = Progress::End {
            part: self.name,
            detail,
            elapsed_ms: u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        self.events.send(end).await.ok();
        Ok(())
    }
}
