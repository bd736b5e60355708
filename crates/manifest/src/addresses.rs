//! Addresses in a manifest: of a kind that is known, and without a secret, which does not belong into a file that is committed.

use crate::diagnostics::{Diagnostic, Source};
use crate::load::text;
use toml_edit::{Item, TableLike};

const DESTINATIONS: &str = "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder";
const REMOTES: &str = "https://host/path.git, ssh://user@host/path.git, user@host:path.git or file:///folder";

/// Destinations of backups and of replicated buckets, and the remote of the configuration's repository.
pub(crate) fn check(source: &Source, root: &dyn TableLike, errors: &mut Vec<Diagnostic>) {
    let key = |table: &str, key: &str| {
        let table = root.get(table).and_then(Item::as_table_like)?;
        text(table, key)
    };
    for (table, name) in [("backups", "target_url"), ("storage", "replication_url")] {
        if let Some((url, span)) = key(table, name)
            && !is_destination(url)
        {
            let message = format!("\"{url}\" is no destination");
            errors.push(source.error(span, "wrong-value", message, Some(DESTINATIONS.to_owned())));
        }
    }
    let Some((url, span)) = key("backups", "config_git_url") else {
        return;
    };
    if holds_a_secret(url) {
        let help = "leave it out here, and name a file with config_git_credentials_file".to_owned();
        let message = "the address holds a name and a password".to_owned();
        errors.push(source.error(span, "secret", message, Some(help)));
    } else if !is_remote(url) {
        let message = format!("\"{url}\" is no remote of git");
        errors.push(source.error(span, "wrong-value", message, Some(REMOTES.to_owned())));
    }
}

fn is_destination(url: &str) -> bool {
    match url.split_once("://") {
        Some(("s3" | "gs" | "az", rest)) => {
            !rest.trim_start_matches('/').is_empty() && !rest.starts_with('/')
        }
        Some(("file", rest)) => rest.starts_with('/'),
        _ => false,
    }
}

fn is_remote(url: &str) -> bool {
    match url.split_once("://") {
        Some(("https" | "http" | "ssh", rest)) => rest.contains('/'),
        Some(("file", rest)) => rest.starts_with('/'),
        Some(_) => false,
        // As scp has it. A leading `-` would be an option, and `name::` one of git's helpers.
        None => url.split_once(':').is_some_and(|(host, path)| {
            !host.is_empty()
                && !host.starts_with('-')
                && !host.contains('/')
                && !path.is_empty()
                && !path.starts_with(':')
        }),
    }
}

fn holds_a_secret(url: &str) -> bool {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let authority = rest.and_then(|rest| rest.split('/').next());
    authority.is_some_and(|authority| authority.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_address_is_known_by_its_form() {
        for good in [
            "s3://team/shop",
            "s3://team",
            "gs://a/b",
            "az://a",
            "file:///mnt/backups",
        ] {
            assert!(is_destination(good), "{good}");
        }
        for bad in [
            "",
            "team",
            "s3:/team",
            "s3://",
            "s3:///x",
            "file://mnt",
            "ftp://a/b",
            "https://a/b",
        ] {
            assert!(!is_destination(bad), "{bad}");
        }
        for good in [
            "https://git.example/team.git",
            "ssh://git@git.example/team.git",
            "git@git.example:team.git",
            "file:///srv/team.git",
        ] {
            assert!(is_remote(good) && !holds_a_secret(good), "{good}");
        }
        for bad in [
            "",
            "team.git",
            "-oProxyCommand=x:y",
            "ext::sh -c x",
            "https://git.example",
            "./a:b",
        ] {
            assert!(!is_remote(bad), "{bad}");
        }
        assert!(holds_a_secret("https://team:token@git.example/team.git"));
        assert!(holds_a_secret("http://token@git.example/team.git"));
    }
}
