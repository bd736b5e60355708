//! From a configuration to a running server, and to its end.

use crate::server::{Counters, Served, Shared, now};
use crate::sign::{self, SigningKey};
use crate::tsig::Key;
use crate::zone::Zone;
use crate::{client, tcp, udp};
use astraler_model::{DnsSnapshot, DnsZone, TransferKey};
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether signatures must be made anew is looked at so often.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(600);
/// Secondaries that are told about a change, and how long each has to answer.
const MAX_SECONDARIES: usize = 32;
const TELL: Duration = Duration::from_secs(15);
/// A file with a key of a secondary is not larger.
const MAX_KEY_FILE: u64 = 4 << 10;

/// Everything that [`start`] needs.
#[derive(Debug)]
pub struct Config {
    /// Bound UDP sockets: each gets a thread. Several with one address (SO_REUSEPORT) share its load.
    pub udp: Vec<UdpSocket>,
    /// Bound and listening TCP sockets.
    pub tcp: Vec<TcpListener>,
    /// What is served, now and in future. The last value stays in force when the sender goes away.
    pub snapshot: watch::Receiver<Arc<DnsSnapshot>>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    stopping: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// How many of everything there were.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Version of the snapshot that is served.
    pub fn version(&self) -> u64 {
        self.shared.served.load().version
    }

    /// Ends it; what is being answered is answered.
    pub fn stop(self) {
        self.stopping.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread for DNS ended by a panic");
            }
        }
    }
}

/// Starts a server on threads of its own. The first snapshot is served when it returns.
///
/// # Errors
/// A socket cannot be used, or a thread cannot be started.
pub fn start(config: Config) -> io::Result<Server> {
    let Config {
        udp,
        tcp,
        mut snapshot,
    } = config;
    let shared = Arc::new(Shared::new());
    let stopping = CancellationToken::new();
    let first = snapshot.borrow_and_update().clone();
    take_up(&shared, &first);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    let listeners = {
        let _inside = runtime.enter();
        let listener = |listener: TcpListener| {
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        };
        tcp.into_iter().map(listener).collect::<io::Result<Vec<_>>>()?
    };
    let mut threads = Vec::new();
    for (number, socket) in udp.into_iter().enumerate() {
        udp::prepare(&socket)?;
        let (shared, stopping) = (shared.clone(), stopping.clone());
        let thread = std::thread::Builder::new().name(format!("dns-udp-{number}"));
        threads.push(thread.spawn(move || udp::serve(&shared, &socket, &stopping))?);
    }
    let (all, stop) = (shared.clone(), stopping.clone());
    let rest = std::thread::Builder::new()
        .name("dns".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let mut tasks = tokio::task::JoinSet::new();
                for listener in listeners {
                    tasks.spawn(tcp::serve(all.clone(), listener, stop.clone()));
                }
                tasks.spawn(follow(all, snapshot, stop.clone()));
                while tasks.join_next().await.is_some() {}
            });
        })?;
    threads.push(rest);
    Ok(Server {
        shared,
        stopping,
        threads,
    })
}

/// Tells secondaries about zones whose serial is another than before.
fn tell(shared: &Shared, before: &Served, snapshot: &DnsSnapshot) {
    let now = shared.served.load_full();
    for zone in &snapshot.zones {
        let serial = |served: &Served| served.zone(zone.origin.wire()).map(|zone| zone.serial);
        if serial(&now) == serial(before) {
            continue;
        }
        for server in zone.notify.iter().take(MAX_SECONDARIES).copied() {
            let origin = zone.origin.clone();
            tokio::spawn(async move {
                if let Err(error) = client::notify(server, &origin, TELL).await {
                    // It looks by itself within the hour that the SOA record says.
                    tracing::info!(zone = %origin, %server, %error, "a secondary has not heard of the change");
                }
            });
        }
    }
}

/// Takes up each snapshot, and signs anew when the time has come.
async fn follow(
    shared: Arc<Shared>,
    mut snapshot: watch::Receiver<Arc<DnsSnapshot>>,
    stopping: CancellationToken,
) {
    let mut signed_in = sign::period(now() as u32);
    let mut has_sender = true;
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = snapshot.changed(), if has_sender => has_sender = changed.is_ok(),
            () = tokio::time::sleep(LOOK_AT_CLOCK) => {
                if sign::period(now() as u32) == signed_in {
                    continue;
                }
            }
        }
        signed_in = sign::period(now() as u32);
        let (all, new) = (shared.clone(), snapshot.borrow_and_update().clone());
        let (before, present) = (shared.served.load_full(), new.clone());
        // Signing thousands of records takes a while, in which TCP goes on.
        match tokio::task::spawn_blocking(move || take_up(&all, &new)).await {
            Ok(()) => tell(&shared, &before, &present),
            Err(_) => tracing::error!("zones were not built: the last good ones stay"),
        }
    }
}

fn take_up(shared: &Shared, snapshot: &DnsSnapshot) {
    let before = shared.served.load_full();
    let zones = snapshot.zones.iter().filter_map(|zone| match build(zone) {
        Ok(built) => Some(Arc::new(built)),
        Err(error) => {
            let error: &dyn std::error::Error = &*error;
            tracing::error!(zone = %zone.origin, error, "a zone cannot be served: its last good version stays");
            before.zone(zone.origin.wire()).cloned()
        }
    });
    let zones: Vec<_> = zones.collect();
    for zone in &zones {
        tracing::info!(zone = %zone.origin, serial = zone.serial, records = zone.records, "zone is served");
    }
    let keys = snapshot
        .transfer_keys
        .iter()
        .filter_map(|key| match transfer_key(key) {
            Ok(key) => Some(key),
            Err(error) => {
                let error: &dyn std::error::Error = &*error;
                tracing::error!(key = %key.name, error, "a key of a secondary cannot be used: it is refused");
                None
            }
        });
    let served = Served::new(snapshot.version, zones, keys.collect(), snapshot.rate.clone());
    shared.served.store(Arc::new(served));
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn build(zone: &DnsZone) -> Result<Zone, AnyError> {
    let key = zone.signing_key.as_deref().map(SigningKey::load).transpose()?;
    Ok(Zone::build(zone, key.as_ref(), now() as u32)?)
}

fn transfer_key(key: &TransferKey) -> Result<Key, AnyError> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(&key.file)?
        .take(MAX_KEY_FILE)
        .read_to_string(&mut text)?;
    Ok(Key::from_base64(&key.name, &text)?)
}
