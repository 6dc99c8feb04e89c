//! The link's state for its readers: one watch channel, in which each connection's slot has one
//! writer.

use super::attempts::Place;
use super::state::{ConnectionEvent, link_state};
use crate::labels::ConnectionState;
use crate::link::publisher::Vitals;
use crate::link::ticket::Job;
use serde::{Serialize, Serializer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

/// A connection as seen from outside.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionStatus {
    /// Its state.
    pub state: ConnectionState,
    /// Since when it is in this state.
    #[serde(rename = "since_unix_seconds", serialize_with = "unix_seconds")]
    pub since: SystemTime,
    /// The endpoint it is connected to, or tried last: host and port, no credentials.
    pub endpoint: String,
    /// The endpoint's address, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Why it is not up, for people; never holds credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The link as seen from outside.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Up while one connection is.
    pub state: ConnectionState,
    /// Since when the link is in this state.
    pub since: SystemTime,
    /// Its connections, in the order of their slots.
    pub connections: Vec<ConnectionStatus>,
}

/// The way to a connection.
#[derive(Clone, Debug)]
pub(crate) struct WayIn {
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) vitals: Arc<Vitals>,
}

/// What the watch channel carries: the status, and the way to each connection that is up.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) status: LinkStatus,
    pub(crate) ways: Vec<Option<WayIn>>,
}

/// Reads the state. There may be any number of readers.
#[derive(Clone, Debug)]
pub(crate) struct StateReader(watch::Receiver<Published>);

/// Writes the state of one connection.
#[derive(Debug)]
pub(crate) struct StateWriter {
    slot: usize,
    sender: watch::Sender<Published>,
}

/// A change of the link as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkChange {
    pub(crate) from: ConnectionState,
    pub(crate) to: ConnectionState,
}

/// Serialises a moment as Unix seconds.
pub fn unix_seconds<S: Serializer>(moment: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// The channel, with a writer for each of `connections` slots.
pub(crate) fn channel(connections: usize) -> (Vec<StateWriter>, StateReader) {
    let now = SystemTime::now();
    let waiting = ConnectionStatus {
        state: ConnectionState::Connecting,
        since: now,
        endpoint: String::new(),
        address: None,
        reason: None,
    };
    let status = LinkStatus {
        state: ConnectionState::Connecting,
        since: now,
        connections: vec![waiting; connections],
    };
    let ways = (0..connections).map(|_| None).collect();
    let (sender, receiver) = watch::channel(Published { status, ways });
    let writers = (0..connections).map(|slot| StateWriter { slot, sender: sender.clone() }).collect();
    (writers, StateReader(receiver))
}

impl StateReader {
    /// Borrows the state. Keep it short: a writer waits for it.
    pub(crate) fn look(&self) -> watch::Ref<'_, Published> {
        self.0.borrow()
    }

    /// Ends with the next change.
    pub(crate) async fn changed(&mut self) {
        // Without a writer nothing changes any more.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until `reached` holds. Returns `false` if no writer is left.
    pub(crate) async fn wait_until(&mut self, reached: impl FnMut(&Published) -> bool) -> bool {
        self.0.wait_for(reached).await.is_ok()
    }
}

impl StateWriter {
    /// Records where the next attempt goes to.
    pub(crate) fn trying(&self, place: &Place) {
        self.sender.send_modify(|published| {
            let connection = &mut published.status.connections[self.slot];
            connection.endpoint.clone_from(&place.endpoint);
            connection.address = place.address;
        });
    }

    /// The addresses of all connections, this one included; `None` unless all are up.
    pub(crate) fn addresses_if_all_are_up(&self) -> Option<Vec<SocketAddr>> {
        let published = self.sender.borrow();
        let connections = published.status.connections.iter();
        connections.map(|one| one.address.filter(|_| one.state == ConnectionState::Up)).collect()
    }

    /// How many other connections are open to this address.
    pub(crate) fn load(&self, address: SocketAddr) -> usize {
        let published = self.sender.borrow();
        let others = published.status.connections.iter().enumerate().filter(|(slot, _)| *slot != self.slot);
        let open = others.filter(|(_, connection)| {
            let is_open = match connection.state {
                ConnectionState::Up | ConnectionState::Blocked | ConnectionState::Stalled => true,
                ConnectionState::Connecting | ConnectionState::Down | ConnectionState::Draining => false,
            };
            is_open && connection.address == Some(address)
        });
        open.count()
    }

    /// Applies an event to this connection. `way` is the way to it while it is up or blocked.
    ///
    /// Returns the change of the whole link; `None` if its state stays the same.
    pub(crate) fn apply(
        &self,
        event: ConnectionEvent,
        reason: Option<String>,
        way: Option<WayIn>,
    ) -> Option<LinkChange> {
        let mut change = None;
        self.sender.send_modify(|published| {
            let now = SystemTime::now();
            let connection = &mut published.status.connections[self.slot];
            let next = connection.state.next(event);
            if next != connection.state {
                connection.since = now;
            }
            connection.state = next;
            connection.reason = reason;
            published.ways[self.slot] = way.filter(|_| next == ConnectionState::Up);
            let from = published.status.state;
            let to = link_state(published.status.connections.iter().map(|connection| connection.state));
            if from != to {
                published.status.state = to;
                published.status.since = now;
                change = Some(LinkChange { from, to });
            }
        });
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::suspicion::Suspicion;
    use std::time::Duration;
    use tokio::time::Instant;

    fn way() -> WayIn {
        let witness = Suspicion::new(1, 1, Duration::from_secs(1)).join("a", Instant::now());
        WayIn { jobs: mpsc::channel(1).0, vitals: Arc::new(Vitals::new(witness)) }
    }

    #[test]
    fn the_link_is_up_while_one_connection_is() {
        let (writers, reader) = channel(2);
        let change = writers[0].apply(ConnectionEvent::Connected, None, Some(way()));
        assert_eq!(change.unwrap().to, ConnectionState::Up);
        assert_eq!(writers[1].apply(ConnectionEvent::ConnectFailed, Some("refused".into()), None), None);
        let change = writers[0].apply(ConnectionEvent::Lost, Some("reset".into()), None);
        assert_eq!(change.unwrap().to, ConnectionState::Down);
        assert!(reader.look().ways.iter().all(Option::is_none));
    }

    #[test]
    fn one_blocked_connection_speaks_for_all() {
        let (writers, reader) = channel(2);
        for writer in &writers {
            writer.apply(ConnectionEvent::Connected, None, Some(way()));
        }
        let change = writers[1].apply(ConnectionEvent::Blocked, None, None);
        assert_eq!(change.unwrap().to, ConnectionState::Blocked);
        assert_eq!(reader.look().status.connections[0].state, ConnectionState::Up);
    }

    #[test]
    fn a_blocked_connection_is_no_way_to_the_broker() {
        let (writers, reader) = channel(1);
        writers[0].apply(ConnectionEvent::Connected, None, Some(way()));
        writers[0].apply(ConnectionEvent::Blocked, None, Some(way()));
        assert!(reader.look().ways[0].is_none());
    }
}
