//! Reads a small text file, within a time limit even if nobody writes into it.

use rustix::fs::OFlags;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The largest file that is read. None of ours is nearly this large; a device or a core dump is
/// larger.
const FILE_BYTES_MAX: usize = 1 << 20;

/// How long a file may take to be read before it counts as one that blocks.
pub(super) const READ_MAX: Duration = Duration::from_secs(1);

/// How long a reader waits for somebody to write into a FIFO. It is shorter than [`READ_MAX`], so
/// that a FIFO never keeps a thread.
const FIFO_WAIT: Duration = Duration::from_millis(500);

/// How often a reader looks whether a FIFO has bytes.
const FIFO_LOOK: Duration = Duration::from_millis(10);

/// Why a file was not read. Its `Display` is the expectation that the file did not meet.
#[derive(Debug)]
pub enum Unread {
    /// It did not answer in time: a FIFO without a writer, or a file on a dead mount.
    Late,
    /// The system refused.
    Failed(io::Error),
    /// It is larger than 1 MiB.
    TooLong,
    /// It is not UTF-8.
    NotText,
}

impl fmt::Display for Unread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => write!(formatter, "a file that can be read within {READ_MAX:?}"),
            Self::Failed(error) => write!(formatter, "a readable file: {error}"),
            Self::TooLong => formatter.write_str("a file of at most 1 MiB"),
            Self::NotText => formatter.write_str("a file of UTF-8 text"),
        }
    }
}

/// Reads a file of at most 1 MiB on a thread of its own and waits for it for a second. If the file
/// is on a dead mount, the thread stays until the mount answers.
///
/// # Errors
/// See [`Unread`].
pub fn read_text_in_time(path: &Path) -> Result<String, Unread> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let path = PathBuf::from(path);
    std::thread::Builder::new()
        .name("file".to_owned())
        // Nobody may wait for it any more.
        .spawn(move || drop(sender.send(read_text(&path))))
        .map_err(Unread::Failed)?;
    receiver.recv_timeout(READ_MAX).unwrap_or(Err(Unread::Late))
}

/// Reads a file of at most 1 MiB on this thread, however long that takes. For the configuration
/// itself: a program may still be writing it.
///
/// # Errors
/// See [`Unread`].
pub fn read_text_patiently(path: &Path) -> Result<String, Unread> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Unread::Failed)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(Unread::Failed)?;
    text(bytes)
}

/// Reads a file of at most 1 MiB on this thread. It may wait for ever for a dead mount, but waits
/// for a FIFO only [`FIFO_WAIT`].
pub(super) fn read_text(path: &Path) -> Result<String, Unread> {
    // Without the flag, opening a FIFO waits for a writer.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(Unread::Failed)?;
    let is_fifo = file.metadata().map_err(Unread::Failed)?.file_type().is_fifo();
    let mut bytes = Vec::new();
    let mut file = file.take(FILE_BYTES_MAX as u64 + 1);
    let until = Instant::now() + FIFO_WAIT;
    loop {
        match file.read_to_end(&mut bytes) {
            // A FIFO reads as empty until somebody opens it for writing.
            Ok(_) if is_fifo && bytes.is_empty() => {}
            Ok(_) => return text(bytes),
            // Somebody has opened it and has not written everything.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(Unread::Failed(error)),
        }
        if Instant::now() >= until {
            return Err(Unread::Late);
        }
        std::thread::sleep(FIFO_LOOK);
    }
}

fn text(bytes: Vec<u8>) -> Result<String, Unread> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Unread::TooLong);
    }
    String::from_utf8(bytes).map_err(|_| Unread::NotText)
}
