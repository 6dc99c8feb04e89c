//! The bounds on a real disk: a full store refuses appends, stays within its size and gives space
//! back.

use super::*;
use std::fs;

const MIB: u64 = 1 << 20;

/// Appends until the store refuses; returns the stored records and the reason.
async fn fill(bench: &Bench, key: &str, length: usize) -> (Vec<Seq>, FullReason) {
    let (mut seqs, mut refusal) = (Vec::new(), None);
    while refusal.is_none() {
        let appends = (0..32).map(|_| bench.handle.append(record(key, body(length))));
        for appended in futures::future::join_all(appends).await {
            match appended {
                Ok(Appended::Stored(seq)) => seqs.push(seq),
                Err(AppendError::Full(reason)) => refusal = Some(reason),
                other => panic!("{other:?}"),
            }
        }
    }
    (seqs, refusal.unwrap())
}

#[tokio::test]
async fn full_is_refused_below_the_limit_and_taken_again_when_there_is_room() {
    for length in [100, 3000, 100_000] {
        let bench = Bench::with(|settings| settings.max_bytes = 4 * MIB);
        let (seqs, reason) = fill(&bench, "a", length).await;
        assert_eq!(reason, FullReason::Spool);
        let live = bench.handle.stats().live_bytes;
        println!("{} records of {length} bytes, {live} bytes in use", seqs.len());
        assert!((3 * MIB..=4 * MIB).contains(&live), "{live} bytes in use with {length} each");
        assert!(fs::metadata(bench.file("spool.db")).unwrap().len() <= 4 * MIB);
        assert_eq!(bench.seqs("a").await, seqs, "everything accepted is there");
        bench.handle.confirm(seqs[..seqs.len() / 2].to_vec()).await.unwrap();
        bench.append("a", body(length)).await;
    }
}

#[tokio::test]
async fn one_destination_does_not_fill_the_spool() {
    let bench = Bench::with(|settings| {
        settings.max_bytes = 4 * MIB;
        settings.destination_percent = 25;
    });
    let (seqs, reason) = fill(&bench, "a", 10_000).await;
    assert_eq!(reason, FullReason::Destination);
    assert!((95..=104).contains(&seqs.len()), "{}", seqs.len());
    bench.append("b", "x").await;
    bench.handle.confirm(vec![seqs[0]]).await.unwrap();
    bench.append("a", body(10_000)).await;
}

#[tokio::test]
async fn the_disk_keeps_its_reserve() {
    let bench = Bench::with(|settings| settings.disk_reserve = u64::MAX / 2);
    let refused = bench.handle.append(record("a", "x")).await;
    assert_eq!(refused, Err(AppendError::Full(FullReason::Disk)));
}

#[tokio::test]
async fn a_drained_spool_gives_its_space_back() {
    let bench = Bench::new();
    let mut seqs = Vec::new();
    for _ in 0..16 {
        seqs.push(bench.append("a", body(2 << 20)).await);
    }
    assert!(bench.until(|stats| stats.live_bytes >= 32 * MIB).await.ready == 16);
    bench.handle.confirm(seqs).await.unwrap();
    let size = |name| fs::metadata(bench.file(name)).unwrap().len();
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while size("spool.db") + size("spool.db-wal") > MIB {
        let sizes = (size("spool.db"), size("spool.db-wal"));
        assert!(std::time::Instant::now() < patience, "still {sizes:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.append("a", "goes on").await;
}

/// Appends this many MiB from several tasks; returns the longest log after a commit, in bytes.
async fn longest_log(bench: &Bench, mib: usize) -> u64 {
    let mut longest = 0;
    for _ in 0..mib {
        let appends = (0..64).map(|_| bench.handle.append(record("a", body(16 << 10))));
        futures::future::join_all(appends).await.into_iter().for_each(|appended| _ = stored(appended));
        longest = longest.max(fs::metadata(bench.file("spool.db-wal")).unwrap().len());
    }
    longest
}

#[tokio::test]
async fn the_log_stays_within_its_cap_under_load() {
    let bench = Bench::new();
    let longest = longest_log(&bench, 64).await;
    println!("at most {longest} bytes in the log");
    assert!(longest <= 16 * MIB);
}

#[tokio::test]
async fn a_reader_that_stays_holds_up_the_log_and_nobody_else() {
    let bench = Bench::new();
    bench.append("a", "x").await;
    let reader = rusqlite::Connection::open_with_flags(
        bench.file("spool.db"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM msg").unwrap();
    assert!(longest_log(&bench, 24).await > 24 * MIB, "the reader's view is kept");
    reader.execute_batch("COMMIT").unwrap();
    // The log keeps its length until it restarts, and is truncated then.
    longest_log(&bench, 24).await;
    let after = fs::metadata(bench.file("spool.db-wal")).unwrap().len();
    assert!(after <= 16 * MIB, "{after} bytes in the log");
}

#[tokio::test]
async fn the_snapshot_counts_what_is_there() {
    let mut bench = Bench::new();
    let seqs = [bench.append("a", "1").await, bench.append("b", "2").await, bench.append("b", "3").await];
    bench.handle.park(vec![seqs[1]], "test").await.unwrap();
    for _ in 0..2 {
        let stats = bench.handle.stats();
        assert_eq!((stats.ready, stats.parked, stats.full), (2, 1, false));
        let oldest = bench.handle.get(seqs[0]).await.unwrap().unwrap().entry.created_ms;
        assert!(stats.oldest_ms.unwrap().abs_diff(oldest) < 1000);
        bench.reopen();
    }
}
