//! From sources to a release: the tools, the application's own build, the bundles, the image.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::place::{self, Place};
use crate::progress::Progress;
use crate::upload::Built;
use astraler_control::{MAX_MASK_BYTES, POSTGRES_VERSIONS, ReleaseConfiguration, StepOutcome};
use astraler_manifest::Manifest;
use astraler_release as release;
use astraler_workers::tools::{self, Tools, ToolsConfig};
use astraler_workers::{BundleInput, Module, bundle};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

/// Lines of a failed build that are shown.
const SHOWN_LINES: usize = 30;

/// Says at once what is missing on this machine, before anything is started.
pub(crate) fn check_requirements() -> Outcome {
    let missing = |error: &dyn std::error::Error| {
        Failure::of(error)
            .kind(Kind::Missing)
            .hint("`astraler doctor` shows every requirement with the command that installs it")
    };
    let engines = place::engines();
    let (min, max) = POSTGRES_VERSIONS;
    engines.postgres(min, max).map_err(|error| missing(&error))?;
    engines.redis().map_err(|error| missing(&error))?;
    Ok(())
}

/// Where the tools of the application's platform are.
pub(crate) fn tools_config(arguments: &Arguments) -> Outcome<ToolsConfig> {
    Ok(ToolsConfig {
        directory: Place::find(arguments)?.layout.tools,
    })
}

/// Installs the tools, builds the application, bundles its workers, makes the release in a folder of its own: the daemon
/// alone writes where releases are kept.
pub(crate) async fn assemble(
    place: &Place,
    manifest: &Manifest,
    no_build: bool,
    progress: &mut Progress,
) -> Outcome<Built> {
    let tools = install_tools(place, progress).await?;
    let folder = tempfile::Builder::new().prefix("release-").tempdir()?;
    if !no_build {
        let path = tool_path(folder.path(), &tools)?;
        packages(place, &path, progress).await?;
        build(place, manifest, &path, progress).await?;
    }
    let began = Instant::now();
    progress.begin("release");
    let releases = release::Releases::prepare(folder.path().join("releases"))?;
    let release = write_release(place, manifest, &tools, &folder.path().join("bundle"), &releases).await?;
    progress.end("release", StepOutcome::Unchanged, release.digest.clone(), began);
    Ok(Built {
        release,
        releases,
        _folder: folder,
    })
}

/// What stands for the sources, when git knows all of them: the same key needs no second build.
pub(crate) async fn key(place: &Place) -> Option<release::Key> {
    let git = async |words: &[&str]| {
        let output = tokio::process::Command::new("git")
            .args(words)
            .current_dir(&place.application)
            .stdin(Stdio::null())
            .output()
            .await
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    if !git(&["status", "--porcelain", "--", "."]).await?.is_empty() {
        return None;
    }
    let mut input = release::KeyInput {
        tree: git(&["rev-parse", "--verify", "HEAD:./"]).await?,
        ..release::KeyInput::default()
    };
    if let Ok(lock) = std::fs::read(place.application.join("pnpm-lock.yaml")) {
        use sha2::Digest;
        let hash = hex::encode(sha2::Sha256::digest(&lock));
        input.locks.insert("pnpm-lock.yaml".into(), hash);
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    input.tools.insert("astraler".into(), version);
    Some(release::Key::of(&input))
}

/// The script `database.mask`.
fn mask(place: &Place, manifest: &Manifest) -> Outcome<Option<String>> {
    let Some(path) = &manifest.config.database.mask else {
        return Ok(None);
    };
    let path = place.application.join(path);
    let refused = |why: String| Failure::new(Kind::Manifest, format!("database.mask: {why}"));
    let size = std::fs::metadata(&path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
    if size.len() > MAX_MASK_BYTES {
        return Err(refused(format!(
            "{} has {} bytes; at most {MAX_MASK_BYTES}",
            path.display(),
            size.len()
        )));
    }
    let text =
        std::fs::read_to_string(&path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
    Ok(Some(text))
}

async fn write_release(
    place: &Place,
    manifest: &Manifest,
    tools: &Tools,
    staging: &Path,
    releases: &release::Releases,
) -> Outcome<release::Release> {
    let inputs: Vec<BundleInput> = manifest
        .workers
        .iter()
        .map(|worker| BundleInput {
            name: worker.name.clone(),
            main: worker.main.clone(),
            directory: worker.directory.clone(),
            compatibility_flags: worker.compatibility_flags.clone(),
            out: staging.join(&worker.name),
        })
        .collect();
    let bundles = bundle(tools, &inputs).await.map_err(|error| {
        Failure::of(&error)
            .hint("what runs now goes on as it was; mend the source and run `astraler up` again")
    })?;
    let mut input = release::Input {
        application: manifest.config.name.clone(),
        configuration: serde_json::to_value(ReleaseConfiguration::of(manifest, mask(place, manifest)?))?,
        copies: vec![],
        workers: BTreeMap::new(),
    };
    for (worker, bundled) in manifest.workers.iter().zip(bundles) {
        let folder = format!("workers/{}", worker.name);
        input.copies.push((staging.join(&worker.name), folder.clone()));
        let modules = bundled
            .modules
            .into_iter()
            .map(|module| Module {
                path: Path::new(&folder).join(&module.path),
                ..module
            })
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?;
        let entry = release::WorkerEntry {
            modules,
            compatibility_date: worker.compatibility_date.clone(),
            compatibility_flags: worker.compatibility_flags.clone(),
        };
        input.workers.insert(worker.name.clone(), entry);
    }
    if let Some(directory) = &manifest.config.assets.directory {
        let source = place.application.join(directory);
        if !source.is_dir() {
            return Err(Failure::new(
                Kind::Manifest,
                format!("assets.directory: there is no {}", source.display()),
            )
            .hint("does the build write it? `build.command` runs before the release is made"));
        }
        input.copies.push((source, "assets".to_owned()));
    }
    let migrations = place.application.join(&manifest.config.database.migrations);
    if migrations.is_dir() {
        input.copies.push((migrations, "migrations".to_owned()));
    }
    input
        .copies
        .extend(crate::managed_rules::copies(place, manifest)?);
    Ok(releases.build(&input)?)
}

pub(crate) async fn install_tools(place: &Place, progress: &mut Progress) -> Outcome<Tools> {
    let began = Instant::now();
    progress.begin("tools");
    let config = ToolsConfig {
        directory: place.layout.tools.clone(),
    };
    let present = tools::find(&config);
    let fresh = present.is_none();
    let tools = match present {
        Some(tools) => tools,
        None => tools::ensure(&config)
            .await
            .map_err(|error| Failure::of(&error).kind(Kind::Missing))?,
    };
    let outcome = if fresh {
        StepOutcome::Changed
    } else {
        StepOutcome::Unchanged
    };
    progress.end("tools", outcome, "workerd, esbuild, pnpm", began);
    Ok(tools)
}

/// Installs the application's packages when its lock file changed.
async fn packages(place: &Place, path: &OsString, progress: &mut Progress) -> Outcome {
    if !place.application.join("pnpm-lock.yaml").is_file() || !packages_are_stale(&place.application) {
        return Ok(());
    }
    let command = "pnpm install --frozen-lockfile";
    let began = Instant::now();
    progress.begin("packages");
    run(place, command, path).await?;
    progress.end("packages", StepOutcome::Changed, command.to_owned(), began);
    Ok(())
}

/// Runs the application's build command.
async fn build(place: &Place, manifest: &Manifest, path: &OsString, progress: &mut Progress) -> Outcome {
    let Some(command) = &manifest.config.build.command else {
        return Ok(());
    };
    let began = Instant::now();
    progress.begin("build");
    run(place, command, path).await?;
    progress.end("build", StepOutcome::Unchanged, command.clone(), began);
    Ok(())
}

/// pnpm writes `.modules.yaml` at the end of an install.
fn packages_are_stale(application: &Path) -> bool {
    let changed = |path: PathBuf| {
        std::fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let installed = changed(application.join("node_modules/.modules.yaml"));
    let locked = changed(application.join("pnpm-lock.yaml"));
    installed.is_none() || installed < locked
}

/// A PATH whose `node` and `pnpm` are the pinned ones.
fn tool_path(folder: &Path, tools: &Tools) -> Outcome<OsString> {
    let folder = folder.join("tools");
    std::fs::create_dir_all(&folder)?;
    let node = tools.node.display();
    let scripts = [
        ("node", format!("#!/bin/sh\nexec '{node}' \"$@\"\n")),
        (
            "pnpm",
            format!("#!/bin/sh\nexec '{node}' '{}' \"$@\"\n", tools.pnpm.display()),
        ),
    ];
    for (name, script) in scripts {
        let path = folder.join(name);
        if std::fs::read(&path).ok().as_deref() != Some(script.as_bytes()) {
            astraler_host::file::replace(&path, script.as_bytes(), 0o755)?;
        }
    }
    let mut path = folder.into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    Ok(path)
}

async fn run(place: &Place, command: &str, path: &OsString) -> Outcome {
    let output = tokio::process::Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(&place.application)
        .env("PATH", path)
        .env("CI", "true")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..]
        .iter()
        .map(ToString::to_string)
        .collect();
    Err(
        Failure::new(Kind::General, format!("`{command}` failed ({})", output.status))
            .details(shown)
            .hint("what runs now goes on as it was; mend the build and run `astraler up` again"),
    )
}

/// The first program of a name on the PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}
