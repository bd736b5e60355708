//! `actions/checkout`: from the run's own repository, by git itself, in the sandbox.

use super::{Context, Done, Inputs};
use crate::engine::{Failed, Job};
use crate::sandbox::{Program, REPOSITORY};

/// What git does; all that varies comes in variables.
const SCRIPT: &str = r#"
set -eu
mkdir -p "$TARGET"
cd "$TARGET"
if [ -e .git ]; then
  if [ "$CLEAN" = true ]; then git clean -ffdxq; git reset --hard -q 2>/dev/null || true; fi
else
  git init -q .
fi
git remote remove origin 2>/dev/null || true
git remote add origin "file://$REPOSITORY"
wanted="$WANTED"
if [ -z "$wanted" ]; then
  for name in "refs/heads/$REF" "refs/tags/$REF" "$REF"; do
    wanted=$(git ls-remote origin "$name" | cut -f1 | head -n 1)
    if [ -n "$wanted" ]; then break; fi
  done
  if [ -z "$wanted" ]; then echo "A branch or tag with the name '$REF' could not be found"; exit 1; fi
fi
if [ "$DEPTH" = 0 ]; then
  git fetch -q --tags --force origin '+refs/heads/*:refs/remotes/origin/*' "$wanted"
else
  git fetch -q --no-tags --force "--depth=$DEPTH" origin "$wanted"
fi
if [ -n "$BRANCH" ]; then
  git update-ref "refs/remotes/origin/$BRANCH" "$wanted"
  git checkout -q --force -B "$BRANCH" "$wanted"
else
  git checkout -q --force --detach "$wanted"
fi
git log -1 --format='%H'
"#;

pub(super) async fn run(job: &mut Job, inputs: &Inputs, context: &Context<'_>) -> Done {
    let spec = &job.shared.spec;
    if let Some(repository) = inputs.get("repository")
        && repository != spec.event.repository
    {
        return Err(Failed::Because(format!(
            "only {} is there to check out, not {repository}",
            spec.event.repository
        )));
    }
    let reference = inputs.get("ref").unwrap_or_default();
    let is_sha = matches!(reference.len(), 40 | 64) && reference.bytes().all(|c| c.is_ascii_hexdigit());
    let (wanted, branch) = match reference {
        "" => {
            let branch = spec.event.reference.strip_prefix("refs/heads/");
            (spec.source.sha.clone(), branch.unwrap_or_default().to_owned())
        }
        sha if is_sha => (sha.to_owned(), String::new()),
        name if name == spec.event.reference => (spec.source.sha.clone(), String::new()),
        name => {
            let short = name.strip_prefix("refs/heads/").unwrap_or(name);
            let branch = if name.starts_with("refs/") && short == name {
                ""
            } else {
                short
            };
            (String::new(), branch.to_owned())
        }
    };
    let depth: u32 = match inputs.get("fetch-depth") {
        Some(text) => text
            .parse()
            .map_err(|_| Failed::Because(format!("fetch-depth is not a number: {text}")))?,
        None => 1,
    };
    for unsupported in ["submodules", "lfs", "sparse-checkout"] {
        if inputs.get(unsupported).is_some_and(|value| value != "false") {
            job.say(&format!(
                "##[warning]`{unsupported}` of actions/checkout is not supported, and is left out"
            ))
            .await;
        }
    }
    let target = match inputs.get("path") {
        Some(path) => {
            let full = format!("{}/{path}", job.workspace);
            let inside = crate::glob::segments(&full);
            if !inside.starts_with(&crate::glob::segments(&job.workspace)) {
                return Err(Failed::Because(format!(
                    "the path {path} is not under the workspace"
                )));
            }
            full
        }
        None => job.workspace.clone(),
    };
    let mut env = job.environment(context.frame, &std::collections::BTreeMap::new(), context.id);
    let depth = depth.to_string();
    let clean = inputs.get("clean").unwrap_or("true").to_owned();
    for (name, value) in [
        ("TARGET", target.as_str()),
        ("REPOSITORY", REPOSITORY),
        ("WANTED", &wanted),
        ("REF", reference),
        ("BRANCH", &branch),
        ("DEPTH", &depth),
        ("CLEAN", &clean),
        // What an earlier step wrote into its home is not for us; ours says that any owner of the repository is fine,
        // wherever this git looks for the system's own.
        ("GIT_CONFIG_GLOBAL", "/etc/gitconfig"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ] {
        env.insert(name.to_owned(), value.to_owned());
    }
    let program = Program {
        argv: ["sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
        env,
        cwd: "/".to_owned(),
        writable: None,
    };
    job.tool(program, context.most).await?;
    let commit = if wanted.is_empty() { String::new() } else { wanted };
    let reference = if reference.is_empty() {
        &job.shared.spec.event.reference
    } else {
        reference
    };
    Ok([
        ("ref".to_owned(), reference.to_owned()),
        ("commit".to_owned(), commit),
    ]
    .into())
}
