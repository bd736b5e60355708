//! The TCP ports of a platform: the same from start to start, and never those of another platform on this machine,
//! even while that one is down or has not bound them yet.

use crate::failure::{Failure, Kind, Outcome};
use astraler_control::{Layout, Ports};
use astraler_host::clock::{Clock, RealClock};
use astraler_host::port::{self, PortTable};
use astraler_host::{file, lock};
use astraler_manifest::{Dns, Edge, HTTPS_PORT};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// How many ports are tried for each name.
const TRIES: u16 = 1000;
/// How long a reservation holds whose platform has not written its port table (it was killed in between).
const UNCONFIRMED_MS: u64 = 60_000;

/// In the port table: the edge's port as the user chose it with `--port`, for every later `up` too.
const CHOSEN: &str = "http_chosen";

/// In the port table: the port for https as the manifest names it.
const NAMED: &str = "https_named";

/// Allocates what is missing, and what another process has taken meanwhile. `chosen` is `--port`; choosing the
/// manifest's port ends an earlier choice.
pub(crate) fn allocate(layout: &Layout, chosen: Option<u16>, edge: &Edge) -> Outcome<Ports> {
    let (manifest, addresses) = (edge.http_port, &edge.listen_addresses);
    let mut table = PortTable::load(layout.port_table())?;
    match chosen {
        Some(port) if port == manifest => table.release(CHOSEN),
        Some(port) => table.set(CHOSEN, port),
        None => {}
    }
    let http = table.get(CHOSEN).unwrap_or(manifest);
    for address in addresses {
        let address = SocketAddr::new(*address, http);
        if !is_free_or_ours(layout, address) {
            return Err(taken(address));
        }
    }
    let registry = registry_file(layout);
    if let Some(folder) = registry.parent() {
        file::make_dir(folder, 0o755, None, None)?;
    }
    let _lock = lock::FileLock::wait(registry.with_extension("lock"), "port allocation")?;
    let mut reserved = Reservations::load(&registry);
    table.set("http", http);
    // A port that the manifest names is no mere wish: clients are told of it.
    if edge.https_port != HTTPS_PORT {
        for address in addresses {
            let address = SocketAddr::new(*address, edge.https_port);
            if !is_free_or_ours(layout, address) {
                return Err(taken_https(address));
            }
        }
        table.set(NAMED, edge.https_port);
        table.set("https", edge.https_port);
    } else if table.get(NAMED).is_some() {
        table.release(NAMED);
        table.release("https");
    }
    let mut port = |name: &str, preferred: u16| -> Outcome<u16> {
        let mine = table.get(name);
        let chosen = mine
            .into_iter()
            .chain((0..TRIES).filter_map(|offset| preferred.checked_add(offset)))
            .filter(|port| mine == Some(*port) || table.iter().all(|(_, other)| other != *port))
            .filter(|port| !reserved.by_another(*port, &layout.state))
            .find(|port| is_free_or_ours(layout, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port)))
            .ok_or_else(|| {
                Failure::new(
                    Kind::Port,
                    format!("no free port for {name} in the {TRIES} from {preferred} on"),
                )
            })?;
        table.set(name, chosen);
        Ok(chosen)
    };
    let ports = Ports {
        http,
        https: match edge.https_port {
            HTTPS_PORT => port("https", HTTPS_PORT)?,
            named => named,
        },
        s3: port("s3", 3900)?,
        api: port("api", 3033)?,
        redis_rest: port("redis_rest", 3079)?,
        postgres_shared: port("postgres_shared", 3432)?,
        postgres_production: port("postgres_production", 3433)?,
        // Its own question: see `for_dns`.
        dns: 0,
    };
    reserved.reserve(table.iter().map(|(_, port)| port), &layout.state);
    reserved.save(&registry)?;
    table.save(layout.port_table())?;
    Ok(ports)
}

/// The port of DNS: the one that the manifest names, which the world is told of; or, where it names none, the first from
/// the usual one on that no other platform has. 0 is none.
pub(crate) fn for_dns(layout: &Layout, edge: &Edge) -> Outcome<u16> {
    let usual = Dns::default().port;
    let free = |port: u16| {
        let mut addresses = edge
            .listen_addresses
            .iter()
            .map(|address| SocketAddr::new(*address, port));
        addresses.all(|address| is_free_or_ours(layout, address) && is_free_or_ours_udp(layout, address))
    };
    let registry = registry_file(layout);
    let _lock = lock::FileLock::wait(registry.with_extension("lock"), "port allocation")?;
    let mut table = PortTable::load(layout.port_table())?;
    let mut reserved = Reservations::load(&registry);
    let mine = table.get("dns");
    let port = match edge.dns.port {
        0 => {
            table.release("dns");
            0
        }
        named if named != usual && free(named) => named,
        named if named != usual => {
            let message = format!("port {named} is taken by another process, or cannot be used");
            return Err(Failure::new(Kind::Port, message).hint(
                "stop that process (a resolver, often), or choose another edge.dns.port in astraler.toml",
            ));
        }
        _ => mine
            .into_iter()
            .chain((0..TRIES).filter_map(|offset| usual.checked_add(offset)))
            .filter(|port| mine == Some(*port) || table.iter().all(|(_, other)| other != *port))
            .filter(|port| !reserved.by_another(*port, &layout.state))
            .find(|port| free(*port))
            .ok_or_else(|| {
                Failure::new(
                    Kind::Port,
                    format!("no free port for DNS in the {TRIES} from {usual} on"),
                )
            })?,
    };
    if port != 0 {
        table.set("dns", port);
    }
    reserved.reserve(table.iter().map(|(_, port)| port), &layout.state);
    reserved.save(&registry)?;
    table.save(layout.port_table())?;
    Ok(port)
}

fn is_free_or_ours_udp(layout: &Layout, address: SocketAddr) -> bool {
    port::is_free_udp(address)
        || port::udp_holder(address)
            .is_some_and(|holder| holder.command.contains(&*layout.state.to_string_lossy()))
}

/// Nobody listens there, or a process of this platform does.
fn is_free_or_ours(layout: &Layout, address: SocketAddr) -> bool {
    if port::is_free(address) {
        return true;
    }
    match port::holder(address) {
        Some(holder) => holder.command.contains(&*layout.state.to_string_lossy()),
        // A process that cannot be seen is another user's; ours are seen by whoever started them.
        None => false,
    }
}

fn taken_https(address: SocketAddr) -> Failure {
    Failure::new(
        Kind::Port,
        format!("port {} is taken by {}", address.port(), holder(address)),
    )
    .hint("stop that process, or choose another edge.https_port in astraler.toml")
}

fn holder(address: SocketAddr) -> String {
    port::holder(address).map_or_else(
        || "another process".to_owned(),
        |holder| format!("{} (pid {})", holder.command, holder.pid),
    )
}

fn taken(address: SocketAddr) -> Failure {
    let next = SocketAddr::new(address.ip(), address.port().saturating_add(1));
    let offer = port::next_free(next).map_or_else(
        |_| "stop that process, or choose another port with --port".to_owned(),
        |free| format!("stop that process, or run `astraler up --port {}`", free.port()),
    );
    Failure::new(
        Kind::Port,
        format!("port {} is taken by {}", address.port(), holder(address)),
    )
    .hint(offer)
}

/// Beside the tools, which all platforms of one user share too.
fn registry_file(layout: &Layout) -> PathBuf {
    layout.tools.with_file_name("ports.json")
}

/// Which platform has which port.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Reservations(BTreeMap<u16, Reservation>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reservation {
    /// State folder of the platform.
    state: PathBuf,
    at_ms: u64,
}

impl Reservations {
    /// Those that still hold. A file that cannot be read is none: its loss costs a retry, not data.
    fn load(path: &Path) -> Self {
        let mut all: Self = std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let now = RealClock.now_ms();
        all.0.retain(|port, reservation| {
            let table = PortTable::load(reservation.state.join("ports.json")).unwrap_or_default();
            table.iter().any(|(_, confirmed)| confirmed == *port)
                || now.saturating_sub(reservation.at_ms) < UNCONFIRMED_MS
        });
        all
    }

    fn by_another(&self, port: u16, state: &Path) -> bool {
        self.0
            .get(&port)
            .is_some_and(|reservation| reservation.state != state)
    }

    fn reserve(&mut self, ports: impl Iterator<Item = u16>, state: &Path) {
        self.0.retain(|_, reservation| reservation.state != state);
        let reservation = Reservation {
            state: state.to_owned(),
            at_ms: RealClock.now_ms(),
        };
        self.0.extend(ports.map(|port| (port, reservation.clone())));
    }

    fn save(&self, path: &Path) -> Outcome {
        Ok(file::replace(path, &serde_json::to_vec_pretty(self)?, 0o644)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(http_port: u16) -> Edge {
        Edge {
            http_port,
            listen_addresses: vec![],
            ..Edge::default()
        }
    }

    fn layout(root: &Path, name: &str) -> Layout {
        let state = root.join(name);
        std::fs::create_dir_all(&state).unwrap();
        Layout {
            runtime: state.join("run"),
            config: state.join("config"),
            state,
            tools: root.join("tools"),
        }
    }

    #[test]
    fn two_platforms_never_share_a_port_even_while_both_are_down() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (layout(root.path(), "one"), layout(root.path(), "two"));
        let first = allocate(&one, None, &edge(29_871)).unwrap();
        let second = allocate(&two, None, &edge(29_872)).unwrap();
        let all = |ports: &Ports| {
            [
                ports.https,
                ports.s3,
                ports.api,
                ports.redis_rest,
                ports.postgres_shared,
                ports.postgres_production,
            ]
        };
        assert!(
            all(&first).iter().all(|port| !all(&second).contains(port)),
            "{first:?} {second:?}"
        );
        assert_eq!(
            allocate(&one, None, &edge(29_871)).unwrap(),
            first,
            "the same from start to start"
        );
    }

    #[test]
    fn a_chosen_port_stays_until_the_manifests_is_chosen() {
        let root = tempfile::tempdir().unwrap();
        let one = layout(root.path(), "one");
        let http = |chosen| allocate(&one, chosen, &edge(29_871)).unwrap().http;
        assert_eq!(http(None), 29_871);
        assert_eq!(http(Some(29_875)), 29_875);
        assert_eq!(http(None), 29_875, "an `up` without --port keeps it");
        assert_eq!(http(Some(29_871)), 29_871);
        assert_eq!(http(None), 29_871);
    }

    #[test]
    fn the_port_of_https_is_a_wish_until_the_manifest_names_it() {
        let root = tempfile::tempdir().unwrap();
        let one = layout(root.path(), "one");
        let https = |port: u16| {
            let edge = Edge {
                https_port: port,
                listen_addresses: vec![Ipv4Addr::LOCALHOST.into()],
                ..edge(29_871)
            };
            allocate(&one, None, &edge).map(|ports| ports.https)
        };
        let wished = https(HTTPS_PORT).unwrap();
        assert!(wished >= HTTPS_PORT);
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let named = taken.local_addr().unwrap().port();
        let refused = https(named).unwrap_err().message;
        assert!(
            refused.contains(&format!("port {named} is taken by")),
            "{refused}"
        );
        drop(taken);
        assert_eq!(https(named).unwrap(), named);
        assert_eq!(https(HTTPS_PORT).unwrap(), wished);
    }

    #[test]
    fn the_ports_of_a_platform_that_is_gone_come_back() {
        let root = tempfile::tempdir().unwrap();
        let one = layout(root.path(), "one");
        let first = allocate(&one, None, &edge(29_871)).unwrap();
        let registry = registry_file(&one);
        std::fs::remove_dir_all(&one.state).unwrap();
        assert!(
            Reservations::load(&registry).by_another(first.s3, Path::new("/else")),
            "it may be starting"
        );
        let mut old = Reservations::load(&registry);
        old.0.values_mut().for_each(|reservation| reservation.at_ms = 0);
        old.save(&registry).unwrap();
        assert!(!Reservations::load(&registry).by_another(first.s3, Path::new("/else")));
    }

    #[test]
    fn a_port_that_somebody_else_has_taken_meanwhile_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        let one = layout(root.path(), "one");
        let first = allocate(&one, None, &edge(29_871)).unwrap();
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, first.s3)).unwrap();
        let second = allocate(&one, None, &edge(29_871)).unwrap();
        assert_ne!(second.s3, first.s3);
        assert_eq!(second.redis_rest, first.redis_rest);
        drop(taken);
    }

    #[test]
    fn the_port_of_dns_is_a_wish_until_the_manifest_names_it() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (layout(root.path(), "one"), layout(root.path(), "two"));
        let dns = |layout: &Layout, port: u16| {
            let mut edge = Edge {
                listen_addresses: vec![Ipv4Addr::LOCALHOST.into()],
                ..Edge::default()
            };
            edge.dns.port = port;
            for_dns(layout, &edge)
        };
        let usual = Dns::default().port;
        let first = dns(&one, usual).unwrap();
        assert!(first >= usual);
        assert_ne!(dns(&two, usual).unwrap(), first, "also while neither listens");
        assert_eq!(dns(&one, usual).unwrap(), first);
        let taken = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let named = taken.local_addr().unwrap().port();
        let refused = dns(&one, named).unwrap_err().message;
        assert!(refused.contains(&format!("port {named} is taken")), "{refused}");
        drop(taken);
        assert_eq!(dns(&one, named).unwrap(), named);
        assert_eq!(dns(&one, 0).unwrap(), 0);
    }
}
