//! Plays a schedule: begins each fault, waits for its duration, ends it, and records these times.

use super::books::{Books, Window};
use super::messages::{DOOMED, FLAPPING};
use super::plan::{Episode, Fault, Part, Plan, Scheduled, part};
use super::scene::{Scene, declare_flapping};
use crate::harness::{AmqpClient, Direction, FaultProxy, arguments};
use futures::future::join_all;
use std::time::{Duration, Instant};

/// A connection that lost bytes is given up within this time; until then its fault is not over.
const GIVEN_UP: Duration = Duration::from_millis(2700);

/// The calm at the end of a run.
const COOL_DOWN: Duration = Duration::from_millis(3000);

/// Plays the plan's episodes until there is no time for another one.
pub(crate) async fn play(scene: &Scene, plan: &mut Plan, books: &Books, until: Instant) {
    let last_begin = until - COOL_DOWN;
    loop {
        let Episode { calm, faults } = plan.episode();
        let begin = Instant::now() + calm;
        if begin >= last_begin {
            break;
        }
        crate::pace::until(begin).await;
        join_all(faults.into_iter().map(|scheduled| async move {
            crate::pace::until(begin + scheduled.after).await;
            books.fault(one(scene, scheduled).await);
        }))
        .await;
        scene.link_is_up().await;
    }
    crate::pace::until(until).await;
}

/// One fault, from its beginning to its end.
async fn one(scene: &Scene, Scheduled { fault, length, .. }: Scheduled) -> Window {
    let begin = Instant::now();
    match part(fault) {
        Part::Broker => at_the_broker(scene, fault, begin + length).await,
        Part::Network => on_the_network(&scene.proxy, fault, begin + length).await,
        Part::Sidecar => {
            let signal = if fault == Fault::SidecarKilled { "KILL" } else { "TERM" };
            scene.replace_sidecar(signal, length).await;
            scene.link_is_up().await;
        }
    }
    let lifted = Instant::now();
    let end = if matches!(fault, Fault::BlackHole(_)) { lifted.max(begin + GIVEN_UP) } else { lifted };
    Window { fault, begin, lifted, end }
}

async fn at_the_broker(scene: &Scene, fault: Fault, until: Instant) {
    let Scene { broker, vhost, .. } = scene;
    match fault {
        Fault::BrokerKilled => {
            broker.kill_9().await;
            crate::pace::until(until).await;
            broker.restart().await;
        }
        Fault::BrokerPaused => {
            broker.pause().await;
            crate::pace::until(until).await;
            broker.resume().await;
        }
        Fault::MemoryAlarm => {
            broker.set_memory_alarm(true).await;
            crate::pace::until(until).await;
            broker.set_memory_alarm(false).await;
        }
        Fault::ConnectionsClosed => drop(vhost.close_connections("chaos").await),
        Fault::ExchangeDeleted => {
            let client = AmqpClient::connect(&vhost.uri()).await;
            client.delete_exchange(FLAPPING).await;
            crate::pace::until(until).await;
            declare_flapping(&client).await;
        }
        Fault::QueueDeleted => {
            let client = AmqpClient::connect(&vhost.uri()).await;
            client.delete_queue(DOOMED).await;
            crate::pace::until(until).await;
            client.declare_queue(DOOMED, true, arguments([])).await;
        }
        other => panic!("{other:?} does not happen at the broker"),
    }
}

async fn on_the_network(proxy: &FaultProxy, fault: Fault, until: Instant) {
    match fault {
        Fault::Reset => return proxy.reset_all(),
        Fault::Finished => return proxy.close_all(),
        Fault::Refused => {
            proxy.refuse();
            proxy.reset_all();
        }
        Fault::BlackHole(direction) => proxy.black_hole(direction),
        Fault::Held(direction) => proxy.hold(direction),
        Fault::ConfirmsLost => proxy.black_hole(Direction::FromBroker),
        Fault::Delayed(direction, later) => proxy.delay(direction, later),
        Fault::Throttled(direction, bytes_per_second) => proxy.throttle(direction, bytes_per_second),
        other => panic!("{other:?} does not happen on the network"),
    }
    crate::pace::until(until).await;
    if fault == Fault::ConfirmsLost {
        proxy.reset_all();
    }
    proxy.pass();
}
