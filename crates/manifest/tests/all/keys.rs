//! Every key of the shape: the effective ones take effect, the planned ones are refused.

use crate::{keys_cache, keys_dns, keys_rules, keys_tls};
use astraler_manifest::{parse, schema};
use serde_json::{Value, json};
use std::path::Path;

/// A key with its schema; `<name>` stands for a name of the user's.
struct Key {
    path: Vec<String>,
    schema: Value,
    planned: bool,
}

impl Key {
    fn dotted(&self) -> String {
        self.path.join(".")
    }
}

/// The leaves of the shape, and the planned tables as a whole.
fn keys() -> Vec<Key> {
    let root = schema();
    let mut found = Vec::new();
    collect(&root, &root, &[], &mut found);
    found
}

fn collect(root: &Value, schema: &Value, path: &[String], found: &mut Vec<Key>) {
    let named = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, below)| (key.as_str(), below));
    let any = schema
        .get("additionalProperties")
        .filter(|below| below.is_object())
        .map(|below| ("<name>", below));
    for (key, below) in named.chain(any) {
        let below = followed(root, below);
        let mut path = path.to_vec();
        path.push(key.to_owned());
        let planned = below["x-astraler-status"] == "planned";
        let table = below.get("properties").is_some()
            || below.get("additionalProperties").is_some_and(Value::is_object);
        if table && !planned {
            collect(root, &below, &path, found);
        } else {
            found.push(Key {
                path,
                schema: below,
                planned,
            });
        }
    }
}

/// The schema behind `$ref` and `anyOf … null`, with the keys that stand beside them.
fn followed(root: &Value, schema: &Value) -> Value {
    let mut all = schema.as_object().unwrap().clone();
    let target = match (&schema["$ref"], &schema["anyOf"]) {
        (Value::String(path), _) => root.pointer(path.trim_start_matches('#')).cloned(),
        (_, Value::Array(choices)) => choices.iter().find(|choice| choice["type"] != "null").cloned(),
        _ => None,
    };
    if let Some(target) = target {
        for (key, value) in followed(root, &target).as_object().unwrap() {
            all.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Value::Object(all)
}

/// A name of the user's that is valid in this key.
fn name_in(path: &str) -> &'static str {
    if path.starts_with("edge.error_pages.") {
        "404"
    } else {
        "some"
    }
}

/// A valid manifest that sets one key.
fn manifest(path: &str, value: &str) -> String {
    let path = path.replace("<name>", name_in(path));
    let mut text = String::new();
    for (key, standard) in [("name", "\"shop\""), ("domain", "\"shop.example\"")] {
        let value = if path == key { value } else { standard };
        text.push_str(&format!("{key} = {value}\n"));
    }
    if path.starts_with("workers.some.") && path != "workers.some.path" {
        text.push_str("workers.some.path = \"workers/some\"\n");
    }
    if path != "name" && path != "domain" {
        text.push_str(&format!("{path} = {value}\n"));
    }
    text
}

/// A value of the type that a planned key will have.
fn any_value(schema: &Value) -> &'static str {
    let kind = match &schema["type"] {
        Value::String(kind) => kind.as_str(),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap(),
        _ => "string",
    };
    match kind {
        "object" => "{}",
        "array" => "[]",
        "integer" => "7",
        "number" => "0.5",
        "boolean" => "true",
        _ => "\"x\"",
    }
}

#[test]
fn every_planned_key_is_refused_as_such_and_as_nothing_else() {
    let keys = keys();
    let planned: Vec<&Key> = keys.iter().filter(|key| key.planned).collect();
    assert!(planned.len() > 15, "{} planned keys", planned.len());
    for key in planned {
        let path = key.dotted();
        let text = manifest(&path, any_value(&key.schema));
        let errors = parse("astraler.toml", &text).unwrap_err();
        assert_eq!(errors.len(), 1, "{path}: {errors}");
        let error = errors.iter().next().unwrap();
        assert_eq!(error.code, "not-supported-yet", "{path}: {errors}");
        let shown = path.replace("<name>", "some");
        assert!(
            error.message.contains(&format!("`{shown}` is not supported yet")),
            "{error}"
        );
    }
}

/// Effective keys: another value than the default, and the test that shows what it leads to on a real platform.
const EFFECTIVE: &[(&str, &str, &str)] = &[
    (
        "name",
        "\"other\"",
        "lifecycle::environments_have_data_of_their_own",
    ),
    (
        "domain",
        "\"other.example\"",
        "lifecycle::environments_have_data_of_their_own",
    ),
    (
        "environments.development.vars.<name>",
        "\"x\"",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "environments.development.branches",
        "[\"work/*\"]",
        "push::branches_go_where_the_manifest_says",
    ),
    (
        "environments.preview.branches",
        "[\"work/a*\"]",
        "push::branches_go_where_the_manifest_says",
    ),
    (
        "environments.staging.branches",
        "[\"next\"]",
        "push::branches_go_where_the_manifest_says",
    ),
    (
        "environments.production.branches",
        "[\"release\"]",
        "push::branches_go_where_the_manifest_says",
    ),
    (
        "environments.development.hosts",
        "[\"dev.example\"]",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "environments.development.protected",
        "true",
        "plan::destroying_takes_all_of_an_environment_and_what_is_protected_takes_two_steps",
    ),
    (
        "environments.preview.protected",
        "true",
        "plan::destroying_takes_all_of_an_environment_and_what_is_protected_takes_two_steps",
    ),
    (
        "environments.staging.protected",
        "true",
        "plan::destroying_takes_all_of_an_environment_and_what_is_protected_takes_two_steps",
    ),
    (
        "environments.production.protected",
        "true",
        "plan::destroying_takes_all_of_an_environment_and_what_is_protected_takes_two_steps",
    ),
    (
        "protection.environments",
        "[\"staging\"]",
        "plan::destroying_takes_all_of_an_environment_and_what_is_protected_takes_two_steps",
    ),
    (
        "environments.preview.vars.<name>",
        "\"x\"",
        "keys::each_environment_has_its_own_variables_and_hosts",
    ),
    (
        "environments.preview.hosts",
        "[\"pr.example\"]",
        "keys::each_environment_has_its_own_variables_and_hosts",
    ),
    (
        "environments.staging.vars.<name>",
        "\"x\"",
        "keys::each_environment_has_its_own_variables_and_hosts",
    ),
    (
        "environments.staging.hosts",
        "[\"st.example\"]",
        "keys::each_environment_has_its_own_variables_and_hosts",
    ),
    (
        "environments.production.vars.<name>",
        "\"x\"",
        "keys::each_environment_has_its_own_variables_and_hosts",
    ),
    (
        "environments.production.hosts",
        "[\"pd.example\"]",
        "keys::each_environment_has_its_own_variables_and_hosts",
    ),
    (
        "edge.http_port",
        "3001",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "edge.listen_addresses",
        "[\"127.0.0.1\"]",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "edge.limits.max_header_bytes",
        "2048",
        "keys::the_edge_keeps_to_its_limits",
    ),
    (
        "edge.limits.max_headers",
        "16",
        "keys::the_edge_keeps_to_its_limits",
    ),
    (
        "edge.limits.max_uri_bytes",
        "512",
        "keys::the_edge_keeps_to_its_limits",
    ),
    (
        "edge.limits.header_timeout_ms",
        "700",
        "keys::the_edge_keeps_to_its_limits",
    ),
    (
        "edge.limits.idle_timeout_ms",
        "700",
        "keys::the_edge_keeps_to_its_limits",
    ),
    (
        "edge.limits.body_idle_timeout_ms",
        "700",
        "keys::the_edge_keeps_to_its_limits",
    ),
    (
        "edge.limits.max_body_bytes",
        "1000",
        "keys::the_edge_keeps_to_its_limits",
    ),
    (
        "edge.limits.max_connections",
        "4",
        "keys::the_edge_keeps_to_its_limits",
    ),
    (
        "edge.limits.max_connections_per_client",
        "2",
        "edge::a_client_has_so_many_connections_and_the_process_so_much_memory",
    ),
    (
        "edge.limits.max_memory_bytes",
        "1048576",
        "edge::a_client_has_so_many_connections_and_the_process_so_much_memory",
    ),
    (
        "edge.limits.upstream_connect_timeout_ms",
        "900",
        "keys::the_edge_gets_every_limit",
    ),
    (
        "edge.limits.upstream_timeout_ms",
        "700",
        "keys::the_edge_keeps_to_its_limits",
    ),
    ("edge.limits.drain_ms", "1000", "keys::the_edge_gets_every_limit"),
    (
        "runtime.sandbox",
        "\"off\"",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "workers.<name>.path",
        "\"elsewhere\"",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "workers.<name>.routes",
        "[\"/x/*\"]",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "workers.<name>.memory_bytes",
        "268435456",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "assets.directory",
        "\"web\"",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "assets.html_handling",
        "\"none\"",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "assets.not_found_handling",
        "\"404-page\"",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "build.command",
        "\"true\"",
        "keys::the_application_is_as_its_keys_say",
    ),
    (
        "database.migrations",
        "\"sql\"",
        "keys::the_engines_are_as_their_keys_say",
    ),
    (
        "database.pool_size",
        "3",
        "keys::the_engines_are_as_their_keys_say",
    ),
    (
        "database.max_connections",
        "42",
        "keys::the_engines_are_as_their_keys_say",
    ),
    (
        "database.statement_timeout_ms",
        "1234",
        "keys::the_engines_are_as_their_keys_say",
    ),
    (
        "environments.preview.ttl_hours",
        "1",
        "deploy::previews_are_copies_that_sleep_wake_and_go",
    ),
    (
        "environments.preview.idle_sleep_minutes",
        "1",
        "deploy::previews_are_copies_that_sleep_wake_and_go",
    ),
    (
        "database.mask",
        "\"mask.sql\"",
        "deploy::previews_are_copies_that_sleep_wake_and_go",
    ),
    (
        "deploy.health_path",
        "\"/api/health\"",
        "deploy::what_does_not_come_up_leaves_the_old_one_serving",
    ),
    (
        "deploy.health_timeout_ms",
        "700",
        "deploy::what_does_not_come_up_leaves_the_old_one_serving",
    ),
    (
        "deploy.drain_ms",
        "700",
        "deploy::a_release_goes_from_staging_to_production_and_back",
    ),
    (
        "redis.maxmemory_bytes",
        "67108864",
        "keys::the_engines_are_as_their_keys_say",
    ),
    (
        "redis.maxmemory_policy",
        "\"allkeys-lfu\"",
        "keys::the_engines_are_as_their_keys_say",
    ),
    (
        "redis.appendfsync",
        "\"always\"",
        "keys::the_engines_are_as_their_keys_say",
    ),
    (
        "pipeline.gates",
        "[\"style\"]",
        "pipeline_run::the_manifest_says_what_jobs_may_and_must",
    ),
    (
        "pipeline.coverage_percent",
        "90",
        "pipeline_run::the_manifest_says_what_jobs_may_and_must",
    ),
    (
        "pipeline.registries",
        "[\"packages.example\"]",
        "pipeline_run::the_manifest_says_what_jobs_may_and_must",
    ),
    (
        "pipeline.job_timeout_minutes",
        "1",
        "pipeline_run::the_manifest_says_what_jobs_may_and_must",
    ),
    (
        "secrets.required",
        "[{ name = \"KEY\", service = \"api\", environments = [\"staging\"] }]",
        "secrets::a_secret_reaches_whom_it_is_granted_with_the_next_deployment_and_nobody_else",
    ),
    (
        "secrets.rotation_days",
        "30",
        "secrets::a_secret_reaches_whom_it_is_granted_with_the_next_deployment_and_nobody_else",
    ),
    (
        "alerts.error_rate_percent",
        "2.5",
        "watch::production_alerts_nobody_until_something_is_wrong_and_goes_back_from_a_bad_deployment",
    ),
    (
        "alerts.p95_ms",
        "700",
        "watch::production_alerts_nobody_until_something_is_wrong_and_goes_back_from_a_bad_deployment",
    ),
    (
        "alerts.uptime_percent",
        "99.0",
        "watch::production_alerts_nobody_until_something_is_wrong_and_goes_back_from_a_bad_deployment",
    ),
    (
        "alerts.connections_percent",
        "70.0",
        "watch::production_alerts_nobody_until_something_is_wrong_and_goes_back_from_a_bad_deployment",
    ),
    (
        "environments.production.watch_minutes",
        "3",
        "watch::production_alerts_nobody_until_something_is_wrong_and_goes_back_from_a_bad_deployment",
    ),
    (
        "environments.staging.watch_minutes",
        "3",
        "watch::production_alerts_nobody_until_something_is_wrong_and_goes_back_from_a_bad_deployment",
    ),
    (
        "environments.development.watch_minutes",
        "3",
        "watch::production_alerts_nobody_until_something_is_wrong_and_goes_back_from_a_bad_deployment",
    ),
    (
        "alerts.critical.channels",
        "[\"email\"]",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.critical.acknowledge_minutes",
        "7",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.critical.repeat_minutes",
        "9",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.high.channels",
        "[\"email\"]",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.high.acknowledge_minutes",
        "7",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.high.repeat_minutes",
        "9",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.medium.channels",
        "[\"email\"]",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.medium.acknowledge_minutes",
        "7",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.medium.repeat_minutes",
        "9",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.low.channels",
        "[\"email\"]",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.low.acknowledge_minutes",
        "7",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.low.repeat_minutes",
        "9",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.pagerduty.secret",
        "\"PD\"",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.pagerduty.url",
        "\"https://events.eu.pagerduty.com/v2/enqueue\"",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.slack.secret",
        "\"HOOK\"",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.email.host",
        "\"mail.shop.example\"",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.email.port",
        "465",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.email.tls",
        "\"implicit\"",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.email.from",
        "\"alerts@shop.example\"",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.email.to",
        "[\"ada@shop.example\"]",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.email.username",
        "\"alerts\"",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "alerts.email.secret",
        "\"MAIL\"",
        "alerts::an_alert_reaches_its_channels_once_also_when_they_were_away_and_the_daemon_was_killed",
    ),
    (
        "release.keep",
        "1",
        "release::old_releases_go_and_what_can_be_gone_back_to_stays",
    ),
    (
        "signals.access_retention_days",
        "5",
        "signals::what_happened_is_found_while_its_keeper_comes_and_goes",
    ),
    (
        "signals.application_retention_days",
        "20",
        "signals::what_happened_is_found_while_its_keeper_comes_and_goes",
    ),
    (
        "signals.error_retention_days",
        "30",
        "signals::what_happened_is_found_while_its_keeper_comes_and_goes",
    ),
    (
        "signals.max_bytes",
        "100000000",
        "signals::what_happened_is_found_while_its_keeper_comes_and_goes",
    ),
    (
        "environments.development.replicate_storage",
        "true",
        "backups::replica::a_bucket_is_replicated_watched_verified_and_brought_back",
    ),
    (
        "environments.staging.replicate_storage",
        "true",
        "backups::replica::a_bucket_is_replicated_watched_verified_and_brought_back",
    ),
    (
        "environments.production.replicate_storage",
        "false",
        "backups::replica::a_bucket_is_replicated_watched_verified_and_brought_back",
    ),
    (
        "storage.replication_url",
        "\"s3://bucket/prefix\"",
        "backups::replica::a_bucket_is_replicated_watched_verified_and_brought_back",
    ),
    (
        "storage.replication_endpoint_url",
        "\"https://replica.example\"",
        "backups::replica::a_bucket_is_replicated_watched_verified_and_brought_back",
    ),
    (
        "storage.replication_credentials_file",
        "\"/etc/astraler/replica.env\"",
        "backups::replica::a_bucket_is_replicated_watched_verified_and_brought_back",
    ),
    (
        "backups.target_url",
        "\"s3://team-backups/shop\"",
        "backups::logs_bases_and_dumps_reach_a_bucket_and_trouble_there_is_told",
    ),
    (
        "backups.endpoint_url",
        "\"https://backups.example\"",
        "backups::logs_bases_and_dumps_reach_a_bucket_and_trouble_there_is_told",
    ),
    (
        "backups.credentials_file",
        "\"/etc/astraler/backups.env\"",
        "backups::logs_bases_and_dumps_reach_a_bucket_and_trouble_there_is_told",
    ),
    (
        "backups.allow_same_device",
        "true",
        "backups::backups_are_as_their_keys_say",
    ),
    (
        "backups.database_hours",
        "6",
        "backups::backups_are_as_their_keys_say",
    ),
    ("backups.wal", "false", "backups::backups_are_as_their_keys_say"),
    (
        "backups.secrets_days",
        "3",
        "backups::whole::two_shares_open_the_secrets_and_the_configuration_is_in_git",
    ),
    (
        "backups.recovery_recipient",
        "\"age1y7v9n94kg7fq87583kpp4e3kha3g6h5zhwjsf4269yh77h5t0gzspcp8ay\"",
        "backups::whole::two_shares_open_the_secrets_and_the_configuration_is_in_git",
    ),
    (
        "backups.config_git_url",
        "\"https://git.example/team.git\"",
        "backups::whole::two_shares_open_the_secrets_and_the_configuration_is_in_git",
    ),
    (
        "backups.config_git_credentials_file",
        "\"/etc/astraler/git\"",
        "backups::whole::two_shares_open_the_secrets_and_the_configuration_is_in_git",
    ),
    (
        "backups.retention_days",
        "7",
        "backups::backups_are_as_their_keys_say",
    ),
    (
        "recovery.drill_hours",
        "6",
        "backups::a_drill_proves_a_restore_and_says_when_it_cannot",
    ),
    (
        "recovery.recovery_point_s",
        "60",
        "backups::backups_are_as_their_keys_say",
    ),
];

#[test]
fn every_effective_key_is_carried_and_has_a_test_of_its_effect() {
    let dns = keys_dns::EFFECTIVE
        .iter()
        .map(|(key, value)| (*key, *value, keys_dns::TEST));
    let cache = keys_cache::EFFECTIVE
        .iter()
        .map(|(key, value)| (*key, *value, keys_cache::TEST));
    let rules = keys_rules::EFFECTIVE
        .iter()
        .map(|(key, value)| (*key, *value, keys_rules::TEST));
    let others = dns.chain(cache).chain(rules);
    let effective = EFFECTIVE.iter().chain(keys_tls::EFFECTIVE).copied().chain(others);
    let effective: Vec<(&str, &str, &str)> = effective.collect();
    let mut listed: Vec<&str> = effective.iter().map(|(key, ..)| *key).collect();
    let mut wanted: Vec<String> = keys()
        .iter()
        .filter(|key| !key.planned)
        .map(Key::dotted)
        .collect();
    listed.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(wanted, listed, "the shape, and the table above");

    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../astraler/tests/all");
    let default = parse("astraler.toml", &manifest("name", "\"shop\"")).unwrap();
    let default = serde_json::to_value(default).unwrap();
    for (key, value, test) in effective {
        let text = manifest(key, value);
        let config = parse("astraler.toml", &text).unwrap_or_else(|errors| panic!("{key}: {errors}"));
        let config = serde_json::to_value(config).unwrap();
        let pointer = format!("/{}", key.replace("<name>", name_in(key)).replace('.', "/"));
        let expected: Value = toml_edit::de::from_str(&format!("value = {value}")).unwrap();
        let expected = expected["value"].clone();
        assert_eq!(config.pointer(&pointer), Some(&expected), "{key}");
        assert_ne!(
            default.pointer(&pointer).unwrap_or(&json!(null)),
            &expected,
            "{key}: not the default"
        );
        let (module, name) = test.rsplit_once("::").unwrap();
        let module = module.replace("::", "/");
        let read = |file: String| std::fs::read_to_string(tests.join(file)).ok();
        let code = read(format!("{module}.rs")).or_else(|| read(format!("{module}/mod.rs")));
        let code = code.unwrap_or_default();
        assert!(
            code.contains(&format!("fn {name}()")),
            "{key}: there is no test {test}"
        );
    }
}

#[test]
fn limits_of_numbers_hold_at_both_ends() {
    for (key, good, bad) in [
        (
            "edge.http_port",
            &["0", "65535"][..],
            &["-1", "65536", "1.5", "\"3000\""][..],
        ),
        ("edge.limits.max_headers", &["8", "1000"], &["7", "1001"]),
        ("database.pool_size", &["1", "1000"], &["0", "1001", "-5"]),
        (
            "redis.maxmemory_bytes",
            &["1048576"],
            &["1048575", "9223372036854775808"],
        ),
    ] {
        for value in good {
            parse("astraler.toml", &manifest(key, value))
                .unwrap_or_else(|errors| panic!("{key} = {value}: {errors}"));
        }
        for value in bad {
            let errors = parse("astraler.toml", &manifest(key, value)).unwrap_err();
            assert_eq!(errors.len(), 1, "{key} = {value}: {errors}");
            assert_eq!(errors.iter().next().unwrap().line, 3, "{key} = {value}: {errors}");
        }
    }
}
