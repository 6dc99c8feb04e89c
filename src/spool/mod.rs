//! The spool: messages on disk that the broker could not take yet.
//!
//! * [`store`] keeps them; it knows nothing of HTTP or AMQP;
//! * [`Backlog`] knows in memory which destinations have something waiting, so that nothing overtakes it;
//! * [`Drain`] takes them to the broker;
//! * [`Flow`] is how fast they enter and leave; [`SpoolSnapshot`] is its state at one moment;
//! * [`marked`] is a message that the broker may have had before;
//! * [`Spool`] opens and closes all of it.

mod backlog;
mod drain;
mod flow;
mod mark;
mod open;
mod snapshot;
pub mod store;

pub use backlog::{Backlog, Pending};
pub use drain::{Drain, DrainSettings};
pub use flow::{Flow, Rates};
pub use mark::{MARK_BYTES, REDELIVERED, marked};
pub use open::{Spool, SpoolHandle, settings};
pub use snapshot::SpoolSnapshot;
