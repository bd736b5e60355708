//! What a crash leaves behind: a child of this test changes a folder and dies at every step of every change.
//!
//! The child is this test itself, run again with [`CHILD`] in its environment. It says on its output what is done. The
//! page cache survives a process, so this proves order and atomicity, not what a disk keeps when the power goes.

use crate::hostile::in_memory;
use crate::support::{export, input, input_of, names, releases, write};
use astraler_release::{Input, Key, KeyInput, Options, Releases, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set in a child: `<folder> <the step to die at>`.
const CHILD: &str = "ASTRALER_RELEASE_CRASH";
/// Set in a child that builds with another umask: the folder.
const UMASK_CHILD: &str = "ASTRALER_RELEASE_UMASK";
/// Crashes tried at one time.
const WORKERS: usize = 4;
const SIGABRT: i32 = 6;

/// One change. Releases have letters.
#[derive(Debug, Clone, Copy)]
enum Op {
    Build(char),
    Import(char),
    Key(char, char),
    Restore(char),
    Remove(char),
    Prune(usize, char),
}

const CHANGES: &[Op] = &[
    Op::Build('a'),
    Op::Build('b'),
    Op::Key('a', 'k'),
    Op::Build('a'),
    Op::Import('c'),
    Op::Key('c', 'k'),
    Op::Import('b'),
    Op::Restore('b'),
    Op::Remove('a'),
    Op::Build('d'),
    Op::Build('a'),
    Op::Prune(1, 'c'),
];

/// What the folder must hold: releases in order, each with its keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Model(Vec<(char, BTreeSet<char>)>);

impl Model {
    fn after(changes: &[Op]) -> Self {
        let mut model = Self::default();
        for change in changes {
            match *change {
                Op::Build(letter) | Op::Import(letter) => {
                    let keys = model.take(letter).unwrap_or_default();
                    model.0.push((letter, keys));
                }
                Op::Restore(_) => {}
                Op::Remove(letter) => drop(model.take(letter)),
                Op::Key(letter, key) => {
                    for (other, keys) in &mut model.0 {
                        keys.remove(&key);
                        keys.extend((*other == letter).then_some(key));
                    }
                }
                Op::Prune(keep, used) => {
                    let older = model.0.len().saturating_sub(keep);
                    let mut index = 0;
                    model.0.retain(|(letter, _)| {
                        index += 1;
                        index > older || *letter == used
                    });
                }
            }
        }
        model
    }

    fn take(&mut self, letter: char) -> Option<BTreeSet<char>> {
        let index = self.0.iter().position(|(other, _)| *other == letter)?;
        Some(self.0.remove(index).1)
    }
}

fn key(letter: char) -> Key {
    Key::of(&KeyInput {
        tree: letter.into(),
        ..KeyInput::default()
    })
}

/// The sources of one release, and its digest and archive as a healthy process makes them.
struct Source {
    input: Input,
    digest: String,
    archive: Vec<u8>,
}

fn sources(folder: &Path) -> BTreeMap<char, Source> {
    "abcd"
        .chars()
        .map(|letter| (letter, source(&folder.join(letter.to_string()), letter)))
        .collect()
}

/// The first to ask, who is the parent, writes the files; the children find them.
fn source(folder: &Path, letter: char) -> Source {
    let archive = folder.join("archive.tar");
    if let Ok(archive) = fs::read(&archive) {
        let input = input_of(folder);
        let digest = fs::read_to_string(folder.join("digest")).unwrap();
        return Source {
            input,
            digest,
            archive,
        };
    }
    let input = input(folder);
    write(&folder.join("public/letter"), letter.to_string().as_bytes());
    let releases = releases(folder);
    let digest = releases.build(&input).unwrap().digest;
    write(&folder.join("digest"), digest.as_bytes());
    write(&archive, &export(&releases, &digest));
    source(folder, letter)
}

fn perform(releases: &Releases, sources: &BTreeMap<char, Source>, change: Op) {
    match change {
        Op::Build(letter) => drop(releases.build(&sources[&letter].input).unwrap()),
        Op::Import(letter) => drop(releases.import(sources[&letter].archive.as_slice()).unwrap()),
        Op::Key(letter, name) => releases.set_key(&sources[&letter].digest, &key(name)).unwrap(),
        Op::Restore(letter) => drop(releases.restore(&sources[&letter].digest).unwrap()),
        Op::Remove(letter) => releases.remove(&sources[&letter].digest).unwrap(),
        Op::Prune(keep, used) => {
            let used = BTreeSet::from([sources[&used].digest.clone()]);
            releases.prune(keep, &used).unwrap();
        }
    }
}

/// Reads all of it back; everything that is listed must be whole.
fn read_all(releases: &Releases, sources: &BTreeMap<char, Source>) -> Model {
    let stored = releases.list().unwrap();
    let model = stored.into_iter().map(|stored| {
        releases.verify(&stored.digest).unwrap();
        let (letter, _) = sources
            .iter()
            .find(|(_, source)| source.digest == stored.digest)
            .unwrap();
        let keys = "k"
            .chars()
            .filter(|letter| stored.keys.contains(&key(*letter).to_string()));
        (*letter, keys.collect())
    });
    Model(model.collect())
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line};").unwrap();
    out.flush().unwrap();
}

fn child(folder: &Path, die_at: usize) {
    let sources = sources(folder);
    let steps = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&steps);
    let hook = move |_: Step| {
        if counter.fetch_add(1, Ordering::SeqCst) == die_at {
            std::process::abort();
        }
    };
    let options = Options {
        step_hook: Some(Arc::new(hook)),
    };
    let releases = Releases::prepare_with(target(folder, die_at), options).unwrap();
    for (number, change) in CHANGES.iter().enumerate() {
        perform(&releases, &sources, *change);
        tell(&format!("DONE {number}"));
    }
    tell(&format!("STEPS {}", steps.load(Ordering::SeqCst)));
}

fn target(folder: &Path, die_at: usize) -> PathBuf {
    folder.join(format!("target-{die_at}"))
}

fn command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .stdin(Stdio::null());
    command
}

#[test]
fn a_death_at_any_step_of_any_change_loses_and_leaves_nothing() {
    if let Ok(task) = std::env::var(CHILD) {
        let (folder, die_at) = task.rsplit_once(' ').unwrap();
        return child(Path::new(folder), die_at.parse().unwrap());
    }
    let folder = in_memory();
    let sources = sources(folder.path());
    let (done, steps) = die(folder.path(), &sources, usize::MAX);
    let steps = steps.expect("a child that is not killed ends well");
    assert_eq!(done, CHANGES.len());
    assert!(steps > 10 * CHANGES.len(), "{steps}");
    let next = AtomicUsize::new(0);
    let work = || {
        let mut seen = BTreeSet::new();
        loop {
            let step = next.fetch_add(1, Ordering::SeqCst);
            if step >= steps {
                return seen;
            }
            let (done, ended) = die(folder.path(), &sources, step);
            assert_eq!(ended, None, "the child died at step {step}");
            seen.insert(done);
        }
    };
    let seen: BTreeSet<usize> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    // There was a death in every change.
    assert_eq!(seen.range(..CHANGES.len()).count(), CHANGES.len(), "{seen:?}");
}

/// Runs a child that dies at a step, and judges what it left. Answers how many changes were done, and how many steps
/// there were when it lived to the end.
fn die(folder: &Path, sources: &BTreeMap<char, Source>, step: usize) -> (usize, Option<usize>) {
    let output = command("crash::a_death_at_any_step_of_any_change_loses_and_leaves_nothing")
        .env(CHILD, format!("{} {step}", folder.display()))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    let expected = (step != usize::MAX).then_some(SIGABRT);
    assert_eq!(output.status.signal(), expected, "step {step}: {text} {report}");
    let told = |word: &str| -> Vec<usize> {
        let lines = text.lines().filter_map(|line| line.strip_suffix(';'));
        let values = lines.filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        values.map(|value| value.parse().unwrap()).collect()
    };
    let (done, steps) = (told("DONE").len(), told("STEPS").first().copied());

    let root = target(folder, step);
    let before = Model::after(&CHANGES[..done]);
    let after = Model::after(&CHANGES[..CHANGES.len().min(done + 1)]);
    // A reader needs nobody to mend anything first: what is listed is whole.
    let found = read_all(&Releases::at(&root), sources);
    assert!(
        found == before || found == after,
        "step {step}, {done} changes done: found {found:?}, expected {before:?} or {after:?}"
    );
    let releases = Releases::prepare(&root).unwrap();
    assert_eq!(read_all(&releases, sources), found, "step {step}");
    nothing_is_left(&releases, step);
    // It goes on as if nothing had happened.
    let rest = if found == after { done + 1 } else { done };
    for change in CHANGES.iter().skip(rest) {
        perform(&releases, sources, *change);
    }
    assert_eq!(read_all(&releases, sources), Model::after(CHANGES), "step {step}");
    nothing_is_left(&releases, step);
    fs::remove_dir_all(root).unwrap();
    (done, steps)
}

/// Every folder is in the index, and every blob is needed.
fn nothing_is_left(releases: &Releases, step: usize) {
    let listed = releases.list().unwrap();
    let mut expected: BTreeSet<String> = listed
        .iter()
        .map(|stored| astraler_release::directory_name(&stored.digest))
        .chain(["blobs", "oci-layout"].map(String::from))
        .collect();
    let found: BTreeSet<String> = names(releases.folder()).into_iter().collect();
    expected.extend(found.contains("index.json").then(|| "index.json".to_owned()));
    assert_eq!(found, expected, "step {step}");
    let mut needed = BTreeSet::new();
    for stored in listed {
        let mut archive = tar::Archive::new(std::io::Cursor::new(export(releases, &stored.digest)));
        for entry in archive.entries().unwrap() {
            let path = entry.unwrap().path().unwrap().to_str().unwrap().to_owned();
            needed.extend(path.strip_prefix("blobs/sha256/").map(str::to_owned));
        }
    }
    let blobs: BTreeSet<String> = names(&releases.folder().join("blobs/sha256"))
        .into_iter()
        .collect();
    assert_eq!(blobs, needed, "step {step}");
}

#[test]
fn the_umask_does_not_matter() {
    const NAME: &str = "crash::the_umask_does_not_matter";
    if let Ok(folder) = std::env::var(UMASK_CHILD) {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let folder = Path::new(&folder);
        releases(&folder.join("narrow")).build(&input_of(folder)).unwrap();
        return;
    }
    let folder = in_memory();
    let wide = releases(&folder.path().join("wide"));
    let built = wide.build(&input(folder.path())).unwrap();
    let output = command(NAME).env(UMASK_CHILD, folder.path()).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let narrow = folder.path().join("narrow/releases");
    assert_eq!(
        crate::support::files(wide.folder()),
        crate::support::files(&narrow)
    );
    let modes = |root: &Path| {
        let mut modes = BTreeMap::new();
        let mut pending = vec![root.to_owned()];
        while let Some(path) = pending.pop() {
            use std::os::unix::fs::PermissionsExt;
            let metadata = fs::metadata(&path).unwrap();
            let inside = path.strip_prefix(root).unwrap().to_owned();
            modes.insert(inside, metadata.permissions().mode() & 0o777);
            if metadata.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
            }
        }
        modes
    };
    assert_eq!(modes(wide.folder()), modes(&narrow));
    assert!(narrow.join(built.digest.replace(':', "-")).is_dir());
}

/// Set in a child whose files may not be long: the folder.
const FULL_CHILD: &str = "ASTRALER_RELEASE_FULL";

#[test]
fn a_disk_that_takes_no_more_is_named_and_nothing_is_left() {
    const NAME: &str = "crash::a_disk_that_takes_no_more_is_named_and_nothing_is_left";
    if let Ok(folder) = std::env::var(FULL_CHILD) {
        let folder = Path::new(&folder);
        let releases = releases(folder);
        let archive = fs::read(folder.join("archive.tar")).unwrap();
        let mut said = Vec::new();
        let built = releases.build(&input_of(&folder.join("large"))).unwrap_err();
        said.push(chain(&built));
        said.push(chain(&releases.import(archive.as_slice()).unwrap_err()));
        for said in said {
            tell(&format!(
                "SAID {}",
                said.contains("File too large") && said.contains("write")
            ));
        }
        return;
    }
    let folder = in_memory();
    let kept = releases(folder.path()).build(&input(folder.path())).unwrap();
    let large = folder.path().join("large");
    let source = input(&large);
    // It does not compress: the import writes as much as the build.
    let mut state = 1u64;
    let noise = (0..300_000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    write(&large.join("public/noise"), &noise.collect::<Vec<_>>());
    let elsewhere = releases(&folder.path().join("elsewhere"));
    let digest = elsewhere.build(&source).unwrap().digest;
    write(&folder.path().join("archive.tar"), &export(&elsewhere, &digest));
    let before = crate::support::files(&folder.path().join("releases"));
    // A limit on a file's length fails as a full disk does, at any byte; the shell lets the signal pass.
    let program = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh"])
        .arg(program)
        .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
        .env(FULL_CHILD, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(text.matches("SAID true;").count(), 2, "{text}");
    assert_eq!(crate::support::files(&folder.path().join("releases")), before);
    let releases = releases(folder.path());
    assert_eq!(names(releases.folder()).len(), 4);
    releases.verify(&kept.digest).unwrap();
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    said
}
