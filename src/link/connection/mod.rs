//! Keeps connections to the broker alive, one supervisor for each.
//!
//! `supervisor` dials (`attempts` at the `addresses`, `dial` with what `files` hold), serves, and
//! dials again after a pause; `vigil` watches a connection that is open, and `renewal` gives it a
//! new `token` in time. `probing` asks the broker whether it still answers, `transport` tells how
//! far the bytes before the question are, and `pulse` decides when the broker has stopped
//! answering. `state` and `status` are what others read of it, and `reporter` is their only writer;
//! `failure` names why an attempt failed or a connection was lost, and `outage_log` keeps an outage
//! from filling the log.

mod addresses;
mod attempts;
mod dial;
mod failure;
mod files;
mod outage_log;
mod probing;
mod pulse;
mod renewal;
mod reporter;
mod state;
mod status;
mod supervisor;
mod token;
mod transport;
mod vigil;

pub use status::{ConnectionStatus, LinkStatus, unix_seconds};

pub(super) use addresses::Addresses;
pub(super) use files::BrokerFiles;
pub(super) use renewal::Renewal;
pub(super) use reporter::Reporter;
pub(super) use status::{StateReader, WayIn, channel};
pub(super) use supervisor::Supervisor;
