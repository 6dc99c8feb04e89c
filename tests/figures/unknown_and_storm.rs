//! The consequences of an outage: unknown answers, and messages that arrive after it; both are
//! bounded.

use super::arrivals::{Arrivals, Arrived};
use super::fault::{Fault, Outage, outage};
use super::load::{Load, Sent, Shot};
use super::scene::{KEPT, KEPT_QUEUE, Scene};
use super::table::Table;
use super::wire::post;
use amqpost::outcome::Class;
use std::time::{Duration, Instant};

const RATE: u32 = 500;
const CONNECTIONS: usize = 512;
const LIMIT: usize = 64;
const LENGTHS: [u64; 3] = [3, 10, 30];
const STORM: Duration = Duration::from_secs(1);

/// Measures it for a stopped broker and for packets held back.
pub(crate) async fn measure(short: bool) -> Table {
    let mut table = Table::default();
    let lengths = &LENGTHS[..if short { 2 } else { LENGTHS.len() }];
    for fault in [Fault::Stopped, Fault::Held] {
        one(&mut table, fault, lengths).await;
    }
    table
}

async fn one(table: &mut Table, fault: Fault, lengths: &[u64]) {
    let scene = Scene::set(fault.route(), &[("publish.max_in_flight", &LIMIT.to_string())]).await;
    let arrivals = Arrivals::of(KEPT_QUEUE, &scene.vhost.uri()).await;
    let request = |number| post(KEPT, &format!("amqp-message-id: {number}\r\n"), b"x");
    let load = Load::start(&scene.sidecar, RATE, CONNECTIONS, request).await;
    let mut outages = Vec::new();
    for length in lengths {
        outages.push(outage(&scene, fault, &load, Duration::from_secs(*length)).await);
        crate::pace::rest(STORM * 2).await;
    }
    let sent = load.stop().await;
    scene.is_quiet().await;
    let arrived = arrivals.close(KEPT_QUEUE).await;

    let mut next_begins = outages.iter().skip(1).map(|outage| outage.begun).chain([Instant::now()]);
    for (length, outage) in lengths.iter().zip(&outages) {
        let until = next_begins.next().expect("one more than outages");
        let name = format!("{} for {length} s at {RATE}/s", fault.name());
        a_length(table, &name, *outage, until, &sent, &arrived);
    }
    honest(table, fault, &sent, &arrived);
}

fn a_length(table: &mut Table, name: &str, outage: Outage, until: Instant, sent: &Sent, arrived: &Arrived) {
    let between = |moment: Instant, from: Instant, to: Instant| moment >= from && moment < to;
    let unknown = sent.shots.iter().filter(|shot| shot.class() == Some(Class::Unknown));
    let unknown = unknown.filter(|shot| between(shot.answered, outage.begun, until)).count();
    let of_it: Vec<_> =
        sent.shots.iter().filter(|shot| between(shot.written, outage.begun, outage.ended)).collect();
    let burst = of_it.iter().flat_map(|shot| arrived.get(&shot.number)).flatten();
    let burst = burst.filter(|at| between(**at, outage.ended, outage.ended + STORM)).count();
    let bound = format!("≤ {LIMIT} (in-flight limit)");
    let of = format!("of {} sent during it", of_it.len());
    table.bound(
        &format!("unknown, {name}"),
        &bound,
        &format!("{unknown} {of}"),
        unknown <= LIMIT && !of_it.is_empty(),
    );
    table.bound(
        &format!("arrivals of it in the second after, {name}"),
        &bound,
        &format!("{burst} {of}"),
        burst <= LIMIT,
    );
}

fn honest(table: &mut Table, fault: Fault, sent: &Sent, arrived: &Arrived) {
    let came = |shot: &&Shot| arrived.contains_key(&shot.number);
    let of = |class: Class| sent.shots.iter().filter(move |shot| shot.class() == Some(class));
    let ghosts = of(Class::NotPublished).filter(came).count();
    let lost = of(Class::Confirmed).filter(|shot| !came(shot)).count();
    let twice = arrived.values().filter(|times| times.len() > 1).count();
    table.bound(
        &format!("ghosts, losses, duplicates, {}", fault.name()),
        "0, 0, 0",
        &format!(
            "{ghosts}, {lost}, {twice} of {} not published, {} confirmed, {} unknown",
            of(Class::NotPublished).count(),
            of(Class::Confirmed).count(),
            of(Class::Unknown).count(),
        ),
        ghosts + lost + twice == 0 && of(Class::Confirmed).count() > 1000,
    );
    table.note(&format!("lateness of the load, {}", fault.name()), &sent.lateness());
}
