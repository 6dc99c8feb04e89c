//! One message from its request to its outcome: `publish` makes its attempts, `retry` says which are repeated and
//! what that may cost, `turns` which connection each goes to.

mod publish;
mod retry;
mod turns;

pub(super) use publish::Attempting;
pub(super) use retry::RetryBudget;
pub(super) use turns::Turns;
