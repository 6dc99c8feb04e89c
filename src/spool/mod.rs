//! The spool: messages on disk that the broker could not take yet.
//!
//! * [`store`] keeps them; it knows nothing of HTTP or AMQP;
//! * [`Backlog`] counts what waits for each destination, in memory, so that nothing overtakes it;
//! * `results` is what appends and deliveries are counted under;
//! * [`Spool`] opens and closes all of it.

mod backlog;
mod open;
mod results;
pub mod store;

pub use backlog::{Backlog, Mark, Pending};
pub use open::{Spool, SpoolHandle, settings};
pub use results::{AppendResult, DeliveryResult};
