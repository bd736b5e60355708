//! The pool between real clients and the real server.

use crate::cluster::TestCluster;
use astraler_model::{DataEnvironment, DataSnapshot, Environment, PostgresAccess, TokenHash};
use astraler_postgres::pool::{Pool, PoolLimits, PoolStats};
use astraler_postgres::{Access, connect};
use futures_util::{SinkExt, StreamExt};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "worker's token";
const ENVIRONMENT: Environment = Environment::Staging;
const MS: Duration = Duration::from_millis(1);

struct Setting {
    cluster: TestCluster,
    owner: Access,
    service: Access,
    pool: Arc<Pool>,
    snapshots: watch::Sender<Arc<DataSnapshot>>,
    shutdown: CancellationToken,
    folder: PathBuf,
}

fn snapshot(service: &Access, pool_size: u32, token: &str) -> Arc<DataSnapshot> {
    let access = PostgresAccess {
        socket_directory: service.socket_directory.clone(),
        port: service.port,
        database: service.database.clone(),
        user: service.user.clone(),
        password: service.password.clone(),
        pool_size,
        client_token: TokenHash::of(token),
    };
    let data = DataEnvironment {
        postgres: Some(access),
        redis: None,
        buckets: BTreeMap::new(),
        replication: None,
        s3_credentials: vec![],
    };
    Arc::new(DataSnapshot {
        version: 1,
        environments: [(ENVIRONMENT, data)].into(),
        grants: BTreeMap::new(),
    })
}

impl Setting {
    async fn new(pool_size: u32, limits: PoolLimits) -> Self {
        let cluster = TestCluster::running().await;
        let (owner, service) = cluster.environment(ENVIRONMENT).await;
        let (snapshots, source) = watch::channel(snapshot(&service, pool_size, TOKEN));
        let pool = Arc::new(Pool::new(source, limits));
        let folder = cluster.folder.path().join("pool");
        fs::create_dir(&folder).unwrap();
        let listener = UnixListener::bind(folder.join(".s.PGSQL.6432")).unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(Arc::clone(&pool).serve(listener, shutdown.clone()));
        Self {
            cluster,
            owner,
            service,
            pool,
            snapshots,
            shutdown,
            folder,
        }
    }

    fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&self.folder)
            .port(6_432)
            .user(&self.service.user)
            .password(TOKEN)
            .dbname(&self.service.database);
        config
    }

    async fn client(&self) -> Client {
        connect_with(&self.config()).await.unwrap()
    }

    fn stats(&self) -> PoolStats {
        self.pool.stats()[&ENVIRONMENT]
    }

    async fn until(&self, what: &str, condition: impl Fn(PoolStats) -> bool) {
        let deadline = Instant::now() + MS * 5_000;
        while !condition(self.stats()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.stats());
            tokio::time::sleep(MS * 10).await;
        }
    }

    async fn owner_runs(&self, sql: &str) {
        connect(&self.owner)
            .await
            .unwrap()
            .batch_execute(sql)
            .await
            .unwrap();
    }

    fn pgbench(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new("pgbench")
            .args([
                "-h",
                self.folder.to_str().unwrap(),
                "-p",
                "6432",
                "-U",
                &self.service.user,
                "-n",
            ])
            .args(arguments)
            .arg(&self.service.database)
            .env("PGPASSWORD", TOKEN)
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn connect_with(config: &tokio_postgres::Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[track_caller]
fn code(error: &tokio_postgres::Error) -> &str {
    match error.code() {
        Some(code) => code.code(),
        None => panic!("no code: {error:?}"),
    }
}

async fn backend(client: &Client) -> i32 {
    client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn only_the_right_token_opens_the_right_database() {
    let setting = Setting::new(2, PoolLimits::default()).await;
    for (user, database, password) in [
        (setting.service.user.as_str(), "staging", "wrong"),
        ("staging_owner", "staging", TOKEN),
        (&setting.service.user, "postgres", TOKEN),
        (&setting.service.user, "staging", &setting.service.password),
    ] {
        let mut config = setting.config();
        config.user(user).dbname(database).password(password);
        assert_eq!(
            code(&connect_with(&config).await.unwrap_err()),
            "28P01",
            "{user} {database}"
        );
    }
    let client = setting.client().await;
    let row = client
        .query_one("SELECT current_user::text, current_database()::text", &[])
        .await
        .unwrap();
    assert_eq!(
        (row.get::<_, &str>(0), row.get::<_, &str>(1)),
        ("staging_service", "staging")
    );

    // Encryption is declined, politely.
    let mut raw = UnixStream::connect(setting.folder.join(".s.PGSQL.6432"))
        .await
        .unwrap();
    for request in [80_877_103u32, 80_877_104] {
        raw.write_all(&[8u32.to_be_bytes(), request.to_be_bytes()].concat())
            .await
            .unwrap();
        assert_eq!(raw.read_u8().await.unwrap(), b'N');
    }
    // Nonsense ends the connection and nothing else.
    raw.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = vec![];
    raw.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest[0], b'E');
    backend(&client).await;
}

#[tokio::test]
async fn clients_share_a_server_between_transactions() {
    let setting = Setting::new(1, PoolLimits::default()).await;
    setting.owner_runs("CREATE TABLE t (n int)").await;
    let (mut one, two) = (setting.client().await, setting.client().await);
    assert_eq!(backend(&one).await, backend(&two).await);

    // Each one's statements follow it, though both names are `s0`, `s1`… to the drivers.
    let first = one.prepare("SELECT $1::int + 1").await.unwrap();
    let second = two.prepare("SELECT $1::text || '!'").await.unwrap();
    for n in 0..20 {
        assert_eq!(
            one.query_one(&first, &[&n]).await.unwrap().get::<_, i32>(0),
            n + 1
        );
        assert_eq!(
            two.query_one(&second, &[&"x"]).await.unwrap().get::<_, &str>(0),
            "x!"
        );
    }

    // A transaction holds the server; the other waits for its end.
    let transaction = one.transaction().await.unwrap();
    transaction
        .execute("INSERT INTO t VALUES (1)", &[])
        .await
        .unwrap();
    let waiting = tokio::spawn(async move {
        let count: i64 = two.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0);
        (two, count)
    });
    setting.until("the other waits", |stats| stats.waiting == 1).await;
    transaction.commit().await.unwrap();
    let (two, count) = waiting.await.unwrap();
    assert_eq!(count, 1);

    // Errors, inside of transactions and out, leave everyone in step.
    for _ in 0..3 {
        assert_eq!(
            code(&one.query_one("SELECT 1/0", &[]).await.unwrap_err()),
            "22012"
        );
        assert_eq!(
            code(&one.batch_execute("SELECT 1; SELECT nothing").await.unwrap_err()),
            "42703"
        );
        assert_eq!(code(&one.prepare("SELECT nonsense").await.unwrap_err()), "42703");
        let transaction = one.transaction().await.unwrap();
        transaction.execute("SELECT 1/0", &[]).await.unwrap_err();
        assert_eq!(
            code(&transaction.query_one(&first, &[&1]).await.unwrap_err()),
            "25P02"
        );
        transaction.rollback().await.unwrap();
        assert_eq!(one.query_one(&first, &[&1]).await.unwrap().get::<_, i32>(0), 2);
        assert_eq!(
            two.query_one(&second, &[&"y"]).await.unwrap().get::<_, &str>(0),
            "y!"
        );
    }
    // Many at once on one connection (pipelined), half of them wrong.
    let results = futures_util::future::join_all((0..50).map(|n| {
        let (one, first) = (&one, &first);
        async move {
            if n % 2 == 0 {
                one.query_one(first, &[&n]).await.map(|row| row.get::<_, i32>(0))
            } else {
                one.query_one("SELECT 1/(random()*0)::int", &[]).await.map(|_| 0)
            }
        }
    }))
    .await;
    for (n, result) in (0..).zip(results) {
        match result {
            Ok(value) => assert_eq!(value, n + 1),
            Err(error) => assert!(n % 2 == 1 && code(&error) == "22012", "{n}: {error}"),
        }
    }
    setting
        .until("the server is free", |stats| stats.active == 0 && stats.idle == 1)
        .await;
}

#[tokio::test]
async fn a_full_pool_says_so_and_recovers() {
    let limits = PoolLimits {
        wait: MS * 200,
        ..PoolLimits::default()
    };
    let setting = Setting::new(1, limits).await;
    let (mut one, two) = (setting.client().await, setting.client().await);
    let transaction = one.transaction().await.unwrap();
    transaction.execute("SELECT 1", &[]).await.unwrap();
    for _ in 0..2 {
        let started = Instant::now();
        assert_eq!(code(&two.query_one("SELECT 1", &[]).await.unwrap_err()), "53300");
        assert_eq!(code(&two.batch_execute("SELECT 1").await.unwrap_err()), "53300");
        assert!(started.elapsed() < MS * 3_000);
    }
    transaction.rollback().await.unwrap();
    two.query_one("SELECT 1", &[]).await.unwrap();
    assert!(setting.stats().refused >= 4);
}

#[tokio::test]
async fn a_session_with_state_keeps_its_server_and_leaves_nothing_behind() {
    let setting = Setting::new(2, PoolLimits::default()).await;
    let (one, two) = (setting.client().await, setting.client().await);
    one.batch_execute("SET search_path = pg_catalog; SELECT pg_advisory_lock(7)")
        .await
        .unwrap();
    one.batch_execute("PREPARE p AS SELECT 42").await.unwrap();
    let pinned = backend(&one).await;
    for _ in 0..5 {
        assert_ne!(backend(&two).await, pinned, "a pinned server is nobody else's");
        assert_eq!(backend(&one).await, pinned);
        one.batch_execute("EXECUTE p").await.unwrap();
    }
    drop(one);
    setting
        .until("the server comes back", |stats| {
            stats.active == 0 && stats.clients == 1
        })
        .await;
    let three = setting.client().await;
    let row = two
        .query_one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    for client in [&two, &three] {
        let row = client
            .query_one("SELECT current_setting('search_path')", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), "\"$user\", public");
    }

    // SET LOCAL ends with its transaction and needs no server of its own.
    two.batch_execute("BEGIN").await.unwrap();
    two.batch_execute("SET LOCAL statement_timeout = 1000")
        .await
        .unwrap();
    two.batch_execute("COMMIT").await.unwrap();
    setting
        .until("SET LOCAL does not pin", |stats| stats.active == 0)
        .await;
    // DISCARD ALL ends what was pinned.
    two.batch_execute("SET statement_timeout = 1000").await.unwrap();
    assert_eq!(setting.stats().active, 1);
    two.batch_execute("DISCARD ALL").await.unwrap();
    setting
        .until("DISCARD ALL unpins", |stats| stats.active == 0)
        .await;
}

#[tokio::test]
async fn settings_of_the_log_in_follow_the_client() {
    let setting = Setting::new(1, PoolLimits::default()).await;
    let mut config = setting.config();
    config
        .application_name("it's \\ mine")
        .options("-c timezone=Asia/Tokyo -c statement_timeout=1234");
    let special = connect_with(&config).await.unwrap();
    let plain = setting.client().await;
    let ask = "SELECT current_setting('application_name'), current_setting('timezone'), current_setting('statement_timeout')";
    for _ in 0..3 {
        let row = special.query_one(ask, &[]).await.unwrap();
        assert_eq!(
            (
                row.get::<_, &str>(0),
                row.get::<_, &str>(1),
                row.get::<_, &str>(2)
            ),
            ("it's \\ mine", "Asia/Tokyo", "1234ms")
        );
        let row = plain.query_one(ask, &[]).await.unwrap();
        assert_eq!(
            (
                row.get::<_, &str>(0),
                row.get::<_, &str>(1),
                row.get::<_, &str>(2)
            ),
            ("astraler-pool", "UTC", "30s")
        );
    }
    config.options("-c timezone=Nowhere/Land");
    assert_eq!(code(&connect_with(&config).await.unwrap_err()), "22023");
    plain.query_one(ask, &[]).await.unwrap();
}

#[tokio::test]
async fn cancelling_reaches_the_right_query() {
    let setting = Setting::new(2, PoolLimits::default()).await;
    let (one, two) = (setting.client().await, setting.client().await);
    let token = one.cancel_token();
    let (slow, other) = tokio::join!(
        async {
            let started = Instant::now();
            tokio::join!(one.query_one("SELECT pg_sleep(20)", &[]), async {
                tokio::time::sleep(MS * 200).await;
                token.cancel_query(NoTls).await.unwrap();
            })
            .0
            .map(|_| started.elapsed())
        },
        two.query_one("SELECT pg_sleep(0.5)", &[])
    );
    assert_eq!(code(&slow.unwrap_err()), "57014");
    other.unwrap();
    // With nothing to cancel, nothing is.
    token.cancel_query(NoTls).await.unwrap();
    one.query_one("SELECT pg_sleep(0.1)", &[]).await.unwrap();
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_neither_transaction_nor_query() {
    let setting = Setting::new(1, PoolLimits::default()).await;
    setting
        .owner_runs("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        .await;
    let one = setting.client().await;
    one.batch_execute("BEGIN; UPDATE t SET n = 2").await.unwrap();
    drop(one);
    setting
        .until("the server is back", |stats| {
            stats.active == 0 && stats.clients == 0
        })
        .await;

    let two = setting.client().await;
    let n: i32 = two.query_one("SELECT n FROM t", &[]).await.unwrap().get(0);
    assert_eq!(n, 1);
    // In the middle of a query.
    let (client, connection) = setting.config().connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let query = tokio::spawn(async move { client.query_one("SELECT pg_sleep(30)", &[]).await.map(drop) });
    setting.until("it runs", |stats| stats.active == 1).await;
    connection.abort();
    query.abort();
    let started = Instant::now();
    two.query_one("SELECT 1", &[]).await.unwrap();
    assert!(started.elapsed() < MS * 5_000, "the query was cancelled");
}

#[tokio::test]
async fn a_restart_of_the_server_costs_the_query_under_way_only() {
    let mut setting = Setting::new(3, PoolLimits::default()).await;
    let (idle, busy) = (setting.client().await, setting.client().await);
    let statement = idle.prepare("SELECT $1::int").await.unwrap();
    let running = tokio::spawn(async move { busy.query_one("SELECT pg_sleep(30)", &[]).await.map(drop) });
    setting.until("it runs", |stats| stats.active == 1).await;
    setting.cluster.stop("-INT");
    let error = running.await.unwrap().unwrap_err();
    assert!(
        error.is_closed() || ["57P01", "08006"].contains(&code(&error)),
        "{error:?}"
    );
    let down = idle.query_one(&statement, &[&1]).await.unwrap_err();
    assert_eq!(code(&down), "08006", "{down}");
    setting.cluster.start().await;
    // The same client goes on, its statements too.
    assert_eq!(
        idle.query_one(&statement, &[&5]).await.unwrap().get::<_, i32>(0),
        5
    );
}

#[tokio::test]
async fn large_results_and_copy_pass_in_both_directions() {
    let setting = Setting::new(1, PoolLimits::default()).await;
    setting.owner_runs("CREATE TABLE t (n int, filler text)").await;
    let (client, other) = (setting.client().await, setting.client().await);
    let rows = 40_000;
    for _ in 0..2 {
        let sink = client
            .copy_in::<_, bytes::Bytes>("COPY t FROM STDIN")
            .await
            .unwrap();
        tokio::pin!(sink);
        for n in 0..rows / 100 {
            let chunk: String = (0..100)
                .map(|m| format!("{}\t{}\n", n * 100 + m, "x".repeat(100)))
                .collect();
            sink.send(chunk.into()).await.unwrap();
        }
        assert_eq!(sink.finish().await.unwrap(), rows);
        backend(&other).await;
    }
    // Data that the server does not want.
    let sink = client
        .copy_in::<_, bytes::Bytes>("COPY t FROM STDIN")
        .await
        .unwrap();
    tokio::pin!(sink);
    sink.send("not a number\tx\n".into()).await.unwrap();
    assert_eq!(code(&sink.finish().await.unwrap_err()), "22P02");

    let stream = client.copy_out("COPY t TO STDOUT").await.unwrap();
    tokio::pin!(stream);
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        bytes += chunk.unwrap().len();
    }
    assert!(bytes > 8_000_000, "{bytes}");
    // A slow reader slows the server, and a value larger than every buffer passes.
    let no_parameters: [&str; 0] = [];
    let stream = client
        .query_raw("SELECT n, filler FROM t", no_parameters)
        .await
        .unwrap();
    tokio::pin!(stream);
    let mut count = 0;
    while let Some(row) = stream.next().await {
        row.unwrap();
        count += 1;
        if count % 10_000 == 0 {
            tokio::time::sleep(MS * 50).await;
        }
    }
    assert_eq!(count, 2 * rows);
    let large = "y".repeat(20 << 20);
    let row = client
        .query_one("SELECT $1::text || $1::text", &[&large])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0).len(), 2 * large.len());
    setting
        .until("the server is free", |stats| stats.active == 0)
        .await;
}

#[tokio::test]
async fn access_ends_with_the_snapshot_and_idle_servers_with_time() {
    let limits = PoolLimits {
        idle: MS * 300,
        ..PoolLimits::default()
    };
    let setting = Setting::new(2, limits).await;
    let client = setting.client().await;
    backend(&client).await;
    assert_eq!(setting.stats().idle, 1);
    setting
        .until("idle servers are closed", |stats| stats.idle == 0)
        .await;
    // A larger pool changes nothing for the client; another token ends it.
    setting
        .snapshots
        .send(snapshot(&setting.service, 5, TOKEN))
        .unwrap();
    // Without a statement, which the driver would close at a time of its own.
    client.batch_execute("SELECT 1").await.unwrap();
    assert_eq!(setting.stats().size, 5);
    setting
        .snapshots
        .send(snapshot(&setting.service, 5, "new"))
        .unwrap();
    assert_eq!(
        code(&client.query_one("SELECT 1", &[]).await.unwrap_err()),
        "57P01"
    );
    assert_eq!(code(&connect_with(&setting.config()).await.unwrap_err()), "28P01");
    let mut config = setting.config();
    let renewed = connect_with(config.password("new")).await.unwrap();

    // A stop lets the transaction under way come to its end.
    renewed.batch_execute("BEGIN").await.unwrap();
    setting.shutdown.cancel();
    tokio::time::sleep(MS * 100).await;
    renewed.batch_execute("COMMIT").await.unwrap();
    assert!(renewed.query_one("SELECT 1", &[]).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pgbench_passes_in_every_mode() {
    let setting = Setting::new(4, PoolLimits::default()).await;
    let status = std::process::Command::new("pgbench")
        .args([
            "-i",
            "-I",
            "dtGp",
            "-q",
            "-h",
            setting.owner.socket_directory.to_str().unwrap(),
        ])
        .args([
            "-p",
            &setting.owner.port.to_string(),
            "-U",
            &setting.owner.user,
            &setting.owner.database,
        ])
        .env("PGPASSWORD", &setting.owner.password)
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
    let setting = Arc::new(setting);
    let mut expected = 0;
    // A thread for each client: pgbench prepares with blocking calls, and a thread that waits for a server would
    // stop its clients that hold one.
    for mode in ["simple", "extended", "prepared"] {
        for more in [
            ["-c", "12", "-j", "12", "-t", "40"].as_slice(),
            &["-c", "4", "-t", "10", "-C"],
        ] {
            let setting = Arc::clone(&setting);
            let arguments = [&["-M", mode], more].concat();
            let text = tokio::task::spawn_blocking(move || setting.pgbench(&arguments))
                .await
                .unwrap();
            assert!(text.contains("number of failed transactions: 0"), "{text}");
            expected += if more.contains(&"-C") { 40 } else { 480 };
        }
    }
    let client = setting.client().await;
    let row = client
        .query_one("SELECT count(*) FROM pgbench_history", &[])
        .await
        .unwrap();
    assert_eq!(
        row.get::<_, i64>(0),
        expected,
        "each transaction was committed once"
    );
    assert!(setting.stats().active == 0 && setting.stats().idle <= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_npm_drivers_are_content() {
    // Fewer servers than clients, so that they change hands all the time.
    let setting = Setting::new(3, PoolLimits::default()).await;
    setting.owner_runs("CREATE TABLE t (n int, note text)").await;
    let (host, user, database) = (
        setting.folder.clone(),
        setting.service.user.clone(),
        setting.service.database.clone(),
    );
    let output = tokio::task::spawn_blocking(move || {
        std::process::Command::new("node")
            .arg(installed().join("client.mjs"))
            .env("PGHOST", host)
            .env("PGUSER", user)
            .env("PGDATABASE", database)
            .env("PGPASSWORD", TOKEN)
            .output()
    });
    let output = output
        .await
        .unwrap()
        .expect("node is needed for this test: scripts/setup.sh installs it");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
    setting
        .until("nothing is left", |stats| stats.clients == 0 && stats.active == 0)
        .await;
}

/// The script with its packages, installed once for each lock file.
fn installed() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/npm");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("astraler-postgres-npm");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    fs::copy(source.join("client.mjs"), folder.join("client.mjs")).unwrap();
    let wanted = fs::read(source.join("package-lock.json")).unwrap();
    let done = folder.join("installed.json");
    if fs::read(&done).ok().as_ref() != Some(&wanted) {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(source.join(name), folder.join(name)).unwrap();
        }
        let mut npm = std::process::Command::new("npm");
        let install = npm
            .args(["ci", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(
            install.status.success(),
            "{}",
            String::from_utf8_lossy(&install.stderr)
        );
        fs::write(done, wanted).unwrap();
    }
    folder
}

/// `cargo nextest run --release -p astraler-postgres --run-ignored only measure --no-capture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn measure_pgbench_direct_and_pooled() {
    let setting = Arc::new(Setting::new(10, PoolLimits::default()).await);
    setting.owner_runs("CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, abalance int); INSERT INTO pgbench_accounts SELECT g, 0 FROM generate_series(1, 100000) g").await;
    let direct = setting.owner.socket_directory.to_str().unwrap().to_owned();
    let pooled = setting.folder.to_str().unwrap().to_owned();
    let script = setting.folder.join("select.sql").to_str().unwrap().to_owned();
    fs::write(
        &script,
        "\\set aid random(1, 100000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
    )
    .unwrap();
    for (more, name) in [
        (vec!["-c", "10", "-j", "2"], "10 clients"),
        (
            vec!["-c", "10", "-j", "2", "-C"],
            "10 clients, connecting each time",
        ),
    ] {
        for mode in ["simple", "prepared"] {
            for (host, port, password, way) in [
                (
                    &direct,
                    setting.owner.port.to_string(),
                    setting.service.password.as_str(),
                    "direct",
                ),
                (&pooled, "6432".to_owned(), TOKEN, "pooled"),
            ] {
                let arguments = [
                    &[
                        "-n",
                        "-f",
                        &script,
                        "-T",
                        "5",
                        "-M",
                        mode,
                        "-h",
                        host,
                        "-p",
                        &port,
                        "-U",
                        &setting.service.user,
                    ],
                    more.as_slice(),
                    &[setting.service.database.as_str()],
                ]
                .concat();
                let mut command = std::process::Command::new("pgbench");
                command.args(arguments).env("PGPASSWORD", password);
                let output = tokio::task::spawn_blocking(move || command.output())
                    .await
                    .unwrap()
                    .unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let tps = text
                    .lines()
                    .find(|line| line.starts_with("tps"))
                    .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
                eprintln!("{name}, {mode}, {way}: {tps}");
            }
        }
    }
    let postmaster = setting.cluster.pid();
    let mut pss = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let number = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok())
        };
        if number("PPid:") == Some(postmaster) || number("Pid:") == Some(postmaster) {
            let rollup = fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
            pss += rollup
                .lines()
                .find_map(|l| {
                    l.strip_prefix("Pss:")?
                        .trim()
                        .strip_suffix(" kB")?
                        .trim()
                        .parse::<u64>()
                        .ok()
                })
                .unwrap_or(0);
        }
    }
    eprintln!("PSS of the server with its connections: {} MiB", pss / 1_024);
}
