//! From a fault to the first request that is refused because of it.

use super::fault::{Fault, outage};
use super::load::Load;
use super::sample::Sample;
use super::scene::{LAST, Scene};
use super::table::{Table, ms};
use super::wire::post;
use crate::harness::Direction;
use std::time::Duration;

const RATE: u32 = 500;
const CONNECTIONS: usize = 1200;

const FAULTS: [Fault; 8] = [
    Fault::Killed,
    Fault::Reset,
    Fault::Stopped,
    Fault::Lost(Direction::ToBroker),
    Fault::Lost(Direction::FromBroker),
    Fault::Lost(Direction::Both),
    Fault::Held,
    Fault::Alarm,
];

/// The promised bound, and how long the fault lasts.
fn bound(fault: Fault) -> (Duration, Duration) {
    match fault {
        Fault::Killed | Fault::Reset => (Duration::from_millis(200), Duration::from_millis(1000)),
        Fault::Alarm => (Duration::from_millis(500), Duration::from_millis(1500)),
        Fault::Stopped | Fault::Lost(_) | Fault::Held => (Duration::from_secs(2), Duration::from_secs(4)),
    }
}

/// Measures it for every fault.
pub(crate) async fn measure(short: bool) -> Table {
    let mut table = Table::default();
    for fault in FAULTS {
        one(&mut table, fault, if short { 2 } else { 5 }).await;
    }
    table
}

async fn one(table: &mut Table, fault: Fault, runs: u32) {
    let (bound, length) = bound(fault);
    let scene = Scene::set(fault.route(), &[]).await;
    let load = Load::start(&scene.sidecar, RATE, CONNECTIONS, |_| post(LAST, "", b"x")).await;
    let mut outages = Vec::new();
    for _ in 0..runs {
        outages.push(outage(&scene, fault, &load, length).await);
    }
    let sent = load.stop().await;

    // If nothing was refused, the time is the length of the fault.
    let first_refusals: Vec<_> = outages
        .iter()
        .map(|outage| {
            let refused = sent.shots.iter().filter(|shot| shot.is_refused_for_the_link());
            let answers = refused.map(|shot| shot.answered).filter(|answered| *answered >= outage.begun);
            answers.min().map_or(length, |first| (first - outage.begun).min(length))
        })
        .collect();
    let noise = outages.iter().zip(&first_refusals);
    let noise = noise.map(|(outage, took)| sent.late_between(outage.begun, outage.begun + *took)).max();
    let first_refusals: Sample = first_refusals.into_iter().collect();
    let name = format!("first refusal, {}", fault.name());
    table.bound(
        &name,
        &format!("≤ {} s", bound.as_secs_f64()),
        &format!(
            "{}; timers meanwhile at most {} late",
            first_refusals.ends(),
            ms(noise.unwrap_or_default())
        ),
        first_refusals.worst() <= bound,
    );
}
