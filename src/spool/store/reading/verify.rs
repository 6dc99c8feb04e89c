//! Verification of a store: its pages, the checksum of every record, its counters against its rows, and its end.
//!
//! It asks many short questions, because a long one would keep the writer from resetting its log. Only the structure and
//! the counters are each read in one question, because they make sense only as of one moment.

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

/// Records looked at in one question.
const SLICE: usize = 256;
/// The largest number of faults that are named; the others are only counted.
const NAMED_MAX: usize = 1000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Records looked at.
    #[serde(rename = "messages")]
    pub records: u64,
    /// What SQLite and the tables' references say is wrong.
    pub structure: Vec<String>,
    /// How many records are damaged: their bytes are not those that were appended.
    pub damaged_count: u64,
    /// The first thousand of them.
    pub damaged: Vec<Seq>,
    /// Counters that differ from the rows that they count, the first thousand.
    pub counters: Vec<WrongCounter>,
    /// Records at the end that were acknowledged and are missing.
    pub lost: Option<LostTail>,
}

/// A counter that differs from the rows that it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WrongCounter {
    /// Of which destination; `None` when its name cannot be read either.
    #[serde(flatten, serialize_with = "address_or_nulls")]
    pub destination: Option<Address>,
    /// What it counts: `ready`, `parked`, `bytes`, or `reached` for the ready records that deliveries find.
    pub counter: &'static str,
    /// What it says.
    pub says: u64,
    /// What there is.
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

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyProgress {
    /// Looking at the pages of the database.
    Structure,
    /// Looking at the records: this many of that many.
    Records(u64, u64),
    /// Counting.
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

/// What a slice of the records showed.
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

/// The mark is read first. It trails the commits, so a store at work never looks as if it had lost records.
fn lost(connection: &Connection, mark: &Path) -> Result<Option<LostTail>, ReadError> {
    let committed = HighWater::at(mark.to_owned()).written();
    let known = numbers::known(connection)?;
    Ok(committed.filter(|committed| *committed > known).map(|committed| LostTail { known, committed }))
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
            "SELECT count(*) FROM msg WHERE state = 1 AND seq NOT IN (SELECT seq FROM note WHERE reason IS NOT NULL)",
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

/// What a destination has: by its own counters, by the rows, and by the stretches that deliveries go by.
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
