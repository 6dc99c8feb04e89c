//! Gives space back to the disk while nobody writes.

use super::ledger::Ledger;
use crate::spool::store::disk::checkpoints::Checkpoints;
use crate::spool::store::disk::connections::BUSY_TIMEOUT;
use crate::spool::store::settings::PAGE_BYTES;
use rusqlite::config::DbConfig;
use std::time::Duration;

/// While there are records, free pages up to this many bytes are kept for reuse.
const SLACK_BYTES: u64 = 64 << 20;
/// An empty store keeps only this many bytes of free pages.
const EMPTY_SLACK_BYTES: u64 = 256 << 10;
/// Pages given back in one turn. A change can go first between two turns.
const TURN_PAGES: u64 = 512;

impl Ledger {
    /// Gives some space back; returns whether there is more to do.
    pub(crate) fn reclaim(&self, checkpoints: &mut Checkpoints) -> rusqlite::Result<bool> {
        let (pages, free) = self.pages()?;
        let total = self.destinations.total();
        let slack = if total.ready + total.parked == 0 { EMPTY_SLACK_BYTES } else { SLACK_BYTES };
        let worthwhile = free * PAGE_BYTES > slack && free > pages / 4;
        if !worthwhile {
            return Ok(false);
        }
        self.give_back(TURN_PAGES)?;
        let (_, left) = self.pages()?;
        let more = left * PAGE_BYTES > slack && left < free;
        if !more {
            checkpoints.wait()?;
            self.truncate_log()?;
        }
        Ok(more)
    }

    fn give_back(&self, pages: u64) -> rusqlite::Result<()> {
        // The pragma gives a row for each page and works only as far as it is stepped.
        let mut vacuum = self.connection.prepare_cached(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Brings the log into the database and cuts it, if no reader and no checkpoint is at it; whether it did.
    pub(crate) fn truncate_log(&self) -> rusqlite::Result<bool> {
        const READER: Duration = Duration::from_millis(50);
        self.connection.busy_timeout(READER)?;
        let kept_from_it = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        kept_from_it.map(|kept: bool| !kept)
    }

    /// The same for the last time: a log that is empty goes with the last connection.
    pub(crate) fn end_log(&self) -> rusqlite::Result<()> {
        if self.truncate_log()? {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        }
        Ok(())
    }
}
