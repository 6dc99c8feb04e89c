//! Whatever happens to records, each destination's are found: all of them, in order, and none of another's.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::ops::Range;

const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// Records to these destinations, handed over together.
    Append(Vec<usize>),
    /// So many of the records from this one on.
    Confirm(Index, usize),
    Park(Index, usize),
    Redrive(Index, usize),
    Discard(Index, usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || (any::<Index>(), 1..40_usize);
    prop_oneof![
        4 => proptest::collection::vec(0..KEYS.len(), 1..60).prop_map(Step::Append),
        2 => (0..KEYS.len(), 1..400_usize).prop_map(|(key, count)| Step::Append(vec![key; count])),
        3 => some().prop_map(|(at, count)| Step::Confirm(at, count)),
        2 => some().prop_map(|(at, count)| Step::Park(at, count)),
        2 => some().prop_map(|(at, count)| Step::Redrive(at, count)),
        1 => some().prop_map(|(at, count)| Step::Discard(at, count)),
        1 => Just(Step::Reopen),
    ]
}

/// What there must be: each record's destination, and whether it is ready.
#[derive(Default)]
struct Model(BTreeMap<Seq, (usize, bool)>);

impl Model {
    /// The records that a step means.
    fn meant(&self, at: &Index, count: usize) -> Vec<Seq> {
        if self.0.is_empty() {
            Vec::new()
        } else {
            self.0.keys().copied().skip(at.index(self.0.len())).take(count).collect()
        }
    }

    fn set(&mut self, seqs: &[Seq], ready: bool) -> u64 {
        let mut changed = 0;
        for seq in seqs {
            let state = &mut self.0.get_mut(seq).expect("it was chosen from these").1;
            changed += u64::from(*state != ready);
            *state = ready;
        }
        changed
    }

    fn of(&self, key: usize, ready: bool) -> Vec<Seq> {
        let of = self.0.iter().filter(|(_, state)| **state == (key, ready));
        of.map(|(seq, _)| *seq).collect()
    }
}

async fn take(bench: &mut Bench, model: &mut Model, step: &Step) {
    match step {
        Step::Append(keys) => {
            let appends = keys.iter().map(|key| bench.append(KEYS[*key], "x"));
            // With tokio's budget for a task the later ones would not be handed over in their order.
            let seqs = tokio::task::unconstrained(futures::future::join_all(appends)).await;
            for key in 0..KEYS.len() {
                let of = keys.iter().zip(&seqs).filter(|(of, _)| **of == key).map(|(_, seq)| *seq);
                assert!(of.is_sorted(), "each destination's are numbered in their order");
            }
            model.0.extend(seqs.into_iter().zip(keys.iter().map(|key| (*key, true))));
        }
        Step::Confirm(at, count) => {
            let seqs = model.meant(at, *count);
            assert_eq!(bench.handle.confirm(seqs.clone()).await, Ok(seqs.len() as u64));
            model.0.retain(|seq, _| !seqs.contains(seq));
        }
        Step::Park(at, count) => {
            let seqs = model.meant(at, *count);
            let changed = model.set(&seqs, false);
            assert_eq!(bench.handle.park(seqs, "test").await, Ok(changed));
        }
        Step::Redrive(at, count) => {
            let seqs = model.meant(at, *count);
            let changed = model.set(&seqs, true);
            assert_eq!(bench.handle.redrive(seqs).await, Ok(changed));
        }
        Step::Discard(at, count) => {
            let seqs = model.meant(at, *count);
            assert_eq!(bench.handle.discard(seqs.clone()).await, Ok(seqs.len() as u64));
            model.0.retain(|seq, _| !seqs.contains(seq));
        }
        Step::Reopen => bench.reopen(),
    }
}

/// Every way to the records of a destination leads to those of the model.
async fn compare(bench: &Bench, model: &Model) {
    let reader = StoreReader::open(&bench.settings.directory).unwrap();
    for (key, name) in KEYS.iter().enumerate() {
        let (ready, parked) = (model.of(key, true), model.of(key, false));
        assert_eq!(bench.seqs(name).await, ready);
        assert_eq!(in_batches(bench, name).await, ready);
        assert_eq!(bench.handle.has_ready(&destination(name)), !ready.is_empty());
        let listed = async |state| {
            let filter = Filter {
                exchange: Some(short("orders")),
                routing_key: Some(short(name)),
                state,
                reason: None,
            };
            in_pages(&reader, filter).await
        };
        assert_eq!(listed(Some(RecordState::Ready)).await, ready);
        assert_eq!(listed(Some(RecordState::Parked)).await, parked);
        let mut both = [ready, parked].concat();
        both.sort_unstable();
        assert_eq!(listed(None).await, both);
    }
    assert_eq!(in_pages(&reader, Filter::default()).await, model.0.keys().copied().collect::<Vec<_>>());
    let mut first: Vec<_> =
        (0..KEYS.len()).filter_map(|key| Some((*model.of(key, true).first()?, KEYS[key]))).collect();
    first.sort_unstable();
    let found = bench.handle.destinations(10).await.unwrap();
    let found: Vec<_> = found.iter().map(|of| (of.first, of.destination.routing_key.as_str())).collect();
    assert_eq!(found, first);
    let found = reader.verify(|_| {}).await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(found.records, model.0.len() as u64);
}

async fn in_batches(bench: &Bench, name: &str) -> Vec<Seq> {
    let (mut seqs, mut after) = (Vec::new(), None);
    loop {
        let batch = bench.handle.next_batch(&destination(name), after, 50, usize::MAX).await.unwrap();
        if batch.records.is_empty() {
            return seqs;
        }
        after = batch.last;
        seqs.extend(batch.records.iter().map(|stored| stored.seq));
    }
}

async fn in_pages(reader: &StoreReader, filter: Filter) -> Vec<Seq> {
    let (mut seqs, mut after) = (Vec::new(), None);
    loop {
        let page = reader.list(filter.clone(), Page { after, limit: 70 }).await.unwrap();
        let Some(last) = page.last() else { return seqs };
        after = Some(last.seq);
        seqs.extend(page.iter().map(|entry| entry.seq));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_destination_has_its_records_after_any_changes(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut bench, mut model) = (Bench::new(), Model::default());
            for (number, step) in steps.iter().enumerate() {
                take(&mut bench, &mut model, step).await;
                if number % 5 == 0 {
                    compare(&bench, &model).await;
                }
            }
            compare(&bench, &model).await;
        });
    }
}

/// Rows of the table of stretches.
fn rows(bench: &Bench) -> i64 {
    let db = rusqlite::Connection::open(bench.file("spool.db")).unwrap();
    db.query_row("SELECT count(*) FROM stretch", [], |row| row.get(0)).unwrap()
}

async fn append_by_turns(bench: &Bench, records: Range<usize>) -> Vec<Seq> {
    futures::future::join_all(records.map(|number| bench.append(KEYS[number % 3], "x"))).await
}

#[tokio::test]
async fn a_commit_adds_a_row_for_each_destination_at_most_and_none_is_left_once_the_records_are_gone() {
    let bench = Bench::new();
    let seqs = append_by_turns(&bench, 0..300).await;
    let commits = bench.handle.stats().commits.cast_signed();
    assert!(rows(&bench) <= 3 * commits, "{} rows of {commits} commits", rows(&bench));
    bench.handle.confirm(seqs).await.unwrap();
    assert_eq!(rows(&bench), 0);
}

#[tokio::test]
async fn records_that_come_alone_to_one_destination_lengthen_its_stretch() {
    let bench = Bench::new();
    for _ in 0..300 {
        bench.append("a", "x").await;
    }
    assert_eq!(rows(&bench), 2, "one of 256 and one of 44");
}
