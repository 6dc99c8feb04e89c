//! The queries that the reading thread runs.

use crate::message::ShortText;
use crate::spool::store::entry::{
    Address, Batch, Filter, Holding, Page, ReadyAddress, RecordEntry, RecordState, RefusedSince, Seq, Stored,
    Summary, TriedUntil, Tries, Whole,
};
use crate::spool::store::errors::ReadError;
use crate::spool::store::format::record;
use crate::spool::store::index::destinations::address;
use crate::spool::store::settings::PAGE_BYTES;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The largest number of lines of a list.
const PAGE_MAX: usize = 1000;

fn id(connection: &Connection, of: &Address) -> rusqlite::Result<Option<i64>> {
    let mut select =
        connection.prepare_cached("SELECT id FROM dest WHERE exchange = ?1 AND routing_key = ?2")?;
    select.query_row([of.exchange.as_str(), of.routing_key.as_str()], |row| row.get(0)).optional()
}

/// The wanted part of a destination's records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) after: Option<Seq>,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// The next ready records of a destination; at least one, if there is one. Expired ones are among
/// them until they are parked.
pub(crate) fn next_batch(connection: &Connection, of: &Address, want: Want) -> Result<Batch, ReadError> {
    let mut batch = Batch { last: want.after, ..Batch::default() };
    let Some(dest) = id(connection, of)? else { return Ok(batch) };
    batch.clock = clock(connection, dest)?;
    let mut select = connection.prepare_cached(
        "SELECT msg.seq, created_ms, expires_ms, coalesce(attempts, 0), crc, meta, body,
             coalesce(handed, 0), coalesce(tries, 0), first_ms, last_ms, word
         FROM stretch CROSS JOIN msg ON msg.seq BETWEEN max(first, ?2 + 1) AND last
         LEFT JOIN note ON note.seq = msg.seq
         WHERE stretch.dest = ?1
             AND first >= (SELECT coalesce(max(first), 0) FROM stretch WHERE dest = ?1 AND first <= ?2)
             AND msg.dest = ?1 AND state = 0
         ORDER BY first, msg.seq LIMIT ?3",
    )?;
    let after = want.after.map_or(0, Seq::number);
    let limit = i64::try_from(want.rows).unwrap_or(i64::MAX);
    let mut rows = select.query([dest, after, limit])?;
    let mut bytes = 0;
    while bytes < want.bytes.max(1) {
        let Some(row) = rows.next()? else { break };
        let seq = Seq::new(row.get(0)?);
        batch.last = Some(seq);
        bytes += row.get_ref(5)?.as_blob().map_or(0, <[u8]>::len);
        match sound(row, seq, dest)? {
            Some(message) => {
                bytes += message.payload.len();
                batch.records.push(Stored {
                    seq,
                    message,
                    created_ms: row.get(1)?,
                    expires_ms: row.get(2)?,
                    attempts: row.get(3)?,
                    handed_over: row.get(7)?,
                    tries: tries(row)?,
                });
            }
            None => batch.damaged.push(seq),
        }
    }
    Ok(batch)
}

fn tries(row: &Row<'_>) -> rusqlite::Result<Option<Tries>> {
    let count = row.get(8)?;
    if count == 0 {
        return Ok(None);
    }
    Ok(Some(Tries { count, first_ms: row.get(9)?, last_ms: row.get(10)?, word: row.get(11)? }))
}

fn clock(connection: &Connection, dest: i64) -> rusqlite::Result<Option<RefusedSince>> {
    let mut select = connection.prepare_cached("SELECT since_ms, last FROM refused WHERE dest = ?1")?;
    let read = |row: &Row<'_>| Ok(RefusedSince { since_ms: row.get(0)?, last: Seq::new(row.get(1)?) });
    select.query_row([dest], read).optional()
}

/// The moments that are noted, the earliest first.
pub(crate) fn tried(connection: &Connection) -> Result<Vec<TriedUntil>, ReadError> {
    let mut select = connection.prepare_cached("SELECT total_ms, last FROM tried ORDER BY total_ms")?;
    let read = |row: &Row<'_>| Ok(TriedUntil { total_ms: row.get(0)?, last: Seq::new(row.get(1)?) });
    Ok(select.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// The message in the columns crc, meta and body, from column 4 on; `None` if the checksum is
/// wrong.
pub(crate) fn sound(row: &Row<'_>, seq: Seq, dest: i64) -> rusqlite::Result<Option<crate::message::Message>> {
    let crc: i64 = row.get(4)?;
    let (Ok(meta), Ok(body)) = (row.get_ref(5)?.as_blob(), row.get_ref(6)?.as_blob()) else {
        return Ok(None);
    };
    if i64::from(record::checksum(seq.number(), dest, meta, body)) != crc {
        return Ok(None);
    }
    Ok(record::decode(meta, Bytes::copy_from_slice(body)).ok())
}

/// The first ready record of a row of `dest`.
const FIRST_READY: &str = "(SELECT found.seq FROM stretch
    CROSS JOIN msg AS found ON found.seq BETWEEN stretch.first AND stretch.last
    WHERE stretch.dest = dest.id AND found.dest = dest.id AND found.state = 0
    ORDER BY stretch.first, found.seq LIMIT 1)";

/// Destinations with ready records, the one with the oldest record first.
pub(crate) fn destinations(connection: &Connection, limit: usize) -> Result<Vec<ReadyAddress>, ReadError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT exchange, routing_key, ready, msg.seq
         FROM dest CROSS JOIN msg ON msg.seq = {FIRST_READY} WHERE ready > 0 ORDER BY msg.seq LIMIT ?1"
    ))?;
    let found = select.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let ready = row.get::<_, i64>(2)?.cast_unsigned();
        Ok(ReadyAddress { destination: address(row, 0)?, ready, first: Seq::new(row.get(3)?) })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// When the oldest ready record was appended.
pub(crate) fn oldest_ms(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT min(created_ms) FROM dest CROSS JOIN msg ON msg.seq = {FIRST_READY} WHERE ready > 0"
    ))?;
    select.query_row([], |row| row.get(0))
}

const ENTRY: &str = "SELECT msg.seq, exchange, routing_key, state, note.reason, created_ms, expires_ms,
    coalesce(attempts, 0), meta, length(body)";
/// In the order of the records: without CROSS, SQLite might begin with the destinations and sort.
const RECORDS: &str = "FROM msg CROSS JOIN dest ON dest.id = msg.dest LEFT JOIN note ON note.seq = msg.seq";
/// Every parked record has a note and few others do: this avoids a scan of a million ready ones.
const NOTED: &str = "FROM note CROSS JOIN msg ON msg.seq = note.seq CROSS JOIN dest ON dest.id = msg.dest";
/// The ready records of destination ?2: this avoids a scan of a million others.
const OF_ONE: &str =
    "FROM stretch CROSS JOIN msg ON msg.seq BETWEEN max(stretch.first, ?1 + 1) AND stretch.last
    CROSS JOIN dest ON dest.id = msg.dest LEFT JOIN note ON note.seq = msg.seq";

fn entry(row: &Row<'_>) -> rusqlite::Result<RecordEntry> {
    let meta = row.get_ref(8)?.as_blob().unwrap_or_default();
    let message_id = record::decode(meta, Bytes::new()).ok().map(|message| message.properties.message_id);
    Ok(RecordEntry {
        seq: Seq::new(row.get(0)?),
        destination: address(row, 1)?,
        state: RecordState::from_number(row.get(3)?),
        reason: row.get(4)?,
        created_ms: row.get(5)?,
        expires_ms: row.get(6)?,
        attempts: row.get(7)?,
        message_id,
        payload_bytes: row.get::<_, i64>(9)?.cast_unsigned(),
    })
}

/// A part of the list of records, without their contents, in order and as of one moment.
pub(crate) fn list(
    connection: &Connection,
    filter: &Filter,
    page: Page,
) -> Result<Vec<RecordEntry>, ReadError> {
    let moment = connection.unchecked_transaction()?;
    let narrowed = |state| Filter { state: Some(state), ..filter.clone() };
    let is_parked = filter.state == Some(RecordState::Parked) || filter.reason.is_some();
    let Some(wanted) = filter.destination().filter(|_| !is_parked) else {
        let (from, key) = if is_parked { (NOTED, "note.seq") } else { (RECORDS, "msg.seq") };
        return Ok(listed(&moment, &format!("{from} WHERE {key} > ?1"), key, None, filter, page)?);
    };
    let Some(dest) = id(&moment, &wanted)? else { return Ok(Vec::new()) };
    let ready = format!(
        "{OF_ONE} WHERE stretch.dest = ?2
         AND first >= (SELECT coalesce(max(first), 0) FROM stretch WHERE dest = ?2 AND first <= ?1)"
    );
    let mut found =
        listed(&moment, &ready, "first, msg.seq", Some(dest), &narrowed(RecordState::Ready), page)?;
    if filter.state.is_none() {
        let parked = format!("{NOTED} WHERE note.seq > ?1");
        found.extend(listed(&moment, &parked, "note.seq", None, &narrowed(RecordState::Parked), page)?);
        found.sort_unstable_by_key(|entry| entry.seq);
        found.truncate(page.limit.min(PAGE_MAX));
    }
    Ok(found)
}

/// The entries that `way` selects: records after ?1, perhaps only of destination ?2.
fn listed(
    connection: &Connection,
    way: &str,
    order: &str,
    dest: Option<i64>,
    filter: &Filter,
    page: Page,
) -> rusqlite::Result<Vec<RecordEntry>> {
    let Filter { exchange, routing_key, state, reason } = filter;
    let condition = |given: bool, condition: &'static str| if given { condition } else { "" };
    let conditions = [
        condition(exchange.is_some(), "AND exchange = ?3"),
        condition(routing_key.is_some(), "AND routing_key = ?4"),
        condition(state.is_some(), "AND state = ?5"),
        condition(reason.is_some(), "AND note.reason = ?6"),
    ];
    let sql = format!("{ENTRY} {way} {} ORDER BY {order} LIMIT ?7", conditions.join(" "));
    let mut select = connection.prepare_cached(&sql)?;
    let after = page.after.map_or(0, Seq::number);
    let limit = i64::try_from(page.limit.min(PAGE_MAX)).unwrap_or(i64::MAX);
    let given = params![
        after,
        dest,
        exchange.as_ref().map(ShortText::as_str),
        routing_key.as_ref().map(ShortText::as_str),
        state.map(RecordState::as_number),
        reason,
        limit
    ];
    select.query_map(given, entry)?.collect()
}

/// The contents of the store, as of one moment.
pub(crate) fn summary(connection: &Connection, largest: usize) -> Result<Summary, ReadError> {
    let moment = connection.unchecked_transaction()?;
    let count = |row: &Row<'_>, column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let mut summary = moment.query_row(
        "SELECT coalesce(sum(ready), 0), coalesce(sum(parked), 0), count(*) FROM dest
         WHERE ready + parked > 0",
        [],
        |row| {
            let (ready, parked) = (count(row, 0)?, count(row, 1)?);
            Ok(Summary { ready, parked, destinations: count(row, 2)?, ..Summary::default() })
        },
    )?;
    let pragma = |sql| moment.query_row(sql, [], |row| count(row, 0));
    let (pages, free) = (pragma("PRAGMA page_count")?, pragma("PRAGMA freelist_count")?);
    summary.live_bytes = pages.saturating_sub(free) * PAGE_BYTES;
    summary.oldest_ms = oldest_ms(&moment)?;
    let mut select = moment.prepare_cached(
        "SELECT exchange, routing_key, ready, parked, bytes FROM dest WHERE ready + parked > 0
         ORDER BY bytes DESC, exchange, routing_key LIMIT ?1",
    )?;
    let holdings = select.query_map([i64::try_from(largest).unwrap_or(i64::MAX)], |row| {
        let (ready, parked, bytes) = (count(row, 2)?, count(row, 3)?, count(row, 4)?);
        Ok(Holding { destination: address(row, 0)?, ready, parked, bytes })
    })?;
    summary.largest = holdings.collect::<Result<_, _>>()?;
    Ok(summary)
}

/// One record with its message.
pub(crate) fn whole(connection: &Connection, seq: Seq) -> Result<Option<Whole>, ReadError> {
    let mut select = connection.prepare_cached(&format!("{ENTRY} {RECORDS} WHERE msg.seq = ?1"))?;
    let Some(entry) = select.query_row([seq.number()], entry).optional()? else { return Ok(None) };
    let mut select = connection
        .prepare_cached("SELECT dest, NULL, NULL, NULL, crc, meta, body FROM msg WHERE seq = ?1")?;
    let message = select.query_row([seq.number()], |row| sound(row, seq, row.get(0)?)).optional()?;
    Ok(message.map(|message| Whole { entry, message }))
}
