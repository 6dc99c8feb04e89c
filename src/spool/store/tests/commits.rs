//! Group commit: how many records share a sync, and what happens to appends whose requests gave up.

use super::*;
use futures::future::join_all;

/// The average number of records in a commit, with this many concurrent appenders.
async fn records_per_commit(appenders: usize, each: usize) -> f64 {
    let bench = Bench::new();
    let began = std::time::Instant::now();
    join_all((0..appenders).map(|_| {
        let handle = bench.handle.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                stored(handle.append(record("a", vec![7; 1024])).await);
            }
        })
    }))
    .await
    .into_iter()
    .for_each(Result::unwrap);
    let stats = bench.handle.stats();
    assert_eq!(stats.appended, (appenders * each) as u64);
    assert_eq!(stats.ready, stats.appended);
    let (share, rate) =
        (stats.appended as f64 / stats.commits as f64, stats.appended as f64 / began.elapsed().as_secs_f64());
    println!("{appenders} appenders: {share:.1} records a commit, {rate:.0} records/s");
    share
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_share_their_commits() {
    assert!(records_per_commit(16, 100).await >= 8.0);
    assert!(records_per_commit(256, 40).await >= 100.0);
}

#[tokio::test]
async fn an_append_alone_has_a_commit_of_its_own_at_once() {
    let bench = Bench::new();
    let before = bench.handle.stats().commits;
    for _ in 0..5 {
        bench.append("a", "x").await;
    }
    assert_eq!(bench.handle.stats().commits - before, 5);
}

#[tokio::test]
async fn confirms_gather_and_share_a_commit() {
    let bench = Bench::new();
    let seqs = join_all((0..50).map(|_| bench.append("a", "x"))).await;
    let before = bench.handle.stats().commits;
    join_all(seqs.into_iter().map(|seq| bench.handle.confirm(vec![seq]))).await;
    let commits = bench.handle.stats().commits - before;
    assert!(commits <= 5, "{commits} commits for 50 confirms");
    assert_eq!(bench.handle.stats().ready, 0);
}

#[tokio::test]
async fn a_message_larger_than_a_batch_is_stored() {
    let bench = Bench::new();
    let large = body(16 << 20);
    let (_, seq, _) =
        tokio::join!(bench.append("a", "x"), bench.append("b", large.clone()), bench.append("a", "y"));
    let found = bench.ready("b").await;
    assert_eq!((found[0].seq, &found[0].message.payload), (seq, &large));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_request_left_is_whole_or_not_there() {
    let bench = Bench::new();
    for _ in 0..300 {
        let handle = bench.handle.clone();
        let append = tokio::spawn(async move { handle.append(record("a", body(500))).await });
        if fastrand::bool() {
            tokio::task::yield_now().await;
        }
        append.abort();
    }
    let last = bench.append("a", "last").await;
    let found = bench.ready("a").await;
    assert_eq!(found.last().unwrap().seq, last);
    assert!(found[..found.len() - 1].iter().all(|stored| stored.message.payload.len() == 500));
    assert_eq!(bench.handle.stats().ready, found.len() as u64);
    let all_of_the_room = bench.handle.room.acquire_many(handle::QUEUE_KIB);
    drop(tokio::time::timeout(Duration::from_secs(20), all_of_the_room).await.expect("it comes back"));
}

#[tokio::test]
async fn closing_commits_what_was_handed_over_and_refuses_what_comes_after() {
    let mut bench = Bench::new();
    let mut append = Box::pin(bench.handle.append(record("a", "x")));
    assert!(futures::poll!(&mut append).is_pending());
    let early = append.await;
    bench.close();
    stored(early);
    assert_eq!(bench.handle.append(record("a", "x")).await, Err(AppendError::Failed));
    assert_eq!(bench.handle.confirm(vec![Seq::new(1)]).await, Err(ChangeError::Failed));
    assert_eq!(bench.handle.get(Seq::new(1)).await, Err(ReadError::Closed));
    assert_eq!(bench.handle.stats().health, StoreHealth::Closed);
    assert!(!bench.file("spool.db-wal").exists(), "a clean close leaves no log");
}
