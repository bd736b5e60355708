//! The user's secrets over the admin socket.

use super::{KeyRotation, SecretGrantReport, SecretPlace, SecretReport, SecretSet};
use crate::ApplyEvent;
use crate::client::{AdminClient, ClientError, encoded};
use crate::words::Event;
use astraler_model::Environment;
use astraler_secrets::Secret;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;

#[derive(Deserialize)]
struct Removed {
    pending: Vec<Environment>,
}

impl AdminClient {
    /// The secrets of a place; no value.
    pub async fn secrets(&self, place: SecretPlace) -> Result<Vec<SecretReport>, ClientError> {
        self.read(&format!("/v1/secrets/{place}")).await
    }

    /// Stores a value as the newest version of a secret.
    pub async fn secret_set(
        &self,
        place: SecretPlace,
        name: &str,
        value: &Secret,
    ) -> Result<SecretSet, ClientError> {
        self.ask(Method::PUT, &path(place, name), bytes(value)).await
    }

    /// The same for a secret that is there. Without a value the daemon makes one.
    pub async fn secret_rotate(
        &self,
        place: SecretPlace,
        name: &str,
        value: Option<&Secret>,
    ) -> Result<SecretSet, ClientError> {
        match value {
            Some(value) => self.ask(Method::POST, &path(place, name), bytes(value)).await,
            None => {
                let path = format!("{}?generate=true", path(place, name));
                self.ask(Method::POST, &path, Bytes::new()).await
            }
        }
    }

    /// Versions of a secret.
    pub async fn secret_history(
        &self,
        place: SecretPlace,
        name: &str,
    ) -> Result<serde_json::Value, ClientError> {
        self.read(&path(place, name)).await
    }

    /// Removes a secret; answers the environments that still run with it.
    pub async fn secret_remove(
        &self,
        place: SecretPlace,
        name: &str,
    ) -> Result<Vec<Environment>, ClientError> {
        let removed: Removed = self.ask(Method::DELETE, &path(place, name), Bytes::new()).await?;
        Ok(removed.pending)
    }

    /// Lets a service have a secret.
    pub async fn secret_grant(
        &self,
        place: SecretPlace,
        name: &str,
        service: &str,
    ) -> Result<SecretGrantReport, ClientError> {
        self.ask(Method::PUT, &grant(place, name, service), Bytes::new())
            .await
    }

    /// Takes a grant back.
    pub async fn secret_revoke(
        &self,
        place: SecretPlace,
        name: &str,
        service: &str,
    ) -> Result<SecretGrantReport, ClientError> {
        self.ask(Method::DELETE, &grant(place, name, service), Bytes::new())
            .await
    }

    /// Lines without any secret's value.
    pub async fn mask(&self, lines: &[String]) -> Result<Vec<String>, ClientError> {
        self.post("/v1/mask", &lines).await
    }

    /// Replaces keys; nothing that is sealed changes.
    pub async fn keys_rotate(
        &self,
        rotation: &KeyRotation,
        mut on_event: impl FnMut(ApplyEvent),
    ) -> Result<(), ClientError> {
        let told = |event| {
            on_event(event);
            true
        };
        self.change(Method::POST, "/v1/keys/rotate", rotation, told).await
    }

    /// Gives what runs in an environment the secrets as they are now.
    pub async fn secrets_apply(
        &self,
        environment: Environment,
        on_event: impl FnMut(Event) -> bool,
    ) -> Result<(), ClientError> {
        let path = format!("/v1/environments/{environment}/secrets/apply");
        self.change(Method::POST, &path, &(), on_event).await
    }
}

fn bytes(value: &Secret) -> Bytes {
    Bytes::copy_from_slice(value.expose().as_bytes())
}

fn path(place: SecretPlace, name: &str) -> String {
    format!("/v1/secrets/{place}/{}", segment(name))
}

fn grant(place: SecretPlace, name: &str, service: &str) -> String {
    format!("{}/grants/{}", path(place, name), segment(service))
}

fn segment(text: &str) -> String {
    encoded(text).replace('/', "%2F")
}
