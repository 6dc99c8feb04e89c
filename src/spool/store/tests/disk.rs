//! A disk that fails: a restart finds every append that was answered as stored.

use super::*;
use crate::spool::store::disk::checkpoints::Checkpoints;
use crate::spool::store::writing::change::{Change, Effect, Prepared};
use crate::spool::store::writing::inbox::QueuedChange;
use crate::spool::store::writing::replies::Replies;
use std::process::Command;

/// Set in the child process: the directory of its store.
const CHILD: &str = "AMQPOST_TEST_SPOOL";
const LIMIT_KIB: u64 = 2048;

/// Appends until the disk fails, and prints the records that were answered as stored.
#[tokio::test]
async fn child_appends_until_the_disk_fails() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let settings = StoreSettings { disk_reserve: 0, ..StoreSettings::new(directory) };
    let (store, handle) = Store::open(settings).unwrap();
    let mut refusals = Vec::new();
    while refusals.len() < 20 {
        let appends = (0..8).map(|_| handle.append(record("a", body(5000))));
        for appended in futures::future::join_all(appends).await {
            match appended {
                Ok(Appended::Stored(seq)) if refusals.is_empty() => println!("\nstored {seq}"),
                Ok(other) => panic!("{other:?} after {refusals:?}"),
                Err(error) => refusals.push(error),
            }
        }
    }
    assert!(!refusals.iter().any(|error| matches!(error, AppendError::Full(_))), "{refusals:?}");
    assert!(matches!(handle.stats().health, StoreHealth::Failed(_)));
    assert_eq!(handle.confirm(vec![Seq::new(1)]).await, Err(ChangeError::Failed));
    println!("\nfailed as it should: {refusals:?}");
    store.close();
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_answered_as_stored_and_what_was_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    // A limit on the file's size makes every later write fail, like a dying disk.
    let script = format!("trap '' XFSZ; ulimit -f {LIMIT_KIB}; exec \"$0\" \"$@\"");
    let child = Command::new("bash")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "spool::store::tests::disk::child_appends_until_the_disk_fails", "--nocapture"])
        .env(CHILD, &spool)
        .output()
        .unwrap();
    let text = String::from_utf8(child.stdout).unwrap();
    let errors = String::from_utf8(child.stderr).unwrap();
    assert!(child.status.success(), "{text}\n{errors}");
    assert!(text.contains("failed as it should"), "{text}");
    let answered: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("stored "))
        .map(|seq| Seq::new(seq.parse().unwrap()))
        .collect();
    assert!(answered.len() > 20, "{answered:?}");
    let (_store, handle) =
        Store::open(StoreSettings { disk_reserve: 0, ..StoreSettings::new(&spool) }).unwrap();
    let found = handle.next_batch(&destination("a"), None, usize::MAX, usize::MAX).await.unwrap();
    let found: Vec<_> = found.records.into_iter().map(|stored| stored.seq).collect();
    assert!(answered.iter().all(|seq| found.contains(seq)), "answered {answered:?}, found {found:?}");
}

/// A change as the handle makes it, and the receiver of its effect.
fn job(
    length: usize,
    room: &Arc<Semaphore>,
) -> (Option<QueuedChange>, tokio::sync::oneshot::Receiver<Effect>) {
    let change = Change::Append(Box::new(Prepared::of(record("a", body(length)))));
    let (reply, verdict) = tokio::sync::oneshot::channel();
    let room = Arc::clone(room).try_acquire_owned().unwrap();
    (Some(QueuedChange { change, reply, room }), verdict)
}

#[tokio::test]
async fn the_hard_limit_refuses_those_that_do_not_fit_and_stores_the_others() {
    let mut bench = Bench::new();
    bench.close();
    let Opened { ledger, high_water, reader, checkpoints, kept, .. } =
        open::open(bench.settings.clone()).unwrap();
    // The bounds do not know of this limit, so that the pages run out in the middle of a batch.
    let (pages, _) = ledger.pages().unwrap();
    ledger.connection.pragma_update(None, "max_page_count", i64::try_from(pages).unwrap() + 8).unwrap();
    let room = Arc::new(Semaphore::new(10));
    let (jobs, verdicts): (Vec<_>, Vec<_>) =
        [20, 200_000, 30, 300_000, 40].map(|length| job(length, &room)).into_iter().unzip();
    let (letters, inbox) = mpsc::channel();
    jobs.into_iter().for_each(|job| letters.send(job).unwrap());
    drop((letters, reader));
    let checkpoints = Checkpoints::start(checkpoints, kept).unwrap();
    let (writer, _stats) =
        Writer::new(ledger, high_water, checkpoints, Inbox::new(inbox), Replies::start(), None);
    thread::spawn(|| writer.run()).join().unwrap();
    let verdicts = futures::future::join_all(verdicts).await;
    let stored =
        verdicts.into_iter().map(|verdict| matches!(verdict, Ok(Effect::Appended(Appended::Stored(_)))));
    assert_eq!(stored.collect::<Vec<_>>(), [true, false, true, false, true]);
    bench.open();
    assert_eq!(bench.ready("a").await.len(), 3);
}
