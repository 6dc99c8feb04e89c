//! Good requests beside bad ones: none is harmed; measures how much slower they are.

use super::load::{Load, Sent, Shot};
use super::sample::Sample;
use super::scene::{LAST, Route, Scene};
use super::table::Table;
use super::wire::post;
use crate::harness::AmqpClient;
use amqpost::outcome::Outcome;
use lapin::ExchangeKind;
use std::time::Duration;

const RATE: u64 = 1000;
const CONNECTIONS: usize = 512;

/// The length of a slice of the load, in seconds. Slices with bad requests and slices without
/// alternate, so that changes in the machine's speed affect both.
const SLICE: u64 = 5;

const KINDS: [(&str, Outcome); 6] = [
    ("missing exchange", Outcome::ExchangeNotFound),
    ("exchange refused to the user", Outcome::AccessRefused),
    ("unroutable", Outcome::Unroutable),
    ("too large", Outcome::PayloadTooLarge),
    ("wrong header", Outcome::InvalidRequest),
    ("somebody else's user-id", Outcome::InvalidRequest),
];

/// Measures it with one bad request in ten.
pub(crate) async fn measure(short: bool) -> Table {
    let length = Duration::from_secs(if short { 20 } else { 120 });
    let settings = [("publish.max_body", "\"1KiB\"")];
    let scene = Scene::set(Route::Direct, &[]).await;
    AmqpClient::connect(&scene.vhost.uri()).await.declare_exchange("forbidden", ExchangeKind::Topic).await;
    scene.broker.add_user("limited", "secret").await;
    scene.vhost.set_permissions("limited", "^$", "^amq\\.default$|^missing$", "^$").await;
    let scene = scene.with_user("limited", "secret", &settings).await;

    let load = Load::start(&scene.sidecar, RATE as u32, CONNECTIONS, request).await;
    crate::pace::rest(length).await;
    let sent = load.stop().await;

    let mut table = Table::default();
    judge(&mut table, &sent);
    table
}

fn is_slice_with_bad_ones(number: u64) -> bool {
    (number / RATE / SLICE) % 2 == 1
}

/// Which of the bad kinds a request is, if it is one.
fn kind(number: u64) -> Option<usize> {
    let is_bad = is_slice_with_bad_ones(number) && number % 10 == 7;
    is_bad.then_some((number / 10) as usize % KINDS.len())
}

fn request(number: u64) -> Vec<u8> {
    match kind(number) {
        None => post(LAST, "", b"good"),
        Some(0) => post("/v1/exchanges/missing/messages", "", b"bad"),
        Some(1) => post("/v1/exchanges/forbidden/messages", "", b"bad"),
        Some(2) => post("/v1/queues/nobody/messages", "", b"bad"),
        Some(3) => post(LAST, "", &[b'x'; 2048]),
        Some(4) => post(LAST, "amqp-priority: 300\r\n", b"bad"),
        Some(_) => post(LAST, "amqp-user-id: somebody\r\n", b"bad"),
    }
}

fn judge(table: &mut Table, sent: &Sent) {
    let good: Vec<_> = sent.shots.iter().filter(|shot| kind(shot.number).is_none()).collect();
    let harmed: Vec<_> = good.iter().filter(|shot| !shot.is(Outcome::Confirmed)).collect();
    let took = |with: bool| -> Sample {
        let slice = good.iter().filter(|shot| is_slice_with_bad_ones(shot.number) == with);
        slice.map(|shot| shot.took()).collect()
    };
    let first = harmed.first().map(|shot| shot.outcome.map_or("broken", Outcome::code));
    let (with, without) = (took(true), took(false));
    table.bound(
        &format!("good requests not confirmed, {RATE}/s with one bad in ten"),
        "0",
        &format!(
            "{} of {} beside bad ones and {} without {}",
            harmed.len(),
            with.count(),
            without.count(),
            first.unwrap_or_default()
        ),
        harmed.is_empty() && with.count() > 1000,
    );
    table.note("good ones beside bad ones", &with.tail());
    table.note("good ones of the same run without", &without.tail());
    for (index, (name, expected)) in KINDS.iter().enumerate() {
        let of_kind: Vec<&Shot> = sent.shots.iter().filter(|shot| kind(shot.number) == Some(index)).collect();
        let other: Vec<_> = of_kind.iter().filter(|shot| !shot.is(*expected)).collect();
        let first = other.first().map(|shot| shot.outcome.map_or("broken", Outcome::code));
        table.bound(
            &format!("bad ones not answered {}, {name}", expected.code()),
            "0",
            &format!("{} of {} {}", other.len(), of_kind.len(), first.unwrap_or_default()),
            other.is_empty() && !of_kind.is_empty(),
        );
    }
    table.note("lateness of the load", &sent.lateness());
}
