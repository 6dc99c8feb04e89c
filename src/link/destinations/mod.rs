//! What is known of destinations: which of them harm nobody, and which are at fault.
//!
//! Of one connection: `proven` are open to this user, `standstill` finds those that confirm nothing, `nacking` those
//! that only nack. Of all connections: `breakers` has a circuit breaker (`breaker`) for each that failed of late.
//! `destination` is the unit that a fault is attributed to.

mod breaker;
mod breakers;
mod fault_scope;
mod nacking;
mod proven;
mod standstill;

pub(super) use breaker::Thresholds;
pub(super) use breakers::Breakers;
pub(super) use fault_scope::FaultScope;
pub(super) use nacking::NackingScopes;
pub(super) use proven::ProvenDestinations;
pub(super) use standstill::{Heard, MANY, Owed, Standing, Standstill};
