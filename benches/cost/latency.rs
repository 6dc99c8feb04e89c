//! Latency at a fixed rate before RabbitMQ: amqpost against both floors, each by itself and side by
//! side.

use crate::drive::Pace;
use crate::sample::Spread;
use crate::section::{Bound, Section, number, shown};
use crate::stage::{Stage, Trio};
use crate::subject::{Load, Reading};
use std::cell::RefCell;
use std::thread;

const KIB: usize = 1024;

/// Readings by rounds: each floor alone, amqpost, and both floors side by side.
struct Readings {
    http: Vec<Reading>,
    amqp: Vec<Reading>,
    amqpost: Vec<Reading>,
    http_beside: Vec<Reading>,
    amqp_beside: Vec<Reading>,
}

/// With one request at a time and with 64, at half of the rate that amqpost and lapin can do.
pub(crate) fn latency(stage: &Stage) -> Section {
    let header = ["load", "process", "requests/s", "p50 µs", "p99 µs", "p99.9 µs", "p50 µs of lateness"];
    let title = "Latency at a fixed rate, before RabbitMQ, a durable queue";
    let mut section = Section::begin("latency", title, &header);
    section.say(
        "Latencies count from the moment at which a request was due, not from when it was sent (no \
        coordinated \
         omission). The lateness is the load's own, with an idle client. Every latency contains it, so it is \
         subtracted once from the sum of the two floors. A floor alone shares the machine only with the \
         broker. Side \
         by side, both floors have the same rate at the same time, as HTTP and AMQP have in a sidecar: \
         each waits \
         for the CPU that the other and the broker take."
            .to_owned(),
    );
    let target = stage.rabbitmq(&[], &[]);
    let mut trio = stage.trio(&target);
    for concurrency in [1, 64] {
        let closed = Load::of(concurrency, KIB);
        let span = stage.plan.span;
        let slowest =
            trio.amqp.measure(&closed, span).rate().min(trio.amqpost.tcp.measure(&closed, span).rate());
        let rate = (slowest / 2.0).round();
        let readings = Readings::measure(stage, &mut trio, &closed.at(Pace::Open(rate)));
        readings.show(&mut section, &format!("{concurrency} at a time, {rate}/s"));
        readings.judge(&mut section, concurrency);
    }
    section
}

impl Readings {
    fn measure(stage: &Stage, trio: &mut Trio, load: &Load) -> Self {
        let Trio { http: http_floor, amqp: amqp_floor, amqpost } = trio;
        let (amqp_floor, mut http_beside) = (RefCell::new(amqp_floor), Vec::new());
        let [http, amqp, amqpost, amqp_beside] = stage.interleave_for(
            stage.plan.long(),
            [
                &mut |span| http_floor.tcp.measure(load, span),
                &mut |span| amqp_floor.borrow_mut().measure(load, span),
                &mut |span| amqpost.tcp.measure(load, span),
                &mut |span| {
                    thread::scope(|scope| {
                        let http = scope.spawn(|| http_floor.tcp.measure(load, span));
                        let amqp = amqp_floor.borrow_mut().measure(load, span);
                        http_beside.push(http.join().expect("a measurement does not panic"));
                        amqp
                    })
                },
            ],
        );
        Self { http, amqp, amqpost, http_beside, amqp_beside }
    }

    fn show(&self, section: &mut Section, load: &str) {
        let rows = [
            ("HTTP floor", &self.http),
            ("AMQP floor", &self.amqp),
            ("amqpost", &self.amqpost),
            ("HTTP floor, side by side", &self.http_beside),
            ("AMQP floor, side by side", &self.amqp_beside),
        ];
        for (name, readings) in rows {
            let of = |figure: fn(&Reading) -> f64| number(Spread::of(readings.iter().map(figure)).median);
            let exchanges = [
                of(Reading::rate),
                of(|reading| reading.latencies.exchanges.p50),
                of(|reading| reading.latencies.exchanges.p99),
                of(|reading| reading.latencies.exchanges.p999),
                of(|reading| reading.latencies.lateness.p50),
            ];
            section.row([vec![load.to_owned(), name.to_owned()], exchanges.to_vec()].concat());
        }
    }

    fn judge(&self, section: &mut Section, concurrency: usize) {
        let mut judge = |name: &str, bound: f64, figure: fn(&Reading) -> f64| {
            let alone = less_lateness([&self.http, &self.amqp, &self.amqpost], figure);
            let beside = less_lateness([&self.http_beside, &self.amqp_beside, &self.amqpost], figure);
            let what = format!("{name} to that of both floors, {concurrency} at a time, RabbitMQ");
            section.judge(&what, Bound::AtMost(bound), "", alone);
            let what = format!("{name} to that of both floors side by side, {concurrency} at a time");
            section.say(format!("{what}: {}.", shown(beside)));
        };
        judge("p50", 1.15, |reading| reading.latencies.exchanges.p50);
        judge("p99", 1.3, |reading| reading.latencies.exchanges.p99);
    }
}

/// A latency against the sum of both floors. The load's own lateness is in both of these, so it is
/// subtracted once. Compares medians: a disk that pauses in one second and not in the next makes
/// single ratios meaningless.
fn less_lateness([http, amqp, amqpost]: [&[Reading]; 3], figure: fn(&Reading) -> f64) -> Spread {
    let ratio = |http: &[Reading], amqp: &[Reading], amqpost: &[Reading]| {
        let median = |readings: &[Reading], figure: fn(&Reading) -> f64| {
            Spread::of(readings.iter().map(figure)).median
        };
        let late = median(http, |reading| reading.latencies.lateness.p50);
        median(amqpost, figure) / (median(http, figure) + median(amqp, figure) - late)
    };
    let rounds = http.chunks(1).zip(amqp.chunks(1)).zip(amqpost.chunks(1));
    let by_round = Spread::of(rounds.map(|((http, amqp), amqpost)| ratio(http, amqp, amqpost)));
    Spread { median: ratio(http, amqp, amqpost), ..by_round }
}
