//! The edge and nothing else, to measure it or to try a change on it:
//!
//! ```text
//! cargo run --release -p astraler-edge --example bare -- 127.0.0.1:9000 /tmp/bare 1 \
//!     /api/=unix:/tmp/worker.sock /=/srv/files [tls=127.0.0.1:9443=/tmp/chain-and-key.pem]
//! ```
//!
//! Listens on an address for every host, with a folder for its log, so many threads (each with its own socket), and
//! what answers below which path: a worker's origin, whose answers are cached outside of `/proxied/`, or a folder of files for `/`.

#![allow(clippy::disallowed_methods, reason = "a program for whoever measures")]

use astraler_edge::{AccessLogConfig, Config, EdgeSnapshot, Limits};
use astraler_model::{AssetConfig, HtmlHandling, NotFoundHandling, Route, WorkerRoute};
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, folder, threads, routes @ ..] = &arguments[..] else {
        return Err("usage: bare ADDRESS FOLDER THREADS PREFIX=ORIGIN|FOLDER …".into());
    };
    let threads: usize = threads.parse()?;
    let mut route: Route = serde_json::from_value(serde_json::json!({
        "hosts": ["*"], "environment": "development", "deployment": "bare", "workers": [], "assets": null
    }))?;
    route.cache = Some(astraler_model::CacheRules {
        bypass: vec!["/proxied/*".to_owned()],
        ..astraler_model::CacheRules::default()
    });
    let (mut https, mut tls) = (Vec::new(), astraler_model::TlsSnapshot::default());
    for text in routes {
        if let Some((address, file)) = text.strip_prefix("tls=").and_then(|text| text.split_once('=')) {
            https = shards(address, threads)?;
            tls.certificates.push(astraler_model::TlsCertificate {
                names: vec!["localhost".to_owned()],
                file: file.into(),
                redirect: false,
                hsts_max_age_s: 0,
            });
            continue;
        }
        let (prefix, target) = text.split_once('=').ok_or("expected PREFIX=TARGET")?;
        if std::path::Path::new(target).is_dir() {
            route.assets = Some(AssetConfig {
                directory: target.into(),
                html_handling: HtmlHandling::default(),
                not_found_handling: NotFoundHandling::default(),
            });
        } else {
            route.workers.push(WorkerRoute {
                prefix: prefix.to_owned(),
                worker: "bare".to_owned(),
                origin: target.parse()?,
            });
        }
    }
    let snapshot = EdgeSnapshot {
        version: 1,
        routes: vec![route],
        tls,
        ..EdgeSnapshot::default()
    };
    let (_sender, snapshot) = tokio::sync::watch::channel(Arc::new(snapshot));
    let config = Config {
        listeners: shards(listen, threads)?,
        https,
        quic: vec![],
        snapshot,
        in_force: None,
        limits: Limits {
            threads,
            max_connections: 12_000,
            max_connections_per_client: 0,
            ..Limits::default()
        },
        access_log: AccessLogConfig {
            path: std::path::Path::new(folder).join("access.log"),
            max_file_bytes: 64 << 20,
            keep_files: 1,
        },
        cache_folder: None,
        control: None,
        give_back: astraler_edge::trim,
    };
    astraler_edge::run(config, std::future::pending()).await?;
    Ok(())
}

fn shards(address: &str, threads: usize) -> Result<Vec<TcpListener>, Box<dyn Error>> {
    (0..threads).map(|_| shard(address.parse()?)).collect()
}

/// One of several sockets on an address.
fn shard(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 4096)?;
    Ok(TcpListener::from(socket))
}
