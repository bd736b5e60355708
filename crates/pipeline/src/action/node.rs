//! `actions/setup-node` and `pnpm/action-setup`: the pinned tools where they fit, else npm's packages through the
//! registry into the tool cache.

use super::{Context, Done, Inputs};
use crate::engine::{Failed, Job, Post, STORE};
use crate::sandbox::{Program, TOOL_CACHE};
use crate::store;
use astraler_host::lock::FileLock;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Largest file that names a version.
const MAX_FILE: u64 = 1 << 20;

pub(super) async fn setup_node(job: &mut Job, inputs: &Inputs, context: &Context<'_>) -> Done {
    let wanted = match (inputs.get("node-version"), inputs.get("node-version-file")) {
        (Some(version), _) => Some(version.to_owned()),
        (None, Some(file)) => Some(version_of_file(job, file)?),
        (None, None) => None,
    };
    let mut outputs: BTreeMap<String, String> = BTreeMap::new();
    if let Some(wanted) = wanted {
        let (folder, version) = node(job, context, &wanted).await?;
        if let Some(folder) = folder {
            job.paths.insert(0, folder);
        }
        job.say(&format!("node {version}")).await;
        outputs.insert("node-version".into(), format!("v{version}"));
    }
    outputs.insert("cache-hit".into(), "false".into());
    match inputs.get("cache") {
        Some("pnpm") => {
            let warm = take_store(job).await?;
            outputs.insert("cache-hit".into(), warm.to_string());
        }
        Some(other) => {
            let text = format!("the cache of {other} is not kept; actions/cache can keep it");
            job.say(&text).await;
        }
        None => {}
    }
    Ok(outputs)
}

pub(super) async fn setup_pnpm(job: &mut Job, inputs: &Inputs, context: &Context<'_>) -> Done {
    let file = inputs.get("package_json_file").unwrap_or("package.json");
    let named = package_manager(job, file);
    let version = match (inputs.get("version"), named) {
        (Some(version), Some(named)) if !named.starts_with(version.trim_end_matches(".x")) => {
            return Err(Failed::Because(format!(
                "Multiple versions of pnpm specified: version {version} in the workflow, {named} in {file}"
            )));
        }
        (_, Some(named)) => named,
        (Some(version), None) => version.to_owned(),
        (None, None) => {
            return Err(Failed::Because(format!(
                "No pnpm version is specified: name it in the key `packageManager` of {file}, or in the input `version`"
            )));
        }
    };
    let pinned = job
        .shared
        .spec
        .tools
        .pnpm
        .as_ref()
        .filter(|(_, pinned)| fits(&version, pinned));
    let (script, version) = match pinned {
        Some((_, pinned)) => ("/opt/astraler/pnpm/bin/pnpm.cjs".to_owned(), pinned.clone()),
        None => {
            let package = install(job, context, "pnpm", &version).await?;
            let script = format!("{TOOL_CACHE}/{package}/node_modules/pnpm/bin/pnpm.cjs");
            (script, version)
        }
    };
    // In a folder of its own, before the path: `pnpm` and `pnpx`.
    let folder = format!("{}/setup-pnpm", crate::sandbox::TEMP);
    let said = |error: io::Error| Failed::Because(format!("pnpm cannot be put into the path: {error}"));
    let outside = job.confined.make_dir(&folder).map_err(said)?;
    for (name, script) in [
        ("pnpm", script.clone()),
        ("pnpx", script.replace("pnpm.cjs", "pnpx.cjs")),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let path = outside.join(name);
        fs::remove_file(&path).ok();
        crate::engine::write(
            &path,
            format!("#!/bin/sh\nexec node {script} \"$@\"\n").as_bytes(),
        )
        .map_err(said)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(said)?;
    }
    job.paths.insert(0, folder.clone());
    job.env.insert("PNPM_HOME".into(), folder.clone());
    job.say(&format!("pnpm {version}")).await;
    take_store(job).await?;
    if inputs
        .get("run_install")
        .is_some_and(|value| value != "false" && value != "null")
    {
        job.say(
            "##[warning]`run_install` of pnpm/action-setup is not supported: write a step `pnpm install`",
        )
        .await;
    }
    Ok([
        ("dest".to_owned(), folder.clone()),
        ("bin_dest".to_owned(), folder),
    ]
    .into())
}

/// Gives the job the shared store, once; what is new goes back at the end. True where there was one.
async fn take_store(job: &mut Job) -> Result<bool, Failed> {
    if job.posts.iter().any(|post| matches!(post, Post::GiveBackStore)) {
        return Ok(true);
    }
    let spec = &job.shared.spec;
    let (folder, trust) = (spec.folders.cache.clone(), spec.trust.clone());
    let said =
        |error: io::Error| Failed::Because(format!("the package store cannot be given to the job: {error}"));
    let target = job.confined.outside(STORE).map_err(said)?;
    let taken = tokio::task::spawn_blocking(move || store::take(&folder, &trust, &target));
    let warm = taken
        .await
        .map_err(|_| Failed::Because("the package store cannot be given to the job".into()))?
        .map_err(said)?;
    // pnpm's own default is the same place; this holds whatever a step changes.
    job.env.insert("npm_config_store_dir".into(), STORE.into());
    job.posts.push(Post::GiveBackStore);
    Ok(warm)
}

/// A Node.js that fits: the folder for the path, none for the system's own, and its version.
async fn node(
    job: &mut Job,
    context: &Context<'_>,
    wanted: &str,
) -> Result<(Option<String>, String), Failed> {
    let wanted = wanted.trim().trim_start_matches('v');
    let pinned = job.shared.spec.tools.node.clone();
    if let Some((path, version)) = pinned
        && (fits(wanted, &version) || matches!(wanted, "lts/*" | "latest" | "node" | "current"))
    {
        // The system's own is in the path already.
        let folder = (!path.starts_with("/usr")).then(|| "/opt/astraler/node/bin".to_owned());
        return Ok((folder, version));
    }
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let range = match wanted {
        "lts/*" | "latest" | "node" | "current" => "latest",
        other => other,
    };
    let name = format!("node-linux-{arch}");
    let package = install(job, context, &name, range).await?;
    let inside = format!("{package}/node_modules/{name}");
    let file = job
        .shared
        .spec
        .folders
        .tool_cache
        .join(&inside)
        .join("package.json");
    let version = fs::read_to_string(file).ok().and_then(|text| {
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(json["version"].as_str()?.to_owned())
    });
    Ok((
        Some(format!("{TOOL_CACHE}/{inside}/bin")),
        version.unwrap_or_else(|| wanted.to_owned()),
    ))
}

/// Installs a package of npm into the tool cache, once. It is done in a sandbox of its own, where no step can
/// have put anything. Gives its folder in the tool cache.
async fn install(job: &mut Job, context: &Context<'_>, name: &str, range: &str) -> Result<String, Failed> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-*^~<>= |".contains(c);
    if range.is_empty() || range.len() > 100 || !range.chars().all(plain) {
        return Err(Failed::Because(format!("{range:?} is no version")));
    }
    let tool_cache = job.shared.spec.folders.tool_cache.clone();
    let folder = format!("{name}@{}", hex::encode(range));
    let target = tool_cache.join(&folder);
    if target.is_dir() {
        return Ok(folder);
    }
    let said = |error: io::Error| Failed::Because(format!("{name}@{range} cannot be installed: {error}"));
    let lock = tool_cache.join(format!("{folder}.lock"));
    let waiting = tokio::task::spawn_blocking(move || FileLock::wait(lock, "installing a tool"));
    let _lock = waiting
        .await
        .map_err(io::Error::other)
        .and_then(|lock| lock.map_err(io::Error::other))
        .map_err(said)?;
    if target.is_dir() {
        return Ok(folder);
    }
    job.say(&format!("installing {name}@{range} from the registry of npm"))
        .await;
    let partial = tool_cache.join(format!(".partial-{folder}"));
    crate::work::remove(&partial)
        .and_then(|()| crate::work::make(&partial))
        .map_err(said)?;
    let mut env = job.environment(context.frame, &BTreeMap::new(), context.id);
    for (variable, value) in [
        ("HOME", "/opt/install/home"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("npm_config_cache", "/opt/install/home/cache"),
    ] {
        env.insert(variable.to_owned(), value.to_owned());
    }
    let wanted = format!("{name}@{range}");
    let argv = [
        "npm",
        "install",
        "--prefix",
        "/opt/install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        &wanted,
    ];
    let program = Program {
        argv: argv.map(str::to_owned).to_vec(),
        env,
        cwd: "/opt/install".to_owned(),
        writable: Some((partial.clone(), "/opt/install".to_owned())),
    };
    let done = job.tool(program, context.most).await;
    crate::work::remove(&partial.join("home")).ok();
    if let Err(error) = done {
        crate::work::remove(&partial).ok();
        return Err(error);
    }
    fs::rename(&partial, &target).map_err(said)?;
    Ok(folder)
}

/// `pnpm@10.1.2+sha512…` in `packageManager`.
fn package_manager(job: &Job, file: &str) -> Option<String> {
    let text = job
        .confined
        .read(&format!("{}/{file}", job.workspace), MAX_FILE)
        .ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    let version = json["packageManager"].as_str()?.strip_prefix("pnpm@")?;
    Some(version.split('+').next().unwrap_or(version).to_owned())
}

fn version_of_file(job: &Job, file: &str) -> Result<String, Failed> {
    let path = format!("{}/{file}", job.workspace);
    let text = job.confined.read(&path, MAX_FILE).map_err(|error| {
        Failed::Because(format!(
            "The specified node version file at: {file} cannot be read: {error}"
        ))
    })?;
    let found = if Path::new(file)
        .file_name()
        .is_some_and(|name| name == "package.json")
    {
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| Failed::Because(format!("{file}: {error}")))?;
        let volta = json["volta"]["node"].as_str();
        volta.or(json["engines"]["node"].as_str()).map(str::to_owned)
    } else {
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'));
        line.map(|line| {
            line.trim_start_matches("nodejs ")
                .trim_start_matches("node ")
                .to_owned()
        })
    };
    found.ok_or_else(|| Failed::Because(format!("{file} names no version of node")))
}

/// Whether a version is what `24`, `24.x`, `24.1`, `24.1.2`, `^24.1.0`, `>=20.19` ask for.
fn fits(wanted: &str, version: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        let parts = text
            .split('.')
            .filter(|part| !matches!(*part, "x" | "X" | "*" | ""));
        parts.map(|part| part.parse().ok()).collect()
    };
    let Some(have) = numbers(version).filter(|have| have.len() == 3) else {
        return false;
    };
    let wanted = wanted.trim().trim_start_matches('v');
    if let Some(least) = wanted.strip_prefix(">=") {
        return numbers(least.trim()).is_some_and(|least| !least.is_empty() && have >= least);
    }
    let (exact, same) = match wanted.strip_prefix('^') {
        Some(rest) => (rest, 1),
        None => match wanted.strip_prefix('~') {
            Some(rest) => (rest, 2),
            None => (wanted, 3),
        },
    };
    let Some(least) = numbers(exact).filter(|least| !least.is_empty()) else {
        return false;
    };
    let same = same.min(least.len());
    have[..same] == least[..same] && have >= least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_fit_as_npm_has_it() {
        for wanted in [
            "24", "24.x", "v24", "24.21", "24.21.0", "^24.1.0", "~24.21.0", ">=20.19", "^24",
        ] {
            assert!(fits(wanted, "24.21.0"), "{wanted}");
        }
        for wanted in [
            "20", "24.22", "24.20.0", "^24.22.0", "~24.20.0", ">=25", "lts/*", "", "x || y",
        ] {
            assert!(!fits(wanted, "24.21.0"), "{wanted}");
        }
    }
}
