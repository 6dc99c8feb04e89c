//! From the moment the broker answers again to the next message that is confirmed.

use super::fault::{Fault, outage};
use super::load::Load;
use super::sample::Sample;
use super::scene::{LAST, Scene};
use super::table::Table;
use super::wire::post;
use crate::harness::Direction;
use amqpost::outcome::Outcome;
use std::time::Duration;

const RATE: u32 = 500;
const CONNECTIONS: usize = 1200;
const MEDIAN: Duration = Duration::from_secs(1);
const WORST: Duration = Duration::from_secs(2);

/// Long enough that a silent connection is given up and dialling has backed off as far as it does.
const LENGTH: Duration = Duration::from_secs(5);
/// Longer each time, so that the end meets different moments of a pause between two attempts.
const LONGER: Duration = Duration::from_millis(410);

const FAULTS: [Fault; 6] =
    [Fault::Killed, Fault::Reset, Fault::Stopped, Fault::Held, Fault::Lost(Direction::Both), Fault::Alarm];

/// Measures it for every fault.
pub(crate) async fn measure(short: bool) -> Table {
    let mut table = Table::default();
    for fault in FAULTS {
        let runs = match fault {
            _ if short => 2,
            // The time depends on the moment of the last attempt, in a pattern of several seconds.
            // Five runs can miss that pattern.
            Fault::Lost(_) => 14,
            _ => 5,
        };
        one(&mut table, fault, runs).await;
    }
    table
}

async fn one(table: &mut Table, fault: Fault, runs: u32) {
    let scene = Scene::set(fault.route(), &[]).await;
    let load = Load::start(&scene.sidecar, RATE, CONNECTIONS, |_| post(LAST, "", b"x")).await;
    let mut outages = Vec::new();
    for run in 0..runs {
        outages.push(outage(&scene, fault, &load, LENGTH + LONGER * run).await);
    }
    let sent = load.stop().await;

    let again: Sample = outages
        .iter()
        .map(|outage| {
            let confirmed = sent.shots.iter().filter(|shot| shot.is(Outcome::Confirmed));
            let next = confirmed.map(|shot| shot.answered).filter(|answered| *answered >= outage.ended).min();
            next.expect("the outage waited for it") - outage.ended
        })
        .collect();
    table.bound(
        &format!("confirmed again, {}", fault.name()),
        "median ≤ 1 s, worst ≤ 2 s",
        &again.ends(),
        again.median() <= MEDIAN && again.worst() <= WORST,
    );
}
