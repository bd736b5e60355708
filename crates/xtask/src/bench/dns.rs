//! `cargo xtask bench dns`: queries per second of the DNS server. The bench itself is the crate's; it needs no platform.

use crate::{Failure, cargo, run as run_command};
use std::path::Path;

pub(super) fn run(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    run_command(
        cargo()
            .current_dir(root)
            .args(["bench", "--package", "astraler-dns", "--bench", "dns", "--"])
            .args(arguments),
    )
}
