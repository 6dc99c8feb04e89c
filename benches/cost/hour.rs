//! An hour of load at a fixed rate, in tenths: CPU, memory, threads and open files must be the same
//! at its end as at its start.

use crate::drive::Pace;
use crate::process::{Cost, Memory, open_files};
use crate::section::{Section, number};
use crate::stage::Stage;
use crate::subject::{Load, Span};
use std::thread;
use std::time::Duration;

const KIB: usize = 1024;
const CONCURRENCY: usize = 64;
/// Requests a second. This is a sidecar's ordinary load: it leaves the machine free for other work,
/// and makes 3.6 million requests in the hour.
const RATE: f64 = 1000.0;
const PARTS: u32 = 10;
/// The clients of a part have connected by then.
const WARM: Duration = Duration::from_millis(250);
/// After this the connections of a part are closed.
const REST: Duration = Duration::from_secs(1);

/// One sidecar under the same load for a number of minutes.
pub(crate) fn hour(stage: &Stage) -> Section {
    let minutes = stage.plan.minutes;
    let header =
        ["part", "requests/s", "failed", "CPU µs/request", "p50 µs", "RSS MiB", "threads", "open files"];
    let title = format!("Cost that does not grow with time: {minutes} minutes of load");
    let mut section = Section::begin("hour", &title, &header);
    section.say(format!(
        "Before a broker that only acks; 1 KiB, {RATE} requests a second over {CONCURRENCY} connections, \
        which each part \
         opens again. At this rate a request costs as much as a single one, not as one among many. RSS, \
         threads and \
         files are those at the end of a part, after its connections were closed."
    ));
    let target = stage.sink();
    let amqpost = stage.amqpost(&target.uri, &[], true);
    let span = Span { warm: WARM, measured: Duration::from_secs(minutes * 60) / PARTS };
    let load = Load::of(CONCURRENCY, KIB).at(Pace::Open(RATE));
    for part in 1..=PARTS {
        let reading = amqpost.tcp.measure(&load, span);
        thread::sleep(REST);
        section.row(vec![
            format!("{part} of {PARTS}"),
            number(reading.rate()),
            reading.latencies.failed.to_string(),
            number(reading.cpu()),
            number(reading.latencies.exchanges.p50),
            number(Memory::of(amqpost.pid()).resident as f64 / 1024.0),
            Cost::of(amqpost.pid()).threads.to_string(),
            open_files(amqpost.pid()).to_string(),
        ]);
    }
    section
}
