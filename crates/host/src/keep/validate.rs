//! Whether a description can be carried out. No effects.

use crate::activation::MAX_LISTENERS;
use crate::supervisor::SupervisorError;
use astraler_model::{ListenAddress, Listener, Ready, RestartPolicy, UnitSpec};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

/// sockaddr_un has 108 bytes, the last of which is zero; see unix(7).
const MAX_SOCKET_PATH: usize = 107;
const HOUR_MS: u64 = 3_600_000;

pub(super) fn validate(spec: &UnitSpec) -> Result<(), SupervisorError> {
    check(spec).map_err(|reason| SupervisorError::Invalid {
        unit: spec.name.clone(),
        reason,
    })
}

fn check(spec: &UnitSpec) -> Result<(), String> {
    let program = spec.argv.first().ok_or("argv is empty")?;
    absolute(Path::new(program), "the program")?;
    let texts = spec.argv.iter().chain(spec.env.keys()).chain(spec.env.values());
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err("an argument or a variable contains a NUL byte".into());
    }
    if spec.env.keys().any(|name| name.is_empty() || name.contains('=')) {
        return Err("the name of a variable is empty or contains '='".into());
    }
    let files = spec.cwd.iter().chain(&spec.stdin);
    let folders = spec.directories.iter().map(|folder| &folder.path);
    for path in files
        .chain(folders)
        .chain(spec.credentials.iter().map(|credential| &credential.source))
    {
        absolute(path, "a path")?;
    }
    for credential in &spec.credentials {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if credential.name.is_empty()
            || credential.name.starts_with('.')
            || !credential.name.chars().all(plain)
        {
            return Err(format!(
                "the credential name `{}` is no plain file name",
                credential.name
            ));
        }
    }
    check_listeners(&spec.listeners)?;
    if let Some(name) = unknown_listener(spec) {
        return Err(format!("{{FD:{name}}} names no listener"));
    }
    check_times(spec)
}

fn check_listeners(listeners: &[Listener]) -> Result<(), String> {
    if listeners.len() > MAX_LISTENERS {
        return Err(format!("more than {MAX_LISTENERS} listeners"));
    }
    let names: BTreeSet<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    let addresses: BTreeSet<String> = listeners
        .iter()
        .map(|listener| crate::supervisor::show(&listener.address))
        .collect();
    if names.len() != listeners.len() || addresses.len() != listeners.len() {
        return Err("two listeners have the same name or address".into());
    }
    for listener in listeners {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if listener.name.is_empty() || !listener.name.chars().all(plain) {
            return Err(format!(
                "the listener name `{}` is not of letters, digits, '-' and '_'",
                listener.name
            ));
        }
        match &listener.address {
            ListenAddress::Tcp(address)
            | ListenAddress::TcpShare { address, .. }
            | ListenAddress::Udp { address, .. }
                if address.port() == 0 =>
            {
                return Err(format!(
                    "the listener `{}` has port 0: allocate one first",
                    listener.name
                ));
            }
            ListenAddress::TcpShare { address, .. } if !has_first(listeners, *address) => {
                return Err(format!(
                    "the listener `{}` shares {address}, which no listener before it has",
                    listener.name
                ));
            }
            ListenAddress::Tcp(_) | ListenAddress::TcpShare { .. } | ListenAddress::Udp { .. } => {}
            ListenAddress::Unix { path, .. } => {
                absolute(path, "a socket path")?;
                let length = path.as_os_str().len();
                if length > MAX_SOCKET_PATH {
                    return Err(format!(
                        "the socket path {} has {length} bytes, more than {MAX_SOCKET_PATH}",
                        path.display()
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A share that is bound first would let others of the same user in.
fn has_first(listeners: &[Listener], address: SocketAddr) -> bool {
    let mut of_address = listeners.iter().filter(|listener| match &listener.address {
        ListenAddress::Tcp(found) | ListenAddress::TcpShare { address: found, .. } => *found == address,
        ListenAddress::Udp { .. } | ListenAddress::Unix { .. } => false,
    });
    of_address
        .next()
        .is_some_and(|first| matches!(first.address, ListenAddress::Tcp(_)))
}

fn check_times(spec: &UnitSpec) -> Result<(), String> {
    match spec.ready {
        Ready::Exited { .. } if spec.restart != RestartPolicy::Never => {
            return Err("a one-time job (ready when exited) must have the restart policy `never`".into());
        }
        Ready::Line { timeout_ms } | Ready::Exited { timeout_ms }
            if !(1..=24 * HOUR_MS).contains(&timeout_ms) =>
        {
            return Err("the ready timeout must be 1 ms to 24 hours".into());
        }
        _ => {}
    }
    if let RestartPolicy::Always { limit, window_ms, .. } = spec.restart
        && !((1..=1000).contains(&limit) && window_ms > 0)
    {
        return Err("the restart limit must be 1 to 1000 within a window of at least 1 ms".into());
    }
    if spec.stop.grace_ms > HOUR_MS || !(1..=31).contains(&spec.stop.signal) {
        return Err("the stop signal must be 1 to 31 and its grace period at most one hour".into());
    }
    if spec.log.max_file_bytes < 4096 || spec.log.keep_files > 100 {
        return Err("log files must be at least 4096 bytes, and at most 100 are kept".into());
    }
    Ok(())
}

fn unknown_listener(spec: &UnitSpec) -> Option<String> {
    let texts = spec.argv.iter().chain(spec.env.values());
    let named = texts
        .flat_map(|text| text.split("{FD:").skip(1))
        .filter_map(|rest| rest.split_once('}'));
    let mut names = named.map(|(name, _)| name);
    names
        .find(|name| !spec.listeners.iter().any(|listener| listener.name == *name))
        .map(str::to_owned)
}

fn absolute(path: &Path, what: &str) -> Result<(), String> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(format!("{what} is not absolute: `{}`", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(change: &serde_json::Value) -> Result<(), String> {
        let mut spec = json!({ "name": "u", "argv": ["/bin/true"] });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        check(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn each_mistake_is_named() {
        verdict(&json!({})).unwrap();
        let listener = |name: &str, address: serde_json::Value| json!([{ "name": name, "address": address }]);
        let long = format!("/{}", "x".repeat(107));
        for (change, words) in [
            (json!({ "argv": [] }), "empty"),
            (json!({ "argv": ["true"] }), "not absolute"),
            (json!({ "argv": ["/bin/true", "a\u{0}b"] }), "NUL"),
            (json!({ "argv": ["/bin/true", "{FD:http}"] }), "names no listener"),
            (json!({ "env": { "A=B": "" } }), "'='"),
            (json!({ "cwd": "tmp" }), "not absolute"),
            (
                json!({ "credentials": [{ "name": "../x", "source": "/x" }] }),
                "plain file name",
            ),
            (
                json!({ "listeners": listener("a b", json!({ "tcp": "127.0.0.1:1" })) }),
                "listener name",
            ),
            (
                json!({ "listeners": listener("a", json!({ "tcp": "127.0.0.1:0" })) }),
                "port 0",
            ),
            (
                json!({ "listeners": listener("a", json!({ "tcp_share": { "address": "127.0.0.1:1", "share": 1 } })) }),
                "no listener before it",
            ),
            (
                json!({ "listeners": listener("a", json!({ "unix": { "path": long, "mode": 0o600 } })) }),
                "108 bytes",
            ),
            (json!({ "ready": { "exited": { "timeout_ms": 5 } } }), "never"),
            (json!({ "stop": { "signal": 0, "grace_ms": 1 } }), "signal"),
            (json!({ "log": { "max_file_bytes": 1, "keep_files": 1 } }), "4096"),
        ] {
            let reason = verdict(&change).unwrap_err();
            assert!(reason.contains(words), "{reason} does not say {words}");
        }
    }
}
