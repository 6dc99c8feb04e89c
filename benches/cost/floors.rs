//! CPU and rate of amqpost against both floors: before a broker that only acks, in other forms, and
//! before RabbitMQ.

use crate::lines;
use crate::sample::Spread;
use crate::section::{Bar, Bound, COLUMNS, Section, number, shown};
use crate::stage::{Stage, Three, Trio, against};
use crate::subject::{Load, Reading, Version};

const CONCURRENCIES: [usize; 5] = [1, 16, 64, 256, 1024];
const KIB: usize = 1024;

/// The largest cost of amqpost, as a multiple of the sum of both floors.
fn cpu_bound(concurrency: usize) -> Option<f64> {
    match concurrency {
        1 => Some(1.15),
        64 | 256 => Some(1.25),
        _ => None,
    }
}

/// The CPU of a confirmed publish by itself.
pub(crate) fn cpu(stage: &Stage) -> Section {
    let title = "CPU of a confirmed publish, before a broker that only acks";
    let mut section = Section::begin("cpu", title, &COLUMNS);
    section.say(
        "1 KiB, mandatory, persistent, to a queue through the raw endpoint. Each client sends its next \
        request at once."
            .to_owned(),
    );
    let target = stage.sink();
    let mut trio = stage.trio(&target);
    for concurrency in CONCURRENCIES {
        let three = trio.measure(stage, &Load::of(concurrency, KIB));
        let load = format!("{concurrency} at a time");
        rows(&mut section, &load, &three);
        let median = |readings: &[Reading]| Spread::of(readings.iter().map(Reading::cpu)).median;
        let (http, amqp, amqpost) = (median(&three.http), median(&three.amqp), median(&three.amqpost));
        section.bars.push(Bar { label: load.clone(), http, amqp, amqpost });
        let ratio = three.to_both(Reading::cpu);
        match cpu_bound(concurrency) {
            Some(bound) => {
                let what = format!("CPU of a publish to that of both floors, {load}, ack-only broker");
                section.judge(&what, Bound::AtMost(bound), "", ratio);
            }
            None => section.say(format!("CPU compared with both floors, {load}: {}.", shown(ratio))),
        }
    }
    section
}

fn rows(section: &mut Section, load: &str, three: &Three) {
    three.named().iter().for_each(|(name, readings)| section.readings(load, name, readings));
}

/// Other sizes, HTTP/2, a Unix socket.
pub(crate) fn forms(stage: &Stage) -> Section {
    let title = "Other forms of a request, before a broker that only acks";
    let mut section = Section::begin("forms", title, &COLUMNS);
    let target = stage.sink();
    let mut trio = stage.trio(&target);
    for (load, concurrency, bytes) in [("10 B", 64, 10), ("64 KiB", 64, 64 * KIB), ("1 MiB", 16, KIB * KIB)] {
        let three = trio.measure(stage, &Load::of(concurrency, bytes));
        let load = format!("{load}, {concurrency} at a time");
        rows(&mut section, &load, &three);
        section
            .say(format!("CPU compared with both floors, {load}: {}.", shown(three.to_both(Reading::cpu))));
    }
    let Trio { http, amqpost, .. } = &mut trio;
    let (one, two) = (Load::of(64, KIB), Load::of(64, KIB).over(Version::Two));
    let [floor_unix, unix, floor_two, two] = stage.interleave([
        &mut |span| http.unix.measure(&one, span),
        &mut |span| amqpost.unix.measure(&one, span),
        &mut |span| http.tcp.measure(&two, span),
        &mut |span| amqpost.tcp.measure(&two, span),
    ]);
    section.readings("1 KiB, Unix socket, 64 at a time", "HTTP floor", &floor_unix);
    section.readings("1 KiB, Unix socket, 64 at a time", "amqpost", &unix);
    section.readings("1 KiB, HTTP/2, one connection, 64 at a time", "HTTP floor", &floor_two);
    section.readings("1 KiB, HTTP/2, one connection, 64 at a time", "amqpost", &two);
    section
}

/// One request with many messages, against the same messages in requests of their own on one
/// connection.
pub(crate) fn stream(stage: &Stage) -> Section {
    let title = "The NDJSON stream on one connection, before a broker that only acks";
    let mut section = Section::begin("stream", title, &COLUMNS);
    section.say(
        "1 KiB. The load is the number of lines without a result. Latencies of lines are not measured."
            .to_owned(),
    );
    let target = stage.sink();
    let mut trio = stage.trio(&target);
    let Trio { amqp, amqpost, .. } = &mut trio;
    if !stage.runtime.block_on(lines::are_taken(&amqpost.tcp.address)) {
        section.say("Skipped: this amqpost has no stream.".to_owned());
        return section;
    }
    for concurrency in [64, 256] {
        let single = Load::of(concurrency, KIB).over(Version::Two);
        let stream = Load::of(concurrency, KIB).over(Version::Lines);
        let [floor, requests, lines] = stage.interleave([
            &mut |span| amqp.measure(&single, span),
            &mut |span| amqpost.tcp.measure(&single, span),
            &mut |span| amqpost.tcp.measure(&stream, span),
        ]);
        let load = format!("{concurrency} at a time");
        section.readings(&load, "AMQP floor", &floor);
        section.readings(&load, "amqpost, requests over HTTP/2", &requests);
        section.readings(&load, "amqpost, lines of a stream", &lines);
        let to_requests = against(&lines, &requests, Reading::rate);
        let what = format!("rate of a stream to that of requests on one connection, {load}");
        section.judge(&what, Bound::AtLeast(3.0), "", to_requests);
        let to_floor = against(&lines, &floor, Reading::rate);
        let what = format!("rate of a stream to that of lapin alone, {load}");
        section.judge(&what, Bound::AtLeast(0.9), "", to_floor);
        section.say(by_cpu_alone(&load, &floor, &lines));
    }
    section
}

/// Throughput before RabbitMQ.
pub(crate) fn rabbitmq(stage: &Stage) -> Section {
    let title = "Before RabbitMQ, a durable queue";
    let mut section = Section::begin("rabbitmq", title, &COLUMNS);
    section.say(
        "1 KiB, persistent; the queue keeps its last 10,000 messages. The broker shares the machine with \
        everything else."
            .to_owned(),
    );
    let target = stage.rabbitmq(&[], &[]);
    let mut trio = stage.trio(&target);
    for concurrency in [1, 16, 64, 256] {
        let three = trio.measure(stage, &Load::of(concurrency, KIB));
        let load = format!("{concurrency} at a time");
        rows(&mut section, &load, &three);
        let what = format!("rate to that of lapin alone, {load}, RabbitMQ");
        let ratio = against(&three.amqpost, &three.amqp, Reading::rate);
        section.judge(&what, Bound::AtLeast(0.85), "", ratio);
        section.say(by_cpu_alone(&load, &three.amqp, &three.amqpost));
        section.say(at_best(&load, &three));
    }
    section
}

/// The expected ratio of the rates if only CPU is scarce: the ratio of the CPU time that all
/// processes together take for a message.
fn by_cpu_alone(load: &str, lapin: &[Reading], amqpost: &[Reading]) -> String {
    let median = |readings: &[Reading]| number(Spread::of(readings.iter().map(Reading::cpu_of_all)).median);
    format!(
        "{load}: all processes together (broker, publisher, load) take {} µs of CPU a message with lapin \
        alone and {} \
         with amqpost. If only CPU is scarce, amqpost reaches {} of lapin's rate.",
        median(lapin),
        median(amqpost),
        shown(against(lapin, amqpost, Reading::cpu_of_all)),
    )
}

/// The expected ratio of the rates for a sidecar that costs no more than both floors.
fn at_best(load: &str, three: &Three) -> String {
    let floors = three.http.iter().zip(&three.amqp);
    let shares = floors.map(|(http, amqp)| amqp.cpu_of_all() / (amqp.cpu_of_all() + http.cpu_of_all()));
    format!(
        "{load}: a sidecar that costs as much as both floors would reach {} of it.",
        shown(Spread::of(shares))
    )
}
