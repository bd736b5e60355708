//! What is there now: units, memory, environments.

use crate::platform::{Platform, PlatformError, origin_of};
use crate::words::{Application, EnvironmentReport, PartReport, StatusReport};
use astraler_host::supervisor::SupervisorError;
use astraler_model::{Environment, UnitName, UnitPhase, UnitStatus};
use std::collections::BTreeMap;

/// The whole report.
pub(crate) async fn report(platform: &Platform) -> Result<StatusReport, PlatformError> {
    let units = platform
        .supervisor
        .list()
        .await
        .map_err(PlatformError::Supervisor)?;
    let parts = units
        .into_iter()
        .map(|unit| PartReport {
            memory_bytes: unit.pid.and_then(astraler_host::process::memory_pss_tree),
            unit,
        })
        .collect();
    let mut environments = Vec::new();
    for (environment, (_, application)) in platform.live()? {
        environments.push(environment_report(platform, environment, &application)?);
    }
    let marks = platform.marks()?.into_iter();
    let destroying = marks.filter(|mark| mark.destroying);
    let drills = crate::recover::drill::report(platform)?;
    Ok(StatusReport {
        application: platform.installation.application.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environments,
        parts,
        interrupted: platform.interrupted()?,
        destroying: destroying.map(|mark| mark.environment).collect(),
        last_proven_restore: drills
            .iter()
            .filter(|drill| drill.proven_ms.is_some())
            .max_by_key(|drill| drill.proven_ms)
            .cloned(),
        drills,
        isolation: platform.installation.isolation.clone(),
    })
}

/// One unit, if `keep` knows it.
pub(crate) async fn unit(
    platform: &Platform,
    name: &UnitName,
) -> Result<Option<UnitStatus>, SupervisorError> {
    Ok(platform
        .supervisor
        .list()
        .await?
        .into_iter()
        .find(|unit| unit.name == *name))
}

/// Every URL, endpoint and credential reference of an environment.
pub(crate) fn environment_report(
    platform: &Platform,
    environment: Environment,
    application: &Application,
) -> Result<EnvironmentReport, PlatformError> {
    let installation = &platform.installation;
    let ports = &installation.ports;
    let live = platform.live_deployment(environment)?;
    let hosts = platform.hosts(environment, &application.config);
    let named = hosts
        .iter()
        .filter(|host| host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('['));
    let secured = crate::certificates::secured(platform)?;
    let plain = named.clone().map(|host| format!("http://{host}:{}", ports.http));
    let https = named
        .filter(|host| ports.https != 0 && secured.contains(*host))
        .map(|host| format!("https://{host}:{}", ports.https));
    let urls = plain.chain(https).collect();
    let identifier = environment.identifier();
    let port = installation.postgres_port(environment.cluster());
    let mut endpoints = BTreeMap::from([
        (
            "postgres".to_owned(),
            format!("postgresql://{identifier}_service@127.0.0.1:{port}/{identifier}"),
        ),
        (
            "postgres_owner".to_owned(),
            format!("postgresql://{identifier}_owner@127.0.0.1:{port}/{identifier}"),
        ),
        (
            "redis_socket".to_owned(),
            // As redis-py writes it: the user is part of what a client needs.
            format!(
                "unix://app@{}",
                installation.layout.redis_socket(environment).display()
            ),
        ),
        (
            "redis_rest".to_owned(),
            format!("http://127.0.0.1:{}", ports.redis_rest),
        ),
        ("s3".to_owned(), format!("http://127.0.0.1:{}", ports.s3)),
    ]);
    for bucket in application.workers.iter().flat_map(|worker| worker.r2.values()) {
        endpoints.insert(format!("bucket_{bucket}"), format!("s3://{bucket}"));
    }
    let credentials = crate::credentials::NAMES
        .iter()
        .map(|name| {
            (
                (*name).to_owned(),
                format!("astraler env credential {environment} {name}"),
            )
        })
        .collect();
    let origin = live.as_ref().map(origin_of).unwrap_or_default();
    let watch = match &live {
        Some(live) => crate::watch::words(platform, live, application)?,
        None => None,
    };
    let on = crate::switches::On::of(platform, environment)?.now();
    Ok(EnvironmentReport {
        environment,
        maintenance: on.maintenance,
        attack: on.attack,
        deployment: live.as_ref().map(|deployment| deployment.id.to_string()),
        release: live.map(|deployment| deployment.release),
        commit: origin.commit,
        branch: origin.branch,
        asleep: platform.asleep()?.contains(&environment),
        watch,
        urls,
        endpoints,
        credentials,
        workers: application
            .workers
            .iter()
            .map(|worker| (worker.name.clone(), worker.routes.clone()))
            .collect(),
    })
}

/// Whether every process that the live environments need runs. One-time jobs have ended, as they should.
pub(crate) async fn all_run(platform: &Platform) -> Result<bool, PlatformError> {
    let units = platform
        .supervisor
        .list()
        .await
        .map_err(PlatformError::Supervisor)?;
    let running = |wanted: &dyn Fn(&str) -> bool| {
        units
            .iter()
            .any(|unit| wanted(unit.name.as_str()) && unit.phase == UnitPhase::Running)
    };
    if units.iter().any(|unit| unit.phase == UnitPhase::Failed) {
        return Ok(false);
    }
    for (environment, (deployment, _)) in platform.awake()? {
        let workers = crate::deploy::unit_name(environment, &deployment.id.to_string());
        let needed = ["edge", "data", "egress", "signal"]
            .into_iter()
            .map(str::to_owned)
            .chain(workers.map(|name| name.to_string()));
        for name in needed {
            if !running(&|unit| unit == name) {
                return Ok(false);
            }
        }
        let cluster = environment.cluster().name();
        let environment = environment.to_string();
        let engines = running(&|unit| unit.starts_with("postgres") && unit.ends_with(cluster))
            && running(&|unit| unit.starts_with("redis") && unit.ends_with(&environment));
        if !engines {
            return Ok(false);
        }
    }
    Ok(true)
}
