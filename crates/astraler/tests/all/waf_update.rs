//! `astraler waf update`: releases of rules from a server on this machine.

#![expect(clippy::disallowed_methods, reason = "tests: no file is for keeps")]

use crate::support::PROGRAM;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// An archive as the Core Rule Set releases them: the installed rules under another version, with a rule more.
pub(crate) fn release(version: &str, more: &str) -> Vec<u8> {
    let rules = Path::new("/usr/share/modsecurity-crs/rules");
    let setup = std::fs::read_to_string("/etc/modsecurity/crs/crs-setup.conf").unwrap();
    let top = format!("coreruleset-{version}");
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut add = |name: String, contents: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, format!("{top}/{name}"), contents)
            .unwrap();
    };
    add("crs-setup.conf.example".into(), setup.as_bytes());
    for entry in std::fs::read_dir(rules).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let contents = std::fs::read(&path).unwrap();
        match name.strip_suffix(".conf") {
            Some("REQUEST-901-INITIALIZATION") => {
                let text = String::from_utf8(contents).unwrap();
                add(
                    format!("rules/{name}"),
                    text.replace("OWASP_CRS/3.3.4", &format!("OWASP_CRS/{version}"))
                        .as_bytes(),
                );
            }
            _ => add(format!("rules/{name}"), &contents),
        }
    }
    add("rules/REQUEST-900-OWN.conf".into(), more.as_bytes());
    add("tests/regression/evil.sh".into(), b"exit 1\n");
    tar.into_inner().unwrap().finish().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A server of files, in the open or with TLS.
pub(crate) struct Server {
    pub(crate) url: String,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
}

impl Server {
    pub(crate) fn new(tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let files = Arc::<Mutex<HashMap<String, Vec<u8>>>>::default();
        let (serves, tls) = (files.clone(), tls.map(Arc::new));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                match &tls {
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                        answer(rustls::StreamOwned::new(connection, stream), &serves);
                    }
                    None => answer(stream, &serves),
                }
            }
        });
        Self { url, files }
    }

    pub(crate) fn put(&self, path: &str, contents: impl Into<Vec<u8>>) -> String {
        self.files
            .lock()
            .unwrap()
            .insert(path.to_owned(), contents.into());
        format!("{}{path}", self.url)
    }

    /// Offers an archive as GitHub tells the newest release, behind a redirect as its servers have; where it is told.
    pub(crate) fn offer(&self, version: &str, archive: &[u8], digest: Option<&str>) -> String {
        let name = format!("coreruleset-{version}-minimal.tar.gz");
        self.put(&format!("/files/{name}"), archive);
        let told = json!({
            "tag_name": format!("v{version}"),
            "assets": [
                { "name": format!("{name}.asc"), "browser_download_url": "http://nowhere.example/" },
                { "name": name, "browser_download_url": format!("{}/moved/files/{name}", self.url),
                  "digest": digest.map(|digest| format!("sha256:{digest}")) },
            ],
        });
        self.put("/latest", told.to_string())
    }
}

/// One request, one answer: a file, or the way to it.
fn answer(mut stream: impl Read + Write, files: &Mutex<HashMap<String, Vec<u8>>>) {
    let mut reader = BufReader::new(&mut stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut field = String::new();
    while reader.read_line(&mut field).is_ok_and(|read| read > 2) {
        field.clear();
    }
    let path = line.split(' ').nth(1).unwrap_or_default();
    let (head, body) = match (path.strip_prefix("/moved"), files.lock().unwrap().get(path)) {
        (Some(to), _) => (format!("302 Found\r\nLocation: {to}"), vec![]),
        (_, Some(body)) => ("200 OK".to_owned(), body.clone()),
        _ => ("404 Not Found".to_owned(), vec![]),
    };
    let head = format!(
        "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body))
        .and_then(|()| stream.flush());
}

/// An application whose platform is not up.
struct Alone {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, PathBuf)>,
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Alone {
    fn new(waf: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let toml = format!("name = \"alone\"\ndomain = \"alone.example\"\n{waf}");
        std::fs::write(folder.path().join("astraler.toml"), toml).unwrap();
        Self {
            folder,
            variables: vec![],
        }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn update(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(PROGRAM);
        command
            .args(["--dir".as_ref(), self.folder.path().as_os_str()])
            .args(["--state".as_ref(), self.state().as_os_str()])
            .args(["waf", "update"])
            .args(words)
            .env("ASTRALER_RUNTIME", self.folder.path())
            .env("ASTRALER_CONFIG", self.folder.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .process_group(0);
        let output = command.output().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The version in force, and what lies on the shelf.
    fn shelf(&self) -> (Option<String>, usize) {
        let folder = self.state().join("waf");
        let current = std::fs::read_link(folder.join("current")).ok();
        let names = std::fs::read_dir(&folder).into_iter().flatten();
        (current.map(|name| name.display().to_string()), names.count())
    }
}

#[track_caller]
fn refused(ended: &Ended, words: &[&str]) {
    assert_ne!(ended.code, 0, "{}", ended.out);
    for word in words {
        assert!(ended.err.contains(word), "`{word}`: {}{}", ended.out, ended.err);
    }
}

#[test]
fn a_release_is_brought_with_its_checksum_and_nothing_else_takes_its_place() {
    let alone = Alone::new("[edge.waf]\nmode = \"block\"\n");
    let server = Server::new(None);
    let one = release("8.1.0", "");
    let index = server.offer("8.1.0", &one, Some(&sha256(&one)));
    let update = |words: &[&str]| alone.update(&[&["--index", &index], words].concat());

    let looked = update(&["--check", "--json"]);
    let said: Value = serde_json::from_str(&looked.out).unwrap();
    assert_eq!(
        (looked.code, &said["update"], &said["newest"]["version"]),
        (10, &json!(true), &json!("8.1.0"))
    );
    assert!(!alone.state().exists(), "a look writes nothing");

    let brought = update(&[]);
    assert_eq!(brought.code, 0, "{}", brought.err);
    assert!(
        brought.out.contains("8.1.0") && brought.out.contains("the next `astraler up`"),
        "{}",
        brought.out
    );
    let current = alone.state().join("waf/current");
    assert!(current.join("rules/REQUEST-901-INITIALIZATION.conf").is_file());
    assert!(!current.join("tests").exists());
    let in_force = alone.shelf();
    assert_eq!(
        (in_force.0.as_deref().map(|name| &name[..6]), in_force.1),
        (Some("8.1.0-"), 2)
    );
    assert_eq!(
        (update(&[]).code, update(&["--check"]).code),
        (0, 0),
        "the same again changes nothing"
    );

    // Whatever is wrong with what comes, nothing changes.
    let two = release("8.2.0", "");
    server.offer("8.2.0", &two, Some(&sha256(b"another")));
    refused(&update(&[]), &["not what its checksum says", &sha256(&two)]);
    server.offer("8.2.0", &two, None);
    refused(&update(&[]), &["has no checksum", "--from FILE|URL"]);
    let broken = release(
        "8.2.0",
        "SecAction \"id:1,phase:1,pass\"\nSecRlue ARGS \"@rx x\"\n",
    );
    server.offer("8.2.0", &broken, Some(&sha256(&broken)));
    refused(
        &update(&[]),
        &["rules/REQUEST-900-OWN.conf:2", "nothing was changed"],
    );
    let half = &two[..two.len() / 2];
    server.offer("8.2.0", half, Some(&sha256(half)));
    refused(&update(&[]), &["ends early"]);
    server.put("/latest", "{}");
    refused(&update(&[]), &["does not tell a release"]);
    server.put("/latest", vec![b' '; 5 << 20]);
    refused(&update(&[]), &["larger than"]);
    refused(
        &alone.update(&["--index", &format!("{}/gone", server.url)]),
        &["404"],
    );
    refused(
        &alone.update(&["--index", "http://192.0.2.1/latest"]),
        &["neither https nor on this machine"],
    );
    refused(
        &alone.update(&[
            "--index",
            &format!("{}/moved/moved/moved/moved/moved/moved/x", server.url),
        ]),
        &["more than 5 times"],
    );
    let older = release("8.0.9", "");
    server.offer("8.0.9", &older, Some(&sha256(&older)));
    refused(&update(&[]), &["8.1.0", "is in force"]);
    assert_eq!(alone.shelf(), in_force);

    // A file, with the checksum that the user knows; then back.
    refused(&alone.update(&["--from", "x.tar.gz"]), &["--sha256"]);
    let file = alone.folder.path().join("release.tar.gz");
    std::fs::write(&file, &older).unwrap();
    let file = file.display().to_string();
    refused(
        &alone.update(&["--from", &file, "--sha256", &sha256(&one)]),
        &["not what its checksum says"],
    );
    refused(
        &alone.update(&["--from", &file, "--sha256", "abc"]),
        &["64 digits"],
    );
    let brought = alone.update(&[
        "--from",
        &file,
        "--sha256",
        &sha256(&older).to_ascii_uppercase(),
        "--json",
    ]);
    let said: Value = serde_json::from_str(&brought.out).unwrap();
    let versions =
        |said: &Value| [&said["current"], &said["former"]].map(|release| release["version"].clone());
    assert_eq!(
        (&said["changed"], versions(&said)),
        (&json!(true), [json!("8.0.9"), json!("8.1.0")])
    );
    let back = alone.update(&["--rollback", "--json"]);
    assert_eq!(
        versions(&serde_json::from_str(&back.out).unwrap()),
        [json!("8.1.0"), json!("8.0.9")]
    );
}

#[test]
fn a_server_is_believed_when_its_certificate_is() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let server = Server::new(Some(config));
    let archive = release("8.1.0", "");
    let index = server.offer("8.1.0", &archive, Some(&sha256(&archive)));
    let mut alone = Alone::new("");
    refused(
        &alone.update(&["--index", &index]),
        &["the newest release is not known"],
    );
    let roots = alone.folder.path().join("roots.pem");
    std::fs::write(&roots, key.cert.pem()).unwrap();
    alone.variables.push(("SSL_CERT_FILE", roots));
    let brought = alone.update(&["--index", &index]);
    assert_eq!(brought.code, 0, "{}", brought.err);
}
