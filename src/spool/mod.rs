//! The spool: messages on disk that the broker could not take yet.
//!
//! * [`store`] keeps them; it knows nothing of HTTP or AMQP;
//! * [`Backlog`] knows in memory which destinations have waiting messages, so that nothing
//!   overtakes them;
//! * [`Drain`] delivers them to the broker;
//! * [`Flow`] measures how fast they enter and leave; [`SpoolSnapshot`] is the state at one moment;
//! * [`marked`] marks a message that the broker may already have;
//! * [`Spool`] opens and closes the spool.

mod accepted;
mod backlog;
mod drain;
mod flow;
mod mark;
mod open;
mod snapshot;
pub mod store;

pub use accepted::{Acceptances, Watched};
pub use backlog::{Backlog, Pending};
pub use drain::Drain;
pub use flow::{Flow, Rates};
pub use mark::{MARK_BYTES, REDELIVERED, marked};
pub use open::{Spool, SpoolHandle, settings};
pub use snapshot::SpoolSnapshot;
