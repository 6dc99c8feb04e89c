//! The states of a connection and of the link: pure functions, no I/O, no clock.

use crate::labels::ConnectionState;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionEvent {
    /// An attempt succeeded, channels included.
    Connected,
    /// An attempt failed.
    ConnectFailed,
    /// The broker blocks publishes.
    Blocked,
    /// The broker takes publishes again.
    Unblocked,
    /// The broker has stopped answering.
    Stalled,
    /// The broker answers again.
    Resumed,
    /// An established connection is gone.
    Lost,
    /// The sidecar shuts down.
    Drain,
}

impl ConnectionState {
    /// The state after `event`. An event that makes no sense in a state changes nothing.
    #[must_use]
    pub fn next(self, event: ConnectionEvent) -> ConnectionState {
        use ConnectionEvent as E;
        use ConnectionState as S;
        match (self, event) {
            (S::Draining, _) => S::Draining,
            (S::Connecting | S::Up | S::Blocked | S::Stalled | S::Down, E::Drain) => S::Draining,
            (S::Connecting | S::Down, E::Connected) => S::Up,
            (S::Connecting, E::ConnectFailed) => S::Down,
            (S::Up | S::Stalled, E::Blocked) => S::Blocked,
            (S::Blocked, E::Unblocked) => S::Up,
            (S::Up, E::Stalled) => S::Stalled,
            (S::Stalled, E::Resumed) => S::Up,
            (S::Up | S::Blocked | S::Stalled, E::Lost) => S::Down,
            (S::Connecting, E::Blocked | E::Unblocked | E::Stalled | E::Resumed | E::Lost) => S::Connecting,
            (S::Down, E::ConnectFailed | E::Blocked | E::Unblocked | E::Stalled | E::Resumed | E::Lost) => {
                S::Down
            }
            (S::Up, E::Connected | E::ConnectFailed | E::Unblocked | E::Resumed) => S::Up,
            // A blocked broker reads nothing, so its silence means nothing.
            (S::Blocked, E::Connected | E::ConnectFailed | E::Blocked | E::Stalled | E::Resumed) => {
                S::Blocked
            }
            (S::Stalled, E::Connected | E::ConnectFailed | E::Unblocked | E::Stalled) => S::Stalled,
        }
    }
}

/// The state of the link: up while at least one connection is up and none is blocked.
///
/// RabbitMQ's alarms hold for the whole cluster, but it tells a connection about one only when that
/// connection publishes. So one blocked connection speaks for all, and no message is spent on
/// asking another. If no connection is up, the link has the state that tells an operator most about
/// what to do.
#[must_use]
pub(crate) fn link_state(connections: impl IntoIterator<Item = ConnectionState>) -> ConnectionState {
    const fn precedence(state: ConnectionState) -> u8 {
        match state {
            ConnectionState::Blocked => 0,
            ConnectionState::Up => 1,
            ConnectionState::Stalled => 2,
            ConnectionState::Draining => 3,
            ConnectionState::Connecting => 4,
            ConnectionState::Down => 5,
        }
    }
    connections.into_iter().min_by_key(|state| precedence(*state)).unwrap_or(ConnectionState::Down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectionEvent as E;
    use ConnectionState as S;
    use proptest::prelude::*;

    fn event() -> impl Strategy<Value = E> {
        prop::sample::select(vec![
            E::Connected,
            E::ConnectFailed,
            E::Blocked,
            E::Unblocked,
            E::Stalled,
            E::Resumed,
            E::Lost,
            E::Drain,
        ])
    }

    fn state() -> impl Strategy<Value = S> {
        prop::sample::select(S::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_connection_is_up_only_while_its_last_word_was_good(
            events in prop::collection::vec(event(), 0..40),
        ) {
            let mut state = S::Connecting;
            for event in events {
                let before = state;
                state = state.next(event);
                if before == S::Draining {
                    prop_assert_eq!(state, S::Draining);
                }
                if state == S::Up && before != S::Up {
                    prop_assert!(matches!(event, E::Connected | E::Unblocked | E::Resumed));
                }
                let is_bad = matches!(event, E::Lost | E::Blocked | E::Stalled | E::Drain);
                prop_assert!(!is_bad || state != S::Up);
            }
        }

        #[test]
        fn the_link_is_up_exactly_while_a_connection_is_and_none_is_blocked(
            states in prop::collection::vec(state(), 1..8),
        ) {
            let up = states.contains(&S::Up) && !states.contains(&S::Blocked);
            prop_assert_eq!(link_state(states) == S::Up, up);
        }
    }

    #[test]
    fn a_link_without_connections_is_down() {
        assert_eq!(link_state([]), S::Down);
    }

    #[test]
    fn a_broker_outage_reads_as_one_state_from_loss_to_recovery() {
        let states: Vec<_> = [E::Connected, E::Lost, E::ConnectFailed, E::ConnectFailed, E::Connected]
            .into_iter()
            .scan(S::Connecting, |state, event| {
                *state = state.next(event);
                Some(*state)
            })
            .collect();
        assert_eq!(states, [S::Up, S::Down, S::Down, S::Down, S::Up]);
    }
}
