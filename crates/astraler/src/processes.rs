//! Wiring of the processes that `keep` runs: each reads its installation record, takes its sockets, runs one
//! function of one crate.

use crate::cli::{ProcessArguments, Role};
use crate::failure::{Failure, Outcome};
use astraler_control::Installation;
use astraler_host::activation::{self, Listeners};
use astraler_host::keep::{self, KeepConfig};
use astraler_host::snapshot;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long a process waits for its first snapshot.
const FIRST_SNAPSHOT: Duration = Duration::from_secs(15);

/// `astraler keep`.
pub(crate) fn keep(arguments: &ProcessArguments, standby: bool) -> Outcome {
    if !standby {
        // A session of its own: no terminal's signals reach it. It fails where we lead a group already.
        nix::unistd::setsid().ok();
    }
    let installation = Installation::load(&arguments.installation)?;
    let program = installation.program.display().to_string();
    let record = arguments.installation.display().to_string();
    let mut allowed_uids = vec![installation.owner_uid];
    allowed_uids.extend(installation.identities.daemon.as_ref().map(|daemon| daemon.uid));
    let config = KeepConfig {
        state: installation.layout.state.clone(),
        runtime: installation.layout.runtime.clone(),
        launcher: vec![program.clone(), "launch".into()],
        standby: vec![
            program,
            "keep".into(),
            "--standby".into(),
            "--installation".into(),
            record,
        ],
        allowed_uids,
        platform_id: installation.id.clone(),
    };
    if !standby {
        log_to_stderr();
    }
    Ok(keep::run(config, standby)?)
}

/// `astraler launch`: becomes the unit whose spec arrives on standard input.
pub(crate) fn launch() -> Failure {
    Failure::of(&astraler_host::launch::run())
}

/// `astraler daemon`.
pub(crate) fn daemon(arguments: &ProcessArguments) -> Outcome {
    log_to_stderr();
    let installation = Installation::load(&arguments.installation)?;
    let mut listeners = activation::listeners()?;
    let listening = astraler_control::Listening {
        admin: listeners.take_unix("admin")?,
        api: listeners.take_tcp("api")?,
        wake: listeners.take_unix("wake")?,
    };
    runtime(1)?.block_on(async move {
        astraler_control::run(installation, listening, terminated()).await?;
        Ok(())
    })
}

/// `astraler edge`.
pub(crate) fn edge(installation: &Path, settings: &Path) -> Outcome {
    log_to_stderr();
    let installation = Installation::load(installation)?;
    let limits: astraler_edge::Limits = serde_json::from_slice(&std::fs::read(settings)?)?;
    let mut listeners = activation::listeners()?;
    let http = all_tcp(&mut listeners, "http-")?;
    let https = all_tcp(&mut listeners, "https-")?;
    let quic = all_udp(&mut listeners, "quic-")?;
    let control = listeners.take_unix("status")?;
    let (dns_udp, dns_tcp) = (
        all_udp(&mut listeners, "dns-udp-")?,
        all_tcp(&mut listeners, "dns-tcp-")?,
    );
    // For what is no request: those have threads of their own.
    runtime(1)?.block_on(async move {
        let snapshot = snapshot::watch_within(installation.layout.snapshot("edge"), FIRST_SNAPSHOT).await?;
        let config = astraler_edge::Config {
            listeners: http,
            https,
            quic,
            snapshot,
            in_force: None,
            limits,
            access_log: astraler_edge::AccessLogConfig {
                path: installation.layout.access_log(),
                max_file_bytes: 64 << 20,
                keep_files: 4,
            },
            cache_folder: Some(installation.layout.edge_cache()),
            control: Some(control),
            give_back: crate::allocator::give_back,
        };
        // On threads of its own: a flood of queries takes no request's turn.
        let dns = match dns_udp.is_empty() {
            true => None,
            false => Some(astraler_dns::start(astraler_dns::Config {
                udp: dns_udp,
                tcp: dns_tcp,
                snapshot: snapshot::watch_within(installation.layout.snapshot("dns"), FIRST_SNAPSHOT).await?,
            })?),
        };
        activation::notify_ready()?;
        astraler_edge::run(config, terminated()).await?;
        if let Some(dns) = dns {
            dns.stop();
        }
        Ok(())
    })
}

/// `astraler services --role …`.
pub(crate) fn services(arguments: &ProcessArguments, role: Role) -> Outcome {
    log_to_stderr();
    let installation = Installation::load(&arguments.installation)?;
    let listeners = activation::listeners()?;
    runtime(1)?.block_on(async move {
        match role {
            Role::Data => Box::pin(data(&installation, listeners)).await,
            Role::Egress => Box::pin(egress(&installation, listeners)).await,
            Role::Signal => Box::pin(signals(&installation, listeners)).await,
        }
    })
}

async fn data(installation: &Installation, mut listeners: Listeners) -> Outcome {
    let snapshot = snapshot::watch_within(installation.layout.snapshot("data"), FIRST_SNAPSHOT).await?;
    let config = astraler_dataplane::data::Config {
        bindings: unix(&mut listeners, "bindings")?,
        hyperdrive: unix(&mut listeners, "hyperdrive")?,
        rest: unix(&mut listeners, "rest")?,
        rest_tcp: tcp(&mut listeners, "rest-tcp")?,
        s3: tcp(&mut listeners, "s3")?,
        status: unix(&mut listeners, "status")?,
        storage: installation.layout.storage(),
        snapshot,
    };
    activation::notify_ready()?;
    Ok(astraler_dataplane::data::run(config, terminated()).await?)
}

async fn egress(installation: &Installation, mut listeners: Listeners) -> Outcome {
    let snapshot = snapshot::watch_within::<Vec<astraler_model::InternalHost>>(
        installation.layout.snapshot("egress"),
        FIRST_SNAPSHOT,
    )
    .await?;
    let internal = snapshot.borrow().as_ref().clone();
    let config = astraler_dataplane::egress::Config {
        requests: unix(&mut listeners, "requests")?,
        status: unix(&mut listeners, "status")?,
        internal,
        max_in_flight: 4_096,
    };
    activation::notify_ready()?;
    astraler_dataplane::egress::run(config, terminated()).await;
    Ok(())
}

async fn signals(installation: &Installation, mut listeners: Listeners) -> Outcome {
    let layout = &installation.layout;
    let config = astraler_dataplane::signal::Config {
        status: unix(&mut listeners, "status")?,
        folder: layout.signal(),
        logs: layout.logs(),
        data_status: layout.status_socket("data"),
        edge_status: layout.status_socket("edge"),
        snapshot: snapshot::watch_within(layout.snapshot("signal"), FIRST_SNAPSHOT).await?,
    };
    activation::notify_ready()?;
    Ok(astraler_dataplane::signal::run(config, terminated()).await?)
}

fn unix(listeners: &mut Listeners, name: &str) -> Outcome<tokio::net::UnixListener> {
    Ok(tokio::net::UnixListener::from_std(listeners.take_unix(name)?)?)
}

fn tcp(listeners: &mut Listeners, name: &str) -> Outcome<tokio::net::TcpListener> {
    Ok(tokio::net::TcpListener::from_std(listeners.take_tcp(name)?)?)
}

/// Those whose names begin so.
fn all_udp(listeners: &mut Listeners, kind: &str) -> Outcome<Vec<std::net::UdpSocket>> {
    let names = listeners.names().filter(|name| name.starts_with(kind));
    let names: Vec<String> = names.map(str::to_owned).collect();
    let all = names.iter().map(|name| listeners.take_udp(name));
    Ok(all.collect::<Result<_, _>>()?)
}

/// Those whose names begin so.
fn all_tcp(listeners: &mut Listeners, kind: &str) -> Outcome<Vec<std::net::TcpListener>> {
    let names = listeners.names().filter(|name| name.starts_with(kind));
    let names: Vec<String> = names.map(str::to_owned).collect();
    let all = names.iter().map(|name| listeners.take_tcp(name));
    Ok(all.collect::<Result<_, _>>()?)
}

pub(crate) fn runtime(threads: usize) -> Outcome<tokio::runtime::Runtime> {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    Ok(builder
        .worker_threads(threads.max(1))
        .max_blocking_threads(32)
        .enable_all()
        .build()?)
}

pub(crate) async fn terminated() {
    let (Ok(mut term), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// One line an event; `keep` adds the time.
pub(crate) fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ASTRALER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .with_ansi(false)
        // It would tell about a full disk on standard error, which is on that disk, and panic.
        .log_internal_errors(false)
        .init();
}
