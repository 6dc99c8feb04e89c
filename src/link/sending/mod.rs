//! One message from its request to its outcome: `publish` makes the attempts, `retry` decides which
//! ones are repeated and bounds their number, `turns` picks the connection for each, and `judge`
//! decides whether a refusal is about the message or about the moment.

mod judge;
mod publish;
mod retry;
mod turns;

pub(super) use judge::Judge;
pub use judge::Waits;
pub(super) use publish::Attempting;
pub(super) use retry::RetryBudget;
pub(super) use turns::Turns;
