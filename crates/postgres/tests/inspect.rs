//! What was changed by hand is seen, and taken back.

use crate::cluster::TestCluster;
use astraler_model::Environment;
use astraler_postgres::{
    connect, drop_database, ensure_database, inspect_cluster, inspect_database, reset_altered, role_limits,
    schema,
};

#[tokio::test]
async fn changes_by_hand_are_seen_and_taken_back() {
    let cluster = TestCluster::running().await;
    let admin = cluster.admin();
    let spec = cluster.spec(Environment::Staging);
    assert_eq!(inspect_database(&admin, &spec).await.unwrap(), None);
    ensure_database(&admin, &spec).await.unwrap();

    let made = inspect_database(&admin, &spec).await.unwrap().unwrap();
    let limits = role_limits(
        Environment::Staging.cluster(),
        inspect_cluster(&admin).await.unwrap().max_connections,
    );
    assert_eq!(made.owner, spec.owner);
    assert!(made.rights);
    for (role, limit) in [
        (&made.owner_role, limits.owner),
        (&made.service_role, limits.service),
    ] {
        let role = role.as_ref().unwrap();
        assert!(role.plain && role.password_matches, "{role:?}");
        assert_eq!(role.connection_limit, i64::from(limit));
    }
    let names: Vec<&str> = made.settings.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "service.idle_in_transaction_session_timeout",
            "service.lock_timeout",
            "service.statement_timeout"
        ]
    );

    let client = connect(&admin).await.unwrap();
    for statement in [
        "ALTER ROLE staging_service SUPERUSER",
        "ALTER ROLE staging_service PASSWORD 'another'",
        "ALTER ROLE staging_service SET work_mem = '1GB'",
        "ALTER ROLE staging_service IN DATABASE staging SET search_path = 'else'",
        "ALTER ROLE staging_owner IN DATABASE staging SET jit = on",
        "ALTER DATABASE staging SET statement_timeout = 7",
        "ALTER ROLE staging_owner CONNECTION LIMIT 1",
        "ALTER DATABASE staging OWNER TO astraler",
        "ALTER SYSTEM SET work_mem = '3MB'",
        "ALTER SYSTEM SET max_connections = 77",
        "SELECT pg_reload_conf()",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    let bent = inspect_database(&admin, &spec).await.unwrap().unwrap();
    let (owner, service) = (bent.owner_role.unwrap(), bent.service_role.unwrap());
    assert!(!service.plain && !service.password_matches, "{service:?}");
    assert_eq!(owner.connection_limit, 1);
    assert_eq!(bent.owner, "astraler");
    for (name, value) in [
        ("service.everywhere.work_mem", "1GB"),
        ("service.search_path", "\"else\""),
        ("owner.jit", "on"),
        ("database.statement_timeout", "7"),
    ] {
        assert_eq!(
            bent.settings.get(name).map(String::as_str),
            Some(value),
            "{name}: {:?}",
            bent.settings
        );
    }
    let settings = inspect_cluster(&admin).await.unwrap();
    assert_eq!(settings.altered["work_mem"], "3MB");
    assert_eq!(settings.altered["max_connections"], "77");

    ensure_database(&admin, &spec).await.unwrap();
    assert_eq!(
        inspect_database(&admin, &spec).await.unwrap(),
        Some(made),
        "all of it is taken back"
    );
    assert!(
        !ensure_database(&admin, &spec).await.unwrap().any(),
        "and then nothing is to do"
    );
    reset_altered(&admin).await.unwrap();
    assert!(inspect_cluster(&admin).await.unwrap().altered.is_empty());

    client
        .batch_execute("DROP DATABASE staging WITH (FORCE)")
        .await
        .unwrap();
    assert_eq!(inspect_database(&admin, &spec).await.unwrap(), None);
    drop_database(&admin, &spec).await.unwrap();
}

#[tokio::test]
async fn a_schema_is_read_from_the_catalogue() {
    let cluster = TestCluster::running().await;
    let (owner, _) = cluster.environment(Environment::Staging).await;
    let (other, _) = cluster.environment(Environment::Preview(7)).await;
    let sql = "CREATE TYPE mood AS ENUM ('good', 'bad');
               CREATE TABLE tasks (id bigint PRIMARY KEY, title text NOT NULL DEFAULT '', mood mood, CHECK (id > 0));
               CREATE INDEX tasks_title ON tasks (title);
               CREATE VIEW open AS SELECT id FROM tasks;
               CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    for access in [&owner, &other] {
        connect(access).await.unwrap().batch_execute(sql).await.unwrap();
    }
    let (a, b) = (schema(&owner).await.unwrap(), schema(&other).await.unwrap());
    assert_eq!(a, b, "the same statements make the same schema");
    for name in [
        "table public.tasks",
        "column public.tasks.title",
        "index public.tasks_title",
        "constraint public.tasks.tasks_pkey",
        "view public.open",
        "function public.one()",
        "enum public.mood",
    ] {
        assert!(a.contains_key(name), "{name}: {a:#?}");
    }
    assert_eq!(a["column public.tasks.title"], "text not null default ''::text");

    connect(&other)
        .await
        .unwrap()
        .batch_execute("DROP INDEX tasks_title; ALTER TABLE tasks ALTER COLUMN title DROP NOT NULL")
        .await
        .unwrap();
    let b = schema(&other).await.unwrap();
    let differing: Vec<&String> = a.keys().filter(|name| a.get(*name) != b.get(*name)).collect();
    assert_eq!(
        differing,
        ["column public.tasks.title", "index public.tasks_title"]
    );
}
