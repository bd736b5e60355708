//! `cargo xtask bench waf`, `waf-verdicts` and `waf-compare`: the firewall's engine beside nginx with ModSecurity. They are the
//! crate's own; they need Debian's packages nginx-light and libnginx-mod-http-modsecurity, and no platform.

use crate::{Failure, cargo, run as run_command};
use std::path::Path;

/// CPU of a transaction. Arguments: a folder with `crs-setup.conf.example` and `rules/`, if not the shared one.
pub(super) fn run(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    run_command(
        cargo()
            .current_dir(root)
            .args(["bench", "--package", "astraler-waf", "--bench", "waf", "--"])
            .args(arguments),
    )
}

/// One of the crate's examples that ask ModSecurity as well; what it is told is what it says itself.
pub(crate) fn example(root: &Path, name: &str, arguments: &[&str]) -> Result<(), Failure> {
    run_command(
        cargo()
            .current_dir(root)
            .args(["run", "--package", "astraler-waf", "--example", name, "--"])
            .args(arguments),
    )
}
