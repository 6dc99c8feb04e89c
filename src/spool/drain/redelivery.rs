//! Which records may reach the broker a second time. They get a mark for consumers.

use crate::spool::store::{Address, DELIVERING, Seq};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest number of delivered records that are not yet removed: after a crash these arrive
/// twice.
pub(super) const UNSETTLED_MAX: usize = 256;

/// The records that an earlier run may have delivered without removing them.
///
/// They are the first records of their destinations, because each destination's records leave in
/// order. All of them existed when this run began, and there are at most [`UNSETTLED_MAX`].
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// The last record that existed at the start; `None` if the previous run ended normally.
    until: Option<Seq>,
    /// How many each destination has had, and the last one.
    counted: HashMap<Address, (usize, Seq)>,
}

impl Suspects {
    /// If the last run ended normally, `until` is `None`, and there are no such records.
    pub(super) fn new(until: Option<Seq>) -> Self {
        Self { until, counted: HashMap::new() }
    }

    /// Whether the record may have been delivered by an earlier run. Records are asked about in
    /// their order.
    pub(super) fn includes(&mut self, of: &Address, seq: Seq) -> bool {
        if self.until.is_none_or(|until| seq > until) {
            return false;
        }
        let (count, last) = self.counted.entry(of.clone()).or_insert((0, Seq::new(i64::MIN)));
        // An operator's redrive makes earlier records ready again; those are not counted.
        if seq > *last && *count < UNSETTLED_MAX {
            (*count, *last) = (*count + 1, seq);
        }
        seq <= *last
    }

    /// The last record that existed at the start, if the previous run did not end normally.
    pub(super) fn until(&self) -> Option<Seq> {
        self.until
    }
}

/// The note of deliveries under way could not be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {cause}", path.display())]
pub(super) struct NoteError {
    doing: &'static str,
    path: PathBuf,
    cause: io::Error,
}

/// A file that exists from a run's first delivery until the run has ended normally.
#[derive(Debug)]
pub(super) struct DeliveringNote {
    path: PathBuf,
    there: bool,
}

impl DeliveringNote {
    /// The file in a store's directory. `left_behind` says whether the store found one from an
    /// earlier run.
    pub(super) fn new(directory: &Path, left_behind: bool) -> Self {
        Self { path: directory.join(DELIVERING), there: left_behind }
    }

    /// Makes and syncs the file before the first delivery, so that a power cut leaves it. On a
    /// thread that may block.
    pub(super) async fn begin(&mut self) -> Result<(), NoteError> {
        if !self.there {
            let path = self.path.clone();
            let made = tokio::task::spawn_blocking(move || make(&path)).await;
            made.map_err(io::Error::other).flatten().map_err(|cause| self.failed("making", cause))?;
            self.there = true;
        }
        Ok(())
    }

    /// Removes the file when every delivered record is removed. On a thread that may block.
    pub(super) async fn end(&mut self) -> Result<(), NoteError> {
        if self.there {
            let path = self.path.clone();
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
            removed.map_err(io::Error::other).flatten().map_err(|cause| self.failed("removing", cause))?;
            self.there = false;
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, cause: io::Error) -> NoteError {
        NoteError { doing, path: self.path.clone(), cause }
    }
}

fn make(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.sync_all()?;
    match path.parent() {
        Some(directory) => OpenOptions::new().read(true).open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ShortText;
    use proptest::prelude::*;

    fn destination(key: &str) -> Address {
        Address { exchange: ShortText::default(), routing_key: ShortText::new(key).unwrap() }
    }

    #[test]
    fn after_a_good_end_nothing_is_suspected() {
        assert!(!Suspects::new(None).includes(&destination("a"), Seq::new(1)));
    }

    #[test]
    fn a_record_that_is_tried_again_is_the_same_one() {
        let mut suspects = Suspects::new(Some(Seq::new(1_000)));
        for _ in 0..1_000 {
            assert!(suspects.includes(&destination("a"), Seq::new(1)));
        }
        assert!(suspects.includes(&destination("a"), Seq::new(2)));
    }

    proptest! {
        #[test]
        fn the_first_records_that_were_there_are_suspected_at_most_a_batch(
            there in 0..1_000i64,
            new in 0..600i64,
        ) {
            let mut suspects = Suspects::new(Some(Seq::new(there)));
            let marked: Vec<_> = (1..=there + new)
                .filter(|seq| suspects.includes(&destination("a"), Seq::new(*seq)))
                .collect();
            let expected: Vec<_> = (1..=there.min(256)).collect();
            prop_assert_eq!(marked, expected);
        }

        #[test]
        fn the_crash_of_a_run_leaves_nothing_delivered_unmarked(
            destinations in 1..6usize,
            order in prop::collection::vec(0..6usize, 1..800),
            removed in 0..800usize,
        ) {
            // The records that the earlier run delivered, in order, and how many of them it
            // removed.
            let mut next = vec![0i64; destinations];
            let delivered: Vec<(usize, i64)> = order
                .iter()
                .map(|of| of % destinations)
                .map(|of| { next[of] += 1; (of, next[of]) })
                .collect();
            let removed = removed.min(delivered.len()).max(delivered.len().saturating_sub(UNSETTLED_MAX));
            let mut suspects = Suspects::new(Some(Seq::new(i64::MAX)));
            for (of, seq) in &delivered[removed..] {
                prop_assert!(suspects.includes(&destination(&of.to_string()), Seq::new(*seq)));
            }
        }
    }

    #[tokio::test]
    async fn the_file_says_whether_the_last_run_ended_well() {
        let directory = tempfile::tempdir().unwrap();
        let left_behind = || directory.path().join(DELIVERING).exists();
        let mut run = DeliveringNote::new(directory.path(), left_behind());
        assert!(!left_behind());
        run.begin().await.unwrap();
        assert!(left_behind());
        let mut after_crash = DeliveringNote::new(directory.path(), left_behind());
        after_crash.end().await.unwrap();
        assert!(!left_behind());
    }
}
