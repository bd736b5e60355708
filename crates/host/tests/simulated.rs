//! The simulated host keeps the supervisor's promises, and repeats its faults by seed.

use crate::support::{unit, unit_name};
use astraler_host::clock::{Clock, SimClock};
use astraler_host::sim::{SimFaults, SimSupervisor};
use astraler_host::supervisor::{Started, Supervisor, SupervisorError};
use astraler_model::UnitPhase;
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

/// A life with every request in it; what came of each.
async fn life(seed: u64) -> (Vec<String>, String) {
    let host = SimSupervisor::new(seed, SimFaults::SOME, SimClock::automatic(0));
    let mut outcomes = Vec::new();
    for round in 0..10 {
        let ready =
            json!({ "ready": { "line": { "timeout_ms": 1000 } }, "env": { "ROUND": round.to_string() } });
        let spec = unit(["a", "b", "c"][round % 3], &["wait"], ready);
        outcomes.push(format!("{:?}", host.start(&spec).await));
        outcomes.push(format!("{:?}", host.replace(&spec).await));
        outcomes.push(format!("{:?}", host.list().await));
        outcomes.push(format!("{:?}", host.restart(&spec.name).await));
        outcomes.push(format!("{:?}", host.stop(&unit_name("a")).await));
    }
    (outcomes, format!("{host:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn faults_are_repeated_by_seed(seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (first, debug) = runtime.block_on(life(seed));
        prop_assert_eq!(&first, &runtime.block_on(life(seed)).0);
        prop_assert!(debug.contains(&seed.to_string()));
        prop_assert_ne!(&first, &runtime.block_on(life(seed.wrapping_add(1))).0);
    }
}

#[tokio::test]
async fn without_faults_it_does_what_keep_does() {
    let host = SimSupervisor::new(1, SimFaults::NONE, SimClock::automatic(0));
    let spec = unit("a", &["wait"], json!({}));
    let Started::Fresh(status) = host.start(&spec).await.unwrap() else {
        panic!("not fresh")
    };
    assert_eq!(
        host.start(&spec).await.unwrap(),
        Started::Unchanged(status.clone())
    );
    assert_ne!(host.restart(&spec.name).await.unwrap().pid, status.pid);
    host.kill(&spec.name);
    assert_eq!(host.list().await.unwrap()[0].phase, UnitPhase::Failed);
    host.set_faults(SimFaults {
        start_fails: 1.0,
        ..SimFaults::NONE
    });
    assert!(matches!(
        host.start(&spec).await,
        Err(SupervisorError::Failed { .. })
    ));
    host.set_faults(SimFaults {
        unreachable: 1.0,
        ..SimFaults::NONE
    });
    assert!(matches!(
        host.list().await,
        Err(SupervisorError::Unreachable { .. })
    ));
    host.set_faults(SimFaults::NONE);
    host.remove(&spec.name).await.unwrap();
    assert_eq!(host.list().await.unwrap(), []);
    host.shutdown().await.unwrap();
    assert!(host.list().await.is_err());
    assert_eq!(host.history().last().unwrap(), "shutdown");
}

#[tokio::test]
async fn the_clock_wakes_whose_time_has_come() {
    let clock = SimClock::new(1000);
    let sleeper = tokio::spawn({
        let clock = clock.clone();
        async move {
            clock.sleep(Duration::from_millis(50)).await;
            clock.now_ms()
        }
    });
    crate::support::until("it sleeps", async || clock.next_wake_ms() == Some(1050)).await;
    clock.advance(Duration::from_millis(49));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!sleeper.is_finished());
    clock.advance(Duration::from_millis(1));
    assert_eq!(sleeper.await.unwrap(), 1050);
}
