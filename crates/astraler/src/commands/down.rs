//! `astraler down`: every process ends, no socket stays; data stays.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use crate::progress::line;
use astraler_control::AdminClient;
use astraler_host::keep::Client;
use astraler_host::process;
use astraler_host::supervisor::Supervisor;
use std::time::Duration;

/// How long the end of `keep` may take after it has stopped its units.
const KEEP_ENDS: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let place = Place::find(arguments)?;
    if !place.layout.installation_file().exists() {
        line("nothing is up");
        return Ok(());
    }
    let _lock = place.lock("astraler down")?;
    super::block_on(async {
        let socket = place.layout.keep_socket();
        let Ok(connection) = tokio::net::UnixStream::connect(&socket).await else {
            line("nothing is up");
            return clean(&place);
        };
        let pid = connection
            .peer_cred()?
            .pid()
            .and_then(|pid| u32::try_from(pid).ok());
        drop(connection);
        // The daemon may be down already; the end must not depend on it.
        AdminClient::new(place.layout.admin_socket())
            .note_down()
            .await
            .ok();
        let keep = Client::new(&socket);
        let units = keep
            .list()
            .await
            .map_or(0, |units| units.iter().filter(|unit| unit.pid.is_some()).count());
        keep.shutdown().await?;
        let ended = async {
            while socket.exists() || pid.is_some_and(process::is_alive) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(KEEP_ENDS, ended).await.is_err() {
            return Err(Failure::new(Kind::General, "the parent process has not ended")
                .hint(format!("see {}", place.layout.logs().join("keep.out").display())));
        }
        clean(&place)?;
        line(&format!(
            "{units} processes stopped; data stays in {}",
            place.layout.state.display()
        ));
        Ok(())
    })
}

/// The runtime folder holds only what running processes need.
fn clean(place: &Place) -> Outcome {
    match std::fs::remove_dir_all(&place.layout.runtime) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}
