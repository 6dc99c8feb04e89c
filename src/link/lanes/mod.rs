//! The channels of one connection, and the exact verdict on each publish that travels on them.
//!
//! `pool` has all channels of a connection, and `lane` is one of them. A lane polls its publishes
//! (`publishing`, `wire`) until nothing is newly ready (`quiet`). Then it says which of them were
//! returned (`attribution`), or what the end of the channel means for each (`closing`). `transfer`
//! computes how long a slow link may take.

mod attribution;
mod closing;
mod lane;
mod pool;
mod publishing;
mod quiet;
mod transfer;
mod wire;

#[cfg(test)]
pub(super) use attribution::Attribution;
pub(super) use attribution::Verdict;
pub(super) use closing::{blames_the_broker, channel_error_text, refused_size, refuses_a_routing_key};
pub(super) use lane::{EndedFlight, Flight, FlightEnd, Lane, LaneKind};
pub(super) use pool::{Lanes, open_channel};
pub(super) use transfer::transfer_time;
