//! The questions that the readers' connection answers.

use super::entry::{Batch, Destination, Entry, Filter, Page, ReadyDestination, Seq, State, Stored, Whole};
use super::errors::ReadError;
use super::reading::{Holding, Summary};
use super::record;
use super::settings::PAGE_BYTES;
use crate::message::ShortText;
use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Lines of a list, at most.
const PAGE_MAX: usize = 1000;

/// The destination in two columns of a row, the exchange first.
pub(super) fn destination(row: &Row<'_>, column: usize) -> rusqlite::Result<Destination> {
    Ok(Destination { exchange: short(row, column)?, routing_key: short(row, column + 1)? })
}

fn short(row: &Row<'_>, column: usize) -> rusqlite::Result<ShortText> {
    ShortText::new(row.get::<_, String>(column)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

fn id(connection: &Connection, of: &Destination) -> rusqlite::Result<Option<i64>> {
    let mut select =
        connection.prepare_cached("SELECT id FROM dest WHERE exchange = ?1 AND routing_key = ?2")?;
    select.query_row([of.exchange.as_str(), of.routing_key.as_str()], |row| row.get(0)).optional()
}

/// How much of a destination is wanted, and from where on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) after: Option<Seq>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) now_ms: i64,
}

/// The next records of a destination that are ready and not expired; at least one, if there is one.
pub(super) fn next_batch(connection: &Connection, of: &Destination, want: Want) -> Result<Batch, ReadError> {
    let mut batch = Batch { last: want.after, ..Batch::default() };
    let Some(dest) = id(connection, of)? else { return Ok(batch) };
    let mut select = connection.prepare_cached(
        "SELECT msg.seq, created_ms, expires_ms, coalesce(attempts, 0), crc, meta, body
         FROM msg LEFT JOIN note ON note.seq = msg.seq
         WHERE dest = ?1 AND state = 0 AND msg.seq > ?2 AND expires_ms > ?4
         ORDER BY msg.seq LIMIT ?3",
    )?;
    let after = want.after.map_or(i64::MIN, Seq::number);
    let limit = i64::try_from(want.rows).unwrap_or(i64::MAX);
    let mut rows = select.query(params![dest, after, limit, want.now_ms])?;
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
                });
            }
            None => batch.damaged.push(seq),
        }
    }
    Ok(batch)
}

/// The message in the columns crc, meta and body from 4 on; `None` when they are not what was written.
pub(super) fn sound(row: &Row<'_>, seq: Seq, dest: i64) -> rusqlite::Result<Option<crate::message::Message>> {
    let crc: i64 = row.get(4)?;
    let (Ok(meta), Ok(body)) = (row.get_ref(5)?.as_blob(), row.get_ref(6)?.as_blob()) else {
        return Ok(None);
    };
    if i64::from(record::checksum(seq.number(), dest, meta, body)) != crc {
        return Ok(None);
    }
    Ok(record::decode(meta, Bytes::copy_from_slice(body)).ok())
}

/// Destinations with records that are ready, the one with the oldest record first.
pub(super) fn destinations(
    connection: &Connection,
    limit: usize,
) -> Result<Vec<ReadyDestination>, ReadError> {
    let mut select = connection.prepare_cached(
        "SELECT exchange, routing_key, ready, parked, bytes, msg.seq, created_ms
         FROM dest JOIN msg ON msg.seq =
             (SELECT seq FROM msg WHERE msg.dest = dest.id AND state = 0 ORDER BY seq LIMIT 1)
         WHERE ready > 0 ORDER BY msg.seq LIMIT ?1",
    )?;
    let found = select.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        let count = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok(ReadyDestination {
            destination: destination(row, 0)?,
            ready: count(2)?,
            parked: count(3)?,
            bytes: count(4)?,
            first: Seq::new(row.get(5)?),
            oldest_ms: row.get(6)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// When the oldest record that is ready was appended.
pub(super) fn oldest_ms(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut select = connection.prepare_cached(
        "SELECT min((SELECT created_ms FROM msg WHERE msg.dest = dest.id AND state = 0
                     ORDER BY seq LIMIT 1)) FROM dest WHERE ready > 0",
    )?;
    select.query_row([], |row| row.get(0))
}

const ENTRY: &str = "SELECT msg.seq, exchange, routing_key, state, note.reason, created_ms, expires_ms,
    coalesce(attempts, 0), meta, length(body)";
/// In the order of the records: CROSS keeps SQLite from beginning with the destinations and sorting.
const RECORDS: &str = "FROM msg CROSS JOIN dest ON dest.id = msg.dest LEFT JOIN note ON note.seq = msg.seq";
/// Every parked record has a note, and few others have: the way past a million that are ready.
const NOTED: &str = "FROM note CROSS JOIN msg ON msg.seq = note.seq CROSS JOIN dest ON dest.id = msg.dest";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let meta = row.get_ref(8)?.as_blob().unwrap_or_default();
    let message_id = record::decode(meta, Bytes::new()).ok().map(|message| message.properties.message_id);
    Ok(Entry {
        seq: Seq::new(row.get(0)?),
        destination: destination(row, 1)?,
        state: State::from_number(row.get(3)?),
        reason: row.get(4)?,
        created_ms: row.get(5)?,
        expires_ms: row.get(6)?,
        attempts: row.get(7)?,
        message_id,
        payload_bytes: row.get::<_, i64>(9)?.cast_unsigned(),
    })
}

/// A part of the list of records, without their contents, in order.
pub(super) fn list(connection: &Connection, filter: &Filter, page: Page) -> Result<Vec<Entry>, ReadError> {
    let dest = match &filter.destination() {
        None => None,
        Some(wanted) => match id(connection, wanted)? {
            None => return Ok(Vec::new()),
            found => found,
        },
    };
    let is_noted = filter.state == Some(State::Parked) || filter.reason.is_some();
    let (from, key) = if is_noted { (NOTED, "note.seq") } else { (RECORDS, "msg.seq") };
    let condition = |given: bool, condition: &'static str| if given { condition } else { "" };
    let conditions = [
        condition(dest.is_some(), "AND msg.dest = ?2"),
        condition(filter.exchange.is_some(), "AND exchange = ?3"),
        condition(filter.routing_key.is_some(), "AND routing_key = ?4"),
        condition(filter.state.is_some(), "AND state = ?5"),
        condition(filter.reason.is_some(), "AND note.reason = ?6"),
    ];
    let conditions = conditions.join(" ");
    let sql = format!("{ENTRY} {from} WHERE {key} > ?1 {conditions} ORDER BY {key} LIMIT ?7");
    let mut select = connection.prepare_cached(&sql)?;
    let after = page.after.map_or(i64::MIN, Seq::number);
    let limit = i64::try_from(page.limit.min(PAGE_MAX)).unwrap_or(i64::MAX);
    let (exchange, routing_key) = (&filter.exchange, &filter.routing_key);
    let given = params![
        after,
        dest,
        exchange.as_ref().map(ShortText::as_str),
        routing_key.as_ref().map(ShortText::as_str),
        filter.state.map(State::as_number),
        filter.reason,
        limit
    ];
    let found = select.query_map(given, entry)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// What the store holds, as of one moment.
pub(super) fn summary(connection: &Connection, largest: usize) -> Result<Summary, ReadError> {
    let moment = connection.unchecked_transaction()?;
    let count = |row: &Row<'_>, column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let mut summary = moment.query_row(
        "SELECT coalesce(sum(ready), 0), coalesce(sum(parked), 0), count(*) FROM dest WHERE ready + parked > 0",
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
        Ok(Holding { destination: destination(row, 0)?, ready, parked, bytes })
    })?;
    summary.largest = holdings.collect::<Result<_, _>>()?;
    Ok(summary)
}

/// One record with its message.
pub(super) fn whole(connection: &Connection, seq: Seq) -> Result<Option<Whole>, ReadError> {
    let mut select = connection.prepare_cached(&format!("{ENTRY} {RECORDS} WHERE msg.seq = ?1"))?;
    let Some(entry) = select.query_row([seq.number()], entry).optional()? else { return Ok(None) };
    let mut select = connection
        .prepare_cached("SELECT dest, NULL, NULL, NULL, crc, meta, body FROM msg WHERE seq = ?1")?;
    let message = select.query_row([seq.number()], |row| sound(row, seq, row.get(0)?)).optional()?;
    Ok(message.map(|message| Whole { entry, message }))
}
