use crate::store;
use astraler_model::Environment;
use astraler_store::DeploymentState::{Created, Draining, Failed, Live, Retired, Starting, Superseded};
use astraler_store::{DeploymentId, DeploymentState, Desired, NewDeployment, Store, StoreError};
use serde_json::json;

const STAGING: Environment = Environment::Staging;

fn create(store: &Store, environment: Environment, release: &str) -> DeploymentId {
    let configuration = json!({ "release": release });
    store
        .deployment_create(
            &NewDeployment {
                environment,
                release,
                configuration: &configuration,
                actor: "uid 0",
                origin: &json!({ "commit": "abc" }),
            },
            1,
        )
        .unwrap()
        .id
}

fn started(store: &Store, release: &str) -> DeploymentId {
    let id = create(store, STAGING, release);
    store.deployment_transition(id, Starting, None, 2).unwrap();
    id
}

#[test]
fn a_switch_moves_both_and_a_rollback_in_time_moves_them_back() {
    let (store, _folder) = store();
    assert_eq!(store.deployment_live(STAGING).unwrap(), None);
    let (a, b) = (started(&store, "sha256:a"), started(&store, "sha256:b"));
    assert_eq!(store.deployment_switch(a, 10).unwrap().previous, None);
    let switch = store.deployment_switch(b, 20).unwrap();
    assert_eq!(
        (switch.live.id, switch.live.state, switch.live.switched_ms),
        (b, Live, Some(20))
    );
    let previous = switch.previous.unwrap();
    assert_eq!(
        (previous.id, previous.state, previous.switched_ms),
        (a, Draining, Some(10))
    );
    assert_eq!(
        store.deployment_switch(b, 25).unwrap().previous,
        None,
        "again: nothing changes"
    );
    assert_eq!(
        store.deployment_live(STAGING).unwrap().unwrap().switched_ms,
        Some(20)
    );

    let back = store.deployment_switch(a, 30).unwrap();
    assert_eq!(
        (back.live.id, back.live.configuration),
        (a, json!({ "release": "sha256:a" }))
    );
    assert_eq!(back.previous.unwrap().id, b);
    let retired = store
        .deployment_transition(b, Retired, Some("ignored"), 40)
        .unwrap();
    assert_eq!((retired.ended_ms, retired.error), (Some(40), None));
    assert!(matches!(
        store.deployment_switch(b, 50),
        Err(StoreError::Refused { .. })
    ));
    assert_eq!(
        store.deployment_live(STAGING).unwrap().unwrap().id,
        a,
        "a refused switch moves nobody"
    );
}

#[test]
fn only_the_transitions_of_the_table_are_taken() {
    let all = [Created, Starting, Live, Draining, Retired, Failed, Superseded];
    let allowed = [
        (Created, Starting),
        (Created, Failed),
        (Created, Superseded),
        (Starting, Live),
        (Starting, Failed),
        (Live, Draining),
        (Live, Failed),
        (Draining, Live),
        (Draining, Retired),
        (Draining, Failed),
    ];
    let path = |state: DeploymentState| -> Vec<DeploymentState> {
        match state {
            Created => vec![],
            Starting => vec![Starting],
            Live => vec![Starting, Live],
            Draining => vec![Starting, Live, Draining],
            Retired => vec![Starting, Live, Draining, Retired],
            Failed => vec![Failed],
            Superseded => vec![Superseded],
        }
    };
    let (store, _folder) = store();
    let go = |id, to: DeploymentState| match to {
        Live => store.deployment_switch(id, 5).map(|switch| switch.live),
        _ => store.deployment_transition(id, to, Some("why"), 5),
    };
    let mut number = 0;
    for from in all {
        for to in all {
            number += 1;
            let id = create(&store, Environment::Preview(number), "sha256:x");
            for step in path(from) {
                go(id, step).unwrap();
            }
            assert_eq!(store.deployment(id).unwrap().state, from);
            // Switching to what is live already changes nothing and is no error.
            let expected = allowed.contains(&(from, to)) || (from, to) == (Live, Live);
            assert_eq!(go(id, to).is_ok(), expected, "{from:?} to {to:?}");
            let now = store.deployment(id).unwrap();
            assert_eq!(now.state, if expected { to } else { from });
            assert_eq!(now.error.is_some(), matches!(now.state, Failed | Superseded));
            assert_eq!(from.can_become(to), allowed.contains(&(from, to)));
        }
    }
    let id = started(&store, "sha256:y");
    assert!(matches!(
        store.deployment_transition(id, Live, None, 9),
        Err(StoreError::Refused { .. })
    ));
}

#[test]
fn generations_count_in_each_environment_and_ids_are_never_used_twice() {
    let (store, _folder) = store();
    let first = create(&store, STAGING, "sha256:a");
    create(&store, Environment::Production, "sha256:a");
    let second = create(&store, STAGING, "sha256:b");
    let generations: Vec<_> = store
        .deployments(None, 10)
        .unwrap()
        .into_iter()
        .map(|d| (d.environment, d.generation))
        .collect();
    assert_eq!(
        generations,
        [(STAGING, 2), (Environment::Production, 1), (STAGING, 1)]
    );
    for id in [first, second] {
        store.deployment_transition(id, Failed, Some("no"), 2).unwrap();
    }
    assert_eq!(store.deployments_prune(STAGING, 1).unwrap(), [first]);
    assert_eq!(store.deployments_prune(STAGING, 0).unwrap(), [second]);
    let next = create(&store, STAGING, "sha256:c");
    assert!(next > second && next.to_string() != second.to_string());
    assert_eq!(next.to_string().parse::<DeploymentId>().unwrap(), next);
    for text in ["", "d-", "d-0", "d-01", "d-+1", "x-1", "d-99999999999999999999"] {
        assert!(text.parse::<DeploymentId>().is_err(), "{text}");
    }
    assert!(matches!(
        store.deployment("d-12345".parse().unwrap()),
        Err(StoreError::NotFound { .. })
    ));
}

#[test]
fn environments_are_wanted_up_or_down_and_forgotten_only_at_rest() {
    let (store, _folder) = store();
    let preview = Environment::Preview(7);
    assert!(store.environment_set(preview, Desired::Up, 1).unwrap());
    assert!(
        !store.environment_set(preview, Desired::Up, 2).unwrap(),
        "nothing changed"
    );
    assert_eq!(store.environments().unwrap()[0].changed_ms, 1);
    assert!(store.environment_set(preview, Desired::Down, 3).unwrap());
    let known = store.environments().unwrap();
    assert_eq!(
        (known[0].environment, known[0].desired, known[0].changed_ms),
        (preview, Desired::Down, 3)
    );

    let id = create(&store, preview, "sha256:a");
    store.deployment_transition(id, Starting, None, 4).unwrap();
    assert!(matches!(
        store.environment_remove(preview),
        Err(StoreError::Refused { .. })
    ));
    store.deployment_transition(id, Failed, None, 5).unwrap();
    assert!(store.environment_remove(preview).unwrap());
    assert!(!store.environment_remove(preview).unwrap());
    assert_eq!(store.environments().unwrap(), []);
    assert_eq!(store.deployments(Some(preview), 10).unwrap(), []);
}

#[test]
fn sleep_and_the_last_request_are_kept_and_time_does_not_go_back() {
    let (store, _folder) = store();
    let preview = Environment::Preview(7);
    assert!(
        !store.environment_sleep(preview, true).unwrap(),
        "it is not known"
    );
    store.environment_set(preview, Desired::Up, 1).unwrap();
    assert!(store.environment_sleep(preview, true).unwrap());
    assert!(
        !store.environment_sleep(preview, true).unwrap(),
        "nothing changed"
    );
    store.environment_active(preview, 50).unwrap();
    store.environment_active(preview, 40).unwrap();
    let known = store.environments().unwrap();
    assert_eq!((known[0].asleep, known[0].active_ms), (true, Some(50)));
    assert!(store.environment_sleep(preview, false).unwrap());
    assert!(!store.environments().unwrap()[0].asleep);
}

#[test]
fn the_first_verdict_on_a_deployment_stays_and_goes_with_it() {
    let (store, _folder) = store();
    let (a, b) = (started(&store, "sha256:a"), started(&store, "sha256:b"));
    assert!(store.deployment_condemn(a, "half of it fails", 5).unwrap());
    assert!(!store.deployment_condemn(a, "all of it fails", 6).unwrap());
    assert!(store.deployment_condemn(b, "it is slow", 7).unwrap());
    store.deployment_told(a).unwrap();
    let bad = store.deployments_bad().unwrap();
    assert_eq!((bad[0].deployment, bad[0].told), (b, false));
    assert_eq!(
        (bad[1].why.as_str(), bad[1].told, bad[1].found_ms),
        ("half of it fails", true, 5)
    );
    store.deployment_transition(a, Failed, None, 8).unwrap();
    store.deployments_prune(STAGING, 0).unwrap();
    assert_eq!(store.deployments_bad().unwrap().len(), 1);
}
