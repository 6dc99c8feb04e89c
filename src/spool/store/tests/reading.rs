//! Reading a store from outside: while its owner works, after a crash and after a close.

use super::*;
use std::fs;

fn parked() -> Filter {
    Filter { state: Some(RecordState::Parked), ..Filter::default() }
}

fn first(limit: usize) -> Page {
    Page { after: None, limit }
}

async fn listed(reader: &StoreReader, filter: Filter) -> Vec<Seq> {
    let entries = reader.list(filter, first(100)).await.unwrap();
    entries.into_iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn another_connection_sees_every_commit_at_once() {
    let bench = Bench::new();
    let reader = StoreReader::open(&bench.settings.directory).unwrap();
    assert_eq!(reader.summary(10).await.unwrap().ready, 0);
    let (one, two) = (bench.append("a", "x").await, bench.append("b", body(1000)).await);
    bench.handle.park(vec![one], "unroutable").await.unwrap();

    let summary = reader.summary(1).await.unwrap();
    assert_eq!((summary.ready, summary.parked, summary.destinations), (1, 1, 2));
    assert!(summary.oldest_ms.is_some() && summary.live_bytes > 0);
    assert_eq!(summary.largest.len(), 1);
    assert_eq!(summary.largest[0].destination, destination("b"));
    assert_eq!(listed(&reader, Filter::default()).await, [one, two]);
    assert_eq!(reader.get(one).await.unwrap(), bench.handle.get(one).await.unwrap());
    assert_eq!(reader.newest().await, Ok(two));
}

#[tokio::test]
async fn what_a_process_left_behind_can_be_read_without_changing_it() {
    let mut bench = Bench::new();
    let seq = bench.append("a", "x").await;
    // As after a crash: there is a log, and no process has it open.
    let left = bench.abandoned();
    drop(left.store);
    let crashed = tempfile::tempdir().unwrap();
    for name in ["spool.db", "spool.db-wal"] {
        fs::copy(bench.file(name), crashed.path().join(name)).unwrap();
    }
    let reader = StoreReader::open(crashed.path()).unwrap();
    assert_eq!(listed(&reader, Filter::default()).await, [seq]);

    bench.close();
    let before = fs::read(bench.file("spool.db")).unwrap();
    let reader = StoreReader::open(&bench.settings.directory).unwrap();
    assert_eq!(listed(&reader, Filter::default()).await, [seq]);
    drop(reader);
    assert_eq!(fs::read(bench.file("spool.db")).unwrap(), before);
    bench.open();
    assert_eq!(bench.seqs("a").await, [seq]);
}

#[tokio::test]
async fn a_list_can_be_narrowed_by_each_of_its_columns() {
    let bench = Bench::new();
    let mut seqs = Vec::new();
    for key in ["a", "b", "a", "b", "c"] {
        seqs.push(bench.append(key, "x").await);
    }
    bench.handle.park(vec![seqs[0], seqs[1]], "unroutable").await.unwrap();
    bench.handle.park(vec![seqs[4]], "expired").await.unwrap();
    bench.handle.attempted(vec![seqs[2]]).await.unwrap();
    let reader = StoreReader::open(&bench.settings.directory).unwrap();
    let exchange = Some(short("orders"));
    let a = Filter { exchange: exchange.clone(), routing_key: Some(short("a")), ..Filter::default() };

    assert_eq!(listed(&reader, parked()).await, [seqs[0], seqs[1], seqs[4]]);
    let ready = Filter { state: Some(RecordState::Ready), ..Filter::default() };
    assert_eq!(listed(&reader, ready).await, [seqs[2], seqs[3]]);
    let unroutable = Filter { reason: Some("unroutable".to_owned()), ..Filter::default() };
    assert_eq!(listed(&reader, unroutable).await, [seqs[0], seqs[1]]);
    assert_eq!(listed(&reader, a.clone()).await, [seqs[0], seqs[2]]);
    assert_eq!(listed(&reader, Filter { state: Some(RecordState::Parked), ..a }).await, [seqs[0]]);
    let key = Filter { routing_key: Some(short("b")), ..parked() };
    assert_eq!(listed(&reader, key).await, [seqs[1]]);
    assert_eq!(listed(&reader, Filter { exchange, ..Filter::default() }).await, seqs);
    let nowhere = Filter { exchange: Some(short("nowhere")), ..Filter::default() };
    assert_eq!(listed(&reader, nowhere).await, []);
    let page = Page { after: Some(seqs[0]), limit: 1 };
    assert_eq!(reader.list(parked(), page).await.unwrap()[0].seq, seqs[1]);
}

#[test]
fn where_there_is_no_store_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let error = StoreReader::open(&directory.path().join("spool")).unwrap_err();
    assert!(matches!(error, OpenError::Files { .. }), "{error}");
    fs::write(directory.path().join("spool.db"), "").unwrap();
    let error = StoreReader::open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(fs::metadata(directory.path().join("spool.db")).unwrap().len(), 0);
}
