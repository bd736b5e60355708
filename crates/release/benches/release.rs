//! How long a release takes: `cargo bench -p astraler-release -- [ARCHIVE]`.
//!
//! With an archive (`astraler release export`) it measures that one; without, one of 1,000 files and 100 MiB that
//! compress by half. Each figure is the median of the rounds, on the disk of the folder for temporary files.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends where something is not as it should be, and prints what it found"
)]

use astraler_release::{Input, Release, Releases};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const FILES: usize = 1_000;
const FILE_BYTES: usize = 100 << 10;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let releases = Releases::prepare(folder.path().join("releases")).unwrap();
    let archive = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let release = match archive {
        Some(path) => releases.import(File::open(path).unwrap()).unwrap(),
        None => releases.build(&large(&folder.path().join("large"))).unwrap(),
    };
    let mut exported = Vec::new();
    releases.export(&release.digest, &mut exported).unwrap();
    let bytes: u64 = release.manifest.files.values().map(|file| file.size).sum();
    println!("release  {}", release.digest);
    println!(
        "files    {} of {bytes} bytes, as archive {}",
        release.manifest.files.len(),
        exported.len()
    );
    let input = input_of(&release);
    let again = |round: usize| Releases::prepare(folder.path().join(format!("round-{round}"))).unwrap();
    measure("build", |round| {
        assert_eq!(again(round).build(&input).unwrap().digest, release.digest);
    });
    measure("open", |_| drop(releases.open(&release.digest).unwrap()));
    measure("verify", |_| drop(releases.verify(&release.digest).unwrap()));
    measure("export", |_| {
        releases.export(&release.digest, std::io::sink()).unwrap();
    });
    measure("import", |round| {
        drop(again(ROUNDS + round).import(exported.as_slice()).unwrap());
    });
}

fn measure(what: &str, mut work: impl FnMut(usize)) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let began = Instant::now();
            work(round);
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("{what:<8} {:?}, worst {:?}", times[ROUNDS / 2], times[ROUNDS - 1]);
}

/// What the release was built from, as far as its own files say.
fn input_of(release: &Release) -> Input {
    let folders = ["workers", "assets", "migrations"].into_iter();
    let copies = folders.map(|name| (release.directory.join(name), name.to_owned()));
    Input {
        application: release.manifest.application.clone(),
        configuration: release.manifest.configuration.clone(),
        copies: copies.filter(|(source, _)| source.is_dir()).collect(),
        workers: release.manifest.workers.clone(),
    }
}

fn large(folder: &Path) -> Input {
    // A generator that is the same everywhere; hex digits hold four bits in eight.
    let mut state = 1u64;
    for number in 0..FILES {
        let path = folder.join(format!("{}/{number}.txt", number % 50));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = Vec::with_capacity(FILE_BYTES);
        while text.len() < FILE_BYTES {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.extend_from_slice(format!("{:08x}", state >> 32).as_bytes());
        }
        File::create(path).unwrap().write_all(&text).unwrap();
    }
    Input {
        application: "large".into(),
        configuration: serde_json::Value::Null,
        copies: vec![(folder.to_owned(), "assets".into())],
        workers: BTreeMap::new(),
    }
}
