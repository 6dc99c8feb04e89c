//! Appends, the largest part of a transaction. One statement serves all of them.

use super::bounds::Bounds;
use super::change::{Effect, Prepared};
use super::expiry::Expiry;
use super::expiry::OWN;
use super::ledger::Ledger;
use crate::spool::store::entry::{Appended, Seq};
use crate::spool::store::format::record;
use crate::spool::store::format::wire::Unreadable;
use crate::spool::store::index::destinations::{Destinations, ROW_OVERHEAD};
use crate::spool::store::index::stretches::Stretches;
use crate::spool::store::keys::dedup::Generations;
use crate::spool::store::settings::StoreSettings;
use rusqlite::{CachedStatement, Connection, params};

/// The parts of the ledger that an append needs.
pub(crate) struct Appends<'a> {
    connection: &'a Connection,
    insert: CachedStatement<'a>,
    destinations: &'a mut Destinations,
    stretches: &'a mut Stretches,
    generations: &'a Generations,
    bounds: &'a mut Bounds,
    expiry: &'a mut Expiry,
    settings: &'a StoreSettings,
    given: &'a mut Seq,
    now_ms: i64,
}

impl<'a> Appends<'a> {
    pub(crate) fn new(ledger: &'a mut Ledger, now_ms: i64) -> rusqlite::Result<Self> {
        let Ledger {
            connection, destinations, stretches, generations, bounds, expiry, settings, given, ..
        } = ledger;
        let insert = connection.prepare_cached(
            "INSERT INTO msg(seq, dest, created_ms, expires_ms, ages, crc, meta, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        Ok(Self {
            connection,
            insert,
            destinations,
            stretches,
            generations,
            bounds,
            expiry,
            settings,
            given,
            now_ms,
        })
    }

    /// Appends the records destination by destination, so that the records of a destination have
    /// consecutive numbers. Within a destination they keep the given order. The effects are in the
    /// given order, too.
    pub(crate) fn all(&mut self, records: &[&Prepared]) -> rusqlite::Result<Vec<Effect>> {
        let known = |record: &Prepared| self.destinations.id(&record.destination);
        let mut places: Vec<_> = (0..).zip(records).map(|(place, record)| (known(record), place)).collect();
        // Destinations without an id yet are distinguished by name.
        let name =
            |(dest, place): &(Option<i64>, usize)| dest.is_none().then(|| &records[*place].destination);
        places.sort_by(|one, other| one.0.cmp(&other.0).then_with(|| name(one).cmp(&name(other))));
        let mut verdicts = vec![Effect::Failed; records.len()];
        for (dest, place) in places {
            let record: &Prepared = records[place];
            // Another record may have entered the destination in the meantime.
            let dest = dest.or_else(|| self.destinations.id(&record.destination));
            verdicts[place] = self.append(record, dest)?;
        }
        Ok(verdicts)
    }

    /// Appends one record.
    pub(crate) fn one(&mut self, record: &Prepared) -> rusqlite::Result<Effect> {
        let known = self.destinations.id(&record.destination);
        self.append(record, known)
    }

    fn append(&mut self, record: &Prepared, known: Option<i64>) -> rusqlite::Result<Effect> {
        let (now_ms, connection) = (self.now_ms, self.connection);
        let Prepared { destination, meta, body, expiration_ms, idempotency } = record;
        if let Some(with) = idempotency {
            match self.generations.seen(connection, with, now_ms)? {
                Some(Ok(seen)) => return Ok(Effect::Appended(Appended::Seen(seen))),
                Some(Err(Unreadable)) => return Ok(Effect::Failed),
                None => {}
            }
        }
        let bytes = (meta.len() + body.len()) as u64 + ROW_OVERHEAD;
        let (held, last) = known.map_or((0, Seq::new(0)), |id| self.destinations.standing(id));
        if let Err(reason) = self.bounds.admit(bytes, held) {
            return Ok(Effect::Full(reason));
        }
        let dest = match known {
            Some(dest) => dest,
            None => self.destinations.enter(connection, destination)?,
        };
        let follows = last == *self.given;
        let seq = Seq::new(self.given.number() + 1);
        *self.given = seq;
        let crc = record::checksum(seq.number(), dest, meta, body);
        let expires_ms = self.settings.expires_ms(now_ms, *expiration_ms);
        let in_order = self.expiry.appended(expires_ms, self.destinations.total().is_empty());
        let ages = if self.settings.is_own(*expiration_ms) { OWN } else { i64::from(in_order) };
        self.insert.execute(params![seq.number(), dest, now_ms, expires_ms, ages, crc, meta, &body[..]])?;
        if let Some(with) = idempotency {
            self.generations.put(connection, with, Some(seq), now_ms)?;
        }
        self.stretches.appended(connection, dest, seq, follows)?;
        self.destinations.added(dest, bytes, seq, expires_ms);
        Ok(Effect::Appended(Appended::Stored(seq)))
    }
}
