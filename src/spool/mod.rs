//! The spool: messages on disk that the broker could not take yet.
//!
//! [`store`] keeps them; it knows nothing of HTTP or AMQP.

pub mod store;
