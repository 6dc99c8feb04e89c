//! Opening: locks, privacy, foreign files, and restarts after a power cut.

use super::*;
use crate::spool::store::disk::schema::{APPLICATION_ID, Migration, migrate};
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn nobody_else_may_read_it() {
    let bench = Bench::new();
    bench.append("a", "secret").await;
    bench.until(|stats| stats.ready == 1).await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&bench.settings.directory), 0o700);
    for name in ["spool.db", "spool.db-wal", "spool.db-shm", "lock"] {
        assert_eq!(mode(&bench.file(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_second_one_is_refused_and_told_by_whom() {
    let mut bench = Bench::new();
    let error = Store::open(bench.settings.clone()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("in use by another process (pid {})", std::process::id())), "{text}");
    bench.reopen();
}

#[test]
fn a_directory_of_others_is_not_closed_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let open_to_all = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open_to_all.clone()).unwrap();
    fs::write(directory.path().join("theirs"), "").unwrap();
    let error = Store::open(StoreSettings::new(directory.path())).unwrap_err();
    assert!(matches!(error, OpenError::ForeignDirectory { .. }), "{error}");
    assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, open_to_all.mode());
}

#[tokio::test]
async fn what_a_run_before_may_not_have_moved_for_good_is_not_gone_on_with() {
    let mut bench = Bench::new();
    bench.append("a", "1").await;
    let looking = Connection::open(bench.file("spool.db")).unwrap();
    looking.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    looking.execute_batch("BEGIN; SELECT count(*) FROM msg").unwrap();
    let moving = Connection::open(bench.file("spool.db")).unwrap();
    moving.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    moving.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    bench.append("a", "2").await;
    bench.close();
    drop(moving);
    let error = Store::open(bench.settings.clone()).unwrap_err();
    assert!(matches!(error, OpenError::LookedInto { .. }), "{error}");
    drop(looking);
    bench.open();
    assert_eq!(bench.ready("a").await.len(), 2);
}

#[tokio::test]
async fn a_log_that_was_left_is_moved_before_anything_is_answered() {
    let bench = Bench::new();
    bench.append("a", "1").await;
    let found = bench.abandoned();
    assert_eq!(fs::metadata(found.file("spool.db-wal")).unwrap().len(), 0);
    assert_eq!(found.ready("a").await.len(), 1);
}

#[tokio::test]
async fn a_fresh_volume_is_closed_to_others_and_used() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(directory.path().join("lost+found")).unwrap();
    Store::open(StoreSettings::new(directory.path())).unwrap().0.close();
    assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn files_of_others_are_left_alone() {
    for content in
        [&b"not a database, but long enough to have a header of its own, and some more text"[..], &foreign()]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        fs::write(&path, content).unwrap();
        let error = Store::open(StoreSettings::new(directory.path())).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

fn foreign() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE other(x)").unwrap();
    fs::read(path).unwrap()
}

#[tokio::test]
async fn a_newer_version_is_refused() {
    let mut bench = Bench::new();
    bench.close();
    let db = Connection::open(bench.file("spool.db")).unwrap();
    assert_eq!(db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)), Ok(3));
    assert_eq!(db.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0)), Ok(APPLICATION_ID));
    db.pragma_update(None, "user_version", 4).unwrap();
    drop(db);
    let error = Store::open(bench.settings.clone()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 4, known: 3 }), "{error}");
    assert!(error.to_string().contains("start the newer one"));
}

/// Undoes the changes of version 3.
const BACK_TO_2: &str = "
    DROP TABLE refused;
    DROP TABLE tried;
    ALTER TABLE note DROP COLUMN handed;
    ALTER TABLE note DROP COLUMN tries;
    ALTER TABLE note DROP COLUMN first_ms;
    ALTER TABLE note DROP COLUMN last_ms;
    ALTER TABLE note DROP COLUMN word;
    DROP INDEX msg_expires;
    CREATE INDEX msg_expires ON msg(expires_ms) WHERE ages = 0 AND state = 0;
    DELETE FROM fact WHERE name IN ('clock_boot', 'clock_offset_ms');
    PRAGMA user_version = 2;";

/// Undoes the changes of version 2.
const BACK_TO_1: &str = "
    CREATE INDEX msg_dest ON msg(dest, state, seq);
    UPDATE dest SET bytes = bytes + 32 * (ready + parked);
    DROP TABLE stretch;
    PRAGMA user_version = 1;";

#[tokio::test]
async fn a_store_of_the_last_release_is_brought_to_this_version_with_nothing_lost() {
    let mut bench = Bench::new();
    let keys = ["a", "b", "c", "d", "e"];
    let mut seqs = Vec::new();
    for part in 0..101 {
        let appends = (0..100).map(|n| bench.append(keys[n % 5], format!("{part}-{n}")));
        seqs.extend(futures::future::join_all(appends).await);
    }
    bench.handle.attempted(vec![seqs[0], seqs[9_999]]).await.unwrap();
    assert_eq!(bench.handle.park(seqs[..100].to_vec(), "unroutable").await, Ok(100));
    let mut before = Vec::new();
    for key in keys {
        before.push(bench.seqs(key).await);
    }
    bench.close();
    Connection::open(bench.file("spool.db")).unwrap().execute_batch(BACK_TO_2).unwrap();

    bench.open();

    let found = StoreReader::open(&bench.settings.directory).unwrap().verify(|_| {}).await.unwrap();
    assert_eq!(found, Found { records: 10_100, ..Found::default() });
    let stats = bench.handle.stats();
    assert_eq!((stats.ready, stats.parked), (10_000, 100));
    for (key, before) in keys.into_iter().zip(before) {
        let ready = bench.ready(key).await;
        assert!(ready.iter().all(|stored| stored.handed_over == (stored.attempts > 0)));
        assert_eq!(ready.iter().map(|stored| stored.seq).collect::<Vec<_>>(), before, "{key}");
    }
    assert_eq!(bench.handle.redrive(vec![seqs[0]]).await, Ok(1));
    assert!(bench.ready("a").await[0].handed_over, "from an attempt before it was parked");
}

#[tokio::test]
async fn a_spool_that_the_released_binary_wrote_is_opened_with_every_message_in_its_order() {
    // Written by amqpost 0.1.0: m-0 to m-10099 for five queues by turns, the first 100 numbers
    // parked.
    let written = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/spool-0.1.0.tar.gz");
    let directory = tempfile::tempdir().unwrap();
    let settings = StoreSettings::new(directory.path().join("spool"));
    fs::create_dir(&settings.directory).unwrap();
    let mut unpacking = std::process::Command::new("tar");
    unpacking.args(["-xzf", written, "-C"]).arg(&settings.directory);
    assert!(unpacking.status().unwrap().success());

    let (store, handle) = Store::open(settings.clone()).unwrap();

    let found = StoreReader::open(&settings.directory).unwrap().verify(|_| {}).await.unwrap();
    assert_eq!(found, Found { records: 10_100, ..Found::default() });
    assert_eq!((handle.stats().ready, handle.stats().parked), (10_000, 100));
    let mut parked = Vec::new();
    let page = Page { after: None, limit: 1000 };
    for entry in
        handle.list(Filter { reason: Some("unroutable".into()), ..Filter::default() }, page).await.unwrap()
    {
        parked.push(entry.seq);
    }
    assert_eq!(handle.redrive(parked).await, Ok(100));
    let mut sum = 0;
    for queue in 0..5u32 {
        let of = Address { exchange: short(""), routing_key: short(&format!("q{queue}")) };
        let batch = handle.next_batch(&of, None, usize::MAX, usize::MAX).await.unwrap();
        let number =
            |stored: &Stored| String::from_utf8_lossy(&stored.message.payload)[2..].parse::<u32>().unwrap();
        let numbers: Vec<_> = batch.records.iter().map(number).collect();
        assert_eq!(numbers, (0..2020).map(|n| 5 * n + queue).collect::<Vec<_>>(), "q{queue}");
        sum += numbers.len();
    }
    assert_eq!(sum, 10_100);
    store.close();
}

#[tokio::test]
async fn a_store_of_version_1_is_brought_to_this_one_with_all_that_it_holds() {
    let mut bench = Bench::new();
    let mut seqs = Vec::new();
    for number in 0..700 {
        let key = if number % 100 < 60 { "a" } else { "b" };
        seqs.push(bench.append(key, number.to_string()).await);
    }
    bench.handle.confirm(seqs[..10].to_vec()).await.unwrap();
    bench.handle.park(vec![seqs[20], seqs[300]], "unroutable").await.unwrap();
    let before = (bench.ready("a").await, bench.ready("b").await);
    bench.close();
    Connection::open(bench.file("spool.db"))
        .unwrap()
        .execute_batch(&[BACK_TO_2, BACK_TO_1].concat())
        .unwrap();

    bench.open();

    assert_eq!((bench.ready("a").await, bench.ready("b").await), before);
    let found = StoreReader::open(&bench.settings.directory).unwrap().verify(|_| {}).await.unwrap();
    assert_eq!(found, Found { records: 690, ..Found::default() });
    assert_eq!(bench.handle.redrive(vec![seqs[20]]).await, Ok(1));
    assert!(bench.seqs("a").await.contains(&seqs[20]));
}

#[tokio::test]
async fn a_store_of_version_1_keeps_all_its_idempotency_keys() {
    const KEYS: u32 = 2500;
    let key = |number: u32| {
        let mut key = [0; 16];
        key.chunks_exact_mut(4)
            .for_each(|part| part.copy_from_slice(&number.wrapping_mul(2_654_435_761).to_le_bytes()));
        let (outcome, message_id) = (FinalOutcome::Confirmed, number.to_string());
        Idempotency { key, request: [1; 16], outcome, message_id }
    };
    let mut bench = Bench::new();
    let remember = async |bench: &Bench, numbers: std::ops::Range<u32>| {
        let remembering = numbers.map(|number| bench.handle.remember(key(number)));
        futures::future::join_all(remembering).await
    };
    remember(&bench, 0..KEYS).await;
    bench.close();
    let of_version_1 =
        format!("{BACK_TO_2} {BACK_TO_1} UPDATE dedup_run SET filter = zeroblob(length(filter));");
    Connection::open(bench.file("spool.db")).unwrap().execute_batch(&of_version_1).unwrap();
    bench.open();
    // The open run is full now, and its filter is stored.
    remember(&bench, KEYS..2 * KEYS).await;
    bench.reopen();
    for seen in remember(&bench, 0..2 * KEYS).await {
        assert!(seen.unwrap().is_some_and(|seen| seen.same_request));
    }
}

#[test]
fn migrations_run_once_each_in_their_order_all_or_none() {
    let sql = |sql| Migration { sql, then: None };
    let mut db = Connection::open_in_memory().unwrap();
    let one = sql("CREATE TABLE a(x)");
    let fill = |db: &Connection| db.execute("INSERT INTO a(x, y) VALUES (1, 2)", []).map(|_| ());
    let two = Migration { sql: "ALTER TABLE a ADD COLUMN y", then: Some(fill) };
    migrate(&mut db, &[one]).unwrap();
    migrate(&mut db, &[one]).unwrap();
    let broken = migrate(&mut db, &[one, two, sql("nonsense")]);
    assert!(matches!(broken, Err(OpenError::Database(_))));
    assert!(db.prepare("SELECT y FROM a").is_err(), "nothing of it stays");
    for _ in 0..2 {
        migrate(&mut db, &[one, two]).unwrap();
        assert_eq!(db.query_row("SELECT count(y) FROM a", [], |row| row.get::<_, i64>(0)), Ok(1));
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let bench = Bench::new();
    for number in 0..300 {
        bench.append("a", body(number * 20)).await;
    }
    let wanted = bench.ready("a").await;
    bench.handle.confirm(vec![wanted[0].seq]).await.unwrap();
    assert!(fs::metadata(bench.file("spool.db-wal")).unwrap().len() > 0);
    let found = bench.abandoned();
    assert_eq!(found.ready("a").await, wanted[1..]);
    let stats = found.handle.stats();
    assert_eq!((stats.ready, stats.lost), (299, None));
    assert!(found.append("a", "next").await > wanted.last().unwrap().seq);
    assert!(found.directory.path().exists());
}

#[tokio::test]
async fn a_smaller_limit_than_what_is_there_opens_full() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.append("a", body(1 << 20)).await;
    }
    bench.settings.max_bytes = 1 << 20;
    bench.reopen();
    assert!(bench.handle.stats().full);
    assert!(matches!(bench.handle.append(record("a", "x")).await, Err(AppendError::Full(_))));
    let seqs = bench.seqs("a").await;
    assert_eq!(bench.handle.confirm(seqs).await, Ok(4));
    bench.append("a", "x").await;
}

#[tokio::test]
async fn after_a_run_that_did_not_end_well_all_that_is_there_is_suspected() {
    let mut bench = Bench::new();
    bench.append("a", "x").await;
    let last = bench.append("a", "y").await;
    bench.reopen();
    assert_eq!(bench.handle.suspected(), None);
    std::fs::write(bench.file(DELIVERING), "").unwrap();
    bench.reopen();
    bench.append("a", "z").await;
    assert_eq!(bench.handle.suspected(), Some(last));
}
