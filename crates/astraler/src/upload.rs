//! A release on its way to the daemon: built in a folder that goes, sent only when the daemon has not got it.

use crate::failure::{Failure, Outcome};
use astraler_control::{AdminClient, ClientError};
use astraler_release::{Release, Releases};
use bytes::Bytes;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Pieces of an archive that wait for the daemon's disk.
const QUEUE: usize = 8;
const PIECE_BYTES: usize = 64 << 10;

/// A release that was built, with the folder in which it stands until this goes.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) release: Release,
    pub(crate) releases: Releases,
    pub(crate) _folder: tempfile::TempDir,
}

/// Sees to it that the daemon has the release. Says whether it had to be sent.
pub(crate) async fn upload(client: &AdminClient, built: &Built, key: Option<&str>) -> Outcome<bool> {
    let digest = built.release.digest.clone();
    // Checked, not only looked for: sending it again mends one that was changed since it was stored.
    match client.release_verify(&digest).await {
        // What is found by its key is sent again, so that it gets it.
        Ok(_) if key.is_none() => return Ok(false),
        Ok(_) | Err(ClientError::Refused { .. }) => {}
        Err(error) => return Err(crate::commands::not_up(&error)),
    }
    let (pieces, mut received) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    let releases = built.releases.clone();
    let exported = digest.clone();
    let exporting = tokio::task::spawn_blocking(move || {
        let mut pipe = io::BufWriter::with_capacity(PIECE_BYTES, Pipe(pieces.clone()));
        let done = releases.export(&exported, &mut pipe);
        let flushed = pipe.flush();
        if done.is_err() || flushed.is_err() {
            pieces.blocking_send(Err(io::ErrorKind::BrokenPipe.into())).ok();
        }
        done
    });
    let body = futures_util::stream::poll_fn(move |context| received.poll_recv(context));
    let sent = client.upload(key, body).await;
    let found = match (sent, exporting.await) {
        (Ok(found), _) => found,
        (Err(_), Ok(Err(error))) => return Err(Failure::of(&error)),
        (Err(error), _) => return Err(crate::commands::not_up(&error)),
    };
    if found != digest {
        return Err(Failure::new(
            crate::failure::Kind::General,
            format!("the release arrived as {found}, not as {digest}"),
        ));
    }
    Ok(true)
}

struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
