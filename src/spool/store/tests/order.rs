//! First in, first out for each destination; parked, redriven, expired and discarded records.

use super::*;

#[tokio::test]
async fn each_destination_is_read_in_the_order_of_arrival_after_a_restart_too() {
    let mut bench = Bench::new();
    let mut wanted = [Vec::new(), Vec::new()];
    for number in 0..200_u32 {
        let which = usize::from(fastrand::bool());
        let seq = bench.append(["a", "b"][which], number.to_string()).await;
        wanted[which].push((seq, Bytes::from(number.to_string())));
    }
    for _ in 0..2 {
        for (which, key) in ["a", "b"].into_iter().enumerate() {
            let found = bench.ready(key).await.into_iter().map(|stored| (stored.seq, stored.message.payload));
            assert_eq!(found.collect::<Vec<_>>(), wanted[which]);
        }
        bench.reopen();
    }
}

#[tokio::test]
async fn a_batch_keeps_to_its_limits_and_the_next_goes_on_after_it() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.append("a", body(1000)).await;
    }
    let all = bench.seqs("a").await;
    let next = async |after, rows, bytes| {
        let batch = bench.handle.next_batch(&destination("a"), after, rows, bytes).await.unwrap();
        assert_eq!(batch.last, batch.records.last().map(|stored| stored.seq).or(after));
        batch.records.into_iter().map(|stored| stored.seq).collect::<Vec<_>>()
    };
    assert_eq!(next(None, 3, usize::MAX).await, all[..3]);
    assert_eq!(next(Some(all[2]), 100, 2500).await, all[3..6]);
    assert_eq!(next(Some(all[5]), 100, 0).await, all[6..7], "at least one");
    assert_eq!(next(Some(all[9]), 100, usize::MAX).await, []);
}

#[tokio::test]
async fn confirmed_records_are_gone_and_a_second_confirm_changes_nothing() {
    let mut bench = Bench::new();
    let first = bench.append("a", "1").await;
    let second = bench.append("a", "2").await;
    assert_eq!(bench.handle.confirm(vec![first, first]).await, Ok(1));
    bench.reopen();
    assert_eq!(bench.seqs("a").await, [second]);
    assert_eq!(bench.handle.stats().ready, 1);
    assert_eq!(bench.handle.confirm(vec![second]).await, Ok(1));
    bench.reopen();
    assert!(bench.append("a", "3").await > second, "numbers are never used twice");
}

#[tokio::test]
async fn a_parked_record_is_kept_with_its_reason_and_redriven_into_its_place() {
    let mut bench = Bench::new();
    let seqs = [bench.append("a", "1").await, bench.append("a", "2").await, bench.append("b", "3").await];
    bench.handle.attempted(vec![seqs[0]]).await.unwrap();
    bench.handle.attempted(vec![seqs[0], seqs[2]]).await.unwrap();
    assert_eq!(bench.ready("a").await[0].attempts, 2);
    assert_eq!(bench.handle.park(vec![seqs[0]], "unroutable").await, Ok(1));
    assert_eq!(bench.handle.park(vec![seqs[0]], "again").await, Ok(0));
    bench.reopen();
    assert_eq!(bench.seqs("a").await, [seqs[1]]);
    let filter = Filter {
        state: Some(RecordState::Parked),
        exchange: Some(short("orders")),
        routing_key: Some(short("a")),
        reason: None,
    };
    let page = Page { after: None, limit: 10 };
    let parked = bench.handle.list(filter, page).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].reason.as_deref(), parked[0].attempts), (Some("unroutable"), 2));
    assert_eq!(parked[0].payload_bytes, 1);
    assert_eq!((bench.handle.stats().ready, bench.handle.stats().parked), (2, 1));
    assert_eq!(bench.handle.redrive(seqs[..1].to_vec()).await, Ok(1));
    assert_eq!(bench.seqs("a").await, seqs[..2]);
    assert_eq!(bench.ready("a").await[0].attempts, 2, "the broker may have it from one of them");
    assert_eq!(bench.handle.get(seqs[0]).await.unwrap().unwrap().entry.reason, None);
}

#[tokio::test]
async fn what_a_run_may_have_delivered_that_did_not_end_well_counts_an_attempt_when_it_is_parked() {
    let mut bench = Bench::new();
    let before = [bench.append("a", "1").await, bench.append("a", "2").await];
    bench.close();
    std::fs::write(bench.file(DELIVERING), "").unwrap();
    bench.open();
    let since = bench.append("a", "3").await;
    bench.handle.park(vec![before[0], since], "operator").await.unwrap();
    std::fs::remove_file(bench.file(DELIVERING)).unwrap();
    bench.reopen();
    bench.handle.park(vec![before[1]], "operator").await.unwrap();
    bench.handle.redrive(vec![before[0], before[1], since]).await.unwrap();
    let attempts: Vec<_> = bench.ready("a").await.iter().map(|stored| stored.attempts).collect();
    assert_eq!(attempts, [1, 0, 0]);
}

#[tokio::test]
async fn whole_sets_are_redriven_and_discarded_in_parts() {
    let bench = Bench::new();
    let mut seqs = Vec::new();
    for (number, key) in ["a", "b"].into_iter().cycle().take(600).enumerate() {
        seqs.push(bench.append(key, number.to_string()).await);
    }
    assert_eq!(bench.handle.park(seqs.clone(), "test").await, Ok(600));
    assert_eq!(bench.handle.redrive(seqs[..500].to_vec()).await, Ok(500));
    assert_eq!(bench.handle.redrive(seqs.clone()).await, Ok(100));
    assert_eq!(bench.handle.discard(seqs.clone()).await, Ok(600));
    assert_eq!(bench.handle.discard(seqs).await, Ok(0));
    let stats = bench.handle.stats();
    assert_eq!((stats.ready, stats.parked, stats.oldest_ms), (0, 0, None));
}

#[tokio::test]
async fn expired_records_are_not_delivered_and_are_parked_not_dropped() {
    let bench = Bench::new();
    let mut short_lived = record("a", "1");
    short_lived.message.properties.expiration_ms = Some(1);
    let seq = stored(bench.handle.append(short_lived).await);
    let other = bench.append("a", "2").await;
    let created = bench.handle.get(seq).await.unwrap().unwrap().entry.created_ms;
    assert_eq!(bench.handle.take_expired(created, ALL, 256).await, Ok(0));
    assert_eq!(bench.handle.take_expired(created + 1, ALL, 256).await, Ok(1));
    assert_eq!(bench.seqs("a").await, [other]);
    let kept = bench.handle.get(seq).await.unwrap().unwrap();
    assert_eq!((kept.entry.state, kept.entry.reason.as_deref()), (RecordState::Parked, Some("expired")));
    assert_eq!(kept.message.unwrap().payload, "1");
    let day = 24 * 60 * 60 * 1000;
    assert_eq!(bench.handle.take_expired(created + 2 * day, ALL, 256).await, Ok(1), "older than max_age");
    assert_eq!(bench.handle.redrive(vec![seq]).await, Ok(1));
    assert_eq!(bench.seqs("a").await, [seq], "its time begins again");
}

#[tokio::test]
async fn destinations_are_listed_by_their_oldest_record() {
    let bench = Bench::new();
    for key in ["b", "a", "b", "c"] {
        bench.append(key, "x").await;
    }
    let first = bench.seqs("b").await[0];
    let found = bench.handle.destinations(10).await.unwrap();
    let listed: Vec<_> = found.iter().map(|of| (of.destination.routing_key.as_str(), of.ready)).collect();
    assert_eq!(listed, [("b", 2), ("a", 1), ("c", 1)]);
    assert_eq!(found[0].first, first);
    bench.handle.confirm(vec![first]).await.unwrap();
    assert_eq!(bench.handle.destinations(1).await.unwrap()[0].destination, destination("a"));
}

#[tokio::test]
async fn names_of_destinations_that_have_no_records_do_not_pile_up() {
    let bench = Bench::new();
    for round in 0..5 {
        let keys: Vec<_> = (0..500).map(|number| format!("once.{round}.{number}")).collect();
        let appends = keys.iter().map(|key| bench.append(key, "x"));
        let seqs = futures::future::join_all(appends).await;
        assert_eq!(bench.handle.confirm(seqs).await, Ok(500));
    }
    let db = rusqlite::Connection::open(bench.file("spool.db")).unwrap();
    let rows: i64 = db.query_row("SELECT count(*) FROM dest", [], |row| row.get(0)).unwrap();
    assert!(rows <= 1024, "{rows} rows");
}

#[tokio::test]
async fn records_expire_each_at_its_time_whatever_was_before_them_and_after_a_restart_too() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let mut bench = Bench::new();
    let mut brief = record("a", "2");
    brief.message.properties.expiration_ms = Some(60_000);
    let first = bench.append("a", "1").await;
    let second = stored(bench.handle.append(brief).await);
    let third = bench.append("b", "3").await;
    let begun = bench.handle.get(first).await.unwrap().unwrap().entry.created_ms;
    assert_eq!(bench.handle.take_expired(begun + DAY / 2, ALL, 256).await, Ok(1));
    bench.handle.redrive(vec![second]).await.unwrap();
    bench.settings.max_age = Duration::from_secs(60 * 60);
    bench.reopen();
    let fourth = bench.append("b", "4").await;
    assert_eq!(bench.handle.take_expired(begun + DAY / 2, ALL, 256).await, Ok(1), "a shorter age since");
    assert_eq!(bench.seqs("b").await, [third]);
    bench.reopen();
    assert_eq!(bench.handle.take_expired(begun + 2 * DAY, ALL, 1).await, Ok(1));
    assert_eq!(bench.handle.take_expired(begun + 2 * DAY, ALL, 1).await, Ok(1));
    assert_eq!(bench.handle.redrive(vec![first, fourth]).await, Ok(2));
    assert_eq!(bench.handle.take_expired(begun + 2 * DAY, ALL, 256).await, Ok(3), "and the redriven");
    assert_eq!((bench.handle.stats().ready, bench.handle.stats().parked), (0, 4));
}

#[tokio::test]
async fn numbers_go_on_when_neither_records_nor_destinations_are_left() {
    let mut bench = Bench::new();
    let keys: Vec<_> = (0..1100).map(|number| format!("once.{number}")).collect();
    let seqs = futures::future::join_all(keys.iter().map(|key| bench.append(key, "x"))).await;
    let last = *seqs.iter().max().unwrap();
    bench.handle.confirm(seqs).await.unwrap();
    bench.reopen();
    assert!(bench.append("a", "x").await > last);
}
