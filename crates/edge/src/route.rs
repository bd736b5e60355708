//! Route: host → environment, path → worker or files.

use crate::EdgeSnapshot;
use crate::activity::{Activities, Activity};
use crate::asset::Assets;
use crate::cache;
use crate::config::Limits;
use crate::host::HostName;
use crate::policy::{Deadline, Policy};
use crate::rate::Rates;
use crate::waf::{Programs, Waf};
use crate::wake::Wake;
use astraler_model::{Environment, Network, Origin, UnderAttack, WorkerRoute, any_contains};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A snapshot, ready to be asked. Immutable: a request keeps the one it started with.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    pub(crate) version: u64,
    hosts: HashMap<String, Arc<Site>>,
    /// Of `*.NAME`, by that name: `*` stands for one label, as in a certificate.
    wild: HashMap<String, Arc<Site>>,
    /// For hosts that nothing else names.
    any: Option<Arc<Site>>,
    pub(crate) has_development: bool,
    /// Environments under attack: what is tighter meanwhile.
    attacks: Vec<(Deadline, UnderAttack)>,
    /// Who begins every connection with the PROXY protocol.
    proxy_protocol: Vec<Network>,
}

/// What answers for a host.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) environment: Environment,
    pub(crate) deployment: String,
    /// Longest prefix first.
    workers: Vec<Arc<WorkerRoute>>,
    pub(crate) assets: Option<Assets>,
    pub(crate) activity: Arc<Activity>,
    /// While the workers sleep.
    pub(crate) wake: Option<Wake>,
    pub(crate) policy: Policy,
    /// Off when absent.
    pub(crate) waf: Option<Arc<Waf>>,
    /// How answers of the workers are cached; not at all when absent.
    pub(crate) cache: Option<Arc<cache::Rules>>,
}

impl Routes {
    pub(crate) fn of(
        snapshot: &EdgeSnapshot,
        activities: &Activities,
        rates: &Rates,
        programs: &Programs,
    ) -> Self {
        let (mut hosts, mut wild) = (HashMap::new(), HashMap::new());
        let mut any = None;
        for route in &snapshot.routes {
            let mut workers: Vec<_> = route.workers.iter().cloned().map(Arc::new).collect();
            workers.sort_by_key(|worker| std::cmp::Reverse(worker.prefix.trim_end_matches('/').len()));
            let site = Arc::new(Site {
                environment: route.environment,
                deployment: route.deployment.clone(),
                workers,
                assets: route.assets.as_ref().map(Assets::new),
                activity: activities.of(&route.deployment, route.environment),
                cache: route
                    .cache
                    .as_ref()
                    .map(|rules| Arc::new(cache::Rules::of(rules, route.environment, &route.deployment))),
                wake: route.wake.clone().map(|socket| Wake {
                    origin: Origin::Unix(socket),
                    turn: Mutex::new(()),
                }),
                policy: Policy::of(&route.policy, route.environment, rates),
                waf: (route.policy.waf.as_ref())
                    .map(|config| Arc::new(programs.waf(config, route.environment))),
            });
            for host in &route.hosts {
                let host = host.to_ascii_lowercase();
                match host.strip_prefix("*.") {
                    _ if host == "*" => any = Some(site.clone()),
                    Some(parent) => {
                        wild.insert(parent.to_owned(), site.clone());
                    }
                    None => {
                        hosts.insert(host, site.clone());
                    }
                }
            }
        }
        let has_development = snapshot
            .routes
            .iter()
            .any(|route| route.environment == Environment::Development);
        Self {
            version: snapshot.version,
            hosts,
            wild,
            any,
            has_development,
            attacks: attacks(snapshot),
            proxy_protocol: snapshot.proxy_protocol.clone(),
        }
    }

    pub(crate) fn site(&self, host: &HostName) -> Option<&Arc<Site>> {
        let wild = || {
            let (_, parent) = host.as_str().split_once('.').filter(|_| !self.wild.is_empty())?;
            self.wild.get(parent)
        };
        self.hosts.get(host.as_str()).or_else(wild).or(self.any.as_ref())
    }

    /// Whether a connection from there begins with the PROXY protocol.
    pub(crate) fn expects_introduction(&self, peer: IpAddr) -> bool {
        any_contains(&self.proxy_protocol, peer)
    }

    /// Limits of a connection that begins now, where they are tighter than usual. What environment it is for is not known
    /// yet: one that is under attack tightens them for all.
    pub(crate) fn tightened(&self, usual: &Limits) -> Option<Limits> {
        let mut limits = None;
        for (_, tight) in self.attacks.iter().filter(|(end, _)| !end.is_over()) {
            let limits: &mut Limits = limits.get_or_insert_with(|| usual.clone());
            limits.header_timeout_ms = limits.header_timeout_ms.min(tight.header_timeout_ms);
            limits.idle_timeout_ms = limits.idle_timeout_ms.min(tight.idle_timeout_ms);
            // 0 is any number.
            let most = match limits.max_connections_per_client {
                0 => u32::MAX,
                usual => usual,
            };
            limits.max_connections_per_client = most.min(tight.max_connections_per_client.max(1));
        }
        limits
    }

    fn sites(&self) -> impl Iterator<Item = &Arc<Site>> {
        self.hosts.values().chain(self.wild.values()).chain(&self.any)
    }

    /// Whether requests lead to this deployment.
    pub(crate) fn leads_to(&self, deployment: &str) -> bool {
        self.sites().any(|site| site.deployment == deployment)
    }

    /// Whether the environment has workers that run.
    pub(crate) fn is_awake(&self, environment: Environment) -> bool {
        self.sites()
            .any(|site| site.environment == environment && site.wake.is_none())
    }

    /// For the page that helps a developer who mistyped one.
    pub(crate) fn host_names(&self) -> BTreeSet<&str> {
        self.hosts.keys().map(String::as_str).collect()
    }

    pub(crate) fn origins(&self) -> HashSet<Origin> {
        self.sites()
            .flat_map(|site| &site.workers)
            .map(|worker| worker.origin.clone())
            .collect()
    }
}

impl Site {
    /// The worker with the longest prefix that `path` is at or below.
    pub(crate) fn worker(&self, path: &str) -> Option<&Arc<WorkerRoute>> {
        self.workers
            .iter()
            .find(|worker| is_below(path, worker.prefix.trim_end_matches('/')))
    }
}

fn attacks(snapshot: &EdgeSnapshot) -> Vec<(Deadline, UnderAttack)> {
    let policies = snapshot.routes.iter().map(|route| &route.policy);
    policies
        .filter_map(|policy| {
            let attack = policy.attack.as_ref()?;
            Some((Deadline::of(attack), policy.under_attack.clone()))
        })
        .collect()
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for (path, prefix, below) in [
            ("/api", "/api", true),
            ("/api/", "/api", true),
            ("/api/x", "/api", true),
            ("/apix", "/api", false),
            ("/ap", "/api", false),
            ("/", "", true),
            ("/anything", "", true),
        ] {
            assert_eq!(is_below(path, prefix), below, "{path} {prefix}");
        }
    }
}
