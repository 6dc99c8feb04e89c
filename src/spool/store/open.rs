//! Opens the directory and the database, and determines whether records are missing.

use super::clock::StoreClock;
use super::entry::Seq;
use super::errors::OpenError;
use super::settings::StoreSettings;
use super::stats::LostTail;
use crate::spool::store::disk::checkpoints::{LogPages, log_pages};
use crate::spool::store::disk::connections::{moving, reading, writing};
use crate::spool::store::disk::directory::{DELIVERING, HeldFiles, OwnedDirectory};
use crate::spool::store::disk::high_water::HighWater;
use crate::spool::store::index::destinations::Destinations;
use crate::spool::store::index::numbers::{keep_known, known};
use crate::spool::store::index::ready::ReadyCounts;
use crate::spool::store::index::stretches::Stretches;
use crate::spool::store::keys::dedup::Generations;
use crate::spool::store::writing::bounds::Bounds;
use crate::spool::store::writing::expiry::Expiry;
use crate::spool::store::writing::ledger::Ledger;
use rusqlite::Connection;

/// The first release without the fault that resets the log during a checkpoint.
const SQLITE_MIN: i32 = 3_051_003;

/// An open store, before its threads run.
pub(super) struct Opened {
    pub(super) ledger: Ledger,
    pub(super) high_water: HighWater,
    pub(super) lost: Option<LostTail>,
    /// The last record that an earlier run, which did not end normally, may have delivered.
    pub(super) suspected: Option<Seq>,
    pub(super) reader: Connection,
    pub(super) checkpoints: Connection,
    pub(super) kept: HeldFiles,
}

pub(super) fn open(settings: StoreSettings) -> Result<Opened, OpenError> {
    let found = rusqlite::version_number();
    if found < SQLITE_MIN {
        return Err(OpenError::OldSqlite(found));
    }
    let directory = OwnedDirectory::take(&settings.directory)?;
    // Bound first, and so dropped last: after the connections.
    let (path, kept) = directory.database()?;
    let connection = writing(&path, &settings)?;
    let high_water = HighWater::at(directory.file("hwm"));
    let (given, lost) = resume(&connection, &high_water)?;
    let clock = StoreClock::resume(&connection)?;
    let reader = reading(&path)?;
    let checkpoints = moving(&path)?;
    let suspected = directory.file(DELIVERING).exists().then_some(given);
    let ledger = Ledger {
        bounds: Bounds::new(&settings),
        destinations: Destinations::load(&connection, ReadyCounts::default())?,
        stretches: Stretches::default(),
        generations: Generations::load(&connection, settings.dedup_window, clock.now_ms())?,
        expiry: Expiry::load(&connection)?,
        clock,
        noted: true,
        suspected,
        committed: given,
        given,
        connection,
        directory,
        settings,
    };
    begin_log(&ledger)?;
    Ok(Opened { ledger, high_water, lost, suspected, reader, checkpoints, kept })
}

/// Moves the log of an earlier run into the database, before the store answers anything.
///
/// The system may show pages that the disk never stored. Everything readable is written to the
/// database and synced, so that no commit follows a hole in the log.
fn begin_log(ledger: &Ledger) -> Result<(), OpenError> {
    let LogPages { all, moved } = log_pages(&ledger.connection)?;
    // SQLite counts no page of a log as moved if no process had the log open. If a process has it
    // open, the rest must not be moved alone: the pages moved before may not have reached the disk.
    if 0 < moved && moved < all {
        return Err(OpenError::LookedInto(ledger.settings.directory.clone()));
    }
    if all > 0 {
        // A reader may prevent the truncation; a later one succeeds.
        ledger.truncate_log()?;
    }
    Ok(())
}

/// The last number given out, and the records that are missing.
fn resume(connection: &Connection, high_water: &HighWater) -> rusqlite::Result<(Seq, Option<LostTail>)> {
    let known = known(connection)?;
    let Some(lost) = LostTail::between(known, high_water.written()) else { return Ok((known, None)) };
    // Numbers of lost records are not given out again: a person who noted such a number must not
    // find another message.
    keep_known(connection, lost.committed)?;
    Ok((lost.committed, Some(lost)))
}
