//! Which records have expired: aging records are found in the order of their numbers, others by an
//! index.
//!
//! A record ages if it expires no earlier than every record before it, as nearly all do. The search
//! among them ends at the first unexpired one, and their appends write no page of an index. Reasons
//! for a record not to age: a clock that was set back, a shorter `max_age`, the message's own
//! expiration, a redrive.

use crate::spool::store::entry::{RecordState, Seq};
use rusqlite::Connection;

/// The largest number of records examined at once: there may be many parked ones to skip.
const LOOKED_AT_MAX: usize = 8192;

/// `msg.ages` of a record whose message has an expiration of its own.
pub(crate) const OWN: i64 = 2;

/// How far the aging records have been examined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    /// When the last of all records expires.
    latest_ms: i64,
    /// All aging records up to this one are parked or gone.
    passed: Seq,
}

impl Expiry {
    /// Begins at the first ready record: none before it can expire.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let latest = "SELECT coalesce(max(latest_ms), 0) FROM dest WHERE ready + parked > 0";
        let first = "SELECT coalesce(min((SELECT first FROM stretch WHERE stretch.dest = dest.id
                         ORDER BY first LIMIT 1)), 1) FROM dest WHERE ready > 0";
        let latest_ms = connection.query_row(latest, [], |row| row.get(0))?;
        let first: i64 = connection.query_row(first, [], |row| row.get(0))?;
        Ok(Self { latest_ms, passed: Seq::new(first - 1) })
    }

    /// Whether an appended record ages. `only` says that the store has no other record.
    pub(crate) fn appended(&mut self, expires_ms: i64, only: bool) -> bool {
        if only {
            self.latest_ms = 0;
        }
        let ages = expires_ms >= self.latest_ms;
        self.latest_ms = self.latest_ms.max(expires_ms);
        ages
    }

    /// The next expired records. They must be parked in the same transaction. A record that is
    /// older than `max_age` counts as expired only up to `tried`, the last record that was tried
    /// for long enough.
    pub(crate) fn expired(
        &mut self,
        connection: &Connection,
        now_ms: i64,
        tried: Seq,
        limit: usize,
    ) -> rusqlite::Result<Vec<Seq>> {
        let mut indexed = connection.prepare_cached(
            "SELECT seq FROM msg INDEXED BY msg_expires
             WHERE ages <> 1 AND state = 0 AND expires_ms <= ?1 AND (ages = ?4 OR seq <= ?3)
             ORDER BY expires_ms LIMIT ?2",
        )?;
        let limits = [now_ms, i64::try_from(limit).unwrap_or(i64::MAX), tried.number(), OWN];
        let rows = indexed.query_map(limits, |row| row.get(0).map(Seq::new))?;
        let mut found = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut aging = connection.prepare_cached(
            "SELECT seq, state, ages, expires_ms FROM msg WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        )?;
        let mut rows =
            aging.query([self.passed.number(), i64::try_from(LOOKED_AT_MAX).unwrap_or(i64::MAX)])?;
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            let seq = Seq::new(row.get(0)?);
            if RecordState::from_number(row.get(1)?) == RecordState::Ready && row.get::<_, i64>(2)? == 1 {
                if row.get::<_, i64>(3)? > now_ms || seq > tried {
                    break;
                }
                found.push(seq);
            }
            self.passed = seq;
        }
        Ok(found)
    }
}
