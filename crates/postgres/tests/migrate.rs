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
        attempts: 2,
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

#[tokio::test]
async fn what_fails_half_way_leaves_the_schema_as_it_was_and_concurrent_indexes_go_on() {
    let cluster = TestCluster::running().await;
    let (owner, _) = cluster.environment(Environment::Staging).await;
    let client = connect(&owner).await.unwrap();
    let good = migration(
        "0001_a.sql",
        "CREATE TABLE a (n int); INSERT INTO a VALUES (1), (1)",
    );
    let bad = migration("0002_b.sql", "ALTER TABLE a ADD COLUMN m int; SELECT 1/0");
    migrate(&owner, &[good.clone(), bad]).await.unwrap_err();
    assert!(
        client.simple_query("SELECT * FROM a").await.is_err(),
        "the first file, which was good, is undone with the second"
    );

    // A value of an enumeration is of use only after its transaction: such files go one by one.
    let kinds = [
        good,
        migration("0002_kind.sql", "CREATE TYPE kind AS ENUM ('x')"),
        migration("0003_kind.sql", "ALTER TYPE kind ADD VALUE 'y'"),
        migration(
            "0004_kind.sql",
            "CREATE TABLE k (v kind); INSERT INTO k VALUES ('y')",
        ),
    ];
    assert_eq!(migrate(&owner, &kinds).await.unwrap().applied.len(), 4);

    // A unique index that cannot be: it stays behind as an invalid one, and the next run begins it anew.
    let index = "-- astraler: no-transaction\nCREATE TABLE one (n int);\nCREATE UNIQUE INDEX CONCURRENTLY once ON a (n);";
    let mut files = kinds.to_vec();
    files.push(migration("0005_once.sql", index));
    let error = migrate(&owner, &files).await.unwrap_err().to_string();
    assert!(error.starts_with("0005_once.sql:3:"), "{error}");
    client
        .batch_execute("DELETE FROM a; INSERT INTO a VALUES (1)")
        .await
        .unwrap();
    assert_eq!(migrate(&owner, &files).await.unwrap().applied, ["0005_once.sql"]);
    let valid: bool = client
        .query_one(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = 'once'::regclass",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(valid);

    // Killed between the statement and its record: it is not done twice.
    let index = "-- astraler: no-transaction\nCREATE INDEX CONCURRENTLY again ON a (n);";
    let last = migration("0006_again.sql", index);
    client
        .execute(
            "INSERT INTO astraler.schema_migration_progress VALUES ($1, $2, 0, 1)",
            &[&last.name, &last.checksum],
        )
        .await
        .unwrap();
    client
        .batch_execute("CREATE INDEX CONCURRENTLY again ON a (n)")
        .await
        .unwrap();
    files.push(last);
    assert_eq!(migrate(&owner, &files).await.unwrap().applied, ["0006_again.sql"]);
}

#[tokio::test]
async fn a_lock_that_is_given_back_in_time_is_waited_for() {
    let cluster = TestCluster::running().await;
    let (owner, _) = cluster.environment(Environment::Staging).await;
    migrate(&owner, &[migration("0001_a.sql", "CREATE TABLE a (n int)")])
        .await
        .unwrap();
    let blocker = connect(&owner).await.unwrap();
    blocker
        .batch_execute("BEGIN; LOCK TABLE a IN ACCESS SHARE MODE")
        .await
        .unwrap();
    let options = MigrateOptions {
        lock_timeout: Duration::from_millis(200),
        ..MigrateOptions::default()
    };
    let files = [
        migration("0001_a.sql", "CREATE TABLE a (n int)"),
        migration("0002_b.sql", "ALTER TABLE a ADD COLUMN m int"),
    ];
    let given_back = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        blocker.batch_execute("COMMIT").await.unwrap();
    };
    let (applied, ()) = tokio::join!(migrate_with(&owner, &files, options), given_back);
    assert_eq!(applied.unwrap().applied, ["0002_b.sql"]);
}
