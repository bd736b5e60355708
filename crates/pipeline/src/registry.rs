//! Which places of the network a job may reach.

use crate::machine::Machine;

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    host: String,
    port: Option<u16>,
}

/// The places of the manifest's registries. A known name stands for its hosts, or for those that this machine is
/// set up to use instead.
pub(crate) fn places(registries: &[String], machine: &Machine) -> Vec<Place> {
    let mut all = Vec::new();
    for name in registries {
        let urls: Vec<&str> = match name.as_str() {
            "npm" => vec![machine.npm_registry.as_deref().unwrap_or("registry.npmjs.org")],
            "pypi" => match machine.pip_index.as_deref() {
                Some(index) => vec![index, "files.pythonhosted.org"],
                None => vec!["pypi.org", "files.pythonhosted.org"],
            },
            "crates.io" => vec!["index.crates.io", "static.crates.io", "crates.io"],
            other => vec![other],
        };
        all.extend(urls.into_iter().filter_map(Place::of));
    }
    all
}

impl Place {
    /// Of a URL, `host:port` or host.
    fn of(text: &str) -> Option<Self> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = host_and_port(authority)?;
        let port = port.or(match scheme {
            Some("http") => Some(80),
            _ => Some(443),
        });
        Some(Self { host, port })
    }

    /// Whether this host and port are here.
    pub(crate) fn is(&self, host: &str, port: u16) -> bool {
        self.host == host.trim_end_matches('.').to_ascii_lowercase() && self.port == Some(port)
    }
}

/// `host`, `host:port`, `[address]:port`; the host in lower case.
pub(crate) fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let port = match port {
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(registries: &[&str], machine: &Machine, host: &str, port: u16) -> bool {
        let names: Vec<String> = registries.iter().map(|name| (*name).to_owned()).collect();
        places(&names, machine).iter().any(|place| place.is(host, port))
    }

    #[test]
    fn names_stand_for_their_hosts_and_nothing_else_is_reached() {
        let machine = Machine::default();
        assert!(allowed(&["npm"], &machine, "Registry.npmjs.org.", 443));
        assert!(!allowed(&["npm"], &machine, "registry.npmjs.org", 80));
        assert!(!allowed(&["npm"], &machine, "evil.registry.npmjs.org", 443));
        assert!(!allowed(&["npm"], &machine, "npmjs.org", 443));
        assert!(allowed(&["pypi"], &machine, "files.pythonhosted.org", 443));
        assert!(allowed(&["crates.io"], &machine, "static.crates.io", 443));
        assert!(allowed(&["packages.example"], &machine, "packages.example", 443));
        assert!(!allowed(&[], &machine, "registry.npmjs.org", 443));
    }

    #[test]
    fn the_machines_own_registry_takes_the_place_of_the_public_one() {
        let machine = Machine {
            npm_registry: Some("http://user:pw@packages.example:4873/npm/".into()),
            ..Machine::default()
        };
        assert!(allowed(&["npm"], &machine, "packages.example", 4873));
        assert!(!allowed(&["npm"], &machine, "registry.npmjs.org", 443));
        assert_eq!(host_and_port("[::1]:80"), Some(("::1".into(), Some(80))));
        assert_eq!(host_and_port("host:99999"), None);
    }
}
