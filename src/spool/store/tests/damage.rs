//! Damage that the store detects and SQLite does not.

use super::*;
use crate::spool::store::disk::high_water::HighWater;
use std::fs;

/// Flips one bit of the pattern's first occurrence in a file.
fn flip(path: &std::path::Path, pattern: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(pattern.len()).position(|window| window == pattern).expect("it is in the file");
    bytes[at + pattern.len() / 2] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_in_a_body_is_found_and_the_others_are_delivered() {
    let mut bench = Bench::new();
    let seqs = [
        bench.append("a", "a first content").await,
        bench.append("a", "a second content").await,
        bench.append("a", "a third content").await,
    ];
    bench.close();
    flip(&bench.file("spool.db"), b"a second content");
    bench.open();
    let batch = bench.handle.next_batch(&destination("a"), None, 10, usize::MAX).await.unwrap();
    assert_eq!(batch.damaged, [seqs[1]]);
    assert_eq!(batch.records.iter().map(|stored| stored.seq).collect::<Vec<_>>(), [seqs[0], seqs[2]]);
    assert_eq!(batch.last, Some(seqs[2]));
    assert_eq!(bench.handle.get(seqs[1]).await.unwrap().unwrap().message, None);
    assert_eq!(bench.handle.park(batch.damaged, "damaged").await, Ok(1));
    assert_eq!(bench.seqs("a").await, [seqs[0], seqs[2]]);
}

#[tokio::test]
async fn a_lost_end_of_the_log_is_noticed_and_its_numbers_are_not_used_again() {
    let bench = Bench::new();
    let mut lengths = Vec::new();
    for _ in 0..20 {
        bench.append("a", body(100)).await;
        lengths.push(fs::metadata(bench.file("spool.db-wal")).unwrap().len());
    }
    let last = *bench.seqs("a").await.last().unwrap();
    // Waits for the mark of the last commit, which is up to a second behind.
    while HighWater::at(bench.file("hwm")).written() != Some(last) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut cut = bench.abandoned();
    assert_eq!(cut.handle.stats().lost, None, "a crash alone loses nothing");
    cut.close();
    let known = Seq::new(last.number() - 5);
    for name in ["spool.db", "spool.db-wal", "hwm"] {
        fs::copy(bench.file(name), cut.file(name)).unwrap();
    }
    let log = fs::OpenOptions::new().write(true).open(cut.file("spool.db-wal")).unwrap();
    log.set_len(lengths[lengths.len() - 6]).unwrap();
    cut.open();
    assert_eq!(cut.handle.stats().lost, Some(LostTail { known, committed: last }));
    assert_eq!(cut.handle.stats().ready, 15);
    assert!(cut.append("a", "next").await > last);
    cut.reopen();
    assert_eq!(cut.handle.stats().lost, None, "said once");
}

#[tokio::test]
async fn a_garbled_mark_is_ignored() {
    let mut bench = Bench::new();
    bench.append("a", "x").await;
    for garbled in ["", "99", "99 00000000\n", "not a mark"] {
        bench.close();
        fs::write(bench.file("hwm"), garbled).unwrap();
        bench.open();
        assert_eq!(bench.handle.stats().lost, None, "{garbled:?}");
    }
    bench.close();
    let mark = fs::read_to_string(bench.file("hwm")).unwrap();
    assert!(mark.starts_with("1 "), "a close writes it: {mark}");
    bench.open();
}
