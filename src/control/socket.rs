//! The path of a spool's control socket, short enough for the system.

use crate::config::SOCKET_PATH_BYTES_MAX;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A path to a control socket, valid while this lives. A path that is too long leads through the
/// open directory instead.
#[derive(Debug)]
pub struct SocketPath {
    /// The path, for people.
    pub path: PathBuf,
    /// The path to bind and to connect to.
    pub way: PathBuf,
    _directory: Option<File>,
}

impl SocketPath {
    /// The path of the socket in a spool's directory; the socket need not exist.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let path = directory.join("control.sock");
        // If the directory is missing, so is the socket, and the use of the path fails.
        let open = File::open(directory).ok().filter(|_| path.as_os_str().len() > SOCKET_PATH_BYTES_MAX);
        let way = match &open {
            Some(directory) => format!("/proc/self/fd/{}/control.sock", directory.as_raw_fd()).into(),
            None => path.clone(),
        };
        Self { path, way, _directory: open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_short_path_is_the_way_itself() {
        let directory = tempfile::tempdir().unwrap();
        let socket = SocketPath::of(directory.path());
        assert_eq!(socket.way, directory.path().join("control.sock"));
    }

    #[test]
    fn a_socket_deep_down_is_bound_and_reached() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let _listener = UnixListener::bind(SocketPath::of(&deep).way).unwrap();
        assert!(deep.join("control.sock").exists());
        assert!(UnixStream::connect(SocketPath::of(&deep).way).is_ok());
        assert!(UnixStream::connect(deep.join("control.sock")).is_err(), "the system itself does not");
    }
}
