//! What all parts of a running edge share: what its file says, what was made of it, and what the edge was told.

use super::certificates::{Certificates, Proofs};
use super::dns::Dns;
use super::sockets::{HTTP, Sockets};
use super::state::State;
use super::{now_ms, route};
use crate::failure::Outcome;
use crate::progress::line;
use astraler_edge::EdgeSnapshot;
use astraler_manifest::Standalone;
use astraler_model::Route;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, watch};

/// An edge that stands alone.
pub(super) struct Standing {
    pub(super) sockets: Sockets,
    pub(super) dns: Option<Dns>,
    /// Other names may want certificates.
    pub(super) changed: Notify,
    now: Mutex<Now>,
    snapshots: watch::Sender<Arc<EdgeSnapshot>>,
    in_force: OnceLock<watch::Receiver<u64>>,
}

struct Now {
    settings: Arc<Standalone>,
    routes: Vec<Route>,
    certificates: Certificates,
    proofs: Proofs,
}

impl Standing {
    /// With a first snapshot.
    pub(super) fn new(settings: Standalone, sockets: Sockets) -> Outcome<Self> {
        let mut now = Now {
            settings: Arc::default(),
            routes: vec![],
            certificates: Certificates::default(),
            proofs: Proofs::default(),
        };
        now.take(settings, &sockets)?;
        let first = now.snapshot(1, &sockets);
        Ok(Self {
            dns: Dns::start(&now.settings, &sockets)?,
            sockets,
            changed: Notify::new(),
            now: Mutex::new(now),
            snapshots: watch::Sender::new(Arc::new(first)),
            in_force: OnceLock::new(),
        })
    }

    /// What the edge reads; it says which version is in force.
    pub(super) fn subscribe(&self, in_force: watch::Receiver<u64>) -> watch::Receiver<Arc<EdgeSnapshot>> {
        let _ = self.in_force.set(in_force);
        self.snapshots.subscribe()
    }

    /// Takes another file up. One that cannot be served changes nothing.
    pub(super) fn take(&self, settings: Standalone) -> Outcome {
        if let Some(dns) = &self.dns {
            dns.publish(&settings, &self.sockets)?;
        }
        let taken = self.lock().take(settings, &self.sockets);
        if let Some(dns) = &self.dns {
            if taken.is_err() {
                dns.publish(&self.settings(), &self.sockets)?;
            }
            dns.wake();
        }
        taken?;
        self.publish();
        self.changed.notify_one();
        Ok(())
    }

    /// Publishes what there is; its version.
    pub(super) fn publish(&self) -> u64 {
        let mut now = self.lock();
        let version = self.snapshots.borrow().version + 1;
        let next = now.snapshot(version, &self.sockets);
        self.snapshots.send_replace(Arc::new(next));
        version
    }

    /// Publishes it where the edge was told something else.
    pub(super) fn publish_what_changed(&self) {
        let mut now = self.lock();
        let present = self.snapshots.borrow().clone();
        let next = now.snapshot(present.version + 1, &self.sockets);
        if next.tls != present.tls {
            self.snapshots.send_replace(Arc::new(next));
        }
    }

    /// Waits until the edge serves what was published.
    pub(super) async fn in_force(&self, version: u64) {
        let Some(mut in_force) = self.in_force.get().cloned() else {
            return std::future::pending().await;
        };
        if in_force.wait_for(|present| *present >= version).await.is_err() {
            // It is draining: nobody will see it here.
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn settings(&self) -> Arc<Standalone> {
        self.lock().settings.clone()
    }

    pub(super) fn asked_for(&self) -> Vec<String> {
        self.lock().certificates.asked_for()
    }

    pub(super) fn change_proofs(&self, change: impl FnOnce(&mut Proofs)) {
        change(&mut self.lock().proofs);
    }

    /// Whether something is to be issued by the local CA.
    pub(super) fn are_due(&self, now_ms: u64) -> bool {
        self.lock().certificates.are_due(now_ms)
    }

    /// Whether plain HTTP is served.
    pub(super) fn has_http(&self) -> bool {
        self.sockets.tcp(HTTP).is_ok_and(|all| !all.is_empty())
    }

    /// Says whose certificates there are.
    pub(super) fn tell(&self) {
        let now = self.lock();
        now.certificates.tell();
        let names = now.certificates.asked_for();
        if !names.is_empty() {
            let ca = &now.settings.edge.tls.acme_directory_url;
            line(&format!("{ca} is asked for certificates of {}", names.join(", ")));
        }
        if let Some(dns) = &self.dns {
            dns.tell();
        }
    }

    /// Ends what has threads of its own.
    pub(super) fn stop(self) {
        if let Some(dns) = self.dns {
            dns.stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn take(&mut self, settings: Standalone, sockets: &Sockets) -> Outcome {
        let routes: Vec<Route> = settings
            .sites
            .iter()
            .map(|site| route(site, &settings.edge))
            .collect::<Outcome<_>>()?;
        self.certificates
            .load(&settings, &routes, &sockets.https(), now_ms())?;
        self.settings = Arc::new(settings);
        self.routes = routes;
        Ok(())
    }

    /// Sites in the words of a platform: what stands alone serves as production.
    fn snapshot(&mut self, version: u64, sockets: &Sockets) -> EdgeSnapshot {
        let edge = &self.settings.edge;
        let state = State::of(&self.settings).ok();
        let https = sockets.https();
        let tls = self
            .certificates
            .snapshot(&self.settings, &https, state.as_ref(), &self.proofs);
        EdgeSnapshot {
            version,
            routes: self.routes.clone(),
            tls,
            cache: edge.cache.bounds(),
            proxy_protocol: edge.proxy_protocol.clone(),
        }
    }
}
