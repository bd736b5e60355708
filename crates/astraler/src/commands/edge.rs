//! `astraler edge`: the edge by itself, in front of whatever listens.
//!
//! SIGHUP reads the configuration again; SIGUSR2 starts a successor with the same sockets and drains; SIGTERM and
//! Ctrl-C drain.

mod sockets;

use crate::cli::EdgeArguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::processes;
use crate::progress::line;
use astraler_edge::{AccessLogConfig, EdgeSnapshot};
use astraler_host::activation;
use astraler_host::succession;
use astraler_manifest::{Site, Standalone};
use astraler_model::{
    AssetConfig, Environment, HtmlHandling, NotFoundHandling, Route, TlsCertificate, TlsSnapshot, WorkerRoute,
};
use rustix::fs::MemfdFlags;
use sockets::{HTTP, HTTPS, Sockets};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// A successor is given up after so long.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(30);

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
    let mut pems = Pems::default();
    let first = snapshot_of(&settings, 1, sockets.https_port(), &mut pems)?;
    let (snapshots, snapshot) = watch::channel(Arc::new(first));
    processes::runtime(1)?.block_on(async {
        let signals = Signals::new()?;
        let config = astraler_edge::Config {
            listeners: sockets.tcp(HTTP)?,
            https: sockets.tcp(HTTPS)?,
            quic: sockets.udp()?,
            snapshot,
            limits,
            access_log,
            cache_folder: arguments.cache_folder.clone(),
            control: None,
        };
        for url in sockets.urls() {
            line(&format!("listening on {url}"));
        }
        activation::notify_ready()?;
        Ok(astraler_edge::run(
            config,
            until_the_end(arguments, signals, sockets, snapshots, pems),
        )
        .await?)
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
            origin: Some(origin.clone()),
            certificate: arguments.certificate.clone(),
            key: arguments.key.clone(),
            ..Site::default()
        });
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
    let http = http.into_iter().map(|address| (HTTP, address));
    http.chain(https.into_iter().map(|address| (HTTPS, address)))
        .collect()
}

/// Sites in the words of a platform: what stands alone serves as production.
fn snapshot_of(
    settings: &Standalone,
    version: u64,
    https_port: u16,
    pems: &mut Pems,
) -> Outcome<EdgeSnapshot> {
    let routes: Vec<Route> = settings
        .sites
        .iter()
        .map(|site| route(site, &settings.edge))
        .collect::<Outcome<_>>()?;
    let mut certificates = Vec::new();
    let mut files = Vec::new();
    for (site, route) in settings.sites.iter().zip(&routes) {
        if let Some(certificate) = &site.certificate {
            let pem = pem(certificate, site.key.as_deref())?;
            certificates.push(TlsCertificate {
                names: route.hosts.clone(),
                file: format!("/proc/self/fd/{}", pem.as_raw_fd()).into(),
                redirect: site.redirect_to_https,
                hsts_max_age_s: 0,
            });
            files.push(pem);
        }
    }
    if certificates.is_empty() && https_port != 0 {
        return Err(Failure::new(Kind::General, "https without a certificate")
            .hint("say --certificate FILE --key FILE, or `certificate` in [[sites]]"));
    }
    pems.keep(files);
    let tls = TlsSnapshot {
        certificates,
        https_port,
        ..TlsSnapshot::default()
    };
    Ok(EdgeSnapshot {
        version,
        routes,
        tls,
        cache: settings.edge.cache.bounds(),
        proxy_protocol: settings.edge.proxy_protocol.clone(),
    })
}

/// What snapshots name is in memory, as one file of chain and key: the newest, and those before, whose names must not
/// come again while they are served.
#[derive(Default)]
struct Pems {
    now: Vec<OwnedFd>,
    before: Vec<OwnedFd>,
}

impl Pems {
    fn keep(&mut self, files: Vec<OwnedFd>) {
        self.before = std::mem::replace(&mut self.now, files);
    }
}

fn pem(certificate: &Path, key: Option<&Path>) -> Outcome<OwnedFd> {
    let memory = rustix::fs::memfd_create("certificate", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut file = File::from(memory);
    for path in std::iter::once(certificate).chain(key) {
        let unreadable = |error| Failure::new(Kind::General, format!("{}: {error}", path.display()));
        file.write_all(&std::fs::read(path).map_err(unreadable)?)?;
        file.write_all(b"\n")?;
    }
    Ok(file.into())
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

/// Reloads and hands over as it is told. Ends when the edge shall drain.
async fn until_the_end(
    arguments: &EdgeArguments,
    mut signals: Signals,
    sockets: Sockets,
    snapshots: watch::Sender<Arc<EdgeSnapshot>>,
    mut pems: Pems,
) {
    let ended = processes::terminated();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            Some(()) = signals.reload.recv() => reload(arguments, &snapshots, sockets.https_port(), &mut pems),
            Some(()) = signals.succeed.recv() => match hand_over(&sockets).await {
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
fn reload(
    arguments: &EdgeArguments,
    snapshots: &watch::Sender<Arc<EdgeSnapshot>>,
    https_port: u16,
    pems: &mut Pems,
) {
    let version = snapshots.borrow().version + 1;
    match read(arguments).and_then(|settings| snapshot_of(&settings, version, https_port, pems)) {
        Ok(snapshot) => {
            snapshots.send_replace(Arc::new(snapshot));
        }
        Err(failure) => {
            failure.print();
            tracing::error!("the configuration stays as it was");
        }
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
