//! What the link knows about destinations: which ones are safe to share a channel, and which ones
//! are at fault.
//!
//! Per connection, `proven` knows the destinations that are open to this user, `standstill` finds
//! those that confirm nothing, and `nacking` those that only nack. For all connections together,
//! `breakers` has a circuit breaker (`breaker`) for each that failed recently, `histories` knows
//! what each accepted and since when it refuses, and `inquiries` asks the broker whether a queue
//! exists. `fault_scope` is the unit to which a fault is attributed.

mod breaker;
mod breakers;
mod fault_scope;
mod histories;
mod inquiries;
mod nacking;
mod proven;
mod standstill;

pub(super) use breakers::Breakers;
pub(super) use fault_scope::FaultScope;
pub(super) use histories::{Histories, Meaning, Prior, Word};
pub(super) use inquiries::{Existence, Inquiries};
pub(super) use nacking::NackingScopes;
pub(super) use proven::ProvenDestinations;
pub(super) use standstill::{Heard, MANY, Owed, Standing, Standstill};
