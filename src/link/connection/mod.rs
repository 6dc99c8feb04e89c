//! Keeps connections to the broker alive, one supervisor for each.
//!
//! `supervisor` dials (`attempts`, `dial` with what `files` hold), serves, and dials again after a
//! pause; `vigil` watches a connection that is open (`pulse` decides when the broker has stopped
//! answering). `state` and `status` are what everybody else reads of it, and `reporter` is their
//! only writer; `failure` names why an attempt failed or a connection was lost, and `outage_log`
//! keeps an outage from filling the log.

mod attempts;
mod dial;
mod failure;
mod files;
mod outage_log;
mod pulse;
mod reporter;
mod state;
mod status;
mod supervisor;
mod vigil;

pub use status::{ConnectionStatus, LinkStatus, unix_seconds};

pub(super) use files::BrokerFiles;
pub(super) use reporter::Reporter;
pub(super) use status::{StateReader, channel};
pub(super) use supervisor::Supervisor;
