//! Git's side: the remote that `up` adds, the credential helper of the owner, the hooks of the repository.

use crate::cli::ProcessArguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use astraler_control::{AdminClient, Installation, PushRequest, PushTaken, RefUpdate};
use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// The remote's name in the application's repository.
const REMOTE: &str = "astraler";
/// What git tells a helper, or a hook about the branches of a push.
const MAX_INPUT_BYTES: u64 = 1 << 20;
/// Options that are passed on; the daemon refuses so many.
const MAX_OPTIONS: usize = 64;

/// In a work tree whose top is the application, adds the remote and the helper that signs its owner in. A remote of
/// the name that exists is never changed. Returns the name of the remote when it was added.
pub(super) fn remote(place: &Place, installation: &Installation) -> Option<&'static str> {
    let folder = &place.application;
    if !folder.join(".git").exists() || succeeds(folder, &["remote", "get-url", REMOTE]) {
        return None;
    }
    let base = format!("http://127.0.0.1:{}", installation.ports.api);
    let url = format!("{base}/git/{}.git", installation.application);
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let helper = format!(
        "!{} git-credential --installation {}",
        quoted(&std::env::current_exe().ok()?),
        quoted(&place.layout.installation_file())
    );
    let added = succeeds(folder, &["config", &format!("credential.{base}.helper"), &helper])
        && succeeds(folder, &["remote", "add", REMOTE, &url]);
    added.then_some(REMOTE)
}

fn succeeds(folder: &Path, arguments: &[&str]) -> bool {
    let status = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// `astraler git-credential get`: a token for some minutes, from the daemon, which knows us by the socket.
pub(super) fn credential(process: &ProcessArguments, operation: &str) -> Outcome {
    // git's other words, store and erase, have nothing to do here.
    if operation != "get" {
        return Ok(());
    }
    let mut asked = String::new();
    std::io::stdin()
        .take(MAX_INPUT_BYTES)
        .read_to_string(&mut asked)?;
    let installation = Installation::load(&process.installation)?;
    let ours = format!("host=127.0.0.1:{}", installation.ports.api);
    if !asked.lines().any(|line| line == ours) {
        // Another host is no business of this helper: no answer lets git ask the next.
        return Ok(());
    }
    let client = AdminClient::new(installation.layout.admin_socket());
    let report = super::block_on(async { client.session().await.map_err(|error| super::not_up(&error)) })?;
    let answer = format!("username=owner\npassword={}\n", report.token);
    Ok(std::io::stdout().lock().write_all(answer.as_bytes())?)
}

/// A hook of the platform's repository. What it writes reaches the pusher.
pub(super) fn hook(process: &ProcessArguments, hook: &str) -> Outcome {
    let installation = Installation::load(&process.installation)?;
    let push = std::env::var("ASTRALER_PUSH")
        .ok()
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Failure::new(Kind::General, "this is a hook of the platform's repository"))?;
    let client = AdminClient::new(installation.layout.admin_socket());
    match hook {
        "pre-receive" => decide(&client, push),
        "post-receive" => taken(&client, push),
        other => Err(Failure::new(
            Kind::General,
            format!("there is no hook {other} here"),
        )),
    }
}

/// Asks the daemon whether the push may be taken.
fn decide(client: &AdminClient, push: u64) -> Outcome {
    let mut updates = Vec::new();
    for line in std::io::stdin().lock().take(MAX_INPUT_BYTES).lines() {
        let line = line?;
        let mut words = line.splitn(3, ' ');
        let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
            return Err(Failure::new(Kind::General, format!("git wrote `{line}`")));
        };
        let fresh = old.bytes().all(|digit| digit == b'0');
        let here = Path::new(".");
        updates.push(RefUpdate {
            fast_forward: fresh || succeeds(here, &["merge-base", "--is-ancestor", old, new]),
            old: old.to_owned(),
            new: new.to_owned(),
            name: name.to_owned(),
        });
    }
    let request = PushRequest {
        push,
        updates,
        options: options(),
    };
    let verdict = super::block_on(async {
        client
            .push_verdict(&request)
            .await
            .map_err(|error| super::not_up(&error))
    })?;
    if verdict.refused.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Kind::General, "this push is refused, nothing of it was taken").details(verdict.refused))
}

/// The options of `git push -o`, as githooks(5) says.
fn options() -> Vec<String> {
    let count = std::env::var("GIT_PUSH_OPTION_COUNT").ok();
    let count: usize = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    (0..count.min(MAX_OPTIONS))
        .filter_map(|index| std::env::var(format!("GIT_PUSH_OPTION_{index}")).ok())
        .collect()
}

/// Tells the daemon that the branches are moved, and shows what their runs say. The push is taken whatever they do.
fn taken(client: &AdminClient, push: u64) -> Outcome {
    let mut shown = super::pipeline_runs::Shown::brief();
    let request = PushTaken { push };
    super::block_on(async {
        let told = client
            .push_taken(&request, |line| {
                shown
                    .line(&line)
                    .iter()
                    .for_each(|text| crate::progress::line(text));
                true
            })
            .await;
        told.map_err(|error| {
            super::not_up(&error)
                .hint("the push was taken, and is run all the same: `astraler pipeline list` shows its runs")
        })
    })
}
