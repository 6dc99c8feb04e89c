//! Where an idempotency key may be: the runs of keys, and a Bloom filter for each.
//!
//! Keys are hashes. In a table ordered by key, each new key would change a different page, and each
//! changed page goes to the disk twice. So the tables are ordered by runs of a thousand keys, and
//! only the last run's pages change. Thanks to the filters, a lookup searches few runs. The filter
//! of a full run is stored, so that opening reads two bytes per key; the last run's filter is built
//! from its keys.
//!
//! In memory the filters of 64 runs are interleaved bit by bit, so that eight words answer for all
//! 64: an hour of a thousand keys a second has 3,500 runs.

use rusqlite::{Connection, params};

/// The number of keys in a full run.
const RUN_KEYS: usize = 1024;
/// 16 bits for each key, which sets eight: one in 1,700 runs without a key seems to have it.
const BITS: usize = RUN_KEYS * 16;
/// The number of runs in a block: the bits of a word.
const BLOCK_RUNS: usize = 64;

/// Numbers and filters of one table's runs. The n-th bit of each word belongs to the n-th run.
#[derive(Debug)]
struct Block {
    runs: Vec<i64>,
    words: Vec<u64>,
}

/// The last run, to which keys are added: its filter is not stored yet.
#[derive(Debug)]
struct Open {
    table: usize,
    keys: usize,
}

/// All runs of the two tables, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    tables: [Vec<Block>; 2],
    /// The number of the newest run.
    last: i64,
    open: Option<Open>,
}

impl Block {
    fn new() -> Self {
        Self { runs: Vec::with_capacity(BLOCK_RUNS), words: vec![0; BITS] }
    }

    fn begin(&mut self, number: i64) {
        self.runs.push(number);
    }

    /// Adds a key to its last run.
    fn add(&mut self, key: &[u8; 16]) {
        let last = self.runs.len() - 1;
        for place in places(key) {
            self.words[place] |= 1 << last;
        }
    }

    /// The numbers of the runs that may have the key.
    fn may_have(&self, key: &[u8; 16]) -> impl Iterator<Item = i64> {
        let mut found = places(key).fold(u64::MAX, |found, place| found & self.words[place]);
        std::iter::from_fn(move || {
            let next = found.trailing_zeros() as usize;
            // When no bit is left, this is index 64, which no run has.
            let number = self.runs.get(next)?;
            found &= found - 1;
            Some(*number)
        })
    }

    /// The filter of its last run, and its checksum.
    fn last_filter(&self) -> Vec<u8> {
        let last = self.runs.len() - 1;
        let bit = |word: &u64| u8::from(word >> last & 1 == 1);
        let byte = |words: &[u64]| words.iter().rev().fold(0, |byte, word| byte << 1 | bit(word));
        let mut bytes: Vec<u8> = self.words.chunks_exact(8).map(byte).collect();
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Adds a run with its filter. A damaged filter excludes no key.
    fn take_sealed(&mut self, number: i64, filter: &[u8]) {
        let last = self.runs.len();
        self.runs.push(number);
        let (bits, checksum) = filter.split_at_checked(BITS / 8).unwrap_or_default();
        let is_whole = !bits.is_empty() && crc32c::crc32c(bits).to_le_bytes() == checksum;
        let bits = if is_whole { bits } else { &[u8::MAX; BITS / 8] };
        for (byte, words) in bits.iter().zip(self.words.chunks_exact_mut(8)) {
            for (bit, word) in words.iter_mut().enumerate() {
                *word |= u64::from(byte >> bit & 1) << last;
            }
        }
    }
}

/// The eight bits of a key: it is a hash already, so its eight parts name them.
fn places(key: &[u8; 16]) -> impl Iterator<Item = usize> {
    let parts = key.chunks_exact(2);
    parts.map(|part| usize::from(u16::from_le_bytes([part[0], part[1]])) % BITS)
}

/// Calls `take` with each key of the runs after the given one, in order, with its run and table.
fn each_key(
    connection: &Connection,
    after: i64,
    mut take: impl FnMut(i64, usize, &[u8; 16]) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "SELECT run, key, 0 FROM dedup_a WHERE run > ?1
         UNION ALL SELECT run, key, 1 FROM dedup_b WHERE run > ?1
         ORDER BY run",
    )?;
    let mut rows = select.query([after])?;
    while let Some(row) = rows.next()? {
        take(row.get(0)?, usize::from(row.get::<_, i64>(2)? == 1), &row.get(1)?)?;
    }
    Ok(())
}

impl Runs {
    /// Loads the runs from the tables.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut all = Self::default();
        let mut select =
            connection.prepare_cached("SELECT run, generation, filter FROM dedup_run ORDER BY run")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (number, table) = (row.get(0)?, usize::from(row.get::<_, i64>(1)? == 1));
            all.with_room(table).take_sealed(number, row.get_ref(2)?.as_blob().unwrap_or_default());
            all.last = number;
        }
        each_key(connection, all.last, |number, table, key| {
            all.add_to(number, table, key);
            Ok(())
        })?;
        Ok(all)
    }

    /// Builds the filters of all runs except the last from their keys.
    pub(crate) fn make_filters(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("DELETE FROM dedup_run", [])?;
        let mut all = Self::default();
        each_key(connection, all.last, |number, table, key| {
            if number != all.last {
                all.seal(connection)?;
            }
            all.add_to(number, table, key);
            Ok(())
        })
    }

    /// The last block of a table with space for one more run.
    fn with_room(&mut self, table: usize) -> &mut Block {
        let blocks = &mut self.tables[table];
        if blocks.last().is_none_or(|block| block.runs.len() == BLOCK_RUNS) {
            blocks.push(Block::new());
        }
        let last = blocks.len() - 1;
        &mut blocks[last]
    }

    /// Adds a key to the open run with this number. Begins the run if there is none.
    fn add_to(&mut self, number: i64, table: usize, key: &[u8; 16]) {
        if self.open.is_none() || number != self.last {
            self.with_room(table).begin(number);
            (self.last, self.open) = (number, Some(Open { table, keys: 0 }));
        }
        if let (Some(open), Some(block)) = (&mut self.open, self.tables[table].last_mut()) {
            open.keys += 1;
            block.add(key);
        }
    }

    /// The runs that may have the key, newest first, each with its table.
    pub(crate) fn may_have(&self, key: &[u8; 16]) -> Vec<(usize, i64)> {
        let of = |table: usize| {
            self.tables[table]
                .iter()
                .flat_map(move |block| block.may_have(key).map(move |number| (table, number)))
        };
        let mut found: Vec<_> = of(0).chain(of(1)).collect();
        found.sort_unstable_by_key(|(_, number)| std::cmp::Reverse(*number));
        found
    }

    /// Adds a key to a table; returns its run. Writes the filter of the previous run when that is
    /// full.
    pub(crate) fn add(
        &mut self,
        connection: &Connection,
        table: usize,
        key: &[u8; 16],
    ) -> rusqlite::Result<i64> {
        let goes_on = |open: &Open| open.table == table && open.keys < RUN_KEYS;
        let number = if self.open.as_ref().is_some_and(goes_on) {
            self.last
        } else {
            self.seal(connection)?;
            self.last + 1
        };
        self.add_to(number, table, key);
        Ok(number)
    }

    /// Ends the open run.
    pub(crate) fn seal(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(Open { table, .. }) = self.open.take() else { return Ok(()) };
        let Some(block) = self.tables[table].last() else { return Ok(()) };
        let mut insert = connection.prepare_cached(
            "INSERT OR REPLACE INTO dedup_run(run, generation, filter) VALUES (?1, ?2, ?3)",
        )?;
        insert.execute(params![self.last, i64::from(table == 1), block.last_filter()])?;
        Ok(())
    }

    /// Removes the runs of a table that is emptied.
    pub(crate) fn empty(&mut self, connection: &Connection, table: usize) -> rusqlite::Result<()> {
        let mut delete = connection.prepare_cached("DELETE FROM dedup_run WHERE generation = ?1")?;
        delete.execute([i64::from(table == 1)])?;
        self.tables[table].clear();
        self.open.take_if(|open| open.table == table);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> [u8; 16] {
        std::array::from_fn(|_| fastrand::u8(..))
    }

    fn found(block: &Block, key: &[u8; 16]) -> Vec<i64> {
        block.may_have(key).collect()
    }

    #[test]
    fn a_filter_has_every_key_that_was_added_and_few_others() {
        let keys: Vec<_> = std::iter::repeat_with(random).take(RUN_KEYS).collect();
        let mut block = Block::new();
        block.begin(1);
        keys.iter().for_each(|key| block.add(key));
        let mut read = Block::new();
        read.take_sealed(1, &block.last_filter());
        assert_eq!(read.words, block.words);
        assert!(keys.iter().all(|key| found(&read, key) == [1]));
        let others = (0..10_000).filter(|_| !found(&read, &random()).is_empty()).count();
        assert!(others < 100, "{others} of 10000");
    }

    #[test]
    fn each_run_of_a_block_has_its_own_keys() {
        let keys: Vec<_> = std::iter::repeat_with(random).take(BLOCK_RUNS).collect();
        let mut block = Block::new();
        for (number, key) in (0..).zip(&keys) {
            block.begin(number);
            block.add(key);
        }
        for (number, key) in (0..).zip(&keys) {
            assert_eq!(found(&block, key), [number]);
        }
    }

    #[test]
    fn a_damaged_filter_excludes_nothing() {
        let mut block = Block::new();
        block.begin(1);
        let whole = block.last_filter();
        let mut flipped = whole.clone();
        flipped[100] ^= 1;
        for damaged in [&flipped[..], &whole[1..], &[]] {
            let mut read = Block::new();
            read.take_sealed(1, damaged);
            assert_eq!(found(&read, &[7; 16]), [1]);
        }
        let mut read = Block::new();
        read.take_sealed(1, &whole);
        assert_eq!(found(&read, &[7; 16]), [0; 0]);
    }
}
