//! Sets of files that are there already.

use crate::destination::{Destination, DestinationError};
use crate::program::now_ms;
use crate::set::{BackupSet, Kind, SetError, SetObject, StoredSet, seal};
use std::path::Path;

/// Copies files to the destination as one set: name of the object, file.
pub async fn file_set(
    destination: &Destination,
    kind: Kind,
    subject: &str,
    files: &[(&str, &Path)],
) -> Result<StoredSet, SetError> {
    let mut set = BackupSet::new(kind, subject, "", now_ms());
    for (name, path) in files {
        let file = tokio::fs::File::open(path)
            .await
            .map_err(|source| DestinationError::File {
                path: path.to_path_buf(),
                source,
            })?;
        let key = format!("{}/{name}", set.folder());
        let written = destination.put_stream(&key, file).await?;
        set.objects.push(SetObject {
            name: (*name).to_owned(),
            bytes: written.bytes,
            sha256: written.sha256,
        });
    }
    set.ended_ms = now_ms();
    seal(destination, set).await
}
