//! Which certificates the hosts of this platform want, and from whom.

use crate::platform::{Platform, PlatformError};
use astraler_manifest::{Config, Tls};
use astraler_model::Environment;
use astraler_tls::{Kind, classify};

/// Who issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Issuer {
    /// The local CA.
    Local,
    /// A CA that is asked by ACME.
    Acme,
}

/// One certificate that should be there.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Under which it is kept: the environment for the local CA, the host name for others, because a CA that cannot
    /// prove one name of several refuses them all.
    pub(super) subject: String,
    pub(super) names: Vec<String>,
    pub(super) issuer: Issuer,
    pub(super) environment: Environment,
    pub(super) tls: Tls,
}

/// Of all environments that are live, development's first: it is also shown to clients that name no host.
pub(super) fn all(platform: &Platform) -> Result<Vec<Wanted>, PlatformError> {
    let mut all = Vec::new();
    for (environment, (_, application)) in platform.live()? {
        let config = &application.config;
        all.extend(of(environment, platform.hosts(environment, config), config));
    }
    Ok(all)
}

fn of(environment: Environment, hosts: Vec<String>, config: &Config) -> Vec<Wanted> {
    let tls = &config.edge.tls;
    let (mut private, mut public) = (vec![], vec![]);
    for host in hosts {
        match classify(&host) {
            Kind::Local if !private.contains(&host) => private.push(host),
            Kind::Public if tls.acme && !public.contains(&host) => public.push(host),
            _ => {}
        }
    }
    let wanted = |subject, names, issuer| Wanted {
        subject,
        names,
        issuer,
        environment,
        tls: tls.clone(),
    };
    let local = (!private.is_empty()).then(|| wanted(environment.to_string(), private, Issuer::Local));
    let acme = public
        .into_iter()
        .map(|host| wanted(host.clone(), vec![host], Issuer::Acme));
    local.into_iter().chain(acme).collect()
}

/// Hosts that get none, and why.
pub(super) fn without(
    platform: &Platform,
) -> Result<Vec<(Environment, String, &'static str)>, PlatformError> {
    let mut all = Vec::new();
    for (environment, (_, application)) in platform.live()? {
        let config = &application.config;
        for host in platform.hosts(environment, config) {
            match classify(&host) {
                Kind::Nobody(why) => all.push((environment, host, why)),
                Kind::Public if !config.edge.tls.acme => {
                    all.push((environment, host, "a public name: edge.tls.acme is off"));
                }
                _ => {}
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn private_names_are_the_local_cas_and_public_ones_nobodys_until_acme_is_on() {
        let config = |acme: bool| -> Config {
            let tls = json!({ "acme": acme });
            serde_json::from_value(json!({ "name": "a", "domain": "a.com", "edge": { "tls": tls } })).unwrap()
        };
        let hosts = || {
            ["app.localhost", "app.a.com", "www.a.com", "8.8.8.8"]
                .map(String::from)
                .to_vec()
        };
        let subjects = |acme| -> Vec<(String, Vec<String>, Issuer)> {
            let all = of(Environment::Production, hosts(), &config(acme)).into_iter();
            all.map(|one| (one.subject, one.names, one.issuer)).collect()
        };
        let local = (
            "production".to_owned(),
            vec!["app.localhost".to_owned()],
            Issuer::Local,
        );
        assert_eq!(subjects(false), std::slice::from_ref(&local));
        let one = |name: &str| (name.to_owned(), vec![name.to_owned()], Issuer::Acme);
        assert_eq!(subjects(true), [local, one("app.a.com"), one("www.a.com")]);
    }
}
