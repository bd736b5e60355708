//! The control socket's other side.

use super::protocol::{Answer, MAX_REQUEST, Request, read_line, to_line};
use super::table::Record;
use super::unit::{Command, Handle};
use super::{Keep, validate};
use crate::file::{self, FileError};
use crate::supervisor::SupervisorError;
use astraler_model::{UnitName, UnitSpec};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// Clients at one time; more wait in the socket's queue.
const MAX_CLIENTS: usize = 64;
/// A client has so long to send its request and to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Units in one platform.
const MAX_UNITS: usize = 1000;

/// Binds the control socket. Only the holder of the lock comes here, so what is in its place is left over.
pub(super) fn bind(path: &Path, open_to_others: bool) -> Result<UnixListener, FileError> {
    // Made beside it and moved over it: a client that waits for a successor never finds it absent, which would mean that
    // there is none.
    let fresh = path.with_extension("new");
    file::remove_if_present(&fresh)?;
    let listener = UnixListener::bind(&fresh).map_err(file::at("bind the control socket", &fresh))?;
    // Who may use it is decided by peer credentials; the mode only spares most the attempt.
    let mode = if open_to_others { 0o666 } else { 0o600 };
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))
        .map_err(file::at("set the mode of", &fresh))?;
    fs::rename(&fresh, path).map_err(file::at("put in place", path))?;
    Ok(listener)
}

/// Serves until the task is dropped. `shutdown` is told once somebody asks for it; who waits for it is answered by
/// the end of the connection, or by `Done` when all is stopped.
pub(super) async fn serve(
    keep: Rc<Keep>,
    listener: UnixListener,
    shutdown: mpsc::Sender<oneshot::Sender<()>>,
) {
    let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (keep, shutdown) = (keep.clone(), shutdown.clone());
        tokio::task::spawn_local(async move {
            let _slot = slot;
            if let Err(error) = client(&keep, stream, &shutdown).await {
                tracing::debug!(%error, "a client of the control socket went away");
            }
        });
    }
}

async fn client(
    keep: &Rc<Keep>,
    mut stream: UnixStream,
    shutdown: &mpsc::Sender<oneshot::Sender<()>>,
) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    let answer = if peer == 0 || peer == own || keep.config.allowed_uids.contains(&peer) {
        match timeout(PATIENCE, read_line(&mut stream, MAX_REQUEST)).await? {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => match serde_json::from_slice(&line) {
                Ok(request) => answer(keep, request, shutdown).await,
                Err(error) => refused(format!("it cannot be read: {error}")),
            },
            Err(error) => refused(error.to_string()),
        }
    } else {
        refused(format!("user {peer} may not use it"))
    };
    let line = to_line(&answer)?;
    timeout(PATIENCE, stream.write_all(&line)).await?
}

fn refused(reason: String) -> Answer {
    Answer::Error(SupervisorError::Refused { reason })
}

async fn answer(keep: &Rc<Keep>, request: Request, shutdown: &mpsc::Sender<oneshot::Sender<()>>) -> Answer {
    let result = match request {
        Request::Start { spec } => start(keep, spec, Command::Start).await.map(Answer::Started),
        Request::Replace { spec } => start(keep, spec, Command::Replace).await.map(Answer::Started),
        Request::Restart { name } => match keep.handle(&name) {
            Some(handle) => ask(&handle, Command::Restart)
                .await
                .and_then(|inner| inner)
                .map(Answer::Status),
            None => Err(SupervisorError::Unknown { unit: name }),
        },
        Request::Stop { name } => match keep.handle(&name) {
            Some(handle) => {
                handle.ending.ask();
                ask(&handle, Command::Stop).await.map(|()| Answer::Done)
            }
            None => Err(SupervisorError::Unknown { unit: name }),
        },
        Request::Remove { name } => {
            if let Some(handle) = keep.handle(&name) {
                handle.ending.ask();
                // One that is gone meanwhile is as wanted.
                let _ = ask(&handle, Command::Remove).await;
            }
            Ok(Answer::Done)
        }
        Request::List => Ok(Answer::Units(keep.status())),
        Request::Shutdown => {
            let (done, ended) = oneshot::channel();
            let _ = shutdown.send(done).await;
            let _ = ended.await;
            Ok(Answer::Done)
        }
    };
    result.unwrap_or_else(Answer::Error)
}

async fn start<T>(
    keep: &Rc<Keep>,
    spec: Box<UnitSpec>,
    command: impl FnOnce(Box<UnitSpec>, oneshot::Sender<Result<T, SupervisorError>>) -> Command,
) -> Result<T, SupervisorError> {
    if keep.is_ending() {
        return Err(SupervisorError::ShuttingDown);
    }
    validate::validate(&spec)?;
    let handle = match keep.handle(&spec.name) {
        Some(handle) => handle,
        None => add(keep, &spec)?,
    };
    ask(&handle, |reply| command(spec, reply)).await?
}

fn add(keep: &Rc<Keep>, spec: &UnitSpec) -> Result<Handle, SupervisorError> {
    let failed = |reason: String| SupervisorError::Host {
        unit: spec.name.clone(),
        operation: "add it".into(),
        reason,
    };
    if keep.status().len() >= MAX_UNITS {
        return Err(failed(format!("there are {MAX_UNITS} units already")));
    }
    let order = keep.next_generation();
    let name: &UnitName = &spec.name;
    keep.insert(name, Record::new(order, spec.clone()))
        .map_err(|error| failed(error.source.to_string()))?;
    keep.adopt_unit(name)
        .map_err(|error| failed(format!("{error}: {}", error.source)))
}

async fn ask<T>(
    handle: &Handle,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, SupervisorError> {
    let (reply, answer) = oneshot::channel();
    // The task of a unit ends when the unit is removed, or with keep.
    handle
        .commands
        .send(command(reply))
        .await
        .map_err(|_| SupervisorError::ShuttingDown)?;
    answer.await.map_err(|_| SupervisorError::ShuttingDown)
}
