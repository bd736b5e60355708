//! From sources to a release: the tools, the application's own build, the bundles, the folder named by its
//! digest.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::place::{self, Place};
use crate::progress::Progress;
use astraler_control::{Application, POSTGRES_VERSIONS, StepOutcome, WorkerPlan};
use astraler_manifest::{Manifest, Worker};
use astraler_model::{AssetConfig, Environment};
use astraler_release as release;
use astraler_workers::tools::{self, Tools, ToolsConfig};
use astraler_workers::{BundleInput, Module, bundle};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

/// A release, ready to be deployed to any environment.
pub(crate) struct Assembled {
    manifest: Manifest,
    release: release::Release,
}

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

/// Installs the tools, builds the application, bundles its workers, writes the release.
pub(crate) async fn assemble(
    place: &Place,
    manifest: &Manifest,
    no_build: bool,
    progress: &mut Progress,
) -> Outcome<Assembled> {
    let tools = install_tools(place, progress).await?;
    if !no_build {
        build(place, manifest, &tools, progress).await?;
    }
    let began = Instant::now();
    progress.begin("release");
    let staging = tempfile::Builder::new().prefix("bundle-").tempdir()?;
    let release = write_release(place, manifest, &tools, staging.path()).await?;
    progress.end("release", StepOutcome::Unchanged, release.digest.clone(), began);
    Ok(Assembled {
        manifest: manifest.clone(),
        release,
    })
}

impl Assembled {
    /// The release with the values of one environment.
    pub(crate) fn application(&self, environment: Environment) -> Application {
        let contents = &self.release.manifest;
        let workers = self
            .manifest
            .workers
            .iter()
            .map(|worker| plan(worker, environment, &self.release))
            .collect();
        let assets = contents.has_assets().then(|| AssetConfig {
            directory: self.release.directory.join("assets"),
            html_handling: self.manifest.config.assets.html_handling,
            not_found_handling: self.manifest.config.assets.not_found_handling,
        });
        Application {
            config: self.manifest.config.clone(),
            release: self.release.digest.clone(),
            workers,
            assets,
            migrations: contents
                .has_migrations()
                .then(|| self.release.directory.join("migrations")),
        }
    }
}

fn plan(worker: &Worker, environment: Environment, release: &release::Release) -> WorkerPlan {
    let entry = release.manifest.workers.get(&worker.name);
    let modules = entry.into_iter().flat_map(|entry| &entry.modules);
    WorkerPlan {
        name: worker.name.clone(),
        routes: worker.routes.clone(),
        // What the release holds was written by `write_release`, from the same type.
        modules: modules
            .filter_map(|module| serde_json::from_value(module.clone()).ok())
            .collect(),
        compatibility_date: worker.compatibility_date.clone(),
        compatibility_flags: worker.compatibility_flags.clone(),
        vars: worker.vars_for(environment),
        r2: worker
            .r2
            .iter()
            .map(|r2| (r2.binding.clone(), r2.bucket.clone()))
            .collect(),
        hyperdrive: worker
            .hyperdrive
            .iter()
            .map(|hyperdrive| hyperdrive.binding.clone())
            .collect(),
        memory_bytes: worker.memory_bytes,
    }
}

async fn write_release(
    place: &Place,
    manifest: &Manifest,
    tools: &Tools,
    staging: &Path,
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
        configuration: serde_json::json!({ "config": manifest.config }),
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
    Ok(release::Releases::prepare(place.layout.releases())?.build(&input)?)
}

async fn install_tools(place: &Place, progress: &mut Progress) -> Outcome<Tools> {
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

/// Installs the application's packages when its lock file changed, then runs its build command.
async fn build(place: &Place, manifest: &Manifest, tools: &Tools, progress: &mut Progress) -> Outcome {
    let Some(command) = &manifest.config.build.command else {
        return Ok(());
    };
    let began = Instant::now();
    progress.begin("build");
    let path = tool_path(place, tools)?;
    if place.application.join("pnpm-lock.yaml").is_file() && packages_are_stale(&place.application) {
        run(place, "pnpm install --frozen-lockfile", &path).await?;
    }
    run(place, command, &path).await?;
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
fn tool_path(place: &Place, tools: &Tools) -> Outcome<OsString> {
    let folder = place.layout.state.join("bin/tools");
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
