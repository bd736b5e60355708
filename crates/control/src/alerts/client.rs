//! Alerts over the admin socket.

use super::{AcknowledgeRequest, AlertsReport, SilenceRequest, TestRequest};
use crate::client::{AdminClient, ClientError};
use astraler_alert::Severity;
use bytes::Bytes;
use http::Method;

impl AdminClient {
    /// What fires, what is silenced, what was not delivered.
    pub async fn alerts(&self) -> Result<AlertsReport, ClientError> {
        self.read("/v1/alerts").await
    }

    /// Looks after an alert for a while.
    pub async fn alert_acknowledge(&self, number: u64, seconds: u64) -> Result<(), ClientError> {
        let path = format!("/v1/alerts/{number}/acknowledge");
        let _: serde_json::Value = self.post(&path, &AcknowledgeRequest { seconds }).await?;
        Ok(())
    }

    /// Silences what fits for a while; the silence's number.
    pub async fn alert_silence(&self, request: &SilenceRequest) -> Result<u64, ClientError> {
        self.post("/v1/alerts/silences", request).await
    }

    /// Ends a silence.
    pub async fn alert_unsilence(&self, number: u64) -> Result<(), ClientError> {
        let path = format!("/v1/alerts/silences/{number}");
        let _: serde_json::Value = self.ask(Method::DELETE, &path, Bytes::new()).await?;
        Ok(())
    }

    /// Raises an alert that tries the channels of a severity; its number.
    pub async fn alert_test(&self, severity: Severity) -> Result<u64, ClientError> {
        self.post("/v1/alerts/test", &TestRequest { severity }).await
    }
}
