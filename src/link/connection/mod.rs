//! Keeps connections to the broker alive, one supervisor for each.
//!
//! `supervisor` dials (`attempts` at the `addresses`, `dial` with what `files` hold), serves, and
//! dials again after a pause; `vigil` watches a connection that is open, `renewal` gives it a new
//! `token` in time, and `moving` makes the connection that takes its place when `homing` says so.
//! `probing` asks the broker whether it still answers, `transport` tells how far the bytes before
//! the question are, and `pulse` decides when the broker has stopped answering. `state` and
//! `status` are what others read of it, and `reporter` is their only writer; `failure` names why an
//! attempt failed or a connection was lost, `diagnosis` says what to try instead, and `outage_log`
//! keeps an outage from filling the log.

mod addresses;
mod attempts;
mod diagnosis;
mod dial;
mod failure;
mod files;
mod homing;
mod moving;
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
pub(super) use diagnosis::Diagnoses;
pub(super) use files::BrokerFiles;
pub(super) use homing::Homing;
pub(super) use renewal::Renewal;
pub(super) use reporter::Reporter;
pub(super) use status::{StateReader, WayIn, channel};
pub(super) use supervisor::Supervisor;
