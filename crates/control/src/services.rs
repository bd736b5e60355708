//! The units of our own processes: daemon, edge, and the roles of services.

use crate::installation::Installation;
use astraler_host::activation;
use astraler_model::{
    Identity, ListenAddress, Listener, LogPolicy, Ready, ResourceLimits, RestartPolicy, StopPolicy, UnitName,
    UnitNameError, UnitSpec,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const READY_TIMEOUT_MS: u64 = 20_000;
/// Threads that answer DNS at one address.
const MAX_DNS_SHARES: u16 = 4;
/// Queues of connections at one address of the edge; further threads share them.
const MAX_HTTP_SHARES: u16 = 16;

/// The control process. Its successor finds everything in the store and in `keep`.
pub fn daemon_unit(installation: &Installation) -> Result<UnitSpec, UnitNameError> {
    let layout = &installation.layout;
    let api = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), installation.ports.api);
    let edge = Installation::group(installation.identities.edge.as_ref());
    let listeners = vec![
        unix("admin", layout.admin_socket(), 0o660, None),
        tcp("api", api),
        unix("wake", layout.wake_socket(), 0o660, edge),
    ];
    let mut unit = process(
        installation,
        "daemon",
        &["daemon"],
        installation.identities.daemon.as_ref(),
        listeners,
    )?;
    // It reads the installation once: another one, for example with another port, is another daemon.
    unit.env
        .insert("ASTRALER_INSTALLATION_DIGEST".to_owned(), installation.digest());
    Ok(unit)
}

/// The data plane's front.
pub(crate) fn edge_unit(installation: &Installation, settings: &str) -> Result<UnitSpec, UnitNameError> {
    let layout = &installation.layout;
    let ports = &installation.ports;
    let mut listeners = Vec::new();
    let shares = http_shares(installation.listen_addresses.len());
    for (index, address) in installation.listen_addresses.iter().enumerate() {
        for (scheme, port) in [("http", ports.http), ("https", ports.https)] {
            // Before an `up` of this version there is no port for https.
            if scheme == "http" || port != 0 {
                let name = format!("{scheme}-{index}");
                listeners.extend(tcp_shares(&name, SocketAddr::new(*address, port), shares));
            }
        }
        if ports.https != 0 {
            listeners.push(Listener {
                name: format!("quic-{index}"),
                address: ListenAddress::Udp {
                    address: SocketAddr::new(*address, ports.https),
                    share: 0,
                },
                backlog: 1,
            });
        }
    }
    listeners.extend(dns_listeners(installation));
    let daemon = Installation::group(installation.identities.daemon.as_ref());
    listeners.push(unix("status", layout.status_socket("edge"), 0o660, daemon));
    let mut unit = process(
        installation,
        "edge",
        &["edge", "--settings", settings],
        installation.identities.edge.as_ref(),
        listeners,
    )?;
    let log = layout.access_log();
    if let Some(folder) = log.parent() {
        unit.directories.push(astraler_model::DirectorySpec {
            path: folder.to_owned(),
            mode: 0o750,
            group: None,
        });
    }
    unit.directories.push(astraler_model::DirectorySpec {
        path: layout.edge_cache(),
        mode: 0o700,
        group: None,
    });
    unit.limits.open_files = Some(65_536);
    Ok(unit)
}

fn processors() -> u16 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(processors).unwrap_or(u16::MAX)
}

/// A queue for each thread of the edge, as far as `keep` holds so many sockets: two kinds of them at each address, beside
/// its one for QUIC and those for DNS.
fn http_shares(addresses: usize) -> u16 {
    let of_an_address = (activation::MAX_LISTENERS - 1) / addresses.max(1);
    let left = of_an_address.saturating_sub(2 + usize::from(MAX_DNS_SHARES)) / 2;
    let most = u16::try_from(left).unwrap_or(u16::MAX).min(MAX_HTTP_SHARES);
    processors().min(most).max(1)
}

/// UDP and TCP at each address; for UDP a socket for each thread that answers.
fn dns_listeners(installation: &Installation) -> Vec<Listener> {
    let port = installation.ports.dns;
    if port == 0 {
        return vec![];
    }
    let shares = processors().min(MAX_DNS_SHARES);
    let mut listeners = Vec::new();
    for (index, address) in installation.listen_addresses.iter().enumerate() {
        let address = SocketAddr::new(*address, port);
        listeners.push(tcp(&format!("dns-tcp-{index}"), address));
        listeners.extend((0..shares).map(|share| Listener {
            name: format!("dns-udp-{index}-{share}"),
            address: ListenAddress::Udp { address, share },
            backlog: 1,
        }));
    }
    listeners
}

/// The role that holds the data credentials.
pub(crate) fn data_unit(installation: &Installation) -> Result<UnitSpec, UnitNameError> {
    let layout = &installation.layout;
    let identities = &installation.identities;
    let daemon = Installation::group(identities.daemon.as_ref());
    let worker = Installation::group(identities.worker.as_ref());
    let egress = Installation::group(identities.egress.as_ref());
    let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let listeners = vec![
        unix("bindings", layout.worker_socket("bindings"), 0o660, worker),
        unix("hyperdrive", layout.worker_socket("postgres"), 0o660, worker),
        unix("rest", layout.rest_socket(), 0o660, egress),
        tcp("rest-tcp", loopback(installation.ports.redis_rest)),
        tcp("s3", loopback(installation.ports.s3)),
        unix("status", layout.status_socket("data"), 0o660, daemon),
    ];
    let mut unit = process(
        installation,
        "data",
        &["services", "--role", "data"],
        identities.data.as_ref(),
        listeners,
    )?;
    unit.directories.push(astraler_model::DirectorySpec {
        path: layout.storage(),
        mode: 0o700,
        group: None,
    });
    unit.limits.open_files = Some(16_384);
    Ok(unit)
}

/// The workers' way out.
pub(crate) fn egress_unit(installation: &Installation) -> Result<UnitSpec, UnitNameError> {
    let layout = &installation.layout;
    let identities = &installation.identities;
    let daemon = Installation::group(identities.daemon.as_ref());
    let worker = Installation::group(identities.worker.as_ref());
    let listeners = vec![
        unix("requests", layout.worker_socket("egress"), 0o660, worker),
        unix("status", layout.status_socket("egress"), 0o660, daemon),
    ];
    process(
        installation,
        "egress",
        &["services", "--role", "egress"],
        identities.egress.as_ref(),
        listeners,
    )
}

/// Keeps records. It reads what the others wrote; none of them waits for it.
pub(crate) fn signal_unit(installation: &Installation) -> Result<UnitSpec, UnitNameError> {
    let layout = &installation.layout;
    let identities = &installation.identities;
    let daemon = Installation::group(identities.daemon.as_ref());
    let listeners = vec![unix("status", layout.status_socket("signal"), 0o660, daemon)];
    let mut unit = process(
        installation,
        "signal",
        &["services", "--role", "signal"],
        identities.signal.as_ref(),
        listeners,
    )?;
    unit.directories.push(astraler_model::DirectorySpec {
        path: layout.signal(),
        mode: 0o750,
        group: None,
    });
    Ok(unit)
}

/// Folders that must exist before `keep` binds the sockets in them.
pub fn socket_folders(runtime: &Path) -> Vec<PathBuf> {
    [
        "status",
        "snapshots",
        "worker/bindings",
        "worker/postgres",
        "worker/egress",
        "deployments",
        "runs",
        "postgres",
        "redis",
    ]
    .iter()
    .map(|name| runtime.join(name))
    .collect()
}

fn process(
    installation: &Installation,
    name: &str,
    arguments: &[&str],
    identity: Option<&Identity>,
    listeners: Vec<Listener>,
) -> Result<UnitSpec, UnitNameError> {
    let mut argv = vec![installation.program.display().to_string()];
    argv.extend(arguments.iter().map(ToString::to_string));
    argv.extend([
        "--installation".to_owned(),
        installation.layout.installation_file().display().to_string(),
    ]);
    let env = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
        // glibc gives memory back when large arenas are not spread over threads.
        ("MALLOC_ARENA_MAX".to_owned(), "2".to_owned()),
    ]);
    Ok(UnitSpec {
        name: UnitName::new(name)?,
        argv,
        env,
        cwd: None,
        identity: identity.cloned(),
        directories: vec![],
        credentials: vec![],
        stdin: None,
        listeners,
        ready: Ready::Line {
            timeout_ms: READY_TIMEOUT_MS,
        },
        restart: RestartPolicy::default(),
        stop: StopPolicy {
            signal: 15,
            grace_ms: 15_000,
            descendants: false,
        },
        limits: ResourceLimits::default(),
        log: LogPolicy::default(),
    })
}

fn unix(name: &str, path: PathBuf, mode: u32, group: Option<u32>) -> Listener {
    Listener {
        name: name.to_owned(),
        address: ListenAddress::Unix { path, mode, group },
        backlog: 1024,
    }
}

fn tcp(name: &str, address: SocketAddr) -> Listener {
    Listener {
        name: name.to_owned(),
        address: ListenAddress::Tcp(address),
        backlog: 4096,
    }
}

/// Several sockets with one address, each with a queue of its own.
fn tcp_shares(name: &str, address: SocketAddr, shares: u16) -> Vec<Listener> {
    let mut all = vec![tcp(name, address)];
    all.extend((1..shares).map(|share| Listener {
        name: format!("{name}-{share}"),
        address: ListenAddress::TcpShare { address, share },
        backlog: 4096,
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_holds_the_sockets_of_any_number_of_addresses() {
        for addresses in [0, 1, 2, 4, 16, 28] {
            let shares = usize::from(http_shares(addresses));
            let sockets = addresses * (2 * shares + 2 + usize::from(MAX_DNS_SHARES)) + 1;
            assert!(
                shares >= 1 && sockets <= activation::MAX_LISTENERS,
                "{addresses}: {sockets}"
            );
        }
    }
}
