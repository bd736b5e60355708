//! `postgresql.conf` and `pg_hba.conf`: every setting that differs from PostgreSQL's default, with its reason.

use crate::cluster::ClusterConfig;
use std::fmt::Write as _;

const MIB: u64 = 1 << 20;

/// Name and contents of each file in the cluster's `conf/` folder. None holds a secret.
pub fn configuration_files(config: &ClusterConfig) -> Vec<(String, String)> {
    let mut files = vec![
        ("postgresql.conf".into(), postgresql_conf(config)),
        ("pg_hba.conf".into(), pg_hba_conf(config)),
    ];
    if config.archive.is_some() {
        files.push((ARCHIVE_FILE.into(), ARCHIVE_SCRIPT.into()));
    }
    files
}

/// The `archive_command`, in the cluster's `conf/` folder.
const ARCHIVE_FILE: &str = "archive.sh";

/// A segment is in the spool when it is whole and on disk: compressed beside, synced, renamed. Archived twice, it is the
/// same file. <https://www.postgresql.org/docs/current/continuous-archiving.html>
const ARCHIVE_SCRIPT: &str = r#"# Written by astraler; changes are overwritten.
# archive.sh SPOOL LIMIT SEGMENT-PATH SEGMENT-NAME
set -eu
spool=$1; limit=$2; from=$3; name=$4
umask 027
cd "$spool"
set -- [0-9A-F]*.gz
if [ "$#" -ge "$limit" ]; then
  # Kept: the first segment that was left out. The server goes on; the archive needs a new base backup.
  [ -e gap ] || { echo "$name" > .gap; sync .gap; mv .gap gap; }
  exit 0
fi
gzip -1 -n < "$from" > ".$name"
sync ".$name"
mv ".$name" "$name.gz"
sync .
"#;

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

/// Quoted for the shell, and for `archive_command`, which reads `%`.
pub(crate) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''").replace('%', "%%"))
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
    if let Some(archive) = &config.archive {
        let script = config.conf_directory().join(ARCHIVE_FILE);
        conf.set("archive_mode", "on");
        conf.set("archive_timeout", format_args!("'{}s'", archive.timeout_s));
        let command = format!(
            "/bin/sh {} {} {} \"$PWD/%p\" %f",
            shell(&script.display().to_string()),
            shell(&archive.spool.display().to_string()),
            archive.max_segments
        );
        conf.text("archive_command", &command);
    }
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
            archive: None,
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

    /// The script as the server runs it.
    fn archive(spool: &std::path::Path, limit: u32, from: &std::path::Path, name: &str) -> bool {
        let script = spool.with_file_name(ARCHIVE_FILE);
        std::io::Write::write_all(
            &mut std::fs::File::create(&script).unwrap(),
            ARCHIVE_SCRIPT.as_bytes(),
        )
        .unwrap();
        let status = std::process::Command::new("/bin/sh")
            .arg(&script)
            .arg(spool)
            .arg(limit.to_string())
            .arg(from)
            .arg(name)
            .status();
        status.unwrap().success()
    }

    #[test]
    fn a_segment_is_spooled_whole_and_twice_is_once_and_a_full_spool_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool's");
        std::fs::create_dir(&spool).unwrap();
        let segment = folder.path().join("segment");
        std::io::Write::write_all(&mut std::fs::File::create(&segment).unwrap(), &[7; 100_000]).unwrap();
        let names = [
            "000000010000000000000001",
            "000000010000000000000002",
            "000000010000000000000003",
        ];
        assert!(archive(&spool, 2, &segment, names[0]));
        let first = std::fs::read(spool.join(format!("{}.gz", names[0]))).unwrap();
        assert!(archive(&spool, 2, &segment, names[0]));
        assert_eq!(
            std::fs::read(spool.join(format!("{}.gz", names[0]))).unwrap(),
            first
        );
        assert!(archive(&spool, 2, &segment, names[1]));
        assert!(archive(&spool, 2, &segment, names[2]), "the server goes on");
        assert_eq!(
            std::fs::read_to_string(spool.join("gap")).unwrap().trim(),
            names[2]
        );
        let mut left: Vec<_> = std::fs::read_dir(&spool)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                format!("{}.gz", names[0]),
                format!("{}.gz", names[1]),
                "gap".to_owned()
            ]
        );
        assert!(
            !archive(&spool, 9, &folder.path().join("none"), names[2]),
            "what cannot be read is not archived"
        );
    }

    #[test]
    fn archiving_is_on_where_it_is_asked_for_only() {
        let mut config = config(8 << 30, 2, 0.5, 100);
        assert!(!configuration_files(&config)[0].1.contains("archive_mode"));
        config.archive = Some(crate::cluster::ArchiveConfig {
            spool: "/state/it's 100%/spool".into(),
            timeout_s: 60,
            max_segments: 256,
        });
        let files = configuration_files(&config);
        assert_eq!(files.len(), 3);
        let command = r#"archive_command = '/bin/sh ''/state/postgres/shared/conf/archive.sh'' ''/state/it''\\''''s 100%%/spool'' 256 "$PWD/%p" %f'"#;
        assert!(files[0].1.contains(command), "{}", files[0].1);
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
