//! `postgresql.conf` and `pg_hba.conf`: every setting that differs from PostgreSQL's default, with its reason.

use crate::cluster::ClusterConfig;
use std::fmt::Write as _;

const MIB: u64 = 1 << 20;

/// Name and contents of each file in the cluster's `conf/` folder. None holds a secret.
pub fn configuration_files(config: &ClusterConfig) -> Vec<(String, String)> {
    vec![
        ("postgresql.conf".into(), postgresql_conf(config)),
        ("pg_hba.conf".into(), pg_hba_conf(config)),
    ]
}

fn pg_hba_conf(config: &ClusterConfig) -> String {
    let mut text = String::from(
        "# Written by astraler; changes are overwritten. No trust and no peer: every connection has a password.\n\
         local all all scram-sha-256\n\
         local replication all scram-sha-256\n",
    );
    if config.listen_loopback {
        text.push_str("host all all 127.0.0.1/32 scram-sha-256\n");
    }
    text
}

/// Sizes that follow from the machine, in MiB.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    shared_buffers: u64,
    effective_cache_size: u64,
    work_mem: u64,
    maintenance_work_mem: u64,
}

fn sizes(config: &ClusterConfig) -> Sizes {
    let share = f64::from(config.share.clamp(0.01, 1.0));
    // Whole MiB are exact in f64 for any machine; the cast saturates.
    let budget = ((config.machine.memory_bytes / MIB) as f64 * share) as u64;
    let connections = u64::from(config.max_connections.max(1));
    Sizes {
        // A quarter of the budget. Untouched pages cost nothing, but about 1.5 % of it (descriptors, the table
        // of buffers) is touched at start: 4 GiB is where a small team's machine should stop.
        shared_buffers: (budget / 4).clamp(64, 4_096),
        effective_cache_size: (budget * 3 / 4).clamp(128, 1 << 20),
        // Several sorts in each of all connections must fit in what is left.
        work_mem: (budget / 2 / connections).clamp(4, 64),
        maintenance_work_mem: (budget / 16).clamp(64, 1_024),
    }
}

fn postgresql_conf(config: &ClusterConfig) -> String {
    let sizes = sizes(config);
    let cores = config.machine.cores.clamp(1, 64);
    let listen = if config.listen_loopback { "127.0.0.1" } else { "" };
    let mut conf = Conf::new();

    conf.part("Connections. Passwords are kept and sent as SCRAM only.");
    conf.text("cluster_name", &format!("astraler-{}", config.cluster));
    conf.text("listen_addresses", listen);
    conf.set("port", config.port);
    conf.text(
        "unix_socket_directories",
        &config.socket_directory.display().to_string(),
    );
    conf.set("unix_socket_permissions", "0770");
    conf.set("max_connections", config.max_connections);
    conf.set("superuser_reserved_connections", 3);
    conf.set("password_encryption", "'scram-sha-256'");
    conf.set("ssl", "off");
    conf.set("authentication_timeout", "'10s'");
    // Finds out that a client is gone while its query still runs.
    conf.set("client_connection_check_interval", "'5s'");
    conf.set("tcp_keepalives_idle", 60);
    conf.set("idle_in_transaction_session_timeout", "'5min'");

    conf.part("Memory.");
    conf.mib("shared_buffers", sizes.shared_buffers);
    conf.mib("effective_cache_size", sizes.effective_cache_size);
    conf.mib("work_mem", sizes.work_mem);
    conf.mib("maintenance_work_mem", sizes.maintenance_work_mem);
    conf.set("huge_pages", "off");

    conf.part("Write-ahead log. `replica` so that archiving and replicas need no change of format.");
    conf.set("wal_level", "replica");
    conf.set("max_wal_senders", 4);
    conf.set("max_replication_slots", 4);
    conf.set("max_slot_wal_keep_size", "'4GB'");
    conf.set("fsync", "on");
    conf.set("synchronous_commit", "on");
    conf.set("full_page_writes", "on");
    conf.set("wal_compression", "on");
    conf.set("min_wal_size", "'64MB'");
    conf.set("max_wal_size", "'2GB'");
    conf.set("checkpoint_timeout", "'15min'");
    conf.set("checkpoint_completion_target", 0.9);

    conf.part("Planner and workers, for solid-state disks and short queries.");
    conf.set("random_page_cost", 1.1);
    conf.set("effective_io_concurrency", 200);
    conf.set("jit", "off");
    conf.set("max_worker_processes", cores.max(2) + 2);
    conf.set("max_parallel_workers", cores);
    conf.set("max_parallel_workers_per_gather", (cores / 2).clamp(1, 4));
    conf.set("max_parallel_maintenance_workers", (cores / 2).clamp(1, 4));
    if config.binaries.major >= 18 {
        // Idle I/O workers are processes, and processes are memory.
        conf.set("io_workers", cores.clamp(1, 3));
    }

    conf.part("Autovacuum: earlier and more often than by default, in small steps.");
    conf.set("autovacuum", "on");
    conf.set("autovacuum_max_workers", cores.clamp(2, 4));
    conf.set("autovacuum_vacuum_scale_factor", 0.05);
    conf.set("autovacuum_vacuum_insert_scale_factor", 0.1);
    conf.set("autovacuum_analyze_scale_factor", 0.025);
    conf.set("autovacuum_vacuum_cost_limit", 1_000);

    conf.part("Log: to standard error, without values of parameters.");
    conf.set("log_destination", "'stderr'");
    conf.set("logging_collector", "off");
    conf.text("log_line_prefix", "%m [%p] db=%d user=%u app=%a ");
    conf.text("log_timezone", "UTC");
    conf.set("log_min_duration_statement", "'1s'");
    conf.set("log_parameter_max_length", 0);
    conf.set("log_parameter_max_length_on_error", 0);
    conf.set("log_lock_waits", "on");
    conf.set("log_temp_files", "'10MB'");
    conf.set("log_autovacuum_min_duration", "'10s'");
    conf.set("log_checkpoints", "off");

    conf.part("The rest.");
    conf.text("timezone", "UTC");
    conf.text("default_text_search_config", "pg_catalog.english");
    conf.set("track_io_timing", "on");
    conf.set("restart_after_crash", "on");
    if config.binaries.major >= 17 {
        // Settings come from this file only.
        conf.set("allow_alter_system", "off");
    }
    conf.0
}

struct Conf(String);

impl Conf {
    fn new() -> Self {
        Self("# Written by astraler; changes are overwritten. Tuned for this machine.\n".into())
    }

    fn part(&mut self, words: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(self.0, "\n# {words}\n");
    }

    fn set(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name} = {value}");
    }

    fn mib(&mut self, name: &str, mib: u64) {
        self.set(name, format_args!("'{mib}MB'"));
    }

    /// Quoted as `guc-file.l` reads it: quotes doubled, backslashes too.
    fn text(&mut self, name: &str, value: &str) {
        let quoted = value.replace('\\', "\\\\").replace('\'', "''");
        self.set(name, format_args!("'{quoted}'"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binaries::Binaries;
    use crate::cluster::Machine;
    use astraler_model::Cluster;
    use proptest::prelude::*;

    fn config(memory_bytes: u64, cores: u32, share: f32, max_connections: u32) -> ClusterConfig {
        ClusterConfig {
            cluster: Cluster::Shared,
            binaries: Binaries {
                directory: "/x".into(),
                major: 15,
                version: "15.1".into(),
            },
            directory: "/state/postgres/shared".into(),
            socket_directory: "/run/it's".into(),
            port: 5_500,
            listen_loopback: false,
            identity: None,
            superuser_password_file: "/secret".into(),
            max_connections,
            machine: Machine { memory_bytes, cores },
            share,
        }
    }

    proptest! {
        #[test]
        fn memory_is_never_planned_beyond_the_share(
            memory in (1u64 << 30)..(1u64 << 40),
            share in 0.1f32..1.0,
            connections in 10u32..500,
        ) {
            let config = config(memory, 4, share, connections);
            let sizes = sizes(&config);
            let budget = (memory / MIB) as f64 * f64::from(share);
            prop_assert!(sizes.shared_buffers as f64 <= (budget / 4.0).max(64.0));
            prop_assert!(sizes.effective_cache_size as f64 <= budget.max(128.0));
            prop_assert!((sizes.work_mem * u64::from(connections)) as f64 <= (budget / 2.0).max(4.0 * f64::from(connections)));
        }
    }

    #[test]
    fn paths_are_quoted_and_nothing_is_trusted() {
        let files = configuration_files(&config(8 << 30, 2, 0.5, 100));
        assert!(
            files[0].1.contains("unix_socket_directories = '/run/it''s'"),
            "{}",
            files[0].1
        );
        let hba = &files[1].1;
        assert!(
            hba.lines()
                .filter(|l| !l.starts_with('#'))
                .all(|l| l.ends_with("scram-sha-256")),
            "{hba}"
        );
        assert!(
            !hba.contains("127.0.0.1"),
            "loopback only where it was asked for: {hba}"
        );
    }
}
