//! Where an idempotency key may be: the runs of keys, and a filter for each that says which it cannot have.
//!
//! Keys are hashes: a table in their order would have each written to a page of its own, and that page twice to the
//! disk. So the tables are in the order of runs, a thousand keys each, and only the pages of the last one change.
//! The filters keep a look-up from asking every run. That of a run that is full is kept beside the tables, so that
//! opening reads two bytes for each key; the last one's is made anew from its keys.

use rusqlite::{Connection, params};

/// Keys of a run.
const RUN_KEYS: usize = 1024;
/// 16 bits for each key: of the runs that do not have a key, one in four hundred seems to.
const WORDS: usize = RUN_KEYS * 16 / 64;
const BITS: usize = WORDS * 64;

#[derive(Debug)]
struct Run {
    number: i64,
    /// The generation that it belongs to.
    table: usize,
    keys: usize,
    filter: Box<[u64; WORDS]>,
    /// Whether its filter is beside the tables, and no key is added any more.
    sealed: bool,
}

/// All runs, in the order in which they were begun.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    last: i64,
}

impl Run {
    fn new(number: i64, table: usize) -> Self {
        Self { number, table, keys: 0, filter: Box::new([0; WORDS]), sealed: false }
    }

    fn add(&mut self, key: &[u8; 16]) {
        self.keys += 1;
        for (word, bit) in places(key) {
            self.filter[word] |= bit;
        }
    }

    fn may_have(&self, key: &[u8; 16]) -> bool {
        places(key).all(|(word, bit)| self.filter[word] & bit != 0)
    }

    /// The filter's bytes and their checksum.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.filter.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// A damaged filter excludes nothing: the run is asked for every key.
    fn sealed(number: i64, table: usize, bytes: &[u8]) -> Self {
        let mut run = Self { sealed: true, keys: RUN_KEYS, ..Self::new(number, table) };
        for (word, bytes) in run.filter.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
        }
        if run.bytes() != bytes {
            run.filter.fill(u64::MAX);
        }
        run
    }
}

/// The key is a hash already: four parts of it are four places.
fn places(key: &[u8; 16]) -> impl Iterator<Item = (usize, u64)> {
    let parts = key.chunks_exact(2).take(4);
    parts
        .map(|part| usize::from(u16::from_le_bytes([part[0], part[1]])) % BITS)
        .map(|at| (at / 64, 1 << (at % 64)))
}

impl Runs {
    /// As the tables have them.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut all = Self::default();
        let mut select =
            connection.prepare_cached("SELECT run, generation, filter FROM dedup_run ORDER BY run")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (number, table) = (row.get(0)?, usize::from(row.get::<_, i64>(1)? == 1));
            all.runs.push(Run::sealed(number, table, row.get_ref(2)?.as_blob().unwrap_or_default()));
            all.last = number;
        }
        let mut select = connection.prepare_cached(
            "SELECT run, key, 0 FROM dedup_a WHERE run > ?1 UNION ALL SELECT run, key, 1 FROM dedup_b WHERE run > ?1
             ORDER BY run",
        )?;
        let mut rows = select.query([all.last])?;
        while let Some(row) = rows.next()? {
            let (number, table) = (row.get(0)?, usize::from(row.get::<_, i64>(2)? == 1));
            all.open_run(number, table).add(&row.get(1)?);
        }
        Ok(all)
    }

    fn open_run(&mut self, number: i64, table: usize) -> &mut Run {
        let fits = |run: &Run| !run.sealed && run.number == number;
        if !self.runs.last().is_some_and(fits) {
            self.runs.push(Run::new(number, table));
            self.last = number;
        }
        let last = self.runs.len() - 1;
        &mut self.runs[last]
    }

    /// The runs that may have the key, the newest first, each with its table.
    pub(super) fn may_have(&self, key: &[u8; 16]) -> Vec<(usize, i64)> {
        let found = self.runs.iter().rev().filter(|run| run.may_have(key));
        found.map(|run| (run.table, run.number)).collect()
    }

    /// Adds a key to a table; which run it goes to. The filter of the run before is written when that is full.
    pub(super) fn add(
        &mut self,
        connection: &Connection,
        table: usize,
        key: &[u8; 16],
    ) -> rusqlite::Result<i64> {
        let goes_on = |run: &Run| !run.sealed && run.table == table && run.keys < RUN_KEYS;
        if !self.runs.last().is_some_and(goes_on) {
            self.seal(connection)?;
            self.last += 1;
        }
        let number = self.last;
        self.open_run(number, table).add(key);
        Ok(number)
    }

    /// Ends the last run.
    pub(super) fn seal(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(run) = self.runs.last_mut().filter(|run| !run.sealed) else { return Ok(()) };
        let mut insert = connection.prepare_cached(
            "INSERT OR REPLACE INTO dedup_run(run, generation, filter) VALUES (?1, ?2, ?3)",
        )?;
        insert.execute(params![run.number, i64::from(run.table == 1), run.bytes()])?;
        run.sealed = true;
        Ok(())
    }

    /// A table is emptied: its runs go.
    pub(super) fn empty(&mut self, connection: &Connection, table: usize) -> rusqlite::Result<()> {
        let mut delete = connection.prepare_cached("DELETE FROM dedup_run WHERE generation = ?1")?;
        delete.execute([i64::from(table == 1)])?;
        self.runs.retain(|run| run.table != table);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_every_key_that_was_added_and_few_others() {
        let random = || std::array::from_fn::<u8, 16, _>(|_| fastrand::u8(..));
        let keys: Vec<_> = std::iter::repeat_with(random).take(RUN_KEYS).collect();
        let mut run = Run::new(1, 0);
        keys.iter().for_each(|key| run.add(key));
        let read = Run::sealed(1, 0, &run.bytes());
        assert!(keys.iter().all(|key| run.may_have(key) && read.may_have(key)));
        let others = (0..10_000).filter(|_| read.may_have(&random())).count();
        assert!(others < 100, "{others} of 10000");
    }

    #[test]
    fn a_damaged_filter_excludes_nothing() {
        let whole = Run::new(1, 0).bytes();
        let mut flipped = whole.clone();
        flipped[100] ^= 1;
        for damaged in [&flipped[..], &whole[1..], &[]] {
            assert!(Run::sealed(1, 0, damaged).may_have(&[7; 16]));
        }
        assert!(!Run::sealed(1, 0, &whole).may_have(&[7; 16]));
    }
}
