//! The file `hwm`: the highest committed number, kept apart from the database to detect a lost
//! tail.
//!
//! SQLite silently drops a damaged end of its log. This number is at most a second behind the
//! commits. A database that knows only lower numbers has lost acknowledged records.

use crate::spool::store::entry::Seq;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file and its content.
#[derive(Debug)]
pub(crate) struct HighWater {
    path: PathBuf,
    written: Option<Seq>,
}

impl HighWater {
    pub(crate) fn at(path: PathBuf) -> Self {
        let written = fs::read(&path).ok().and_then(|bytes| parse(&bytes));
        Self { path, written }
    }

    /// The number in the file; `None` if there is no file or its checksum is wrong.
    pub(crate) fn written(&self) -> Option<Seq> {
        self.written
    }

    /// Writes a committed number. Not synced: it may be behind the database, but never ahead.
    pub(crate) fn write(&mut self, seq: Seq) -> io::Result<()> {
        if self.written == Some(seq) {
            return Ok(());
        }
        let beside = self.path.with_extension("tmp");
        replace(&beside, &self.path, &text(seq))?;
        self.written = Some(seq);
        Ok(())
    }
}

fn replace(beside: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(beside, path)
}

fn text(seq: Seq) -> String {
    format!("{seq} {:08x}\n", crc32c::crc32c(seq.to_string().as_bytes()))
}

fn parse(bytes: &[u8]) -> Option<Seq> {
    let found = str::from_utf8(bytes).ok()?;
    let seq = Seq::new(found.split(' ').next()?.parse().ok()?);
    (text(seq) == found).then_some(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hwm");
        assert_eq!(HighWater::at(path.clone()).written(), None);
        HighWater::at(path.clone()).write(Seq::new(42)).unwrap();
        assert_eq!(HighWater::at(path).written(), Some(Seq::new(42)));
    }

    #[test]
    fn cut_and_garbled_files_say_nothing() {
        let whole = text(Seq::new(1234));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..length]), None, "cut to {length} bytes");
        }
        for at in 0..whole.len() {
            let mut garbled = whole.clone().into_bytes();
            garbled[at] ^= 1;
            assert_eq!(parse(&garbled), None, "byte {at} flipped");
        }
    }
}
