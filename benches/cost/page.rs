//! The page docs/performance.md: every section's table, and all targets in one.

use crate::section::{Section, line};
use std::fmt::Write;

/// The widest line of a paragraph. Tables may be wider.
const COLUMNS_MAX: usize = 100;

const HEAD: &str = "\
# Performance

What a publish through amqpost costs, against the least that HTTP and AMQP cost by themselves on the
same machine at the same time. `scripts/bench --write` measures this page and its chart;
`scripts/bench --short` is a quick look.

![CPU of a confirmed publish against both floors](performance.svg)

How it is measured:

* **HTTP floor**: axum and hyper with amqpost's settings, in a process of its own, which reads the
  body and answers 200. It uses axum's router, which amqpost does without.
* **AMQP floor**: lapin in a process of its own, mandatory and persistent, with one connection and
  one channel. It has as many publishes in flight as the load has requests, and each waits for its
  confirm. It makes no message ids.
* Both floors use tokio's single-threaded runtime, as amqpost does by default; with a thread for
  each core they cost more.
* A sidecar can cost less than both floors together: the HTTP floor has a router that amqpost does
  without, and two processes wake up where one does.
* The targets for p50 and p99 compare with the sum of both floors, each measured alone beside the
  broker; the load's own lateness is subtracted once. The section on latency also compares with both
  floors at work at the same time.
* **amqpost**: the release build with its default configuration, two connections.
* **The ack-only broker** (`benches/cost/sink.rs`) confirms everything that arrived in one read with
  one `basic.ack`. It is a process of its own, as is RabbitMQ. The figures do not include the CPU of
  the brokers or of the load generator, unless they say so.
* The rows of a table are measured in alternation, a second each (three for latencies at a fixed
  rate), five times. A figure is the median of these rounds, with the lowest and the highest in
  brackets. A ratio is taken within each round. The machine also runs the load and the broker:
  compare rates only with each other.
* CPU is the scheduler's count for all threads of the process. Context switches are voluntary and
  involuntary ones.
* Loads are closed: a client sends its next request when it has its answer. The section on latency
  has a fixed rate instead, and its latencies count from the moment at which a request was due.
";

/// The page from the sections that were measured.
pub(crate) fn page(sections: &[Section]) -> String {
    let mut page = HEAD.to_owned();
    page += "\n## Targets\n\n| figure | target | measured | |\n|---|---|---|---|\n";
    for verdict in sections.iter().flat_map(|section| &section.verdicts) {
        put(&mut page, &line(&verdict.cells()));
    }
    for section in sections {
        put(&mut page, &format!("\n## {}", section.title));
        section.about.iter().for_each(|text| put(&mut page, &format!("\n{}", wrapped(text.trim_end()))));
        put(&mut page, &format!("\n{}\n|{}", line(&section.header), "---|".repeat(section.header.len())));
        section.rows.iter().for_each(|row| put(&mut page, &line(row)));
        if !section.circumstances.is_empty() {
            put(&mut page, &format!("\n{}", wrapped(&section.circumstances)));
        }
    }
    page
}

fn put(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("a String takes everything");
}

/// A paragraph in lines of at most `COLUMNS_MAX`.
fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n")
}
