//! The spool measured against its disk: most figures are ratios to the disk's own speed in the same
//! run.
//!
//! `scripts/bench-spool` runs it and explains its options. It exits with 1 if a target is missed.
//! Absolute rates drift threefold on a shared machine, so they are printed, and only two of them
//! have targets.

#[path = "../cost/drive.rs"]
#[expect(dead_code, reason = "its paces are those of the other benchmark")]
mod drive;
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
#[path = "../cost/sample.rs"]
#[expect(dead_code, reason = "its spreads are those of the other benchmark")]
mod sample;
#[path = "../cost/wire.rs"]
#[expect(dead_code, reason = "only HTTP/1.1 is measured")]
mod wire;

mod crash;
mod disk;
mod http;
mod load;
mod process;
mod rows;

use disk::Disk;
use load::{Keys, Load, Measured};
use rows::{Rows, at_least, at_most, shown};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// As in amqpost itself: the writer frees memory that a producer allocated.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The largest size of the log beside the database, in bytes.
const LOG_CAP: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

/// How long and how often.
struct Plan {
    rounds: usize,
    phase: Duration,
    drained: usize,
    crashed: u64,
}

impl Plan {
    fn of(short: bool) -> Self {
        let seconds = Duration::from_secs;
        if short {
            Self { rounds: 3, phase: seconds(1), drained: 50_000, crashed: 100_000 }
        } else {
            Self { rounds: 5, phase: seconds(3), drained: 200_000, crashed: 1_000_000 }
        }
    }
}

fn main() {
    if crash::is_child() {
        return crash::child();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = Plan::of(arguments.iter().any(|argument| argument == "--short"));
    let only = arguments.iter().skip_while(|argument| *argument != "--only").nth(1);
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let place =
        std::env::var_os("BENCH_SPOOL_DIRECTORY").map_or(env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let place = tempfile::tempdir_in(place).expect("a directory for the measurements");
    let mut rows = Rows::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        if wanted("one") {
            one_producer(&plan, place.path(), &mut rows).await;
        }
        if wanted("many") {
            many_producers(&plan, place.path(), &mut rows).await;
        }
        if wanted("http") {
            http::many_clients(&plan, place.path(), &mut rows).await;
        }
        if wanted("drain") {
            draining(&plan, place.path(), &mut rows).await;
        }
        if wanted("space") {
            space(place.path(), &mut rows).await;
        }
    });
    if wanted("crash") {
        crash::after_a_kill(place.path(), plan.crashed, &mut rows);
    }
    let missed = rows.finish();
    drop(runtime);
    // A directory that cannot be removed is not a failure.
    drop(place.close());
    std::process::exit(i32::from(missed > 0));
}

fn fresh(place: &Path) -> TempDir {
    tempfile::tempdir_in(place).expect("a directory for a store")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn all(values: &[f64]) -> String {
    let values: Vec<_> = values.iter().map(|value| format!("{value:.2}")).collect();
    values.join(" ")
}

async fn one_producer(plan: &Plan, place: &Path, rows: &mut Rows) {
    let (mut ratios, mut amplification, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let disk = Disk::measure(place, 1024, plan.phase / 4);
        let measured = Load::new(1, Keys::Without).on_a_fresh_store(place, plan.phase / 2).await;
        let disk = disk.and(Disk::measure(place, 1024, plan.phase / 4));
        ratios.push(measured.rate() / disk.rate());
        amplification.push(measured.amplification());
        rates.push(format!("{:.0}/{:.0}", measured.rate(), disk.rate()));
    }
    let note = format!("rounds {}; messages/s to syncs/s {}", all(&ratios), rates.join(" "));
    rows.add("1", "1 producer: rate to fdatasync of 1 KiB", median(ratios), at_least(0.50), note);
    let note = format!("rounds {}", all(&amplification));
    rows.add("7c", "1 producer: bytes written to bytes stored", median(amplification), at_most(35.0), note);
}

async fn many_producers(plan: &Plan, place: &Path, rows: &mut Rows) {
    let sixteen = Load::new(16, Keys::Without).on_a_fresh_store(place, plan.phase).await;
    rows.add(
        "2a",
        "16 producers: messages to a commit",
        sixteen.per_commit(),
        at_least(8.0),
        shown(&sixteen),
    );
    let (mut disks, mut plain, mut keyed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let disk = |span| Disk::measure(place, 256 << 10, span);
        let before = disk(plan.phase / 4);
        plain.push(Load::new(256, Keys::Without).on_a_fresh_store(place, plan.phase).await);
        let between = disk(plan.phase / 4);
        keyed.push(Load::new(256, Keys::With).on_a_fresh_store(place, plan.phase).await);
        disks.push(before.and(between).and(disk(plan.phase / 4)));
    }
    let each = |of: &[Measured], figure: &dyn Fn(&Measured) -> f64| of.iter().map(figure).collect::<Vec<_>>();
    let against = |of: &[Measured], figure: &dyn Fn(&Measured, &Disk) -> f64| {
        of.iter().zip(&disks).map(|(measured, disk)| figure(measured, disk)).collect::<Vec<_>>()
    };
    let notes = |of: &[f64]| format!("rounds {}", all(of));
    let mut median_of = |row, what, values: Vec<f64>, bound| {
        let note = notes(&values);
        rows.add(row, what, median(values), bound, note);
    };
    let per_commit = each(&plain, &Measured::per_commit);
    median_of("2b", "256 producers: messages to a commit", per_commit, at_least(100.0));
    let bytes = |measured: &Measured, disk: &Disk| measured.bytes_rate() / disk.bytes_rate();
    let (of_plain, of_keyed) = (against(&plain, &bytes), against(&keyed, &bytes));
    median_of("3a", "256 producers: bytes to fdatasync of 256 KiB", of_plain, at_least(0.25));
    median_of("3b", "the same with keys", of_keyed, at_least(0.15));
    let cpu = |of: &[Measured]| each(of, &|measured| measured.writer_micros());
    median_of("4a", "256 producers: writer's CPU, µs a message", cpu(&plain), at_most(10.0));
    median_of("4b", "the same with keys", cpu(&keyed), at_most(18.0));
    let p99 = |measured: &Measured, disk: &Disk| measured.p99() / disk.p99();
    median_of("5", "256 producers: p99 to p99 of a 256 KiB sync", against(&plain, &p99), at_most(8.0));
    let amplification = |of: &[Measured]| each(of, &Measured::amplification);
    median_of("7a", "256 producers: bytes written to bytes stored", amplification(&plain), at_most(3.0));
    median_of("7b", "the same with keys", amplification(&keyed), at_most(8.0));
    let several = Load::new(256, Keys::Without).to(16).on_a_fresh_store(place, plan.phase).await;
    rows.say("7a", "the same to 16 destinations", several.amplification(), shown(&several));
    let p99_ms = median(each(&plain, &|measured| measured.p99() * 1000.0));
    rows.say("5", "its p99 in ms, on a quiet machine at most 25", p99_ms, shown(&plain[0]));
}

async fn draining(plan: &Plan, place: &Path, rows: &mut Rows) {
    let load = Load::new(256, Keys::Without).to(16);
    let alone = load.on_a_fresh_store(place, plan.phase).await;
    let directory = fresh(place);
    let (store, handle) = load::open(directory.path(), 8 << 30);
    load.fill(&handle, plan.drained).await;
    let drained = load.drain(&handle, None).await;
    rows.add("6a", "drained messages a second", drained, at_least(20_000.0), String::new());
    load.fill(&handle, plan.drained).await;
    let (appending, draining) =
        tokio::join!(load.run(&handle, plan.phase), load.drain(&handle, Some(plan.phase)));
    let (appended, drained) = (appending.rate() / alone.rate(), draining / alone.rate());
    let note = format!("{:.0}/s, alone {:.0}/s", appending.rate(), alone.rate());
    rows.add("6b", "appends while draining, to appends alone", appended, at_least(0.6), note);
    rows.add("6c", "drained meanwhile, to appends alone", drained, at_least(0.6), format!("{draining:.0}/s"));
    load.drain(&handle, None).await;
    let size = load::settled(directory.path()).await;
    let note = "the database and its log; at most 1 MiB and the log's cap".to_owned();
    rows.add("9a", "drained and idle: MiB on disk", mib(size), at_most(mib(MIB + LOG_CAP)), note);
    drop(handle);
    store.close();
}

async fn space(place: &Path, rows: &mut Rows) {
    const LIMIT: u64 = 64 * MIB;
    let directory = fresh(place);
    let (store, handle) = load::open(directory.path(), LIMIT);
    let load = Load::new(64, Keys::Without);
    let stored = load.until_full(&handle).await;
    let size = process::bytes_in(directory.path());
    let note = format!("a limit of 64 MiB, {stored} messages of 1 KiB; at most the limit and the log's cap");
    rows.add("9b", "full: MiB on disk", mib(size), at_most(mib(LIMIT + LOG_CAP)), note);
    drop(handle);
    store.close();
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}
