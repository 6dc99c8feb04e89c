//! The directory of a store: private, on a local disk, used by one process at a time.

use super::holder::{Holder, LOCK};
use crate::spool::store::errors::{OpenError, files};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A file that exists from a run's first delivery until the run has ended normally.
pub const DELIVERING: &str = "delivering";
/// How long to retry the lock: a process that asks who has the store holds it for microseconds.
const GLANCE: Duration = Duration::from_millis(20);

/// The directory, and the exclusive right to it while this lives.
#[derive(Debug)]
pub(crate) struct OwnedDirectory {
    path: PathBuf,
    lock: Arc<File>,
}

/// Held by each thread of a store until its connection is closed: the exclusive right to the
/// directory, and the database's file. When a process closes a file anywhere, the system drops all
/// its locks on that file, including SQLite's.
#[derive(Clone, Debug)]
pub(crate) struct HeldFiles {
    database: Arc<File>,
    _lock: Arc<File>,
}

impl HeldFiles {
    /// Syncs the database to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.database.sync_data()
    }
}

impl OwnedDirectory {
    /// Creates the directory if it is missing, and locks it.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let failed = |doing| files(doing, path);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("making"))?;
        let mode = fs::metadata(path).map_err(failed("looking at"))?.permissions().mode();
        if mode & 0o077 != 0 {
            if is_of_others(path).map_err(failed("looking into"))? {
                return Err(OpenError::ForeignDirectory(path.to_owned()));
            }
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(path, private).map_err(failed("closing to other users"))?;
        }
        look_at_disk(path)?;
        let lock = lock(path)?;
        Ok(Self { path: path.to_owned(), lock: Arc::new(lock) })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Free bytes on this disk for a process without privileges.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Creates the database's file if it is missing, private to this user. SQLite gives the files
    /// beside it the same permissions.
    pub(crate) fn database(&self) -> Result<(PathBuf, HeldFiles), OpenError> {
        let path = self.file("spool.db");
        let database = private(&path).map_err(files("making", &path))?;
        Ok((path, HeldFiles { database: Arc::new(database), _lock: Arc::clone(&self.lock) }))
    }
}

/// Whether the directory has other files and no spool. A volume's `lost+found` does not count.
fn is_of_others(path: &Path) -> io::Result<bool> {
    const OURS: [&str; 5] = [LOCK, "hwm", "hwm.tmp", DELIVERING, "control.sock"];
    if path.join("spool.db").exists() {
        return Ok(false);
    }
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_str().unwrap_or_default();
        if !OURS.contains(&name) && !name.starts_with("spool.db") && name != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn private(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let failed = files("locking", &path);
    let mut file = private(&path).map_err(&failed)?;
    let taken = file.try_lock().or_else(|_| {
        std::thread::sleep(GLANCE);
        file.try_lock()
    });
    match taken {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = Holder::named_in(&mut file).pid;
            let holder = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            return Err(OpenError::InUse { directory: directory.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(&failed)?;
    writeln!(file, "{}", std::process::id()).map_err(&failed)?;
    Ok(file)
}

/// Refuses a network file system, and warns about one in memory.
#[cfg(target_os = "linux")]
fn look_at_disk(path: &Path) -> Result<(), OpenError> {
    let disk = rustix::fs::statfs(path).map_err(files("looking at the file system of", path))?;
    // The magic numbers of statfs(2) have 32 bits; the field is wider on most machines.
    let magic = (disk.f_type & 0xffff_ffff).cast_unsigned();
    if magic == TMPFS {
        let path = path.display();
        tracing::warn!(%path, "the spool is in memory (tmpfs): a restart of the machine loses it");
    }
    match network_kind(magic) {
        Some(kind) => Err(OpenError::NotLocal { directory: path.to_owned(), kind }),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn look_at_disk(_: &Path) -> Result<(), OpenError> {
    Ok(())
}

#[cfg(target_os = "linux")]
const TMPFS: u64 = 0x0102_1994;

/// The network file systems of statfs(2).
#[cfg(target_os = "linux")]
fn network_kind(magic: u64) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x00c3_6400 => Some("Ceph"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x0102_1997 => Some("9P"),
        _ => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn file_systems_on_a_network_are_known_by_their_magic() {
        assert_eq!(network_kind(0x6969), Some("NFS"));
        assert_eq!(network_kind(0xef53), None, "ext4");
        assert_eq!(network_kind(TMPFS), None, "tmpfs");
    }
}
