//! The page docs/performance.md: every section's table, and all targets in one.

use crate::section::{Section, line};
use std::fmt::Write;

const HEAD: &str = "\
# Performance

What a publish through amqpost costs, against the least that HTTP and AMQP cost by themselves on the same machine at the same
time. `scripts/bench --write` measured this page and its chart; `scripts/bench --short` is a quick look.

![CPU of a confirmed publish against both floors](performance.svg)

How it is measured:

* **HTTP floor**: axum and hyper with amqpost's settings, in a process of its own, that reads the body and answers 200;
  with axum's router, which amqpost does without.
* **AMQP floor**: lapin in a process of its own, mandatory and persistent, one connection, one channel, as many publishes at a time as the load
  has requests, each waiting for its confirm. It makes no message ids.
* Both floors have tokio's runtime of one thread, as amqpost has by default; with a thread for each core they cost more.
* Less than both floors together is possible: the HTTP floor has a router that amqpost does without, and two processes wake up where one does.
* The targets for p50 and p99 are against the sum of both floors, each alone beside the broker, with the load's own lateness taken off once. The section on latency says what
  they are against both floors at work at the same time, as well.
* **amqpost**: the release build with its default configuration, two connections.
* **The broker that only acks** (`benches/cost/sink.rs`) confirms all that one read brought by one `basic.ack`. It is a process of its
  own, as is RabbitMQ; neither's CPU is in a figure unless that is said, nor is the load generator's.
* All of a table was measured by turns, a second each (three for latencies at a fixed rate), five times over. A figure is the median of these rounds; beside it, in brackets, are the
  lowest and the highest. A ratio is taken within each round. Rates are those of a machine that also runs the load and the broker: compare them
  with each other only.
* CPU is what the scheduler counts for all threads of the process, context switches are voluntary and involuntary ones.
* Loads are closed (a client sends its next request when it has its answer) but for the section on latency, whose rate is fixed and
  whose latencies count from the moment at which a request was due.
";

/// The page from the sections that were measured.
pub(crate) fn page(sections: &[Section]) -> String {
    let mut page = HEAD.to_owned();
    page += "\n## Targets\n\n| figure | target | measured | |\n|---|---|---|---|\n";
    for verdict in sections.iter().flat_map(|section| &section.verdicts) {
        put(&mut page, &line(&verdict.cells()));
    }
    for section in sections {
        put(&mut page, &format!("\n## {}\n", section.title));
        section.about.iter().for_each(|text| put(&mut page, text));
        put(&mut page, &format!("\n{}\n|{}", line(&section.header), "---|".repeat(section.header.len())));
        section.rows.iter().for_each(|row| put(&mut page, &line(row)));
        if !section.circumstances.is_empty() {
            put(&mut page, &format!("\n{}", section.circumstances));
        }
    }
    page
}

fn put(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a String takes everything");
}
