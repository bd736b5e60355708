//! Certificates over the admin socket.

use super::TlsReport;
use crate::client::{AdminClient, ClientError};
use bytes::Bytes;
use http::Method;

impl AdminClient {
    /// How certificates stand.
    pub async fn tls(&self) -> Result<TlsReport, ClientError> {
        self.read("/v1/tls").await
    }

    /// Renews one, or all, now.
    pub async fn tls_renew(&self, name: Option<&str>) -> Result<TlsReport, ClientError> {
        let path = match name {
            Some(name) => format!("/v1/tls/renew?name={name}"),
            None => "/v1/tls/renew".to_owned(),
        };
        self.ask(Method::POST, &path, Bytes::new()).await
    }
}
