//! A verification finds nothing in a sound store, and names each kind of damage.

use super::*;
use crate::spool::store::disk::high_water::HighWater;
use rusqlite::Connection;
use std::sync::Mutex;

async fn verified(bench: &Bench) -> Found {
    StoreReader::open(&bench.settings.directory).unwrap().verify(|_| {}).await.unwrap()
}

/// Changes the tables behind the store's back.
fn meddle(bench: &mut Bench, sql: &str) {
    bench.close();
    let db = Connection::open(bench.file("spool.db")).unwrap();
    db.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_sound_store_is_sound_at_work_and_at_rest() {
    let mut bench = Bench::new();
    let mut seqs = Vec::new();
    for number in 0..600 {
        seqs.push(bench.append(if number % 2 == 0 { "a" } else { "b" }, body(number * 10)).await);
    }
    bench.handle.park(seqs[..20].to_vec(), "unroutable").await.unwrap();
    bench.handle.confirm(seqs[10..40].to_vec()).await.unwrap();
    let heard = Mutex::new(Vec::new());
    let reader = StoreReader::open(&bench.settings.directory).unwrap();
    let found = reader.verify(|progress| heard.lock().unwrap().push(progress)).await.unwrap();

    assert_eq!(found, Found { records: 570, ..Found::default() });
    assert!(found.is_sound());
    let heard = heard.into_inner().unwrap();
    assert_eq!(heard.first(), Some(&VerifyProgress::Structure));
    assert!(heard.contains(&VerifyProgress::Records(512, 570)), "{heard:?}");
    bench.close();
    assert!(verified(&bench).await.is_sound());
}

#[tokio::test]
async fn every_damaged_record_is_named() {
    let mut bench = Bench::new();
    let seqs = [bench.append("a", "one").await, bench.append("a", "two").await, bench.append("a", "3").await];
    meddle(&mut bench, "UPDATE msg SET body = zeroblob(length(body)) WHERE seq <> 2");
    let found = verified(&bench).await;
    assert_eq!((found.damaged, found.damaged_count), (vec![seqs[0], seqs[2]], 2));
}

#[tokio::test]
async fn counters_that_are_wrong_are_named_with_both_numbers() {
    let mut bench = Bench::new();
    bench.append("a", "x").await;
    meddle(&mut bench, "UPDATE dest SET ready = 3, parked = 1");
    let found = verified(&bench).await;
    assert!(!found.is_sound());
    let wrong = |counter, says, is| WrongCounter { destination: Some(destination("a")), counter, says, is };
    assert_eq!(found.counters, [wrong("ready", 3, 1), wrong("parked", 1, 0)]);
}

#[tokio::test]
async fn rows_that_belong_to_nothing_are_found() {
    let mut bench = Bench::new();
    bench.append("a", "x").await;
    meddle(&mut bench, "PRAGMA foreign_keys = OFF; INSERT INTO note(seq) VALUES (77); DELETE FROM dest;");
    let found = verified(&bench).await;
    assert_eq!(found.structure, ["1 records without a destination", "1 notes without a record"]);
    assert_eq!(found.counters[0].destination, None);
}

#[tokio::test]
async fn ready_records_that_deliveries_do_not_find_are_counted_and_come_back_by_park_and_redrive() {
    let mut bench = Bench::new();
    let seqs = vec![bench.append("a", "x").await, bench.append("a", "x").await];
    meddle(&mut bench, "DELETE FROM stretch");
    let wrong = WrongCounter { destination: Some(destination("a")), counter: "reached", says: 0, is: 2 };
    assert_eq!(verified(&bench).await.counters, [wrong]);
    bench.open();
    assert_eq!(bench.seqs("a").await, []);
    bench.handle.park(seqs.clone(), "lost").await.unwrap();
    bench.handle.redrive(seqs.clone()).await.unwrap();
    assert_eq!(bench.seqs("a").await, seqs);
    assert!(verified(&bench).await.is_sound());
}

#[tokio::test]
async fn what_the_ways_to_records_say_wrongly_is_found() {
    let mut bench = Bench::new();
    let seq = bench.append("a", "x").await;
    bench.append("b", "x").await;
    bench.handle.park(vec![seq], "unroutable").await.unwrap();
    meddle(&mut bench, "UPDATE stretch SET ready = 3; DELETE FROM note;");
    let found = verified(&bench).await;
    assert_eq!(found.structure, ["1 parked records without a note", "1 stretches that count wrong"]);
}

#[tokio::test]
async fn a_lost_end_is_found() {
    let mut bench = Bench::new();
    let known = bench.append("a", "x").await;
    bench.close();
    let committed = Seq::new(known.number() + 5);
    HighWater::at(bench.file("hwm")).write(committed).unwrap();
    assert_eq!(verified(&bench).await.lost, Some(LostTail { known, committed }));
}
