//! `astraler edge`: the edge by itself, in front of whatever listens.
//!
//! SIGHUP reads the configuration again; SIGUSR2 starts a successor with the same sockets and drains; SIGTERM and
//! Ctrl-C drain.

mod acme;
mod certificates;
mod dns;
mod local_ca;
mod sockets;
mod standing;
mod state;

use crate::cli::EdgeArguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::managed_rules;
use crate::processes;
use crate::progress::line;
use astraler_edge::AccessLogConfig;
use astraler_host::activation;
use astraler_host::succession;
use astraler_manifest::{Site, Standalone};
use astraler_model::{AssetConfig, Environment, HtmlHandling, NotFoundHandling, Route, WorkerRoute};
use sockets::{DNS, HTTP, HTTPS, Sockets};
use standing::Standing;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// A successor is given up after so long.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(30);
/// Certificates of the local CA are looked at so often.
const RENEWAL_CHECK: Duration = Duration::from_secs(60);

pub(super) fn run(arguments: &EdgeArguments) -> Outcome {
    processes::log_to_stderr();
    let settings = read(arguments)?;
    let limits = serde_json::from_value(serde_json::to_value(&settings.edge.limits)?)?;
    let mut inherited = activation::listeners()?;
    let sockets = sockets::open(&addresses(arguments, &settings), &mut inherited)?;
    let access_log = AccessLogConfig {
        path: arguments.access_log.clone(),
        max_file_bytes: 64 << 20,
        keep_files: 4,
    };
    let standing = Standing::new(settings, sockets)?;
    processes::runtime(1)?.block_on(async {
        let signals = Signals::new()?;
        let (told, in_force) = watch::channel(0);
        let config = astraler_edge::Config {
            listeners: standing.sockets.tcp(HTTP)?,
            https: standing.sockets.tcp(HTTPS)?,
            quic: standing.sockets.quic()?,
            snapshot: standing.subscribe(in_force),
            in_force: Some(told),
            limits,
            access_log,
            cache_folder: arguments.cache_folder.clone(),
            control: None,
            give_back: crate::allocator::give_back,
        };
        for url in standing.sockets.urls() {
            line(&format!("listening on {url}"));
        }
        standing.tell();
        activation::notify_ready()?;
        astraler_edge::run(config, until_the_end(arguments, signals, &standing)).await?;
        standing.stop();
        Ok(())
    })
}

/// What the command line and the file say together.
fn read(arguments: &EdgeArguments) -> Outcome<Standalone> {
    let mut settings = match &arguments.config {
        Some(path) => astraler_manifest::load_standalone(path)
            .map_err(|diagnostics| Failure::diagnostics(&diagnostics))?,
        None => Standalone::default(),
    };
    if let Some(origin) = &arguments.origin {
        settings.sites.push(Site {
            hosts: arguments.host.clone(),
            origin: Some(origin.clone()),
            certificate: arguments.certificate.clone(),
            key: arguments.key.clone(),
            ..Site::default()
        });
    }
    if arguments.state_folder.is_some() {
        settings.state_folder.clone_from(&arguments.state_folder);
    }
    settings.edge.tls.acme |= arguments.acme;
    if arguments.email.is_some() {
        settings.edge.tls.email.clone_from(&arguments.email);
    }
    let policy = settings.edge.policy(Environment::Production);
    if let Some((waf, rules)) = policy
        .waf
        .as_ref()
        .and_then(|waf| Some((waf, waf.rules.as_ref()?)))
    {
        managed_rules::compile(rules, waf).map_err(|error| {
            managed_rules::not_loaded(&error, None).hint(managed_rules::hint(&settings.edge, rules))
        })?;
    }
    if settings.sites.is_empty() {
        return Err(Failure::new(Kind::General, "the edge has nothing to serve").hint(
            "say --origin http://127.0.0.1:8000, or write [[sites]] into a file and say --config FILE",
        ));
    }
    Ok(settings)
}

/// With the kind of each. What the command line says replaces what the file says.
fn addresses(arguments: &EdgeArguments, settings: &Standalone) -> Vec<(&'static str, SocketAddr)> {
    let edge = &settings.edge;
    let address = |&ip: &IpAddr| SocketAddr::new(ip, edge.http_port);
    let (mut http, mut https) = (arguments.listen.clone(), arguments.listen_tls.clone());
    if http.is_empty() && https.is_empty() {
        http = edge.listen_addresses.iter().map(address).collect();
        https.clone_from(&settings.https);
    }
    let asked = edge.listen_addresses.iter().filter(|_| dns::is_wanted(settings));
    let asked = asked.map(|&ip| (DNS, SocketAddr::new(ip, edge.dns.port)));
    let http = http.into_iter().map(|address| (HTTP, address));
    http.chain(https.into_iter().map(|address| (HTTPS, address)))
        .chain(asked)
        .collect()
}

fn route(site: &Site, edge: &astraler_manifest::Edge) -> Outcome<Route> {
    let whole = site.origin.iter().map(|origin| ("/", origin));
    let parts = site.paths.iter().map(|(path, origin)| (path.as_str(), origin));
    let hosts = match site.hosts.as_slice() {
        [] => vec!["*".to_owned()],
        named => named.to_vec(),
    };
    let assets = site.root.as_ref().map(|root| -> Outcome<AssetConfig> {
        Ok(AssetConfig {
            directory: std::path::absolute(root)?,
            html_handling: HtmlHandling::default(),
            not_found_handling: NotFoundHandling::default(),
        })
    });
    Ok(Route {
        hosts,
        environment: Environment::Production,
        deployment: "standalone".to_owned(),
        workers: whole
            .chain(parts)
            .map(|(prefix, origin)| WorkerRoute {
                prefix: prefix.to_owned(),
                worker: origin.to_string(),
                origin: origin.clone(),
            })
            .collect(),
        assets: assets.transpose()?,
        wake: None,
        cache: edge.cache.rules(),
        policy: edge.policy(Environment::Production),
    })
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

struct Signals {
    reload: Signal,
    succeed: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            succeed: signal(SignalKind::user_defined2())?,
        })
    }
}

/// Looks after certificates, reloads and hands over as it is told. Ends when the edge shall drain.
async fn until_the_end(arguments: &EdgeArguments, mut signals: Signals, standing: &Standing) {
    let mut renewal = tokio::time::interval(RENEWAL_CHECK);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = processes::terminated();
    let (certificates, zone) = (acme::keep(standing), dns::keep(standing));
    tokio::pin!(ended, certificates, zone);
    loop {
        tokio::select! {
            () = &mut ended => return,
            () = &mut certificates => return,
            () = &mut zone => return,
            Some(()) = signals.reload.recv() => reload(arguments, standing),
            _ = renewal.tick() => if standing.are_due(now_ms()) {
                reload(arguments, standing);
            },
            Some(()) = signals.succeed.recv() => match hand_over(&standing.sockets).await {
                Ok(successor) => {
                    tracing::info!(successor, "a successor serves; draining");
                    return;
                }
                Err(failure) => {
                    tracing::error!(reason = failure.details.join(": "), "{}; serving on", failure.message);
                }
            },
        }
    }
}

/// Takes the sites as the file has them now; a file with errors changes nothing.
fn reload(arguments: &EdgeArguments, standing: &Standing) {
    if let Err(failure) = read(arguments).and_then(|settings| standing.take(settings)) {
        failure.print();
        tracing::error!("the configuration stays as it was");
    }
}

/// The same program with the same words; its process id.
async fn hand_over(sockets: &Sockets) -> Outcome<u32> {
    let sockets = sockets.for_successor()?;
    let program = program()?;
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let successor = succession::start(&program, &words, sockets, SUCCESSOR_PATIENCE).await?;
    Ok(successor.id())
}

/// By its path, where a new version may lie meanwhile.
fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.display().to_string();
    Ok(text.strip_suffix(" (deleted)").map_or(path, PathBuf::from))
}
