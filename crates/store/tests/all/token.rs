use crate::store;
use astraler_model::Scope;
use astraler_store::{NewToken, StoreError, TokenKind};

fn new<'a>(id: &'a str, kind: TokenKind, name: &'a str, expires_ms: Option<u64>) -> NewToken<'a> {
    NewToken {
        id,
        kind,
        name,
        hash: [7; 32],
        scopes: &[Scope::Read, Scope::Admin],
        expires_ms,
    }
}

#[test]
fn a_token_is_found_by_its_public_part_and_ends_when_told() {
    let (store, _folder) = store();
    store
        .token_create(&new("one", TokenKind::Named, "ci", None), 10)
        .unwrap();
    let token = store.token("one").unwrap().unwrap();
    assert_eq!(token.scopes, [Scope::Read, Scope::Admin]);
    assert!(token.holds(1 << 50));
    store.token_used("one", 20).unwrap();
    assert!(store.token_revoke("ci", 30).unwrap());
    assert!(!store.token_revoke("ci", 40).unwrap(), "it has ended");
    let token = store.token("one").unwrap().unwrap();
    assert_eq!((token.used_ms, token.revoked_ms), (Some(20), Some(30)));
    assert!(!token.holds(0));
    assert_eq!(store.token("two").unwrap(), None);
}

#[test]
fn a_name_is_taken_while_its_token_holds() {
    let (store, _folder) = store();
    let named = |id| new(id, TokenKind::Named, "ci", Some(100));
    store.token_create(&named("one"), 10).unwrap();
    assert!(matches!(
        store.token_create(&named("two"), 99),
        Err(StoreError::Refused { .. })
    ));
    store
        .token_create(&new("two", TokenKind::Named, "ci", None), 100)
        .unwrap();
    assert_eq!(store.tokens().unwrap().len(), 2, "the ended one is still shown");
    // Names of jobs are not names of people's tokens.
    store
        .token_create(&new("job", TokenKind::Job, "ci", Some(150)), 100)
        .unwrap();
    assert_eq!(store.tokens().unwrap().len(), 2);
}

#[test]
fn what_has_ended_is_forgotten() {
    let (store, _folder) = store();
    store
        .token_create(&new("job", TokenKind::Job, "run 1", Some(50)), 10)
        .unwrap();
    store
        .token_create(&new("session", TokenKind::Session, "uid 0", Some(90)), 10)
        .unwrap();
    store
        .token_create(&new("ci", TokenKind::Named, "ci", Some(20)), 10)
        .unwrap();
    assert_eq!(store.tokens_prune(50, 0).unwrap(), 1);
    assert!(store.token("session").unwrap().is_some());
    store.token_remove("session").unwrap();
    assert!(store.token("session").unwrap().is_none());
    assert!(
        store.token("ci").unwrap().is_some(),
        "it ended, but is shown for a while"
    );
    assert!(matches!(
        store.token_create(&new("x", TokenKind::Session, "x", None), 10),
        Err(StoreError::Sqlite { .. })
    ));
}

#[test]
fn the_tokens_of_a_run_go_together_and_nobody_elses() {
    let (store, _folder) = store();
    let names = [
        ("a", TokenKind::Job, "run 1 job deploy"),
        ("b", TokenKind::Job, "run 1 job e2e"),
        ("c", TokenKind::Job, "run 12 job deploy"),
        ("d", TokenKind::Named, "run 1 job x"),
    ];
    for (id, kind, name) in names {
        store.token_create(&new(id, kind, name, Some(100)), 10).unwrap();
    }
    store.job_tokens_remove("run 1 job ").unwrap();
    let left: Vec<bool> = names
        .iter()
        .map(|(id, _, _)| store.token(id).unwrap().is_some())
        .collect();
    assert_eq!(left, [false, false, true, true]);
}
