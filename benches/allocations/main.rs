//! How many blocks of memory a confirmed publish allocates beyond those of HTTP and AMQP.
//!
//! amqpost and the two floors of `benches/cost` run as processes of this executable, so that
//! neither the load nor the broker is counted; dhat counts in each of them. `--sites` also shows
//! where, as `scripts/allocations` prints it.

#[path = "../cost/amqp_floor.rs"]
#[expect(dead_code, reason = "its orders are those of the benchmark")]
mod amqp_floor;
#[path = "../cost/child.rs"]
#[expect(dead_code, reason = "its loads are those of the benchmark")]
mod child;
#[path = "../cost/drive.rs"]
mod drive;
#[path = "../cost/http_floor.rs"]
mod http_floor;
#[path = "../cost/sample.rs"]
#[expect(dead_code, reason = "nothing is timed here")]
mod sample;
#[path = "../cost/sink.rs"]
mod sink;
#[path = "../cost/wire.rs"]
#[expect(dead_code, reason = "only HTTP/1.1 is counted")]
mod wire;

mod roles;
mod sites;
mod subjects;

use std::process::ExitCode;
use subjects::{Count, Subject, Subjects};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Publishes that are counted, one after the other.
const PUBLISHES: u32 = 1000;

/// The blocks that a publish may allocate beyond both floors. This is exactly the present number,
/// so that one more block is a deliberate decision. It is negative, because the floor's router
/// allocates eight blocks that amqpost does not need.
const BEYOND_FLOORS_MAX: f64 = -0.5;

/// Prints where blocks are allocated.
const SITES: &str = "--sites";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if roles::play(&words) {
        return ExitCode::SUCCESS;
    }
    // As with any test, a filter that does not match this one's name selects other tests.
    if words.iter().any(|word| !word.starts_with('-') && !"allocations".contains(word)) {
        return ExitCode::SUCCESS;
    }
    count(words.contains(&SITES))
}

fn count(with_sites: bool) -> ExitCode {
    let directory = tempfile::Builder::new().prefix("amqpost-allocations-").tempdir().expect("a directory");
    let mut subjects = Subjects::start(directory.path());
    let counts =
        Subject::ALL.map(|subject| subjects.count(subject, PUBLISHES, &directory.path().join("profile")));
    let beyond = print_counts(&counts);
    if with_sites {
        sites::print(&counts.each_ref().map(|count| &count.sites), PUBLISHES);
    }
    if beyond > BEYOND_FLOORS_MAX {
        eprintln!(
            "{beyond:.2} blocks beyond both floors; {BEYOND_FLOORS_MAX} are allowed. Where: \
            scripts/allocations"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Prints the counts; returns the blocks of a publish beyond both floors.
fn print_counts(counts: &[Count; 3]) -> f64 {
    let each = |number: u64| number as f64 / f64::from(PUBLISHES);
    println!(
        "\n| a publish of 1 KiB, one at a time | blocks | and when a thread sleeps | bytes \
        |\n|---|---|---|---|"
    );
    for (subject, count) in Subject::ALL.iter().zip(counts) {
        let (blocks, asleep) = (each(count.blocks()), each(count.sites.asleep()));
        println!("| {} | {blocks:.2} | {asleep:.2} | {:.0} |", subject.name(), each(count.bytes));
    }
    let [http, amqp, amqpost] = counts;
    let beyond = |figure: fn(&Count) -> u64| each(figure(amqpost)) - each(figure(http)) - each(figure(amqp));
    let (blocks, asleep) = (beyond(Count::blocks), beyond(|count| count.sites.asleep()));
    println!("| beyond both floors | {blocks:.2} | {asleep:.2} | {:.0} |", beyond(|count| count.bytes));
    blocks
}
