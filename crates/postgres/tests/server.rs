//! The units: creation, healing, start, stop, access.

use crate::cluster::{PASSWORD, TestCluster};
use astraler_postgres::{connect, connection_count, initdb_unit, ping, wait_ready};
use std::fs;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_killed_initdb_heals_and_a_finished_one_does_nothing() {
    let mut cluster = TestCluster::empty();
    let data = cluster.config.data_directory();
    // What SIGKILL leaves: a folder half full, and an empty mount point.
    let partial = data.with_file_name("data.new");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("PG_VERSION"), "15\n").unwrap();
    fs::create_dir_all(&data).unwrap();
    for path in [&partial, &data, &partial.join("PG_VERSION")] {
        cluster.own(path);
    }
    let unit = initdb_unit(&cluster.config);
    assert!(cluster.command(&unit).status().unwrap().success());
    assert!(!partial.exists());
    cluster.start().await;
    let checksums = connect(&cluster.admin()).await.unwrap();
    let row = checksums
        .query_one(
            "SELECT current_setting('data_checksums'), current_setting('wal_level')",
            &[],
        )
        .await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("on", "replica"));
    assert!(
        cluster.stop("-INT").unwrap().success(),
        "a fast shutdown is a clean end"
    );

    let before = fs::metadata(data.join("PG_VERSION")).unwrap().modified().unwrap();
    assert!(cluster.command(&unit).status().unwrap().success());
    assert_eq!(
        fs::metadata(data.join("PG_VERSION")).unwrap().modified().unwrap(),
        before
    );

    // Data of another version is told, not touched.
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    assert!(!cluster.command(&unit).status().unwrap().success());
    let log = fs::read_to_string(cluster.log()).unwrap();
    assert!(log.contains("is of PostgreSQL 9"), "{log}");
}

#[tokio::test]
async fn files_that_are_no_cluster_are_not_removed() {
    let cluster = TestCluster::empty();
    let data = cluster.config.data_directory();
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("precious"), "yes").unwrap();
    cluster.own(&data);
    assert!(
        !cluster
            .command(&initdb_unit(&cluster.config))
            .status()
            .unwrap()
            .success()
    );
    assert!(data.join("precious").exists());
}

#[tokio::test]
async fn readiness_is_waited_for_but_a_wrong_password_is_not() {
    let mut cluster = TestCluster::stopped();
    let started = std::time::Instant::now();
    let error = wait_ready(&cluster.admin(), SECOND / 4).await.unwrap_err();
    assert!(started.elapsed() < SECOND * 2, "{error}");
    cluster.start().await;
    ping(&cluster.admin(), SECOND * 10).await.unwrap();

    let mut wrong = cluster.admin();
    wrong.password = "no".into();
    let started = std::time::Instant::now();
    let error = wait_ready(&wrong, SECOND * 30).await.unwrap_err();
    assert!(started.elapsed() < SECOND * 10, "it must not go on trying");
    let mut chain = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        chain = format!("{chain}: {cause}");
        source = cause.source();
    }
    assert!(chain.contains("password authentication failed"), "{chain}");
    assert!(
        !format!("{:?}", cluster.admin()).contains(PASSWORD),
        "Debug must not show the password"
    );

    let count = connection_count(&cluster.admin()).await.unwrap();
    assert_eq!(count.max, 60);
    assert!((1..10).contains(&count.used), "{count:?}");
}

#[tokio::test]
async fn a_killed_server_recovers_what_was_committed() {
    let mut cluster = TestCluster::running().await;
    let client = connect(&cluster.admin()).await.unwrap();
    client
        .batch_execute("CREATE TABLE kept (n int); INSERT INTO kept SELECT generate_series(1, 1000)")
        .await
        .unwrap();
    cluster.stop("-KILL");
    // Children of a killed postmaster end by themselves; a new one refuses the shared memory until then.
    tokio::time::sleep(SECOND / 2).await;
    cluster.start().await;
    let client = connect(&cluster.admin()).await.unwrap();
    let count: i64 = client
        .query_one("SELECT count(*) FROM kept", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 1_000);
}
