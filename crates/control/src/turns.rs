//! Whose turn it is to change an environment. Changes of one environment come one after the other; of the deployments
//! that wait, only the newest will run.

use astraler_model::Environment;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

/// Held while an environment is changed.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// The lines, one for each environment.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    lines: StdMutex<BTreeMap<Environment, Line>>,
}

#[derive(Debug, Clone)]
struct Line {
    turn: Arc<Mutex<()>>,
    newest: Arc<watch::Sender<Ticket>>,
}

#[derive(Debug, Clone, Default)]
struct Ticket {
    number: u64,
    name: String,
}

/// A deployment's place in its line.
#[derive(Debug)]
pub(crate) struct Place {
    line: Line,
    number: u64,
}

impl Turns {
    /// Waits for the turn; nobody overtakes.
    pub(crate) async fn take(&self, environment: Environment) -> Turn {
        self.line(environment).turn.lock_owned().await
    }

    /// Whether nobody changes the environment now.
    pub(crate) fn is_free(&self, environment: Environment) -> bool {
        self.line(environment).turn.try_lock().is_ok()
    }

    /// Lines a deployment up: those that wait already are superseded by it.
    pub(crate) fn line_up(&self, environment: Environment, name: String) -> Place {
        let line = self.line(environment);
        let mut number = 0;
        line.newest.send_modify(|ticket| {
            ticket.number += 1;
            ticket.name = name;
            number = ticket.number;
        });
        Place { line, number }
    }

    fn line(&self, environment: Environment) -> Line {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(environment).or_insert_with(|| Line {
            turn: Arc::default(),
            newest: Arc::new(watch::Sender::new(Ticket::default())),
        });
        line.clone()
    }
}

impl Place {
    /// Waits for the turn, or hears the name of the newer one.
    pub(crate) async fn turn(self) -> Result<Turn, String> {
        let mut newest = self.line.newest.subscribe();
        let mut newer = newest.clone();
        let turn = tokio::select! {
            biased;
            found = newer.wait_for(|ticket| ticket.number > self.number) => {
                return Err(found.map(|ticket| ticket.name.clone()).unwrap_or_default());
            }
            turn = Arc::clone(&self.line.turn).lock_owned() => turn,
        };
        let ticket = newest.borrow_and_update();
        if ticket.number > self.number {
            return Err(ticket.name.clone());
        }
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGING: Environment = Environment::Staging;

    #[tokio::test]
    async fn of_those_that_wait_only_the_newest_runs() {
        let turns = Turns::default();
        assert!(turns.is_free(STAGING));
        let running = turns.line_up(STAGING, "d-1".into()).turn().await.unwrap();
        assert!(!turns.is_free(STAGING));
        let wait = |name: &str| tokio::spawn(turns.line_up(STAGING, name.into()).turn());
        let second = wait("d-2");
        tokio::task::yield_now().await;
        let third = wait("d-3");
        assert_eq!(second.await.unwrap().unwrap_err(), "d-3");
        let fourth = wait("d-4");
        assert_eq!(third.await.unwrap().unwrap_err(), "d-4");
        let other = turns.take(Environment::Production).await;
        drop(running);
        let last = fourth.await.unwrap().unwrap();
        drop((last, other));
        turns.take(STAGING).await;
    }
}
