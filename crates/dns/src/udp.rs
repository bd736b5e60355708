//! UDP: a thread for each socket, which receives, answers and sends; nothing waits but for the next query.

use crate::server::{Memory, Outcome, Shared, Transport, answer};
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
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
    socket.set_read_timeout(Some(LOOK_UP))?;
    // Bound to every address, the system may answer from another one than was asked, which resolvers take for forged.
    match socket.local_addr()? {
        SocketAddr::V4(address) if address.ip().is_unspecified() => {
            setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    Ok(())
}

/// The address of ours that was asked, where the socket is bound to every one.
#[derive(Debug, Clone, Copy)]
enum Asked {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}

fn receive(
    socket: &UdpSocket,
    packet: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<Asked>)> {
    let mut slices = [IoSliceMut::new(packet)];
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(control), MsgFlags::empty())?;
    let mut asked = None;
    for message in received.cmsgs()? {
        match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => asked = Some(Asked::V4(info)),
            ControlMessageOwned::Ipv6PacketInfo(info) => asked = Some(Asked::V6(info)),
            _ => {}
        }
    }
    let from = received.address.as_ref().and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|from| SocketAddr::V4((*from).into()));
        v4.or_else(|| from.as_sockaddr_in6().map(|from| SocketAddr::V6((*from).into())))
    });
    Ok((
        received.bytes,
        from.ok_or(io::ErrorKind::AddrNotAvailable)?,
        asked,
    ))
}

fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr, asked: Option<Asked>) -> io::Result<()> {
    let slices = [IoSlice::new(answer)];
    let to = SockaddrStorage::from(to);
    let fd = socket.as_raw_fd();
    // The route decides on the interface.
    match asked {
        None => sendmsg(fd, &slices, &[], MsgFlags::empty(), Some(&to))?,
        Some(Asked::V4(mut info)) => {
            info.ipi_ifindex = 0;
            sendmsg(
                fd,
                &slices,
                &[ControlMessage::Ipv4PacketInfo(&info)],
                MsgFlags::empty(),
                Some(&to),
            )?
        }
        Some(Asked::V6(mut info)) => {
            info.ipi6_ifindex = 0;
            sendmsg(
                fd,
                &slices,
                &[ControlMessage::Ipv6PacketInfo(&info)],
                MsgFlags::empty(),
                Some(&to),
            )?
        }
    };
    Ok(())
}

/// Serves until it is told to stop.
pub(crate) fn serve(shared: &Arc<Shared>, socket: &UdpSocket, stopping: &CancellationToken) {
    let mut memory = Memory::default();
    let mut packet = [0_u8; MAX_QUERY];
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut out = Vec::with_capacity(crate::write::MAX_UDP);
    while !stopping.is_cancelled() {
        match receive(socket, &mut packet, &mut control) {
            Ok((length, from, asked)) if is_sane(from) => {
                let served = shared.served.load();
                let query = (&packet[..length], from.ip(), Transport::Udp);
                if let Outcome::Send = answer(shared, &served, &mut memory, query, &mut out)
                    && let Err(error) = send(socket, &out, from, asked)
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
