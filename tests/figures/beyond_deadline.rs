//! How late after its deadline an answer comes under each fault.

use super::fault::{Fault, outage};
use super::load::{Load, Sent, Shot};
use super::scene::{LAST, Scene};
use super::table::{Table, ms};
use super::wire::post;
use crate::harness::Direction;
use std::time::Duration;

const RATE: u32 = 300;
const CONNECTIONS: usize = 1200;
const LATE: Duration = Duration::from_millis(50);

/// Seven, so that a pattern of the load does not always meet the same ones.
const DEADLINES_MS: [u64; 7] = [50, 100, 250, 500, 1000, 2000, 5000];

const FAULTS: [Fault; 7] = [
    Fault::Stopped,
    Fault::Lost(Direction::ToBroker),
    Fault::Lost(Direction::FromBroker),
    Fault::Lost(Direction::Both),
    Fault::Held,
    Fault::Killed,
    Fault::Alarm,
];

/// With these settings a silent broker is tolerated for longer than every deadline, so that each
/// request waits for its own.
const PATIENT: [(&str, &str); 3] =
    [("broker.stall_timeout", "\"60s\""), ("broker.heartbeat", "\"60s\""), ("publish.max_in_flight", "4096")];

/// Measures it for every fault, and for silences that are not noticed.
pub(crate) async fn measure(short: bool) -> Table {
    let mut table = Table::default();
    let length = Duration::from_secs(if short { 6 } else { 15 });
    for fault in FAULTS {
        one(&mut table, fault, length, false).await;
    }
    for fault in [Fault::Stopped, Fault::Held] {
        one(&mut table, fault, length, true).await;
    }
    table
}

fn deadline(number: u64) -> Duration {
    Duration::from_millis(DEADLINES_MS[(number % DEADLINES_MS.len() as u64) as usize])
}

async fn one(table: &mut Table, fault: Fault, length: Duration, patient: bool) {
    let scene = Scene::set(fault.route(), if patient { &PATIENT } else { &[] }).await;
    let request = |number| {
        let timeout = deadline(number).as_millis();
        post(LAST, &format!("amqpost-timeout: {timeout}ms\r\n"), b"x")
    };
    let load = Load::start(&scene.sidecar, RATE, CONNECTIONS, request).await;
    outage(&scene, fault, &load, length).await;
    crate::pace::rest(Duration::from_secs(1)).await;
    let sent = load.stop().await;
    let noticed = if patient { ", stall_timeout 60 s" } else { "" };
    judge(table, &format!("{}{noticed}", fault.name()), &sent);
}

/// A request's deadline counts from its first byte. The client's lateness before that byte is not
/// the sidecar's fault.
fn beyond(shot: &Shot) -> Duration {
    shot.answered.saturating_duration_since(shot.written + deadline(shot.number))
}

fn judge(table: &mut Table, name: &str, sent: &Sent) {
    // A missing answer counts as beyond the deadline.
    let missing = sent.shots.iter().filter(|shot| shot.outcome.is_none()).count();
    let explained = |shot: &Shot| sent.late_between(shot.written + deadline(shot.number), shot.answered);
    let late: Vec<_> = sent.shots.iter().filter(|shot| beyond(shot) > LATE).collect();
    let too_late = late.iter().filter(|shot| beyond(shot) > LATE + explained(shot)).count();
    let worst = sent.shots.iter().max_by_key(|shot| beyond(shot)).expect("requests were sent");
    let at_it = sent.shots.iter().filter(|shot| !beyond(shot).is_zero()).count();
    table.bound(
        &format!("answers beyond deadline + {}, {name}", ms(LATE)),
        "0",
        &format!(
            "{} ({} before the load's own lateness is taken off, {missing} missing); worst {} beyond, \
            timers {} late then; {} of {} answered at their deadline",
            too_late + missing,
            late.len(),
            ms(beyond(worst)),
            ms(explained(worst)),
            at_it,
            sent.shots.len(),
        ),
        too_late + missing == 0,
    );
}
