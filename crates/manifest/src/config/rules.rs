//! The rules of the edge for one environment.

use super::Edge;
use astraler_model::{
    AccessRule, Compression, EdgePolicy, Environment, EnvironmentKind, HeaderRule, RuleName,
};

/// The name of the rule that `allow_list` makes.
pub(crate) const ADMIN_HOSTS: &str = "admin-hosts";

impl Edge {
    /// What the files of lists say becomes part of the configuration: it goes with the release.
    pub(crate) fn take_lists(&mut self, read: crate::lists::Read) {
        for (name, items) in read.from_files {
            if let Some(list) = self.lists.get_mut(&name) {
                list.items.extend(items);
            }
        }
    }

    /// What holds in an environment; what operators set at run time is not in it.
    pub fn policy(&self, environment: Environment) -> EdgePolicy {
        let kind = EnvironmentKind::of(environment);
        let holds = |named: &[EnvironmentKind]| named.is_empty() || named.contains(&kind);
        let admin = RuleName::try_from(ADMIN_HOSTS.to_owned()).ok();
        let admin = admin.filter(|_| !self.allow_list.is_empty() && !self.admin_hosts.is_empty());
        let admin = admin.map(|name| AccessRule {
            name,
            environments: vec![],
            hosts: self.admin_hosts.clone(),
            paths: vec![],
            allow: self.allow_list.clone(),
        });
        let everywhere = HeaderRule {
            set: self.headers.clone(),
            ..HeaderRule::default()
        };
        let everywhere = (!self.headers.is_empty()).then_some(everywhere);
        let access = self.access.iter().filter(|rule| holds(&rule.environments));
        let rates = self.rate_rules.iter().filter(|rule| holds(&rule.environments));
        let headers = self.header_rules.iter().filter(|rule| holds(&rule.environments));
        EdgePolicy {
            trusted_proxies: self.trusted_proxies.clone(),
            client_ip_header: self.client_ip_header,
            access: admin.into_iter().chain(access.cloned()).collect(),
            rate_rules: rates.cloned().collect(),
            waf: self.waf.of(kind, &self.lists),
            under_attack: self.under_attack.clone(),
            compression: Compression {
                codings: self.compression.clone(),
                min_bytes: self.compression_min_bytes,
            },
            header_rules: everywhere.into_iter().chain(headers.cloned()).collect(),
            error_pages: self.error_pages.clone(),
            maintenance: None,
            attack: None,
        }
    }
}
