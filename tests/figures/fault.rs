//! The faults, the moment from which each counts, and the moment from which the broker answers
//! again.

use super::load::Load;
use super::scene::{Route, Scene};
use crate::harness::{Direction, eventually};
use std::time::{Duration, Instant};

/// A fault of the broker or of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; started again at its end.
    Killed,
    /// All connections end with RST, and new ones are refused.
    Reset,
    /// SIGSTOP.
    Stopped,
    /// Bytes vanish for good.
    Lost(Direction),
    /// Bytes arrive when the fault is over, as with TCP when packets flow again.
    Held,
    /// The broker's memory alarm.
    Alarm,
}

/// When a fault was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// When it was requested; of an alarm, when `connection.blocked` was sent to the sidecar.
    pub(crate) begun: Instant,
    /// From when on the broker answered again.
    pub(crate) ended: Instant,
}

impl Fault {
    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Killed => "broker kill -9",
            Fault::Reset => "RST",
            Fault::Stopped => "broker SIGSTOP",
            Fault::Lost(Direction::ToBroker) => "packets to the broker vanish",
            Fault::Lost(Direction::FromBroker) => "packets from the broker vanish",
            Fault::Lost(Direction::Both) => "packets vanish both ways",
            Fault::Held => "packets held back both ways",
            Fault::Alarm => "memory alarm",
        }
    }

    /// The shortest route between sidecar and broker that allows this fault.
    pub(crate) fn route(self) -> Route {
        match self {
            Fault::Killed | Fault::Stopped => Route::Direct,
            Fault::Reset | Fault::Lost(_) | Fault::Held => Route::Proxy,
            Fault::Alarm => Route::Tap,
        }
    }

    /// Begins the fault and returns the moment from which it counts. An alarm needs load: the
    /// broker tells only publishers.
    pub(crate) async fn begin(self, scene: &Scene) -> Instant {
        let ordered = Instant::now();
        match self {
            Fault::Killed => scene.broker.kill_9().await,
            Fault::Reset => {
                scene.proxy.refuse();
                let ordered = Instant::now();
                scene.proxy.reset_all();
                return ordered;
            }
            Fault::Stopped => scene.broker.pause().await,
            Fault::Lost(direction) => scene.proxy.black_hole(direction),
            Fault::Held => scene.proxy.hold(Direction::Both),
            Fault::Alarm => {
                scene.broker.set_memory_alarm(true).await;
                return scene.tap.blocked_after(ordered).await;
            }
        }
        ordered
    }

    /// Ends the fault and returns the moment at which the broker answered again.
    pub(crate) async fn end(self, scene: &Scene) -> Instant {
        let ordered = Instant::now();
        match self {
            Fault::Killed => return scene.broker.restart().await.port_open,
            Fault::Stopped => scene.broker.resume().await,
            Fault::Reset | Fault::Lost(_) | Fault::Held => scene.proxy.pass(),
            Fault::Alarm => {
                scene.broker.set_memory_alarm(false).await;
                return scene.tap.unblocked_after(ordered).await;
            }
        }
        ordered
    }
}

/// One outage under load, from a healthy link to the next confirmed message.
pub(crate) async fn outage(scene: &Scene, fault: Fault, load: &Load, length: Duration) -> Outage {
    const CALM: Duration = Duration::from_secs(1);
    const BACK: Duration = Duration::from_secs(30);
    scene.is_whole().await;
    crate::pace::rest(CALM).await;
    let begun = fault.begin(scene).await;
    crate::pace::until(begun + length).await;
    let ended = fault.end(scene).await;
    let before = load.confirmed();
    eventually("messages are confirmed again", BACK, async || load.confirmed() > before + 10).await;
    Outage { begun, ended }
}
