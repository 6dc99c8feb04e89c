//! A slow or busy broker is not called stalled.

use super::crowd::{Crowd, Manner};
use super::load::{Load, Shot};
use super::sample::Sample;
use super::scene::{LAST, Route, Scene};
use super::table::Table;
use super::wire::post;
use crate::harness::Direction;
use std::time::Duration;

const LATER: Duration = Duration::from_millis(500);
const RATE: u32 = 200;
const CONNECTIONS: usize = 512;
const CLIENTS: usize = 128;

/// Measures both for ten minutes each.
pub(crate) async fn measure(short: bool) -> Table {
    let length = Duration::from_secs(if short { 60 } else { 600 });
    let mut table = Table::default();
    delayed(&mut table, length).await;
    busy(&mut table, length).await;
    table
}

async fn delayed(table: &mut Table, length: Duration) {
    let scene = Scene::set(Route::Proxy, &[]).await;
    scene.proxy.delay(Direction::FromBroker, LATER);
    let load = Load::start(&scene.sidecar, RATE, CONNECTIONS, |_| post(LAST, "", b"x")).await;
    crate::pace::rest(length).await;
    let sent = load.stop().await;
    let took: Sample = sent.shots.iter().map(Shot::took).collect();
    let slow = sent.shots.iter().filter(|shot| shot.took() > LATER * 2);
    let (slow, last) = slow.fold((0, 0), |(count, _), shot| (count + 1, shot.number));
    let name = format!("confirms delayed by 500 ms, {RATE}/s for {} s", length.as_secs());
    judge(table, &name, &scene, &format!("{} requests, {}", took.count(), took.tail())).await;
    let after = last / u64::from(RATE);
    table.note("longer than a second", &format!("{slow}, the last of them sent after {after} s"));
    table.note("lateness of that load", &sent.lateness());
}

async fn busy(table: &mut Table, length: Duration) {
    let scene = Scene::set(Route::Direct, &[]).await;
    let crowd = Crowd::gather(&scene.sidecar, CLIENTS, u64::MAX, |_| (post(LAST, "", b"x"), Manner::Patient));
    crate::pace::rest(length).await;
    crowd.stop();
    let tally = crowd.tally().await;
    let total: u64 = tally.codes.values().sum();
    let how =
        format!("{} requests/s, {:?}, {} broken", total / length.as_secs(), tally.codes, tally.broken.0);
    let name = format!("{CLIENTS} clients without a pause for {} s", length.as_secs());
    judge(table, &name, &scene, &how).await;
}

async fn judge(table: &mut Table, name: &str, scene: &Scene, how: &str) {
    let given_up = scene.sidecar.metric("amqpost_disconnects_total{reason=\"stalled\"}").await;
    // A link that is called stalled and answers before it is given up is seen in the log only.
    let log = scene.sidecar.log();
    let called = log.lines().filter(|line| line.contains("stalled")).count();
    table.bound(
        &format!("stalls, {name}"),
        "0",
        &format!("{called} lines in the log, {given_up} connections given up; {how}"),
        called == 0 && given_up == 0.0,
    );
}
