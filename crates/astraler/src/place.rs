//! Where the platform of an application lives, and the preparation of that place: folders, users, the root key, the program's own copy.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use astraler_control::{Engines, Identities, Installation, Layout, Ports};
use astraler_host::{file, lock, users};
use astraler_manifest::{Config, Diagnostics, Manifest};
use astraler_model::Identity;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// An application's folder and the place of its platform.
pub(crate) struct Place {
    /// The application.
    pub(crate) application: PathBuf,
    /// Short identifier.
    pub(crate) id: String,
    /// Folders.
    pub(crate) layout: Layout,
}

/// The longest path of a socket below the runtime folder; a socket's path has 107 bytes.
const LONGEST_BELOW_RUNTIME: usize = 62;

impl Place {
    /// Finds the application and says where its platform lives. Touches nothing.
    pub(crate) fn find(arguments: &Arguments) -> Outcome<Self> {
        let start = match &arguments.dir {
            Some(dir) => dir.clone(),
            None => std::env::current_dir()?,
        };
        let application = match &arguments.dir {
            Some(dir) if dir.join("astraler.toml").is_file() => Some(dir.clone()),
            Some(_) => None,
            None => astraler_manifest::find_root(&start),
        };
        let Some(application) = application else {
            return Err(
                Failure::new(Kind::Manifest, format!("no astraler.toml in {}", start.display()))
                    .hint("run `astraler init` there, or name the application's folder with --dir"),
            );
        };
        Self::at(application.canonicalize()?, arguments.state.as_deref())
    }

    /// Where the platform of an application will live that is not there yet; `make` makes its folder.
    pub(crate) fn to_be(arguments: &Arguments, make: bool) -> Outcome<Self> {
        let folder = match &arguments.dir {
            Some(dir) => std::path::absolute(dir)?,
            None => std::env::current_dir()?,
        };
        if make {
            file::make_dir(&folder, 0o755, None, None)?;
        }
        // Of a folder that is to be made, its parents are what they will be.
        Self::at(
            folder.canonicalize().unwrap_or(folder),
            arguments.state.as_deref(),
        )
    }

    fn at(application: PathBuf, state: Option<&Path>) -> Outcome<Self> {
        let layout = layout(&application, state)?;
        let id = identifier(&application, state);
        if layout.runtime.as_os_str().len() + LONGEST_BELOW_RUNTIME > 107 {
            let shown = layout.runtime.display();
            return Err(Failure::new(
                Kind::General,
                format!("the runtime folder's path is too long: {shown}"),
            )
            .hint("set ASTRALER_RUNTIME to a shorter folder: a socket's path has 107 bytes"));
        }
        Ok(Self {
            application,
            id,
            layout,
        })
    }

    /// The record of a platform that has been set up before.
    pub(crate) fn installation(&self) -> Outcome<Installation> {
        Installation::load(&self.layout.installation_file()).map_err(|error| {
            Failure::of(&error)
                .kind(Kind::NotUp)
                .hint("run `astraler up` first")
        })
    }

    /// Takes the lock under which the platform is changed.
    pub(crate) fn lock(&self, what: &str) -> Outcome<lock::FileLock> {
        lock::FileLock::try_acquire(self.layout.change_lock(), what).map_err(|error| {
            let held = matches!(error, lock::LockError::Held { .. });
            let failure = Failure::of(&error);
            if held {
                failure
                    .kind(Kind::Locked)
                    .hint("wait for it to end; the lock goes with its process")
            } else {
                failure
            }
        })
    }
}

/// `<name of the folder>-<8 hex digits>`: unique on this machine, short enough for sockets.
fn identifier(application: &Path, state: Option<&Path>) -> String {
    let mut digest = Sha256::new();
    digest.update(application.as_os_str().as_encoded_bytes());
    if let Some(state) = state {
        digest.update([0]);
        digest.update(state.as_os_str().as_encoded_bytes());
    }
    let hash = hex::encode(digest.finalize());
    let name: String = application
        .file_name()
        .map(|name| name.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .take(12)
        .collect();
    format!("{name}-{}", &hash[..8])
}

fn layout(application: &Path, state: Option<&Path>) -> Outcome<Layout> {
    let id = identifier(application, state);
    let root = is_root();
    let from_env = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = || {
        from_env("HOME").ok_or_else(|| {
            Failure::new(Kind::General, "HOME is not set")
                .hint("set HOME, or ASTRALER_CONFIG and ASTRALER_TOOLS")
        })
    };
    let state = match state {
        Some(state) => std::path::absolute(state)?,
        None if root => Path::new("/var/lib/astraler").join(&id),
        None => application.join(".astraler"),
    };
    let runtime = match (from_env("ASTRALER_RUNTIME"), from_env("XDG_RUNTIME_DIR")) {
        (Some(folder), _) => folder.join(&id),
        (None, _) if root => Path::new("/run/astraler").join(&id),
        (None, Some(folder)) => folder.join("astraler").join(&id),
        (None, None) => PathBuf::from(format!("/tmp/astraler-{}", nix::unistd::getuid())).join(&id),
    };
    let config = match from_env("ASTRALER_CONFIG") {
        Some(folder) => folder.join(&id),
        None if root => Path::new("/etc/astraler").join(&id),
        None => match from_env("XDG_CONFIG_HOME") {
            Some(folder) => folder.join("astraler").join(&id),
            None => home()?.join(".config/astraler").join(&id),
        },
    };
    let tools = match from_env("ASTRALER_TOOLS") {
        Some(folder) => folder,
        None if root => PathBuf::from("/var/lib/astraler/tools"),
        None => match from_env("XDG_DATA_HOME") {
            Some(folder) => folder.join("astraler/tools"),
            None => home()?.join(".local/share/astraler/tools"),
        },
    };
    Ok(Layout {
        state,
        runtime,
        config,
        tools,
    })
}

/// Where an edge that stands alone keeps its local CA, when nothing else is said.
pub(crate) fn edge_folder() -> Outcome<PathBuf> {
    if is_root() {
        return Ok("/var/lib/astraler/edge".into());
    }
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let data = folder("XDG_DATA_HOME").or_else(|| Some(folder("HOME")?.join(".local/share")));
    data.map(|data| data.join("astraler/edge")).ok_or_else(|| {
        Failure::new(Kind::General, "HOME is not set")
            .hint("say where the local CA shall be: --state-folder FOLDER")
    })
}

/// Engines in folders that the user names: another version, or a build of their own.
pub(crate) fn engines() -> Engines {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    Engines {
        postgres: folder("ASTRALER_POSTGRES_BIN"),
        redis: folder("ASTRALER_REDIS_BIN"),
    }
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Reads the manifest; all its errors at once.
pub(crate) fn manifest(place: &Place) -> Outcome<Manifest> {
    astraler_manifest::load(&place.application)
        .map_err(|diagnostics: Diagnostics| Failure::diagnostics(&diagnostics))
}

/// Makes the place ready: idempotent. `http_port` overrides the manifest's.
pub(crate) fn prepare(place: &Place, config: &Config, http_port: Option<u16>) -> Outcome<Installation> {
    same_application(place)?;
    let identities = identities()?;
    folders(place, &identities)?;
    let program = own_program(&place.layout)?;
    let addresses = config.edge.listen_addresses.clone();
    let ports = crate::ports::allocate(&place.layout, http_port, &config.edge)?;
    let dns = crate::ports::for_dns(&place.layout, &config.edge)?;
    let ports = Ports { dns, ..ports };
    root_key(&place.layout, identities.daemon.as_ref())?;
    let installation = Installation {
        id: place.id.clone(),
        application: config.name.clone(),
        layout: place.layout.clone(),
        identities,
        owner_uid: nix::unistd::getuid().as_raw(),
        program,
        ports,
        listen_addresses: addresses,
        engines: engines(),
        isolation: astraler_host::isolation::probe().describe(),
    };
    let json = serde_json::to_vec_pretty(&installation)?;
    file::replace(place.layout.installation_file(), &json, 0o644)?;
    Ok(installation)
}

/// Keeps what runs need to know of the owner's shell. An address may hold a password: only the daemon reads it.
pub(crate) fn keep_machine(installation: &Installation, machine: &astraler_pipeline::Machine) -> Outcome {
    let group = installation.identities.daemon.as_ref().map(|daemon| daemon.gid);
    let json = serde_json::to_vec_pretty(machine)?;
    file::replace_owned(installation.layout.machine(), &json, 0o640, group)?;
    Ok(())
}

/// As root every engine and process has a user of its own; otherwise all run as the owner.
fn identities() -> Outcome<Identities> {
    if !is_root() {
        return Ok(Identities::default());
    }
    let user = |name: &str| users::ensure_system_user(&format!("astraler-{name}"));
    let mut identities = Identities {
        daemon: Some(user("daemon")?),
        edge: Some(user("edge")?),
        data: Some(user("data")?),
        egress: Some(user("egress")?),
        worker: Some(user("worker")?),
        postgres: Some(user("postgres")?),
        redis: Some(user("redis")?),
        runner: Some(user("runner")?),
        signal: Some(user("signal")?),
    };
    // The daemon hands files to each role through that role's group; the data role reaches the engines'
    // sockets through theirs.
    let gid = |identity: &Option<Identity>| identity.as_ref().map(|identity| identity.gid);
    let engines = [gid(&identities.postgres), gid(&identities.redis)];
    let roles = [
        gid(&identities.edge),
        gid(&identities.data),
        gid(&identities.egress),
        gid(&identities.worker),
        gid(&identities.runner),
        gid(&identities.signal),
    ];
    if let Some(daemon) = &mut identities.daemon {
        daemon.groups = engines.iter().chain(&roles).flatten().copied().collect();
    }
    if let Some(data) = &mut identities.data {
        data.groups = engines.iter().flatten().copied().collect();
    }
    // It reads the logs of all units, which are the daemon's group's, and the edge's.
    let read = [gid(&identities.daemon), gid(&identities.edge)];
    if let Some(signal) = &mut identities.signal {
        signal.groups = read.into_iter().flatten().collect();
    }
    Ok(identities)
}

fn folders(place: &Place, identities: &Identities) -> Outcome {
    let layout = &place.layout;
    let daemon = identities
        .daemon
        .as_ref()
        .map(|identity| (identity.uid, identity.gid));
    let (uid, gid) = daemon.map_or((None, None), |(uid, gid)| (Some(uid), Some(gid)));
    let unwritable = |error: file::FileError| {
        Failure::of(&error)
            .context(format!(
                "the state folder {} cannot be prepared",
                layout.state.display()
            ))
            .hint("choose a folder that you may write to with --state, or mend its owner and mode")
    };
    file::make_dir(&layout.state, 0o755, None, None).map_err(unwritable)?;
    for (name, mode) in [("keep", 0o700), ("bin", 0o755)] {
        file::make_dir(layout.state.join(name), mode, None, None).map_err(unwritable)?;
    }
    // The logs' group may read them: the daemon shows an engine's last words.
    file::make_dir(layout.logs(), 0o755, None, gid).map_err(unwritable)?;
    for (name, mode) in [
        ("control", 0o700),
        ("git", 0o700),
        ("releases", 0o755),
        ("postgres", 0o755),
        ("redis", 0o755),
        ("runs", 0o755),
    ] {
        file::make_dir(layout.state.join(name), mode, uid, gid).map_err(unwritable)?;
    }
    let edge = identities.edge.as_ref().map(|identity| identity.gid);
    let mode = if edge.is_some() { 0o750 } else { 0o700 };
    file::make_dir(layout.certificates(), mode, uid, edge).map_err(unwritable)?;
    let runner = identities
        .runner
        .as_ref()
        .map(|identity| (identity.uid, identity.gid));
    let (runner, group) = runner.map_or((None, None), |(uid, gid)| (Some(uid), Some(gid)));
    file::make_dir(layout.pipeline(), 0o700, runner, group).map_err(unwritable)?;
    file::make_dir(&layout.runtime, 0o755, uid, gid)?;
    for folder in astraler_control::socket_folders(&layout.runtime) {
        file::make_dir(&folder, 0o755, uid, gid)?;
    }
    file::make_dir(layout.runtime.join("secrets"), 0o700, uid, gid)?;
    file::make_dir(&layout.config, 0o700, uid, gid)?;
    Ok(())
}

/// A copy of this program that the engines' users can execute and that a rebuild does not change under
/// running processes.
fn own_program(layout: &Layout) -> Outcome<PathBuf> {
    copy_program(&layout.state.join("bin"))
}

/// A copy of this program in a folder that holds nothing else.
pub(crate) fn copy_program(folder: &Path) -> Outcome<PathBuf> {
    let current = std::env::current_exe()?;
    let metadata = std::fs::metadata(&current)?;
    let changed = metadata
        .modified()?
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |age| age.as_nanos());
    let mut digest = Sha256::new();
    digest.update(current.as_os_str().as_encoded_bytes());
    digest.update(metadata.len().to_be_bytes());
    digest.update(changed.to_be_bytes());
    let name = format!("astraler-{}", &hex::encode(digest.finalize())[..12]);
    let path = folder.join(&name);
    if path.is_file() {
        return Ok(path);
    }
    let partial = folder.join(format!("{name}.partial"));
    std::fs::copy(&current, &partial)?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&partial, &path)?;
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_string_lossy() != name {
            // Running processes keep their file; only its name goes.
            std::fs::remove_file(entry.path()).ok();
        }
    }
    Ok(path)
}

/// The root key and the sockets go by the application's folder: a state folder that was made for another one, or
/// before this one was moved, has its key under another name.
fn same_application(place: &Place) -> Outcome {
    let Ok(before) = Installation::load(&place.layout.installation_file()) else {
        return Ok(());
    };
    if before.id == place.id || place.layout.root_key().exists() {
        return Ok(());
    }
    let key = before.layout.root_key();
    Err(Failure::new(
        Kind::General,
        format!(
            "the state folder {} was made for `{}` in another folder ({}, this is {})",
            place.layout.state.display(),
            before.application,
            before.id,
            place.id
        ),
    )
    .hint(format!(
        "for another application choose another folder with --state; if this one was moved, take its root key along: \
         mkdir -p {} && mv {} {}",
        place.layout.config.display(),
        key.display(),
        place.layout.root_key().display()
    )))
}

fn root_key(layout: &Layout, daemon: Option<&Identity>) -> Outcome {
    let path = layout.root_key();
    if !path.exists() && layout.control_database().exists() {
        return Err(Failure::new(Kind::General, format!("the root key {} is missing", path.display())).hint(
            "put the key back: without it the secrets of this platform cannot be opened; to begin anew, remove the state folder",
        ));
    }
    if !path.exists() {
        astraler_secrets::RootKey::generate().save_new(&path)?;
    }
    // An `up` that was killed may have saved the key and not handed it over.
    if let Some(daemon) = daemon {
        std::os::unix::fs::chown(&path, Some(daemon.uid), Some(daemon.gid))?;
    }
    Ok(())
}
