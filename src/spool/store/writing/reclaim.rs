//! Returns free space to the disk while the store is idle.

use super::ledger::Ledger;
use crate::spool::store::disk::checkpoints::Checkpoints;
use crate::spool::store::disk::connections::BUSY_TIMEOUT;
use crate::spool::store::settings::PAGE_BYTES;
use rusqlite::config::DbConfig;
use std::time::Duration;

/// A store with records keeps this many bytes of free pages for reuse.
const SLACK_BYTES: u64 = 64 << 20;
/// An empty store keeps only this many bytes of free pages.
const EMPTY_SLACK_BYTES: u64 = 256 << 10;
/// The number of pages returned in one turn. Between two turns a change can go first.
const TURN_PAGES: u64 = 512;

impl Ledger {
    /// Returns some space to the disk; returns whether there is more to do.
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
        // The pragma yields a row for each page and works only while it is stepped.
        let mut vacuum = self.connection.prepare_cached(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Moves the log into the database and truncates it, unless a reader or a checkpoint uses it;
    /// returns whether it did.
    pub(crate) fn truncate_log(&self) -> rusqlite::Result<bool> {
        const READER: Duration = Duration::from_millis(50);
        self.connection.busy_timeout(READER)?;
        let kept_from_it = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        kept_from_it.map(|kept: bool| !kept)
    }

    /// Does the same at the end, so that the last connection removes the empty log.
    pub(crate) fn end_log(&self) -> rusqlite::Result<()> {
        if self.truncate_log()? {
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        }
        Ok(())
    }
}
