//! `astraler tls`.

use crate::cli::{Arguments, TlsCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;
use astraler_control::{CertificateReport, ClientError, TlsReport};
use astraler_host::file;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian takes further roots from.
const DEBIAN: &str = "/usr/local/share/ca-certificates";

pub(super) fn run(arguments: &Arguments, command: &TlsCommand) -> Outcome {
    let client = super::daemon(arguments)?;
    match command {
        TlsCommand::List { json } => {
            let report = ask(async || client.tls().await)?;
            if json.json {
                return Ok(table::print_json(&report)?);
            }
            list(&report);
            Ok(())
        }
        TlsCommand::Renew { name, json } => {
            if let Some(name) = name
                && !name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._*[]:".contains(&b))
            {
                return Err(Failure::new(
                    Kind::General,
                    format!("`{name}` is no host and no environment"),
                ));
            }
            let report = ask(async || client.tls_renew(name.as_deref()).await)?;
            if json.json {
                return Ok(table::print_json(&report)?);
            }
            list(&report);
            Ok(())
        }
        TlsCommand::Trust { install, json } => {
            let report = ask(async || client.tls().await)?;
            let Some(certificate) = report.authority else {
                return Err(Failure::new(Kind::General, "the local CA has issued nothing yet")
                    .hint("run `astraler up`, which makes it with the first certificate"));
            };
            let place = Place::find(arguments)?;
            let path = place.layout.local_authority();
            file::replace(&path, certificate.as_bytes(), 0o644)?;
            let name = format!("astraler-{}", place.id);
            let installed = if *install {
                installed(&path, &name)?
            } else {
                vec![]
            };
            if json.json {
                let done = json!({ "certificate": path, "installed": installed });
                return Ok(table::print_json(&done)?);
            }
            if *install {
                installed
                    .iter()
                    .for_each(|place| line(&format!("installed: {place}")));
            } else {
                line(&instructions(&path, &name));
            }
            Ok(())
        }
    }
}

fn ask<T>(asked: impl AsyncFn() -> Result<T, ClientError>) -> Outcome<T> {
    super::block_on(async { asked().await.map_err(|error| super::not_up(&error)) })
}

fn list(report: &TlsReport) {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    table::print(
        &["environment", "names", "issuer", "until", "next", "last error"],
        report.certificates.iter().map(|one| {
            vec![
                one.environment.to_string(),
                one.names.join("\n"),
                or_dash(one.issuer.clone()),
                or_dash(one.not_after_ms.map(super::backup::date)),
                or_dash(one.renewal_ms.map(super::backup::date)),
                or_dash(said(one)),
            ]
        }),
    );
}

fn said(one: &CertificateReport) -> Option<String> {
    let error = one.error.as_deref()?;
    Some(match one.failures {
        0 | 1 => error.to_owned(),
        failures => format!("{error} ({failures} times)"),
    })
}

/// What a person does, by client.
pub(super) fn instructions(path: &Path, name: &str) -> String {
    let path = path.display();
    format!(
        "The local CA's certificate is {path}

Debian, Ubuntu    sudo cp {path} {DEBIAN}/{name}.crt && sudo update-ca-certificates
                  (or `sudo astraler tls trust --install`)
macOS             sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {path}
Chromium, Chrome  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n {name} -i {path}
                  (Debian: the package libnss3-tools; on macOS they follow the system)
Firefox           Settings, Certificates, View Certificates, Authorities, Import; or
                  security.enterprise_roots.enabled in about:config, to follow the system
Node              NODE_EXTRA_CA_CERTS={path}
curl              curl --cacert {path} …
Python            REQUESTS_CA_BUNDLE={path} or SSL_CERT_FILE={path}

To take it back: sudo rm {DEBIAN}/{name}.crt && sudo update-ca-certificates --fresh;
certutil -d sql:$HOME/.pki/nssdb -D -n {name}"
    )
}

/// Installs it where that is one well-known step; in which places.
fn installed(path: &Path, name: &str) -> Outcome<Vec<String>> {
    let mut done = vec![];
    if let Some(update) = program("update-ca-certificates")
        && Path::new(DEBIAN).is_dir()
    {
        if !crate::place::is_root() {
            return Err(
                Failure::new(Kind::General, "only root may change the system's trust store")
                    .hint("run it with sudo, or see `astraler tls trust` for other ways"),
            );
        }
        let target = Path::new(DEBIAN).join(format!("{name}.crt"));
        file::replace(&target, &std::fs::read(path)?, 0o644)?;
        run_program(Command::new(update))?;
        done.push(target.display().to_string());
    }
    let database = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pki/nssdb"));
    if let (Some(certutil), Some(database)) = (program("certutil"), database)
        && database.is_dir()
    {
        let mut command = Command::new(certutil);
        command.arg("-d").arg(format!("sql:{}", database.display()));
        command.args(["-A", "-t", "C,,", "-n", name, "-i"]).arg(path);
        run_program(command)?;
        done.push(database.display().to_string());
    }
    if done.is_empty() {
        return Err(Failure::new(
            Kind::General,
            "this machine has no trust store that can be changed safely",
        )
        .hint("`astraler tls trust` says how each client gets to trust it"));
    }
    Ok(done)
}

fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

fn run_program(mut command: Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or_default().to_owned();
    Err(Failure::new(Kind::General, format!("{name} failed: {said}")))
}
