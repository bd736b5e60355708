//! Files of certificates and their keys: written by the daemon, read by the edge's group, named by what is in them.

use super::{CertificatesError, record};
use crate::installation::Installation;
use crate::platform::Platform;
use crate::publish;
use astraler_host::file;
use astraler_model::EdgeSnapshot;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Writes one; its name in the folder.
pub(super) fn write(platform: &Platform, subject: &str, pem: &str) -> Result<String, CertificatesError> {
    let installation = &platform.installation;
    let folder = installation.layout.certificates();
    let group = Installation::group(installation.identities.edge.as_ref());
    platform.make_dir_for(&folder, group)?;
    let digest = hex::encode(Sha256::digest(pem.as_bytes()));
    let name = format!("{}-{}.pem", subject.replace('*', "_"), &digest[..12]);
    let mode = if group.is_some() { 0o640 } else { 0o600 };
    file::replace_owned(folder.join(&name), pem.as_bytes(), mode, group)?;
    Ok(name)
}

/// Writes the key of a certificate that is still to come, for the daemon alone; its name in the folder.
pub(super) fn write_key(platform: &Platform, subject: &str, pem: &str) -> Result<String, CertificatesError> {
    let folder = platform.installation.layout.certificates();
    platform.make_dir_for(
        &folder,
        Installation::group(platform.installation.identities.edge.as_ref()),
    )?;
    let name = format!("{}.key", subject.replace('*', "_"));
    file::replace(folder.join(&name), pem.as_bytes(), 0o600)?;
    Ok(name)
}

/// Removes files that neither a record nor the edge's snapshot names: an edge that starts reads what that says.
pub(super) fn remove_unused(platform: &Platform) -> Result<(), CertificatesError> {
    let layout = &platform.installation.layout;
    // Nothing is made and published meanwhile.
    let Ok(_publishing) = platform.publishing.try_lock() else {
        return Ok(());
    };
    let records = record::all(platform)?;
    let mut used: BTreeSet<String> = records
        .into_values()
        .flat_map(|record| record.files().collect::<Vec<_>>())
        .collect();
    if let Some(published) = publish::read::<EdgeSnapshot>(&layout.snapshot("edge")) {
        let shown = published.tls.certificates.into_iter().map(|one| one.file);
        let all = shown.chain(published.tls.alpn_challenges.into_values());
        used.extend(all.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())));
    }
    for entry in std::fs::read_dir(layout.certificates())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if (name.ends_with(".pem") || name.ends_with(".key")) && !used.contains(&name) {
            file::remove_if_present(entry.path())?;
        }
    }
    Ok(())
}
