//! Idempotency keys: the first outcome is repeated inside the window and forgotten after it.

use super::*;
use futures::future::join_all;

fn key(key: u8, request: u8) -> Idempotency {
    Idempotency {
        key: [key; 16],
        request: [request; 16],
        outcome: FinalOutcome::Spooled,
        message_id: format!("id-{request}"),
    }
}

async fn append(bench: &Bench, with: Idempotency) -> Appended {
    bench.handle.append(NewRecord { idempotency: Some(with), ..record("a", "x") }).await.unwrap()
}

#[tokio::test]
async fn a_key_is_stored_once_and_answered_with_the_first_outcome() {
    let mut bench = Bench::new();
    let Appended::Stored(seq) = append(&bench, key(1, 1)).await else { panic!("the key is new") };
    bench.handle.confirm(vec![seq]).await.unwrap();
    bench.reopen();
    let first = FirstUse {
        same_request: true,
        seq: Some(seq),
        outcome: FinalOutcome::Spooled,
        message_id: "id-1".to_owned(),
    };
    assert_eq!(append(&bench, key(1, 1)).await, Appended::Seen(first.clone()), "outlives its record");
    let other = FirstUse { same_request: false, ..first.clone() };
    assert_eq!(append(&bench, key(1, 2)).await, Appended::Seen(other));
    assert_eq!(bench.handle.recall([1; 16], [1; 16]).await, Ok(Some(first)));
    assert_eq!(bench.handle.recall([2; 16], [1; 16]).await, Ok(None));
    assert_eq!(bench.handle.stats().appended, 0);
}

#[tokio::test]
async fn two_at_once_with_one_key_are_stored_once() {
    let bench = Bench::new();
    let both = tokio::join!(append(&bench, key(1, 1)), append(&bench, key(1, 1)));
    assert!(matches!(both, (Appended::Stored(_), Appended::Seen(_))), "{both:?}");
    assert_eq!(bench.seqs("a").await.len(), 1);
}

#[tokio::test]
async fn an_outcome_without_a_record_is_remembered_too() {
    let bench = Bench::new();
    let direct = Idempotency { outcome: FinalOutcome::Confirmed, ..key(1, 1) };
    assert_eq!(bench.handle.remember(direct).await, Ok(None));
    let seen = bench.handle.remember(key(1, 1)).await.unwrap().unwrap();
    assert_eq!((seen.seq, seen.outcome), (None, FinalOutcome::Confirmed));
    assert!(matches!(append(&bench, key(1, 1)).await, Appended::Seen(_)));
}

#[tokio::test]
async fn after_the_window_a_key_is_new_and_its_row_goes_with_its_generation() {
    let bench = Bench::with(|settings| settings.dedup_window = Duration::from_millis(300));
    append(&bench, key(1, 1)).await;
    let rows = || {
        let db = rusqlite::Connection::open(bench.file("spool.db")).unwrap();
        let count = "SELECT (SELECT count(*) FROM dedup_a) + (SELECT count(*) FROM dedup_b)
            + (SELECT count(*) FROM dedup_run)";
        db.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while rows() > 0 {
        assert!(std::time::Instant::now() < patience, "both generations turn");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(matches!(append(&bench, key(1, 2)).await, Appended::Stored(_)));
}

#[tokio::test]
async fn keys_of_many_runs_are_all_remembered_after_a_crash_too() {
    let bench = Bench::new();
    let keys: Vec<Idempotency> = (0..3000_u32)
        .map(|number| {
            let key = std::array::from_fn(|_| fastrand::u8(..));
            let (outcome, message_id) = (FinalOutcome::Spooled, number.to_string());
            Idempotency { key, request: [1; 16], outcome, message_id }
        })
        .collect();
    let appended = join_all(keys.iter().map(|with| append(&bench, with.clone()))).await;
    assert!(appended.iter().all(|appended| matches!(appended, Appended::Stored(_))));
    for bench in [&bench, &bench.abandoned()] {
        for with in &keys {
            let seen = bench.handle.recall(with.key, with.request).await.unwrap().expect("it is remembered");
            assert_eq!(seen.message_id, with.message_id);
        }
        for with in &keys[..100] {
            assert!(matches!(append(bench, with.clone()).await, Appended::Seen(_)));
        }
    }
}

#[tokio::test]
async fn a_refused_append_leaves_its_key_free_and_the_others_remembered() {
    let bench = Bench::with(|settings| settings.max_bytes = 1 << 20);
    assert!(matches!(append(&bench, key(1, 1)).await, Appended::Stored(_)));
    let large = NewRecord { idempotency: Some(key(2, 2)), ..record("a", body(2 << 20)) };
    assert!(matches!(bench.handle.append(large).await, Err(AppendError::Full(_))));
    assert!(matches!(append(&bench, key(1, 1)).await, Appended::Seen(_)));
    assert!(matches!(append(&bench, key(2, 2)).await, Appended::Stored(_)));
}

#[tokio::test]
async fn an_outcome_that_cannot_be_read_is_never_a_success_and_costs_nobody_else_anything() {
    for code in ["nacked", "", "Spooled"] {
        let mut bench = Bench::new();
        append(&bench, key(1, 1)).await;
        bench.close();
        let db = rusqlite::Connection::open(bench.file("spool.db")).unwrap();
        db.execute("UPDATE dedup_a SET code = ?1", [code]).unwrap();
        drop(db);
        bench.open();
        assert_eq!(bench.handle.recall([1; 16], [1; 16]).await, Err(ReadError::Outcome), "{code}");
        let with_key = NewRecord { idempotency: Some(key(1, 1)), ..record("a", "x") };
        let (refused, other) = tokio::join!(bench.handle.append(with_key), append(&bench, key(2, 2)));
        assert_eq!(refused, Err(AppendError::Failed));
        assert!(matches!(other, Appended::Stored(_)), "{other:?}");
        assert_eq!(bench.handle.remember(key(1, 1)).await, Err(ChangeError::Failed));
        assert_eq!(bench.handle.stats().health, StoreHealth::Working);
    }
}
