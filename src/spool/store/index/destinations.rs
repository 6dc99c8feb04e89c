//! The destinations and their counters. After each transaction memory and table agree.

use super::numbers;
use super::ready::ReadyCounts;
use crate::hashing::Map;
use crate::message::ShortText;
use crate::spool::store::entry::{Address, RecordState, Seq};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

/// With more rows than this, destinations without records are deleted: clients choose the names.
const EMPTY_MAX: usize = 1024;

/// Bytes counted for a record in addition to its own, in a destination's share.
pub(crate) const ROW_OVERHEAD: u64 = 32;

/// The destination in two columns of a row: first the exchange, then the routing key.
pub(crate) fn address(row: &Row<'_>, column: usize) -> rusqlite::Result<Address> {
    Ok(Address { exchange: short(row, column)?, routing_key: short(row, column + 1)? })
}

fn short(row: &Row<'_>, column: usize) -> rusqlite::Result<ShortText> {
    ShortText::new(row.get::<_, String>(column)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

/// Records and bytes of one destination, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecordCounts {
    pub(crate) ready: u64,
    pub(crate) parked: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug)]
struct AddressRow {
    destination: Address,
    counts: RecordCounts,
    /// The highest number given to one of its records, and when the last of them expires.
    last: Seq,
    latest_ms: i64,
    /// Whether the open transaction has changed it.
    changed: bool,
}

/// All destinations that have a row.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    ids: Map<Address, i64>,
    rows: Map<i64, AddressRow>,
    total: RecordCounts,
    last_id: i64,
    sweep_at: usize,
    /// The destinations that the open transaction has changed.
    changed: Vec<i64>,
    /// Their counts of ready records, published after the commit.
    news: Vec<(Address, u64)>,
    ready: ReadyCounts,
}

impl RecordCounts {
    fn of(&mut self, state: RecordState) -> &mut u64 {
        match state {
            RecordState::Ready => &mut self.ready,
            RecordState::Parked => &mut self.parked,
        }
    }

    /// Damaged counters must not stop deliveries.
    fn take(&mut self, state: RecordState) {
        let count = self.of(state);
        *count = count.saturating_sub(1);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.ready == 0 && self.parked == 0
    }
}

impl Destinations {
    /// Loads the tables, and sets the counts in `ready`.
    pub(crate) fn load(connection: &Connection, ready: ReadyCounts) -> rusqlite::Result<Self> {
        let mut all = Self { sweep_at: EMPTY_MAX, ready, ..Self::default() };
        let mut select = connection
            .prepare("SELECT id, exchange, routing_key, ready, parked, bytes, last, latest_ms FROM dest")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let destination = address(row, 1)?;
            let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            let counts = RecordCounts { ready: count(3)?, parked: count(4)?, bytes: count(5)? };
            all.ready.tell([(destination.clone(), counts.ready)]);
            all.ids.insert(destination.clone(), id);
            let (last, latest_ms) = (Seq::new(row.get(6)?), row.get(7)?);
            all.rows.insert(id, AddressRow { destination, counts, last, latest_ms, changed: false });
            all.last_id = all.last_id.max(id);
            all.total.ready += counts.ready;
            all.total.parked += counts.parked;
            all.total.bytes += counts.bytes;
        }
        Ok(all)
    }

    pub(crate) fn total(&self) -> RecordCounts {
        self.total
    }

    pub(crate) fn ready(&self) -> ReadyCounts {
        self.ready.clone()
    }

    pub(crate) fn id(&self, destination: &Address) -> Option<i64> {
        self.ids.get(destination).copied()
    }

    /// The destination's bytes, and the highest number given to one of its records.
    pub(crate) fn standing(&self, id: i64) -> (u64, Seq) {
        self.rows.get(&id).map_or((0, Seq::new(0)), |row| (row.counts.bytes, row.last))
    }

    /// Inserts a new destination; returns its id.
    pub(crate) fn enter(&mut self, connection: &Connection, to: &Address) -> rusqlite::Result<i64> {
        let id = self.last_id + 1;
        let mut insert =
            connection.prepare_cached("INSERT INTO dest(id, exchange, routing_key) VALUES (?1, ?2, ?3)")?;
        insert.execute(params![id, to.exchange.as_str(), to.routing_key.as_str()])?;
        self.last_id = id;
        self.ids.insert(to.clone(), id);
        let (counts, last) = (RecordCounts::default(), Seq::new(0));
        let row = AddressRow { destination: to.clone(), counts, last, latest_ms: 0, changed: false };
        self.rows.insert(id, row);
        Ok(id)
    }

    pub(crate) fn added(&mut self, id: i64, bytes: u64, seq: Seq, expires_ms: i64) {
        let Some(row) = self.change(id, |counts| {
            counts.ready += 1;
            counts.bytes += bytes;
        }) else {
            return;
        };
        let only = row.counts.ready + row.counts.parked == 1;
        row.last = row.last.max(seq);
        row.latest_ms = if only { expires_ms } else { row.latest_ms.max(expires_ms) };
    }

    pub(crate) fn removed(&mut self, id: i64, state: RecordState, bytes: u64) {
        self.change(id, |counts| {
            counts.take(state);
            counts.bytes = counts.bytes.saturating_sub(bytes);
        });
    }

    pub(crate) fn moved(&mut self, id: i64, from: RecordState, to: RecordState) {
        self.change(id, |counts| {
            counts.take(from);
            *counts.of(to) += 1;
        });
    }

    fn change(&mut self, id: i64, change: impl Fn(&mut RecordCounts)) -> Option<&mut AddressRow> {
        let row = self.rows.get_mut(&id)?;
        if !std::mem::replace(&mut row.changed, true) {
            self.changed.push(id);
        }
        change(&mut row.counts);
        change(&mut self.total);
        Some(row)
    }

    /// Writes the transaction's changes, before its commit.
    pub(crate) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut update = connection.prepare_cached(
            "UPDATE dest SET ready = ?2, parked = ?3, bytes = ?4, last = ?5, latest_ms = ?6 WHERE id = ?1",
        )?;
        self.news.clear();
        for id in &self.changed {
            let Some(AddressRow { counts, destination, last, latest_ms, changed: _ }) = self.rows.get(id)
            else {
                continue;
            };
            self.news.push((destination.clone(), counts.ready));
            let numbers = [counts.ready, counts.parked, counts.bytes].map(u64::cast_signed);
            update.execute(params![id, numbers[0], numbers[1], numbers[2], last.number(), latest_ms])?;
        }
        if self.rows.len() >= self.sweep_at { self.sweep(connection) } else { Ok(()) }
    }

    fn sweep(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut delete = connection.prepare_cached("DELETE FROM dest WHERE id = ?1")?;
        let empty: Vec<_> = self.rows.extract_if(|_, row| row.counts.is_empty()).collect();
        if let Some(last) = empty.iter().map(|(_, row)| row.last).max() {
            numbers::keep_known(connection, last)?;
        }
        let mut stop = connection.prepare_cached("DELETE FROM refused WHERE dest = ?1")?;
        for (id, row) in empty {
            delete.execute([id])?;
            stop.execute([id])?;
            self.ids.remove(&row.destination);
        }
        self.sweep_at = EMPTY_MAX.max(2 * self.rows.len());
        Ok(())
    }

    pub(crate) fn committed(&mut self) {
        for id in self.changed.drain(..) {
            if let Some(row) = self.rows.get_mut(&id) {
                row.changed = false;
            }
        }
        self.ready.tell(self.news.drain(..));
    }

    /// Loads the tables again, which are as they were before the transaction.
    pub(crate) fn rolled_back(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        *self = Self::load(connection, self.ready())?;
        Ok(())
    }
}
