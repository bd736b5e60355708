//! Isolation of environments, and what the service role cannot do.

use crate::cluster::TestCluster;
use astraler_model::Environment;
use astraler_postgres::{Access, connect, drop_database, ensure_database, has_traces};
use std::fs;
use tokio_postgres::Client;

async fn refused(client: &Client, sql: &str) -> String {
    let error = client.batch_execute(sql).await.expect_err(sql);
    error.code().unwrap().code().to_owned()
}

async fn refused_entry(access: &Access) -> bool {
    connect(access).await.is_err()
}

#[tokio::test]
async fn environments_cannot_enter_each_other_and_services_change_no_schema() {
    let cluster = TestCluster::running().await;
    let (owner, service) = cluster.environment(Environment::Staging).await;
    let (other_owner, other_service) = cluster.environment(Environment::Preview(7)).await;

    for intruder in [&other_owner, &other_service] {
        for database in ["staging", "postgres", "template1"] {
            let attempt = Access {
                database: database.into(),
                ..intruder.clone()
            };
            assert!(
                refused_entry(&attempt).await,
                "{} entered {database}",
                intruder.user
            );
        }
    }

    let owner = connect(&owner).await.unwrap();
    owner
        .batch_execute("CREATE TABLE tasks (id serial PRIMARY KEY, title text)")
        .await
        .unwrap();
    let client = connect(&service).await.unwrap();
    client
        .batch_execute("INSERT INTO tasks (title) VALUES ('a'), ('b'); UPDATE tasks SET title = 'c'; DELETE FROM tasks WHERE id = 1")
        .await
        .unwrap();
    let count: i64 = client
        .query_one("SELECT count(*) FROM tasks", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 1);
    for denied in [
        "CREATE TABLE mine (n int)",
        "CREATE TEMP TABLE mine (n int)",
        "CREATE SCHEMA mine",
        "ALTER TABLE tasks ADD COLUMN x int",
        "DROP TABLE tasks",
        "TRUNCATE tasks",
        "CREATE ROLE friend",
        "SELECT pg_read_file('/etc/passwd')",
        "COPY tasks TO PROGRAM 'true'",
        "SELECT * FROM pg_authid",
        "SET ROLE staging_owner",
        "SELECT count(*) FROM astraler.schema_migrations",
    ] {
        assert_eq!(refused(&client, denied).await, "42501", "{denied}");
    }
    let timeout: &str = "SELECT current_setting('statement_timeout')";
    assert_eq!(
        client.query_one(timeout, &[]).await.unwrap().get::<_, &str>(0),
        "30s"
    );
}

#[tokio::test]
async fn ensuring_twice_changes_nothing_and_repairs_what_was_bent() {
    let cluster = TestCluster::running().await;
    let mut spec = cluster.spec(Environment::Development);
    let first = ensure_database(&cluster.admin(), &spec).await.unwrap();
    assert_eq!(first.made.len(), 5, "{first:?}");
    let second = ensure_database(&cluster.admin(), &spec).await.unwrap();
    assert!(!second.any(), "{second:?}");

    let admin = connect(&cluster.admin()).await.unwrap();
    admin
        .batch_execute("ALTER ROLE development_service CREATEDB; ALTER ROLE development_service IN DATABASE development SET lock_timeout = 1")
        .await
        .unwrap();
    spec.service_password = "new".into();
    let third = ensure_database(&cluster.admin(), &spec).await.unwrap();
    assert_eq!(
        third.made,
        [
            "password of role development_service changed",
            "attributes of role development_service repaired",
            "deadlines of role development_service set",
        ]
    );
    connect(&cluster.admin().with("development", &spec.service, "new"))
        .await
        .unwrap();

    // At the same time, as two runs of `up` would.
    let (admin, spec) = (cluster.admin(), cluster.spec(Environment::Preview(3)));
    let (a, b) = tokio::join!(ensure_database(&admin, &spec), ensure_database(&admin, &spec));
    assert!(
        a.unwrap().any() != b.unwrap().any(),
        "one of them did all the work"
    );

    // A copy that was interrupted belongs to the owner too.
    connect(&admin)
        .await
        .unwrap()
        .batch_execute("CREATE DATABASE pr_3_copying OWNER pr_3_owner")
        .await
        .unwrap();
    assert!(has_traces(&admin, &spec).await.unwrap());
    drop_database(&admin, &spec).await.unwrap();
    assert!(!has_traces(&admin, &spec).await.unwrap());
    assert!(refused_entry(&admin.with("pr_3", &spec.service, &spec.service_password)).await);
    drop_database(&admin, &spec).await.unwrap();

    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(
        !log.contains(&spec.owner_password) && !log.contains("development owner's"),
        "{log}"
    );
}
