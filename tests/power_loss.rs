//! Simulated power cuts: every message answered as stored is found again, wherever the power fails.
//!
//! A kill of the process cannot show this, because the system keeps written data. Here a process
//! appends and confirms while a preloaded shim lists its writes and syncs. Then the list is cut at
//! many places. For each, the store is opened on the possible state of a disk that kept the synced
//! data and some blocks of the rest.

#![cfg(target_os = "linux")]

#[path = "power_loss/journal.rs"]
mod journal;

use amqpost::message::{Message, Properties, ShortText};
use amqpost::spool::store::{
    Address, Appended, NewRecord, Store, StoreHandle, StoreHealth, StoreSettings, Stored,
};
use fastrand::Rng;
use futures::future::join_all;
use journal::{File, Journal, Operation, Syncs};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Set in the child process: the directory of its store and its answers.
const CHILD: &str = "AMQPOST_TEST_POWER_LOSS";
const APPENDERS: u64 = 32;
const APPENDS_EACH: u64 = 60;
const CUTS: usize = 48;

fn settings(directory: &Path) -> StoreSettings {
    StoreSettings { disk_reserve: 0, destination_percent: 100, ..StoreSettings::new(directory.join("spool")) }
}

/// Content that identifies its record and has the right length.
fn content(number: u64) -> Vec<u8> {
    let length = [100, 1_000, 6_000, 40_000][Rng::with_seed(number).usize(..4)];
    let mut random = Rng::with_seed(number);
    let mut content = number.to_le_bytes().to_vec();
    content.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
    content
}

fn record(number: u64) -> NewRecord {
    let message = Message {
        exchange: ShortText::default(),
        routing_key: ShortText::new("orders").expect("short"),
        mandatory: true,
        properties: Properties::default(),
        payload: content(number).into(),
    };
    NewRecord { message, idempotency: None }
}

// === the process that loses its power ===

async fn append_and_confirm(handle: &StoreHandle, answers: &Mutex<std::fs::File>, appender: u64) {
    let say = |line: String| answers.lock().expect("no panic").write_all(line.as_bytes()).expect("written");
    for number in (0..APPENDS_EACH).map(|index| appender * APPENDS_EACH + index) {
        let Appended::Stored(seq) = handle.append(record(number)).await.expect("the disk works") else {
            panic!("no key")
        };
        say(format!("stored {seq} {number}\n"));
        if number % 3 == 0 {
            // Printed before the request: from then on the record may be gone.
            say(format!("confirmed {seq} {number}\n"));
            handle.confirm(vec![seq]).await.expect("the disk works");
        }
    }
}

#[tokio::test]
async fn child_appends_and_confirms() {
    let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let answers = Mutex::new(std::fs::File::create(directory.join("answers")).unwrap());
    let (store, handle) = Store::open(settings(&directory)).unwrap();
    join_all((0..APPENDERS).map(|appender| append_and_confirm(&handle, &answers, appender))).await;
    store.close();
}

/// Appends until the disk fails or the store is large enough.
async fn append_until_it_fails(handle: &StoreHandle, answers: &Mutex<std::fs::File>, appender: u64) -> bool {
    for number in (0..APPENDS_EACH).map(|index| appender * APPENDS_EACH + index) {
        match handle.append(record(number)).await {
            Ok(Appended::Stored(seq)) => {
                let line = format!("stored {seq} {number}\n");
                answers.lock().expect("no panic").write_all(line.as_bytes()).expect("written");
            }
            Ok(Appended::Seen(_)) => panic!("no key"),
            Err(_) => return true,
        }
    }
    false
}

#[tokio::test]
async fn child_appends_until_it_fails() {
    let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let answers = Mutex::new(std::fs::File::create(directory.join("answers")).unwrap());
    let Ok((store, handle)) = Store::open(settings(&directory)) else { return };
    let appending = (0..APPENDERS).map(|appender| append_until_it_fails(&handle, &answers, appender));
    let failed = join_all(appending).await.contains(&true);
    if failed {
        assert!(matches!(handle.stats().health, StoreHealth::Failed(_)));
        println!("IT FAILED");
    }
    store.close();
}

/// Runs a test of this executable as a process of its own, with the shim.
fn run(child: &str, directory: &Path, setting: (&str, &Path)) -> String {
    let shim = directory.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_loss/shim.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
    let compiled = compiler.arg(&shim).arg(source).args(["-ldl", "-lpthread"]).status();
    assert!(compiled.expect("there is a C compiler").success());
    let child = Command::new(std::env::current_exe().expect("it has a path"))
        .args(["--exact", child, "--nocapture"])
        .env(CHILD, directory)
        .env("LD_PRELOAD", &shim)
        .env(setting.0, setting.1)
        .output()
        .expect("the test runs itself");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said}");
    said
}

/// The operations of a process that appended and confirmed.
fn recorded(directory: &Path) -> Journal {
    let journal = directory.join("journal");
    run("child_appends_and_confirms", directory, ("POWER_LOSS_JOURNAL", &journal));
    Journal::read(&journal)
}

// === what the next start finds ===

/// The records that must exist and those that may exist, by number.
fn promised(answers: &[String]) -> BTreeMap<i64, u64> {
    let mut promised = BTreeMap::new();
    for line in answers {
        let words: Vec<_> = line.split(' ').collect();
        let (seq, number) = (words[1].parse().expect("a seq"), words[2].parse().expect("a number"));
        match words[0] {
            "stored" => drop(promised.insert(seq, number)),
            _ => drop(promised.remove(&seq)),
        }
    }
    promised
}

/// Opens the store; the records in it that are whole, by number.
async fn found_in(settings: StoreSettings) -> BTreeMap<i64, u64> {
    let (store, handle) = Store::open(settings).expect("it opens");
    let batch = handle.next_batch(&orders(), None, usize::MAX, usize::MAX).await.expect("it is read");
    assert_eq!(batch.damaged, []);
    let found = batch.records.iter().map(|stored| (stored.seq.number(), number_in(stored))).collect();
    store.close();
    found
}

fn orders() -> Address {
    Address { exchange: ShortText::default(), routing_key: ShortText::new("orders").expect("short") }
}

/// The number of a record, whose content is the one that belongs to it.
fn number_in(stored: &Stored) -> u64 {
    let number = u64::from_le_bytes(stored.message.payload[..8].try_into().expect("8 bytes"));
    assert!(stored.message.payload == content(number), "record {} has another content", stored.seq);
    number
}

/// Opens the store after a cut and returns how many of the promised records are missing.
async fn missing_after(journal: &Journal, cut: usize, syncs: Syncs, random: &mut Rng) -> usize {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(directory.path());
    std::fs::create_dir(&settings.directory).expect("a directory");
    journal.play(cut, syncs, &settings.directory, random);
    let promised = promised(&journal.answers(cut));
    let (store, handle) = match Store::open(settings) {
        Ok(open) => open,
        Err(error) if syncs == Syncs::Asked => panic!("cut {cut}: {error}"),
        Err(_) => return promised.len(),
    };
    let batch = handle.next_batch(&orders(), None, usize::MAX, usize::MAX).await.expect("it is read");
    let found: BTreeMap<_, _> =
        batch.records.iter().map(|stored| (stored.seq.number(), number_in(stored))).collect();
    if syncs == Syncs::Asked {
        assert_eq!(batch.damaged, [], "cut {cut}");
        assert!(batch.records.is_sorted_by_key(|stored| stored.seq));
        assert_eq!(handle.stats().ready, found.len() as u64, "the counters are those of the records");
        let mut numbers: Vec<_> = found.values().collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), found.len(), "none is there twice");
    }
    store.close();
    promised.iter().filter(|(seq, number)| found.get(seq) != Some(*number)).count()
}

/// The places of power cuts. The first are during the creation of the store. Of the others, half
/// are anywhere and half between a write and its sync.
fn cuts(journal: &Journal, random: &mut Rng) -> Vec<usize> {
    let syncs: Vec<_> = (0..journal.0.len())
        .filter(|at| matches!(journal.0[*at].operation, Operation::Sync))
        .filter(|at| matches!(journal.0[*at].file, File::Log | File::Database))
        .collect();
    let later = (0..CUTS).map(|index| match index % 2 {
        0 => random.usize(..=journal.0.len()),
        _ => syncs[random.usize(..syncs.len())],
    });
    (0..CUTS).chain(later).collect()
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost_and_without_the_syncs_it_would_be() {
    let directory = tempfile::tempdir().unwrap();
    let journal = recorded(directory.path());
    let seed = fastrand::u64(..);
    println!("seed {seed}, {} operations", journal.0.len());
    let mut random = Rng::with_seed(seed);
    let moved = journal.0.iter().filter(|asked| asked.file == File::Database).count();
    assert!(moved > 500, "the log was moved into the database: {moved} operations");
    let cuts = cuts(&journal, &mut random);
    let (mut lost, mut promised_sum) = (0, 0);
    for cut in &cuts {
        lost += missing_after(&journal, *cut, Syncs::Asked, &mut random).await;
        promised_sum += promised(&journal.answers(*cut)).len();
    }
    println!("{} cuts, {promised_sum} records promised, {lost} lost", cuts.len());
    assert_eq!(lost, 0);
    // The control: a test that does not notice missing syncs would prove nothing.
    let mut lost = 0;
    for cut in &cuts {
        lost += missing_after(&journal, *cut, Syncs::NotAtCommits, &mut random).await;
    }
    println!("without the syncs of commits {lost} lost");
    assert!(lost > 0);
}

#[tokio::test]
async fn a_sync_of_the_database_that_fails_loses_nothing_that_was_answered() {
    let (mut failures, mut promised_sum) = (0, 0);
    for failing in 1..=16 {
        let directory = tempfile::tempdir().unwrap();
        let said = run(
            "child_appends_until_it_fails",
            directory.path(),
            ("FAILING_SYNC", Path::new(&failing.to_string())),
        );
        failures += usize::from(said.contains("IT FAILED"));
        let answers = std::fs::read_to_string(directory.path().join("answers")).unwrap();
        let promised = promised(&answers.lines().map(str::to_owned).collect::<Vec<_>>());
        let found = found_in(settings(directory.path())).await;
        let missing = promised.iter().filter(|(seq, number)| found.get(seq) != Some(*number)).count();
        assert_eq!(missing, 0, "of {} after sync {failing} of the database had failed", promised.len());
        promised_sum += promised.len();
    }
    println!("{failures} stores failed, {promised_sum} records promised, none lost");
    assert!(failures > 4, "the syncs of checkpoints were among those that failed");
}
