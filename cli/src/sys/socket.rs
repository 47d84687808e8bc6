//! Unix sockets that carry descriptors and say who is at the other end.

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Pid, Uid};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most descriptors that one message carries.
pub(crate) const MAX_DESCRIPTORS: usize = 4;

/// Makes two connected stream sockets.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Whether `fd` is a Unix stream socket.
pub(crate) fn is_unix_stream(fd: impl AsFd) -> bool {
    rustix::net::sockopt::socket_type(&fd).is_ok_and(|kind| kind == SocketType::STREAM)
        && rustix::net::sockopt::socket_domain(&fd)
            .is_ok_and(|domain| domain == AddressFamily::UNIX)
}

/// Returns user and process at the other end, as they were when the connection was made.
pub(crate) fn peer(fd: &impl AsFd) -> io::Result<(Uid, Pid)> {
    let peer = getsockopt(fd, PeerCredentials)?;
    Ok((Uid::from_raw(peer.uid()), Pid::from_raw(peer.pid())))
}

/// Sends some of `bytes`, with `descriptors` attached to the first of them. Returns how many bytes went.
pub(crate) fn send(
    fd: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let parts = [IoSlice::new(bytes)];
    Ok(rustix::net::sendmsg(fd, &parts, &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives up to `buffer.len()` bytes and adds descriptors that came with them. 0 is the end.
/// Without `wait`, nothing to receive is `WouldBlock`.
pub(crate) fn receive(
    fd: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    wait: bool,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    flags.set(RecvFlags::DONTWAIT, !wait);
    let got = rustix::net::recvmsg(fd, &mut parts, &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    Ok(got.bytes)
}

/// Gives up on a receive after `limit`; `None` waits for ever.
pub(crate) fn set_receive_timeout(
    fd: impl AsFd,
    limit: Option<std::time::Duration>,
) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_timeout(fd, rustix::net::sockopt::Timeout::Recv, limit)?)
}

/// Gives up on a send after `limit`; `None` waits for ever.
pub(crate) fn set_send_timeout(
    fd: impl AsFd,
    limit: Option<std::time::Duration>,
) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_timeout(fd, rustix::net::sockopt::Timeout::Send, limit)?)
}
