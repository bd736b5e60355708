//! `cargo xtask bench waf` and `cargo xtask waf-verdicts`: the firewall's engine beside nginx with ModSecurity. Both are the
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

/// Asks ModSecurity about each request of the blocking suite and writes its verdicts beside them. Arguments: as above.
pub(crate) fn verdicts(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    run_command(
        cargo()
            .current_dir(root)
            .args(["run", "--package", "astraler-waf", "--example", "verdicts", "--"])
            .args(arguments),
    )
}
