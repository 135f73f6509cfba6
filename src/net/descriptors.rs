//! Unix sockets: identifying the process at the other end, and passing it open descriptors. See
//! SO_PEERCRED and SCM_RIGHTS in unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most descriptors in one message; the kernel accepts 253.
pub const DESCRIPTORS_PER_MESSAGE: usize = 64;

const SPACE: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE));

/// Sends one byte together with descriptors, at most [`DESCRIPTORS_PER_MESSAGE`].
pub fn send_descriptors(
    socket: impl AsFd,
    byte: u8,
    descriptors: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(rustix::io::Errno::INVAL);
    }
    let flags = SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&[byte])], &mut control, flags).map(drop)
}

/// Receives one byte, and the descriptors that come with it. At the end there is no byte.
pub fn receive_descriptors(socket: impl AsFd) -> rustix::io::Result<(Option<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut into, &mut control, flags)?;
    // The kernel has closed the descriptors for which there was no space.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(rustix::io::Errno::MFILE);
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let [byte] = byte;
    Ok(((received.bytes > 0).then_some(byte), descriptors))
}

/// The process at the other end of a Unix socket, as it was at connect or listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its process id; 0 if it is in another PID namespace, as in another container.
    pub pid: i32,
    /// Its user id.
    pub user: u32,
}

/// The process at the other end.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "the size is 12")]
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open for the whole call. The pointers describe
    // `credentials` and `length`, which live until the call returns.
    #[expect(
        unsafe_code,
        reason = "rustix has no valid value for the process 0 of another namespace"
    )]
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(Peer {
            pid: credentials.pid,
            user: credentials.uid,
        })
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_peer_is_a_process_and_a_user() {
        let (one, _other) = UnixStream::pair().unwrap();
        let own = Peer {
            pid: std::process::id().cast_signed(),
            user: rustix::process::geteuid().as_raw(),
        };
        assert_eq!(peer(&one).unwrap(), own);
    }

    #[test]
    fn descriptors_come_with_their_byte_and_stay_apart() {
        let (one, other) = UnixStream::pair().unwrap();
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let [first, second, third] = [0, 1, 2].map(|at: usize| pairs[at].0.as_fd());
        send_descriptors(&one, b'a', &[first, second]).unwrap();
        send_descriptors(&one, b'b', &[third]).unwrap();
        send_descriptors(&one, b'c', &[]).unwrap();
        drop(one);

        let (byte, mut descriptors) = receive_descriptors(&other).unwrap();
        assert_eq!((byte, descriptors.len()), (Some(b'a'), 2));
        let mut second = UnixStream::from(descriptors.pop().unwrap());
        second.write_all(b"x").unwrap();
        let mut byte = [0];
        (&pairs[1].1).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x", "not the same socket");
        assert_eq!(receive_descriptors(&other).unwrap().1.len(), 1);
        let (byte, descriptors) = receive_descriptors(&other).unwrap();
        assert_eq!((byte, descriptors.len()), (Some(b'c'), 0));
        assert_eq!(receive_descriptors(&other).unwrap().0, None);
    }
}
