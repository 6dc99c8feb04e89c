//! One message from its request to its outcome: `publish` makes the attempts, `retry` decides which
//! ones are repeated and bounds their number, `turns` picks the connection for each.

mod publish;
mod retry;
mod turns;

pub(super) use publish::Attempting;
pub(super) use retry::RetryBudget;
pub(super) use turns::Turns;
