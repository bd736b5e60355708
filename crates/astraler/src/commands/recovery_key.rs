//! `astraler secrets recovery-key`: the key above the backups of secrets is made and put together here, on the machine of
//! whoever asks, and no daemon hears of it.

use crate::cli::{Arguments, RecoveryKeyCommand, Shares};
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use crate::table;
use astraler_secrets::{RecoveryKey, RecoveryKeyError, SHARES, Secret, Share, THRESHOLD};
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A share is shorter.
const MAX_READ: u64 = 4 << 10;

pub(super) fn run(arguments: &Arguments, command: &RecoveryKeyCommand) -> Outcome {
    match command {
        RecoveryKeyCommand::Create { output, json } => create(output.as_deref(), json.json),
        RecoveryKeyCommand::Check { shares, json } => check(arguments, shares, json.json),
        RecoveryKeyCommand::Combine { shares, output } => {
            let key = combine(shares)?;
            write_new(output, &key.to_text())?;
            line(&format!(
                "{} holds the recovery key {}: `age -d -i {} FILE` opens what is sealed to it; remove it afterwards",
                output.display(),
                key.recipient().id(),
                output.display(),
            ));
            Ok(())
        }
    }
}

fn create(output: Option<&Path>, json: bool) -> Outcome {
    let key = RecoveryKey::generate();
    let recipient = key.recipient();
    let shares = key.split();
    let mut files = Vec::new();
    if let Some(folder) = output {
        for share in &shares {
            let path = folder.join(format!("share-{}.txt", share.number()));
            write_new(&path, &share.to_text())?;
            files.push(path);
        }
    }
    if json {
        let texts: Vec<_> = shares.iter().map(Share::to_text).collect();
        let shown = texts.iter().map(Secret::expose).collect::<Vec<_>>();
        return Ok(table::print_json(&json!({
            "recipient": recipient.to_string(),
            "id": recipient.id(),
            "files": files,
            "shares": if output.is_some() { vec![] } else { shown },
        }))?);
    }
    line(&format!(
        "recovery key {}: {SHARES} shares, any {THRESHOLD} of which open the backups of all secrets. Give each to another\n\
         person, and leave none on this machine: they are shown once.\n",
        recipient.id()
    ));
    for share in &shares {
        match files.get(usize::from(share.number()).saturating_sub(1)) {
            Some(path) => line(&format!("share {}: {}", share.number(), path.display())),
            None => line(share.to_text().expose()),
        }
    }
    line(&format!(
        "\nIn astraler.toml, so that backups of secrets are sealed to it:\n\n[backups]\nrecovery_recipient = \"{recipient}\""
    ));
    Ok(())
}

fn check(arguments: &Arguments, shares: &Shares, json: bool) -> Outcome {
    let recipient = combine(shares)?.recipient();
    // Outside of an application's folder the shares are compared with each other only.
    let named = Place::find(arguments)
        .ok()
        .and_then(|place| astraler_manifest::load(&place.application).ok())
        .and_then(|manifest| manifest.config.backups.recovery_recipient);
    let fits = named.as_ref().map(|named| *named == recipient.to_string());
    if json {
        table::print_json(&json!({
            "recipient": recipient.to_string(),
            "id": recipient.id(),
            "manifest": named,
        }))?;
    } else {
        line(&format!("these shares give the recovery key {}", recipient.id()));
    }
    match fits {
        Some(true) if !json => line("it is the one that the manifest names"),
        Some(true) => {}
        Some(false) => {
            return Err(Failure::new(
                Kind::General,
                "the manifest names another key: these shares do not open the backups that it makes",
            )
            .hint(format!("this one is recovery_recipient = \"{recipient}\"")));
        }
        None if !json => line("no manifest here names a recovery_recipient"),
        None => {}
    }
    Ok(())
}

/// The key of which these files hold shares.
pub(super) fn combine(shares: &Shares) -> Outcome<RecoveryKey> {
    let read = shares
        .files
        .iter()
        .map(|path| share(path).map_err(|error| error.context(format!("{} cannot be used", path.display()))));
    let shares = read.collect::<Outcome<Vec<_>>>()?;
    RecoveryKey::combine(&shares).map_err(|error| {
        let few = matches!(error, RecoveryKeyError::TooFew { .. });
        let failure = Failure::of(&error);
        match few {
            true => failure.hint("name a second share with --share-file"),
            false => failure,
        }
    })
}

fn share(path: &Path) -> Outcome<Share> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_READ).read_to_string(&mut text));
    // Into its own hands before anything else: it is wiped there.
    let text = Secret::new(text);
    read?;
    Share::parse(text.expose()).map_err(|error| Failure::of(&error))
}

/// A new file with one line, of its owner only.
fn write_new(path: &Path, text: &Secret) -> Outcome {
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.expose().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        });
    written.map_err(|error| {
        let exists = error.kind() == ErrorKind::AlreadyExists;
        let failure = Failure::of(&error).context(format!("{} cannot be written", path.display()));
        match exists {
            true => failure.hint("it is there already, and a key is never overwritten: name another place"),
            false => failure,
        }
    })
}
