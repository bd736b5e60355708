//! UDP: a thread for each socket, which receives, answers and sends; nothing waits but for the next query.

use crate::server::{Memory, Outcome, Shared, Transport, answer};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A query is smaller; what is longer is cut off and is no query.
const MAX_QUERY: usize = 4_096;
/// How long a thread without queries takes to see that it shall end.
const LOOK_UP: Duration = Duration::from_millis(200);
/// After an error of the socket, so that it cannot take a core.
const PAUSE: Duration = Duration::from_millis(10);

/// Makes the socket what [`serve`] needs.
pub(crate) fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(LOOK_UP))
}

/// Serves until it is told to stop.
pub(crate) fn serve(shared: &Arc<Shared>, socket: &UdpSocket, stopping: &CancellationToken) {
    let mut memory = Memory::default();
    let mut packet = [0_u8; MAX_QUERY];
    let mut out = Vec::with_capacity(crate::write::MAX_UDP);
    while !stopping.is_cancelled() {
        match socket.recv_from(&mut packet) {
            Ok((length, from)) if is_sane(from) => {
                let served = shared.served.load();
                let asked = (&packet[..length], from.ip(), Transport::Udp);
                if let Outcome::Send = answer(shared, &served, &mut memory, asked, &mut out)
                    && let Err(error) = socket.send_to(&out, from)
                {
                    // Who asks again gets another chance.
                    tracing::debug!(%error, "an answer was not sent");
                }
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::debug!(%error, "a query was not received");
                pause();
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread of its own: no executor waits for it"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// Nobody can be answered at port 0 or at an address of many.
fn is_sane(from: SocketAddr) -> bool {
    let ip = from.ip().to_canonical();
    from.port() != 0 && !ip.is_multicast() && !ip.is_unspecified()
}
