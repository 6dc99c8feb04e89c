//! Compares the store with a model that does the same beside it. Whatever happens, including
//! crashes, each destination has exactly its records, in order, and each key has its first outcome.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::ops::Range;

const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// Records to these destinations, handed over together.
    Append(Vec<usize>, Life),
    /// This many records, from this one on.
    Confirm(Index, usize),
    Park(Index, usize),
    Redrive(Index, usize),
    Discard(Index, usize),
    /// A record with an idempotency key, used for one of two requests.
    AppendWithKey(u8, u8),
    /// The outcome of a request that was not stored.
    Remember(u8, u8),
    /// Records with this lifetime or a shorter one expire.
    Expire(Life),
    Reopen,
    /// The machine is switched off, and another one opens its files.
    Crash,
}

/// A record's lifetime: its message's own, or the store's maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Life {
    Hour,
    Day,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || (any::<Index>(), 1..40_usize);
    prop_oneof![
        4 => (proptest::collection::vec(0..KEYS.len(), 1..60), life())
            .prop_map(|(keys, life)| Step::Append(keys, life)),
        2 => (0..KEYS.len(), 1..400_usize, life())
            .prop_map(|(key, count, life)| Step::Append(vec![key; count], life)),
        2 => (0..6_u8, 0..2_u8).prop_map(|(key, request)| Step::AppendWithKey(key, request)),
        1 => (0..6_u8, 0..2_u8).prop_map(|(key, request)| Step::Remember(key, request)),
        1 => life().prop_map(Step::Expire),
        3 => some().prop_map(|(at, count)| Step::Confirm(at, count)),
        2 => some().prop_map(|(at, count)| Step::Park(at, count)),
        2 => some().prop_map(|(at, count)| Step::Redrive(at, count)),
        1 => some().prop_map(|(at, count)| Step::Discard(at, count)),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![1 => Just(Life::Hour), 3 => Just(Life::Day)]
}

/// The expected state of a record.
#[derive(Clone, Copy)]
struct Expected {
    key: usize,
    ready: bool,
    life: Life,
}

/// The expected contents.
#[derive(Default)]
struct Model {
    records: BTreeMap<Seq, Expected>,
    /// The first use of each idempotency key, and its request.
    uses: BTreeMap<u8, (u8, FirstUse)>,
}

impl Model {
    /// The records that a step selects.
    fn meant(&self, at: &Index, count: usize) -> Vec<Seq> {
        if self.records.is_empty() {
            Vec::new()
        } else {
            self.records.keys().copied().skip(at.index(self.records.len())).take(count).collect()
        }
    }

    fn set(&mut self, seqs: &[Seq], ready: bool) -> u64 {
        let mut changed = 0;
        for seq in seqs {
            let record = self.records.get_mut(seq).expect("it was chosen from these");
            if record.ready != ready {
                // A redriven record has its whole time to live again.
                let life = if ready { Life::Day } else { record.life };
                *record = Expected { ready, life, ..*record };
                changed += 1;
            }
        }
        changed
    }

    /// Parks records with this lifetime or a shorter one; returns how many.
    fn expire(&mut self, life: Life) -> u64 {
        let expired = self.records.iter().filter(|(_, record)| record.ready && record.life <= life);
        let expired: Vec<_> = expired.map(|(seq, _)| *seq).collect();
        self.set(&expired, false)
    }

    /// The first use of a key, for this request.
    fn first_use(&self, key: u8, request: u8) -> Option<FirstUse> {
        let (of, first) = self.uses.get(&key)?;
        Some(FirstUse { same_request: *of == request, ..first.clone() })
    }

    fn used(&mut self, with: &Idempotency, seq: Option<Seq>) {
        let Idempotency { key, request, outcome, message_id } = with.clone();
        let first = FirstUse { same_request: true, seq, outcome, message_id };
        self.uses.insert(key[0], (request[0], first));
    }

    fn of(&self, key: usize, ready: bool) -> Vec<Seq> {
        let of = self.records.iter().filter(|(_, record)| record.key == key && record.ready == ready);
        of.map(|(seq, _)| *seq).collect()
    }
}

async fn take(bench: &mut Bench, model: &mut Model, step: &Step) {
    match step {
        Step::Append(keys, life) => {
            let appends = keys.iter().map(|key| append(bench, KEYS[*key], *life));
            // tokio limits what a task does at once. Under that limit, the later appends would be
            // handed over out of order.
            let seqs = tokio::task::unconstrained(futures::future::join_all(appends)).await;
            for key in 0..KEYS.len() {
                let of = keys.iter().zip(&seqs).filter(|(of, _)| **of == key).map(|(_, seq)| *seq);
                assert!(of.is_sorted(), "each destination's are numbered in their order");
            }
            let expected = keys.iter().map(|key| Expected { key: *key, ready: true, life: *life });
            model.records.extend(seqs.into_iter().zip(expected));
        }
        Step::Confirm(at, count) => {
            let seqs = model.meant(at, *count);
            assert_eq!(bench.handle.confirm(seqs.clone()).await, Ok(seqs.len() as u64));
            model.records.retain(|seq, _| !seqs.contains(seq));
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
            model.records.retain(|seq, _| !seqs.contains(seq));
        }
        Step::AppendWithKey(key, request) => {
            let with = idempotency(*key, *request, FinalOutcome::Spooled);
            let record = NewRecord { idempotency: Some(with.clone()), ..record(KEYS[0], "x") };
            let appended = bench.handle.append(record).await.unwrap();
            match (model.first_use(*key, *request), appended) {
                (Some(first), appended) => assert_eq!(appended, Appended::Seen(first)),
                (None, Appended::Seen(first)) => panic!("the key is new: {first:?}"),
                (None, Appended::Stored(seq)) => {
                    model.used(&with, Some(seq));
                    model.records.insert(seq, Expected { key: 0, ready: true, life: Life::Day });
                }
            }
        }
        Step::Remember(key, request) => {
            let with = idempotency(*key, *request, FinalOutcome::Confirmed);
            let first = model.first_use(*key, *request);
            assert_eq!(bench.handle.remember(with.clone()).await, Ok(first.clone()));
            if first.is_none() {
                model.used(&with, None);
            }
        }
        Step::Expire(life) => expire(bench, model, *life).await,
        Step::Reopen => bench.reopen(),
        Step::Crash => *bench = bench.abandoned(),
    }
}

fn idempotency(key: u8, request: u8, outcome: FinalOutcome) -> Idempotency {
    Idempotency { key: [key; 16], request: [request; 16], outcome, message_id: format!("{key}-{request}") }
}

const HOUR_MS: u32 = 60 * 60 * 1000;

async fn append(bench: &Bench, key: &str, life: Life) -> Seq {
    let mut record = record(key, "x");
    record.message.properties.expiration_ms = (life == Life::Hour).then_some(HOUR_MS);
    stored(bench.handle.append(record).await)
}

/// Parks records as if their time were over, in parts.
async fn expire(bench: &Bench, model: &mut Model, life: Life) {
    let hours = match life {
        Life::Hour => 2,
        Life::Day => 48,
    };
    let then = now_ms() + hours * i64::from(HOUR_MS);
    let (expected, mut parked) = (model.expire(life), 0);
    // With many parked records in between, a part may find none.
    let mut empty = 0;
    while empty < 3 {
        let part = bench.handle.take_expired(then, ALL, 100).await.unwrap();
        empty = if part == 0 { empty + 1 } else { 0 };
        parked += part;
    }
    assert_eq!(parked, expected);
}

/// Every query for a destination's records returns those of the model.
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
    assert_eq!(in_pages(&reader, Filter::default()).await, model.records.keys().copied().collect::<Vec<_>>());
    let mut first: Vec<_> =
        (0..KEYS.len()).filter_map(|key| Some((*model.of(key, true).first()?, KEYS[key]))).collect();
    first.sort_unstable();
    let found = bench.handle.destinations(10).await.unwrap();
    let found: Vec<_> = found.iter().map(|of| (of.first, of.destination.routing_key.as_str())).collect();
    assert_eq!(found, first);
    let found = reader.verify(|_| {}).await.unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(found.records, model.records.len() as u64);
    for key in 0..6 {
        let recalled = bench.handle.recall([key; 16], [0; 16]).await;
        assert_eq!(recalled, Ok(model.first_use(key, 0)));
    }
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
    fn every_destination_has_its_records_and_every_key_its_outcome_after_any_changes_and_crashes(
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

/// The number of rows in the table of stretches.
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
