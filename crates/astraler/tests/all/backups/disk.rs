//! A disk that is full when a restore is asked for.

use super::platform;
use crate::support::{PROGRAM, is_root};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Mounts a tmpfs of $2 bytes at the state folder, backs up, fills it but for 64 MiB, restores; makes room, restores.
const SCRIPT: &str = r#"
set -u
state=$1; size=$2; target=$3; port=$4
astraler() { "$ASTRALER" --dir "$APPLICATION" "$@"; }
mkdir -p "$state"
mount -t tmpfs -o "size=$size,mode=755" none "$state" || exit 90
astraler up --port "$port" || exit 91
chown --reference="$state/control" "$target"
astraler backup run || exit 92
sleep 1; point=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ); sleep 1
free=$(df --output=avail -B1 "$state" | tail -1)
head -c $((free - 67108864)) /dev/zero > "$state/filler" || exit 93
astraler recover database --env development --to "$point"; echo "full: $?"
astraler status > "$state/status" || exit 94
rm "$state/filler"
astraler recover database --env development --to "$point" || exit 95
astraler audit verify || exit 96
astraler down || exit 97
"#;

#[test]
fn a_restore_that_finds_no_room_says_so_and_goes_on_when_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let target = folder.path().join("backups");
    std::fs::create_dir(&target).unwrap();
    let platform = platform(&format!("target_url = \"file://{}\"", target.display()));
    let program = std::fs::metadata(PROGRAM).unwrap().len();
    let up = platform.command(&[]);
    let mut unshare = Command::new("unshare");
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare
        .args(["--mount", "--", "sh", "-c", SCRIPT, "sh"])
        .arg(platform.state())
        .arg((program + (600 << 20)).to_string())
        .arg(&target)
        .arg(platform.port.to_string())
        .env("ASTRALER", up.get_program())
        .env("APPLICATION", platform.application());
    for (name, value) in up.get_envs() {
        unshare.env(name, value.unwrap_or_default());
    }
    let output = unshare.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let seen = format!("--- out\n{out}\n--- err\n{err}");
    assert!(output.status.success(), "{seen}");
    assert!(out.contains("full: 1\n"), "{seen}");
    assert!(
        err.contains("bytes free") && err.contains("make room"),
        "it says why: {seen}"
    );
    assert!(out.contains("is as it was before"), "{seen}");
    assert_eq!(platform.processes(), [], "{seen}");
}
