//! Opening after a kill -9: one process fills a store and is killed, a fresh one opens it and
//! reports the time.

use crate::load::{self, Keys, Load};
use crate::process;
use crate::rows::{Rows, at_most};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Set in a child: `fill N` or `open`, and the directory.
const CHILD: &str = "BENCH_SPOOL_CHILD";
const DIRECTORY: &str = "BENCH_SPOOL_STORE";
const MAX_BYTES: u64 = 8 << 30;
const FULL: &str = "full";
const OPENINGS: usize = 3;

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

pub(crate) fn child() {
    let order = std::env::var(CHILD).expect("it is set");
    let directory = std::env::var(DIRECTORY).expect("it is set");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match order.strip_prefix("fill ") {
            Some(messages) => fill(directory.as_ref(), messages.parse().expect("a number")).await,
            None => open(directory.as_ref()).await,
        }
    });
}

/// Never ends by itself: its parent kills it while it appends.
async fn fill(directory: &Path, messages: usize) {
    let (_store, handle) = load::open(directory, MAX_BYTES);
    let load = Load::new(256, Keys::Without);
    load.fill(&handle, messages).await;
    say(FULL);
    load.fill(&handle, usize::MAX).await;
}

async fn open(directory: &Path) {
    let (resident, begun) = (process::resident_bytes(), Instant::now());
    let (_store, handle) = load::open(directory, MAX_BYTES);
    let first = handle.destinations(1).await.expect("readable").remove(0);
    let batch = handle.next_batch(&first.destination, None, 256, 4 << 20).await.expect("readable");
    let took = begun.elapsed();
    assert!(!batch.records.is_empty() && batch.damaged.is_empty());
    let grown = process::resident_bytes().saturating_sub(resident);
    say(&format!("{} {} {}", took.as_secs_f64() * 1000.0, grown as f64 / 1e6, handle.stats().ready));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody reads");
}

fn start(order: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this one"));
    command.env(CHILD, order).env(DIRECTORY, directory).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

pub(crate) fn after_a_kill(place: &Path, messages: u64, rows: &mut Rows) {
    let directory = crate::fresh(place);
    let (mut times, mut memory, mut found) = (Vec::new(), Vec::new(), 0);
    for round in 0..OPENINGS {
        // The first process fills the store; the others leave a log of their own behind.
        let count = if round == 0 { messages } else { 1000 };
        let mut child = start(&format!("fill {count}"), directory.path()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().and_then(Result::ok);
        assert_eq!(line.as_deref(), Some(FULL), "it fills the store");
        child.kill().and_then(|()| child.wait()).expect("it is ours");
        let output = start("open", directory.path()).output().expect("it starts");
        let text = String::from_utf8(output.stdout).expect("numbers");
        let numbers: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        times.push(numbers[0]);
        memory.push(numbers[1]);
        found = numbers[2] as u64;
    }
    let note = format!("{found} messages; openings {}", crate::all(&times));
    rows.add("8a", "after kill -9: ms to open and read a batch", crate::median(times), at_most(100.0), note);
    let note = format!("openings {}", crate::all(&memory));
    rows.add("8b", "MB of memory that this takes", crate::median(memory), at_most(10.0), note);
}
