//! Where the control socket of a routes.toml is.
//!
//! If systemd provides a directory (`RUNTIME_DIRECTORY`), it is a file there, which other users can neither
//! reach nor block. Otherwise it is an abstract Unix socket (see unix(7)): a crash leaves no file behind, and
//! pods in the same network namespace find each other.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

/// Connect timeout: another process may hold the name and never accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest name that portway uses. The name of an abstract socket may have 107 bytes.
const LONGEST_NAME: usize = 100;
/// The directory of the unit that ships with portway. The shell that runs `portway reload` does not know it.
const UNIT_DIRECTORY: &str = "/run/portway";

/// One place.
pub(super) enum Place {
    /// A file in a directory that other users cannot enter.
    File(PathBuf),
    /// The name of an abstract socket.
    Abstract(Vec<u8>),
}

impl Place {
    /// The place where this process listens.
    pub(super) fn own(file: &Path) -> io::Result<Self> {
        match given() {
            Some(directory) => Self::inside(&directory, file),
            None => name(file).map(Self::Abstract),
        }
    }

    /// The places where another process may listen.
    pub(super) fn all(file: &Path) -> io::Result<Vec<Self>> {
        let directories = given().into_iter().chain([UNIT_DIRECTORY.into()]);
        let files = directories.map(|directory| Self::inside(&directory, file));
        files.chain([name(file).map(Self::Abstract)]).collect()
    }

    fn inside(directory: &Path, file: &Path) -> io::Result<Self> {
        let path = std::path::absolute(file)?;
        let hash = crc32fast::hash(path.as_os_str().as_encoded_bytes());
        let name = format!("control-{hash:08x}.socket");
        Ok(Self::File(directory.join(name)))
    }

    /// Connects, within [`CONNECT_TIMEOUT`].
    pub(super) fn connect(&self) -> rustix::io::Result<UnixStream> {
        let address = match self {
            Self::File(path) => SocketAddrUnix::new(path)?,
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_TIMEOUT))?;
        rustix::net::connect(&socket, &address)?;
        Ok(UnixStream::from(socket))
    }

    /// Listens, unless another process does.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        let path = match self {
            Self::Abstract(name) => {
                return UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?);
            }
            Self::File(path) => path,
        };
        // If two processes find that the owner has ended, one must not remove the socket of the other.
        let directory = File::open(path.parent().unwrap_or(Path::new("/")))?;
        match directory.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(Errno::ADDRINUSE.into()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        match self.connect() {
            Ok(_) | Err(Errno::AGAIN) => return Err(Errno::ADDRINUSE.into()),
            // The owner has ended.
            Err(Errno::CONNREFUSED) => fs::remove_file(path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(listener)
    }
}

/// The directory that systemd has made for this unit, or the first if there are several.
fn given() -> Option<PathBuf> {
    let given = std::env::var_os("RUNTIME_DIRECTORY")?;
    let given = given.to_str()?.split(':').next()?;
    (!given.is_empty()).then(|| given.into())
}

/// The name of the abstract socket, made from the path. Links are not followed, because their target changes
/// with each update of a Kubernetes volume.
fn name(file: &Path) -> io::Result<Vec<u8>> {
    let path = std::path::absolute(file)?;
    let path = path.as_os_str().as_encoded_bytes();
    let mut name = b"portway:".to_vec();
    if path.len() > LONGEST_NAME - name.len() {
        name.extend(format!("{:08x}:", crc32fast::hash(path)).bytes());
    }
    let room = LONGEST_NAME - name.len();
    name.extend(path.iter().skip(path.len().saturating_sub(room)));
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::{iter, thread};

    use super::*;

    /// This happens if a process is killed, and both its predecessor and its successor come to accept.
    #[test]
    fn if_several_find_the_socket_of_a_process_that_has_ended_one_listens() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..200 {
            let path = directory.path().join(format!("{round}.socket"));
            drop(UnixListener::bind(&path).unwrap());
            let (place, barrier) = (Place::File(path), Barrier::new(4));
            let race = || -> Vec<UnixListener> {
                thread::scope(|scope| {
                    let listen = || {
                        barrier.wait();
                        place.listen().ok()
                    };
                    let all = [(); 4].map(|()| scope.spawn(listen));
                    all.into_iter()
                        .filter_map(|one| one.join().unwrap())
                        .collect()
                })
            };
            // A child of another test has copies of the listener and of the lock until it runs its program.
            let mut races = iter::repeat_with(race).take(1000);
            let listening = races.find(|listening| !listening.is_empty()).unwrap();
            assert_eq!(listening.len(), 1, "in round {round}");
            place.connect().unwrap();
        }
    }
}
