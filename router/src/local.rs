//! Unix domain sockets to listen on: the mode of the file, what a dead process left behind, and
//! the removal at the end.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Permissions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};

/// A socket that is listened on; its file goes with it.
#[derive(Debug)]
pub struct LocalListener {
    listener: UnixListener,
    _file: SocketFile,
}

/// The file of a socket, as long as it is ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another process may have put its own socket in this place.
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Binds a socket at a path. What a process that is gone left there is removed first.
///
/// # Errors
/// `AddrInUse` if somebody listens there, `AlreadyExists` if something else than a socket is there,
/// and whatever the system says.
pub fn bind(path: &Path, mode: u32, backlog: i32) -> io::Result<LocalListener> {
    let address = SockAddr::unix(path)?;
    remove_stale(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address)?;
    let file = SocketFile::at(path)?;
    // Nobody can connect before `listen`, so there is no moment with another mode.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok(LocalListener {
        listener: UnixListener::from_std(socket.into())?,
        _file: file,
    })
}

fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        let text = "there is something else than a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full queue of connections is a sign of life too.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl LocalListener {
    /// The next connection, and a name for its peer in logs and listings.
    ///
    /// # Errors
    /// As the system says. Cancel safe.
    pub async fn accept(&self) -> io::Result<(LocalStream, String)> {
        let (io, _) = self.listener.accept().await?;
        let peer = match io.peer_cred() {
            Ok(peer) => match peer.pid() {
                Some(pid) => format!("unix:uid={},pid={pid}", peer.uid()),
                None => format!("unix:uid={}", peer.uid()),
            },
            Err(_) => "unix".to_owned(),
        };
        Ok((LocalStream { io, first: None }, peer))
    }
}

/// A connection whose first byte can be looked at.
#[derive(Debug)]
pub struct LocalStream {
    io: UnixStream,
    /// Read already, and the next to be read.
    first: Option<u8>,
}

impl LocalStream {
    /// The first byte, which stays to be read; `None` if the peer closed. Cancel safe.
    ///
    /// # Errors
    /// As the system says.
    pub async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        if self.first.is_none() {
            let mut byte = [0];
            if self.io.read(&mut byte).await? == 1 {
                self.first = Some(byte[0]);
            }
        }
        Ok(self.first)
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() > 0
            && let Some(first) = self.first.take()
        {
            into.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::tempdir;
    use tokio::io::AsyncWriteExt as _;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn the_file_has_its_mode_and_goes_with_the_listener() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("r.sock");
        for mode in [0o600, 0o660] {
            let listener = bind(&path, mode, 8).unwrap();
            assert_eq!(mode_of(&path), mode);
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_replaced() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("r.sock");
        // The standard library leaves its file behind, as a process that was killed does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _listener = bind(&path, 0o600, 8).unwrap();
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn nothing_else_is_replaced() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("r.sock");
        let alive = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = bind(&path, 0o600, 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop((alive, fs::remove_file(&path)));
        fs::write(&path, "a letter").unwrap();
        let error = bind(&path, 0o600, 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a letter");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(bind(&link, 0o600, 8).is_err());
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_stays() {
        let directory = tempdir().unwrap();
        let path = directory.path().join("r.sock");
        let old = bind(&path, 0o600, 8).unwrap();
        fs::rename(&path, directory.path().join("old")).unwrap();
        let _new = bind(&path, 0o600, 8).unwrap();
        drop(old);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn the_first_byte_is_seen_and_still_read() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut stream = LocalStream {
            io: near,
            first: None,
        };
        far.write_all(b"abc").await.unwrap();
        drop(far);
        assert_eq!(stream.first_byte().await.unwrap(), Some(b'a'));
        assert_eq!(stream.first_byte().await.unwrap(), Some(b'a'));
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"abc");
        assert_eq!(stream.first_byte().await.unwrap(), None);
    }
}
