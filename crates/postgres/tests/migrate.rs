//! Migrations against the real server.

use crate::cluster::TestCluster;
use astraler_model::Environment;
use astraler_postgres::{MigrateError, MigrateOptions, Migration, connect, migrate, migrate_with};
use std::time::Duration;

fn migration(name: &str, sql: &str) -> Migration {
    // A stand-in for the digest: any text that changes with the file.
    Migration {
        name: name.into(),
        sql: sql.into(),
        checksum: sql.len().to_string(),
    }
}

#[tokio::test]
async fn migrations_are_applied_once_in_order_and_each_as_a_whole() {
    let cluster = TestCluster::running().await;
    let (owner, service) = cluster.environment(Environment::Staging).await;
    let mut files = vec![
        migration(
            "0001_tasks.sql",
            "CREATE TABLE tasks (id int PRIMARY KEY, title text);\nINSERT INTO tasks VALUES (1, 'a;b');",
        ),
        migration(
            "0002_index.sql",
            "-- astraler: no-transaction\nCREATE INDEX CONCURRENTLY a ON tasks (title);\nCREATE INDEX CONCURRENTLY b ON tasks (id);\n",
        ),
    ];
    let first = migrate(&owner, &files).await.unwrap();
    assert_eq!((first.applied.len(), first.already), (2, 0));
    let second = migrate(&owner, &files).await.unwrap();
    assert_eq!((second.applied.len(), second.already), (0, 2));
    // The service reads what the owner made.
    connect(&service)
        .await
        .unwrap()
        .query_one("SELECT title FROM tasks", &[])
        .await
        .unwrap();

    // A file that fails leaves nothing, and says where.
    files.push(migration(
        "0003_bad.sql",
        "CREATE TABLE half (n int);\n-- é\nALTER TABLE tasks\n  ADD COLUMN x nosuchtype;",
    ));
    let error = migrate(&owner, &files).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("0003_bad.sql:4:16: type \"nosuchtype\" does not exist (SQLSTATE 42704)"),
        "{text}"
    );
    let client = connect(&owner).await.unwrap();
    assert!(
        client.simple_query("SELECT * FROM half").await.is_err(),
        "rolled back"
    );
    files.pop();

    // A file that ends its own transaction is refused.
    files.push(migration(
        "0003_commit.sql",
        "CREATE TABLE kept (n int); COMMIT; SELECT 1",
    ));
    let error = migrate(&owner, &files).await.unwrap_err();
    assert!(matches!(error, MigrateError::Transaction { .. }), "{error}");
    files.pop();

    // So is a change of an applied file, before anything else happens.
    files.push(migration("0004_new.sql", "CREATE TABLE new (n int)"));
    files[0].checksum = "other".into();
    let error = migrate(&owner, &files).await.unwrap_err();
    assert!(
        error.to_string().contains("0001_tasks.sql was changed"),
        "{error}"
    );
    assert!(
        client.simple_query("SELECT * FROM new").await.is_err(),
        "nothing was applied"
    );

    // An older release knows fewer files: that is no error.
    let older = migrate(&owner, &files[1..2]).await.unwrap();
    assert_eq!(older.unknown, ["0001_tasks.sql"]);
}

#[tokio::test]
async fn two_runs_take_turns_and_locks_are_not_waited_for_for_ever() {
    let cluster = TestCluster::running().await;
    let (owner, _) = cluster.environment(Environment::Staging).await;
    let files = [
        migration("0001_a.sql", "CREATE TABLE a (n int); SELECT pg_sleep(0.3)"),
        migration(
            "0002_b.sql",
            "-- astraler: no-transaction\nCREATE INDEX CONCURRENTLY i ON a (n)",
        ),
    ];
    let (one, two) = tokio::join!(migrate(&owner, &files), migrate(&owner, &files));
    assert_eq!(
        one.unwrap().applied.len() + two.unwrap().applied.len(),
        2,
        "each was applied once"
    );

    let blocker = connect(&owner).await.unwrap();
    blocker
        .batch_execute("BEGIN; LOCK TABLE a IN ACCESS SHARE MODE")
        .await
        .unwrap();
    let options = MigrateOptions {
        lock_timeout: Duration::from_millis(200),
        wait: Duration::from_millis(200),
    };
    let files = [migration("0003_c.sql", "ALTER TABLE a ADD COLUMN m int")];
    let error = migrate_with(&owner, &files, options)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("55P03") && error.contains("another session holds a lock"),
        "{error}"
    );

    blocker
        .batch_execute("COMMIT; SELECT pg_advisory_lock(7883946363647714675)")
        .await
        .unwrap();
    let error = migrate_with(&owner, &files, options).await.unwrap_err();
    assert!(matches!(error, MigrateError::Busy { .. }), "{error}");
}
