//! How long a refusal takes while the link is down, stalled or blocked, at 2,000 requests a second.

use super::fault::Fault;
use super::load::{Load, Sent, Shot};
use super::sample::Sample;
use super::scene::{LAST, Scene};
use super::table::{Table, ms};
use super::wire::post;
use crate::harness::Direction;
use amqpost::outcome::Outcome;
use std::time::{Duration, Instant};

const RATE: u32 = 2000;
const CONNECTIONS: usize = 256;
const BOUND: Duration = Duration::from_millis(5);

/// With these the sidecar answers `link_stalled` for 20 s; with its defaults it abandons the
/// connection after one and answers `link_down`.
const STALLED_FOR_LONG: [(&str, &str); 2] =
    [("broker.stall_timeout", "\"20s\""), ("broker.heartbeat", "\"60s\"")];

/// Measures it in each state.
pub(crate) async fn measure(short: bool) -> Table {
    let length = Duration::from_secs(if short { 3 } else { 10 });
    let mut table = Table::default();
    for (name, fault, settings, state) in [
        ("down (broker killed)", Fault::Killed, [].as_slice(), "down"),
        ("down (packets vanish, dials hang)", Fault::Lost(Direction::Both), &[], "down"),
        ("stalled (broker SIGSTOP)", Fault::Stopped, &STALLED_FOR_LONG, "stalled"),
        ("blocked (memory alarm)", Fault::Alarm, &[], "blocked"),
    ] {
        let scene = Scene::set(fault.route(), settings).await;
        // Only publishers are told of an alarm, and a silence is noticed sooner under load.
        let before = Load::start(&scene.sidecar, 50, CONNECTIONS, |_| post(LAST, "", b"x")).await;
        fault.begin(&scene).await;
        scene.sidecar.link_is(state, Duration::from_secs(60)).await;
        before.stop().await;

        let load = Load::start(&scene.sidecar, RATE, CONNECTIONS, |_| post(LAST, "", b"x")).await;
        crate::pace::rest(length).await;
        let sent = load.stop().await;
        judge(&mut table, name, &sent);
    }
    table
}

fn judge(table: &mut Table, name: &str, sent: &Sent) {
    let refused = sent.shots.iter().filter(|shot| shot.is_refused_for_the_link()).count();
    let took: Sample = sent.shots.iter().map(Shot::took).collect();
    let served: Sample = sent.shots.iter().map(|shot| since(shot.written, shot.answered)).collect();
    table.bound(
        &format!("refusals at {RATE}/s, {name}"),
        &format!("p99 ≤ {}", ms(BOUND)),
        &format!("{}; {} of {} above", took.tail(), took.above(BOUND), took.count()),
        took.quantile(0.99) <= BOUND && took.count() > 1000,
    );
    table.bound(
        &format!("answers other than a refusal, {name}"),
        "0",
        &format!("{} of {}: {:?}", sent.shots.len() - refused, sent.shots.len(), others(sent)),
        refused == sent.shots.len(),
    );
    table.note(&format!("from the first byte, {name}"), &served.tail());
    table.note(&format!("lateness of the load itself, {name}"), &sent.lateness());
}

fn others(sent: &Sent) -> Vec<&'static str> {
    let others = sent.shots.iter().filter(|shot| !shot.is_refused_for_the_link());
    let mut codes: Vec<_> = others.map(|shot| shot.outcome.map_or("broken", Outcome::code)).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn since(from: Instant, to: Instant) -> Duration {
    to.saturating_duration_since(from)
}
