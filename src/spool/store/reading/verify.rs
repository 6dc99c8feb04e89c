//! Verification of a store: its pages, the checksum of every record, its counters against its rows,
//! and its end.
//!
//! It asks many short questions: a long one would keep the writer from restarting its log. Only the
//! structure and the counters are each read in one question, because both must be of one moment.

use super::queries;
use super::reader::Asking;
use crate::spool::store::disk::high_water::HighWater;
use crate::spool::store::entry::{Address, Seq};
use crate::spool::store::errors::ReadError;
use crate::spool::store::index::destinations::{ROW_OVERHEAD, address};
use crate::spool::store::index::numbers;
use crate::spool::store::stats::LostTail;
use rusqlite::{Connection, params};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::Path;

/// The number of records per question.
const SLICE: usize = 256;
/// The largest number of named faults; the others are only counted.
const NAMED_MAX: usize = 1000;

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The number of checked records.
    #[serde(rename = "messages")]
    pub records: u64,
    /// Faults that SQLite and the references between tables show.
    pub structure: Vec<String>,
    /// The number of records whose bytes are not those that were appended.
    pub damaged_count: u64,
    /// The first thousand of them.
    pub damaged: Vec<Seq>,
    /// Counters that differ from the rows that they count, the first thousand.
    pub counters: Vec<WrongCounter>,
    /// Acknowledged records that are missing at the end.
    pub lost: Option<LostTail>,
}

/// A counter that differs from the rows that it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WrongCounter {
    /// The destination; `None` if its name cannot be read.
    #[serde(flatten, serialize_with = "address_or_nulls")]
    pub destination: Option<Address>,
    /// The counter: `ready`, `parked`, `bytes`, or `reached` for the ready records that deliveries
    /// find.
    pub counter: &'static str,
    /// The counter's value.
    pub says: u64,
    /// The correct value.
    pub is: u64,
}

fn address_or_nulls<S: Serializer>(destination: &Option<Address>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Unknown {
        exchange: (),
        routing_key: (),
    }
    match destination {
        Some(address) => address.serialize(to),
        None => Unknown { exchange: (), routing_key: () }.serialize(to),
    }
}

/// The progress of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyProgress {
    /// Checking the pages of the database.
    Structure,
    /// Checking the records: done, and their total number.
    Records(u64, u64),
    /// Checking the counters.
    Counters,
}

impl Found {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let Self { records: _, structure, damaged: _, damaged_count, counters, lost } = self;
        structure.is_empty() && *damaged_count == 0 && counters.is_empty() && lost.is_none()
    }
}

/// The result for a slice of the records.
#[derive(Debug, Default)]
struct Slice {
    last: Option<Seq>,
    records: u64,
    damaged: Vec<Seq>,
}

pub(crate) async fn all(
    asking: &Asking,
    directory: &Path,
    progress: impl Fn(VerifyProgress) + Send,
) -> Result<Found, ReadError> {
    let mark = directory.join("hwm");
    let mut found = Found { lost: asking.ask(move |db| lost(db, &mark)).await?, ..Found::default() };
    progress(VerifyProgress::Structure);
    found.structure = asking.ask(structure).await?;
    let total = asking.ask(|db| queries::summary(db, 0)).await.map(|sum| sum.ready + sum.parked)?;
    let mut after = None;
    loop {
        progress(VerifyProgress::Records(found.records, total.max(found.records)));
        let slice = asking.ask(move |db| contents(db, after)).await?;
        found.records += slice.records;
        found.damaged_count += slice.damaged.len() as u64;
        let room = NAMED_MAX - found.damaged.len();
        found.damaged.extend(slice.damaged.into_iter().take(room));
        if slice.last.is_none() {
            break;
        }
        after = slice.last;
    }
    progress(VerifyProgress::Counters);
    found.counters = asking.ask(counters).await?;
    Ok(found)
}

/// Reads the high-water mark first. It is behind the commits, so a working store never seems to
/// have lost records.
fn lost(connection: &Connection, mark: &Path) -> Result<Option<LostTail>, ReadError> {
    let noted = HighWater::at(mark.to_owned()).written();
    Ok(LostTail::between(numbers::known(connection)?, noted))
}

fn structure(connection: &Connection) -> Result<Vec<String>, ReadError> {
    let mut check = connection.prepare(&format!("PRAGMA quick_check({NAMED_MAX})"))?;
    let mut found: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    found.retain(|line| line != "ok");
    for (what, sql) in [
        ("records without a destination", "SELECT count(*) FROM msg WHERE dest NOT IN (SELECT id FROM dest)"),
        ("records of an unknown state", "SELECT count(*) FROM msg WHERE state NOT IN (0, 1)"),
        ("notes without a record", "SELECT count(*) FROM note WHERE seq NOT IN (SELECT seq FROM msg)"),
        (
            "parked records without a note",
            "SELECT count(*) FROM msg
             WHERE state = 1 AND seq NOT IN (SELECT seq FROM note WHERE reason IS NOT NULL)",
        ),
        (
            "stretches that count wrong",
            "SELECT count(*) FROM stretch WHERE ready <> (SELECT count(*) FROM msg
                 WHERE seq BETWEEN first AND last AND msg.dest = stretch.dest AND state = 0)",
        ),
    ] {
        let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        if count > 0 {
            found.push(format!("{count} {what}"));
        }
    }
    Ok(found)
}

fn contents(connection: &Connection, after: Option<Seq>) -> Result<Slice, ReadError> {
    let mut select = connection.prepare_cached(
        "SELECT seq, dest, NULL, NULL, crc, meta, body FROM msg WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let limit = i64::try_from(SLICE).unwrap_or(i64::MAX);
    let mut rows = select.query(params![after.map_or(i64::MIN, Seq::number), limit])?;
    let mut slice = Slice::default();
    while let Some(row) = rows.next()? {
        let seq = Seq::new(row.get(0)?);
        slice.last = Some(seq);
        slice.records += 1;
        if queries::sound(row, seq, row.get(1)?)?.is_none() {
            slice.damaged.push(seq);
        }
    }
    Ok(slice)
}

/// A destination's counts: by its counters, by its rows, and by the stretches that deliveries use.
#[derive(Debug, Default)]
struct Tally {
    says: [u64; 3],
    is: [u64; 3],
    reached: u64,
}

fn counters(connection: &Connection) -> Result<Vec<WrongCounter>, ReadError> {
    let moment = connection.unchecked_transaction()?;
    let mut tallies: BTreeMap<i64, Tally> = BTreeMap::new();
    let mut select = moment.prepare("SELECT id, ready, parked, bytes FROM dest")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let says = [row.get(1)?, row.get(2)?, row.get(3)?].map(i64::cast_unsigned);
        tallies.insert(row.get(0)?, Tally { says, ..Tally::default() });
    }
    let mut select = moment.prepare("SELECT dest, state, length(meta) + length(body) FROM msg")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let is = &mut tallies.entry(row.get(0)?).or_default().is;
        is[usize::from(row.get::<_, i64>(1)? != 0)] += 1;
        is[2] += row.get::<_, i64>(2)?.cast_unsigned() + ROW_OVERHEAD;
    }
    let mut select = moment.prepare(
        "SELECT stretch.dest, count(*) FROM stretch CROSS JOIN msg ON msg.seq BETWEEN first AND last
         WHERE msg.dest = stretch.dest AND state = 0 GROUP BY stretch.dest",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        tallies.entry(row.get(0)?).or_default().reached = row.get::<_, i64>(1)?.cast_unsigned();
    }
    let mut wrong = Vec::new();
    for (dest, Tally { says, is, reached }) in tallies {
        let both = [("ready", says[0], is[0]), ("parked", says[1], is[1]), ("bytes", says[2], is[2])];
        let stretches = [("reached", reached, is[0])];
        for (counter, says, is) in both.into_iter().chain(stretches).filter(|(_, says, is)| says != is) {
            wrong.push(WrongCounter { destination: name(&moment, dest), counter, says, is });
        }
    }
    wrong.truncate(NAMED_MAX);
    Ok(wrong)
}

fn name(connection: &Connection, dest: i64) -> Option<Address> {
    let mut select =
        connection.prepare_cached("SELECT exchange, routing_key FROM dest WHERE id = ?1").ok()?;
    select.query_row([dest], |row| address(row, 0)).ok()
}
