//! For the daemon on the role's own status socket: `GET /replication`, how it stands; `POST /replication/restore` and
//! `POST /replication/verify`, which answer when they have ended. Only this role holds the store, and the credentials.

use super::worker::{chain, now_ms};
use super::{Plan, Standings, plans};
use astraler_model::{DataSnapshot, Environment, ReplicationStanding};
use astraler_recovery::replica::{self, ReplicaError};
use astraler_storage::Store;
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

type Answer = (StatusCode, Value);

/// What the answers are made of.
#[derive(Clone)]
pub struct Answers {
    store: Store,
    snapshot: watch::Receiver<Arc<DataSnapshot>>,
    standings: Standings,
    /// One at a time reads a whole replica.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Answers {
    /// About the store of the role.
    pub fn new(store: Store, snapshot: watch::Receiver<Arc<DataSnapshot>>, standings: Standings) -> Self {
        Self {
            store,
            snapshot,
            standings,
            turn: Arc::default(),
        }
    }

    /// `None` when the path is not one of ours.
    pub async fn answer(&self, method: &Method, uri: &Uri) -> Option<Answer> {
        let query = uri.query().unwrap_or_default();
        Some(match (method, uri.path()) {
            (&Method::GET, "/replication") => match self.standing().await {
                Ok(all) => (StatusCode::OK, json!(all)),
                Err(error) => failed(&error),
            },
            (&Method::POST, "/replication/restore") => self.in_turn(query, true).await,
            (&Method::POST, "/replication/verify") => self.in_turn(query, false).await,
            _ => return None,
        })
    }

    async fn standing(&self) -> Result<Vec<ReplicationStanding>, ReplicaError> {
        let lag = self.store.replication_lag().await?;
        let now = now_ms();
        let standings = self.standings.with(|all| all.clone());
        let plans = plans(&self.snapshot.borrow());
        let each = plans.into_iter().map(|(environment, plan)| {
            let of = |bucket: &String| lag.get(bucket).copied().unwrap_or_default();
            let waiting = plan.buckets.iter().map(of).filter(|waiting| waiting.keys > 0);
            let standing = standings.get(&environment).cloned().unwrap_or_default();
            ReplicationStanding {
                environment,
                destination: plan.target.url.clone(),
                waiting: waiting.clone().map(|waiting| waiting.keys).sum(),
                lag_ms: waiting
                    .map(|waiting| now.saturating_sub(waiting.since_ms))
                    .max()
                    .unwrap_or(0),
                error: standing.error,
                objects: standing.objects,
                bytes: standing.bytes,
                last_ms: standing.last_ms,
            }
        });
        Ok(each.collect())
    }

    async fn in_turn(&self, query: &str, restore: bool) -> Answer {
        let Ok(_turn) = self.turn.try_lock() else {
            let message = "a replica is being read already: wait for its end";
            return (StatusCode::CONFLICT, json!({ "message": message }));
        };
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let environment: Option<Environment> = value("environment").and_then(|text| text.parse().ok());
        let plan = environment.and_then(|environment| {
            let of = self.snapshot.borrow().environments.get(&environment).cloned()?;
            Some((Plan::of(&of)?, of.buckets))
        });
        let Some((plan, names)) = plan else {
            let message =
                "nothing of that environment is replicated: set storage.replication_url, and deploy";
            return (StatusCode::NOT_FOUND, json!({ "message": message }));
        };
        let only = value("bucket");
        let chosen: Vec<&String> = names
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == *name))
            .map(|(_, stored)| stored)
            .collect();
        if chosen.is_empty() {
            let known: Vec<&String> = names.keys().collect();
            let message = format!("that environment has no such bucket; it has {known:?}");
            return (StatusCode::NOT_FOUND, json!({ "message": message }));
        }
        let done = match restore {
            true => Box::pin(self.restore(&plan, &chosen, value("dry_run") == Some("1"))).await,
            false => {
                let most = value("most").and_then(|text| text.parse().ok());
                Box::pin(self.verify(&plan, &chosen, most)).await
            }
        };
        match done {
            Ok(buckets) => (StatusCode::OK, buckets),
            Err(error) => failed(&error),
        }
    }

    async fn restore(&self, plan: &Plan, buckets: &[&String], dry_run: bool) -> Result<Value, ReplicaError> {
        let destination = plan.destination()?;
        let mut all = serde_json::Map::new();
        for bucket in buckets {
            let done = replica::restore(&destination, &self.store, bucket, dry_run).await?;
            all.insert((*bucket).clone(), json!(done));
        }
        Ok(Value::Object(all))
    }

    /// Every object, or about so many of a bucket, spread over its keys.
    async fn verify(
        &self,
        plan: &Plan,
        buckets: &[&String],
        most: Option<u64>,
    ) -> Result<Value, ReplicaError> {
        let destination = plan.destination()?;
        let mut all = serde_json::Map::new();
        for bucket in buckets {
            let every = match most {
                Some(most) => self.store.count(bucket).await?.div_ceil(most.max(1)).max(1),
                None => 1,
            };
            let every = usize::try_from(every).unwrap_or(usize::MAX);
            let done = replica::verify(&destination, &self.store, bucket, every).await?;
            all.insert((*bucket).clone(), json!(done));
        }
        Ok(Value::Object(all))
    }
}

fn failed(error: &ReplicaError) -> Answer {
    (StatusCode::BAD_GATEWAY, json!({ "message": chain(error) }))
}
