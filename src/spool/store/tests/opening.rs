//! Opening: who may, what is private, which files are ours, and what a machine finds that was switched off.

use super::*;
use crate::spool::store::schema::{APPLICATION_ID, migrate};
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

#[test]
fn a_second_one_is_refused_and_told_by_whom() {
    let mut bench = Bench::new();
    let error = Store::open(bench.settings.clone()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("in use by another process (pid {})", std::process::id())), "{text}");
    bench.reopen();
}

#[test]
fn files_of_others_are_left_alone() {
    for content in
        [&b"not a database, but long enough to have a header of its own, and some more text"[..], &foreign()]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool.db");
        fs::write(&path, content).unwrap();
        let error = Store::open(Settings::new(directory.path())).unwrap_err();
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

#[test]
fn a_newer_version_is_refused() {
    let mut bench = Bench::new();
    bench.close();
    let db = Connection::open(bench.file("spool.db")).unwrap();
    assert_eq!(db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)), Ok(1));
    assert_eq!(db.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0)), Ok(APPLICATION_ID));
    db.pragma_update(None, "user_version", 2).unwrap();
    drop(db);
    let error = Store::open(bench.settings.clone()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1 }), "{error}");
    assert!(error.to_string().contains("start the newer one"));
}

#[test]
fn migrations_run_once_each_in_their_order_all_or_none() {
    let mut db = Connection::open_in_memory().unwrap();
    let one = "CREATE TABLE a(x)";
    migrate(&mut db, &[one]).unwrap();
    migrate(&mut db, &[one]).unwrap();
    let broken = migrate(&mut db, &[one, "ALTER TABLE a ADD COLUMN y", "nonsense"]);
    assert!(matches!(broken, Err(OpenError::Database(_))));
    assert!(db.prepare("SELECT y FROM a").is_err(), "nothing of it stays");
    migrate(&mut db, &[one, "ALTER TABLE a ADD COLUMN y"]).unwrap();
    assert!(db.prepare("SELECT y FROM a").is_ok());
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
