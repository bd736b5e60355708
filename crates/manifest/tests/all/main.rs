//! The manifest from outside: what is accepted, what is refused, and in which words.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod errors;
mod explain;
mod hostile;
mod keys;
mod keys_cache;
mod keys_dns;
mod keys_rules;
mod keys_tls;
mod wrangler;

use std::path::Path;

/// Compares with a committed file, or writes it when `UPDATE` is set.
#[track_caller]
fn same_as_file(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, text);
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is stale: run the test with UPDATE=1. It should be:\n{text}",
        path.display()
    );
}

/// Writes a file and its folder.
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}
