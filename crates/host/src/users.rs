//! Users of the system: each part of the platform runs as one of its own when started as root.

use astraler_model::Identity;
use nix::unistd::{Uid, User};
use std::ffi::CString;
use std::io;
use std::process::Command;

/// A user was not found or made.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The name is not one that every tool accepts.
    #[error(
        "`{0}` cannot name a system user: expected 1 to 31 of a-z, 0-9, '-', '_', starting with a letter"
    )]
    Name(String),
    /// The user database cannot be read.
    #[error("cannot look up user {name}")]
    Lookup {
        /// The name.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is none, and only root can make one.
    #[error("there is no user {name}, and only root can make one: run `useradd --system {name}` as root")]
    NotRoot {
        /// The name.
        name: String,
    },
    /// `useradd` failed.
    #[error("useradd did not make user {name}: {reason}")]
    Create {
        /// The name.
        name: String,
        /// What it wrote.
        reason: String,
    },
}

/// The numeric identity of a user with all its groups; `None` when there is no such user.
pub fn lookup_user(name: &str) -> Result<Option<Identity>, UserError> {
    let lookup = |errno: nix::Error| UserError::Lookup {
        name: name.to_owned(),
        source: errno.into(),
    };
    let Some(user) = User::from_name(name).map_err(lookup)? else {
        return Ok(None);
    };
    let c_name = CString::new(name).map_err(|_| UserError::Name(name.to_owned()))?;
    let groups = nix::unistd::getgrouplist(&c_name, user.gid).map_err(lookup)?;
    Ok(Some(Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups
            .into_iter()
            .map(|gid| gid.as_raw())
            .filter(|gid| *gid != user.gid.as_raw())
            .collect(),
    }))
}

/// The identity of a system user, made with a group of its own name, no home and no shell when it is missing. Making
/// one needs root.
pub fn ensure_system_user(name: &str) -> Result<Identity, UserError> {
    let valid = (1..=31).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    if !valid {
        return Err(UserError::Name(name.to_owned()));
    }
    if let Some(found) = lookup_user(name)? {
        return Ok(found);
    }
    if !Uid::effective().is_root() {
        return Err(UserError::NotRoot {
            name: name.to_owned(),
        });
    }
    let output = Command::new("useradd")
        .args([
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
        ])
        .args(["--shell", "/usr/sbin/nologin", name])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .map_err(|error| UserError::Create {
            name: name.to_owned(),
            reason: error.to_string(),
        })?;
    // Two may have raced: what counts is that it is there.
    lookup_user(name)?.ok_or_else(|| UserError::Create {
        name: name.to_owned(),
        reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nobody_has_no_such_name() {
        assert_eq!(lookup_user("root").unwrap().unwrap().uid, 0);
        assert_eq!(lookup_user("no-such-user-here").unwrap(), None);
        assert!(matches!(ensure_system_user("Bad Name"), Err(UserError::Name(_))));
        assert_eq!(ensure_system_user("root").unwrap().uid, 0);
    }
}
