//! A disk that fills up in the middle of `up`: a real one, a tmpfs that only the test's mount namespace sees.

use crate::support::{is_root, small};
use std::process::Command;

/// Mounts a tmpfs of $1 bytes at the state folder, tries `up`, grows the disk, tries again.
const SCRIPT: &str = r#"
set -u
state=$1; size=$2; shift 2
mkdir -p "$state"
mount -t tmpfs -o "size=$size,mode=755" none "$state" || exit 90
"$@"; echo "first ended with $?"
mount -o remount,size=2g "$state" || exit 91
"$@" || exit 92
"$ASTRALER" --dir "$APPLICATION" audit verify || exit 93
"$ASTRALER" --dir "$APPLICATION" down || exit 94
"#;

#[test]
fn a_full_disk_in_the_middle_of_up_is_said_and_healed_when_there_is_space_again() {
    let program = std::fs::metadata(crate::support::PROGRAM).unwrap().len();
    // Room for nothing but the program and a small release; for the records of `keep`; for no write-ahead log; for
    // half of a cluster, twice.
    for beyond in [64 << 10, 150 << 10, 4 << 20, 20 << 20, 30 << 20] {
        let platform = small();
        let up = platform.command(&["up", "--port", &platform.port.to_string()]);
        let mut unshare = Command::new("unshare");
        if !is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare
            .args(["--mount", "--", "sh", "-c", SCRIPT, "sh"])
            .arg(platform.state())
            .arg((program + beyond).to_string())
            .arg(up.get_program())
            .args(up.get_args())
            .env("ASTRALER", crate::support::PROGRAM)
            .env("APPLICATION", platform.application());
        for (name, value) in up.get_envs() {
            unshare.env(name, value.unwrap_or_default());
        }
        let output = unshare.output().unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let seen = format!("{beyond} bytes beyond the program\n--- out\n{out}\n--- err\n{err}");
        assert!(output.status.success(), "{seen}");
        assert!(out.contains("first ended with 1\n"), "{seen}");
        // Ours, or an engine's own words in its last log lines.
        let words = ["disk is full", "No space left on device", "Check free disk space"];
        assert!(words.iter().any(|word| err.contains(word)), "it says why: {seen}");
        assert!(out.contains("up in"), "healed: {seen}");
        assert_eq!(platform.processes(), [], "{seen}");
    }
}
