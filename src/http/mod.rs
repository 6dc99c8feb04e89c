//! The doors: HTTP requests become orders, and settlements become responses.
//!
//! `routes` is the table of doors: it finds a request's `dialect` and counts it. `pipeline` takes
//! every request through the same stages, under the `terms` of the configuration and of the
//! request's `headers`; the dialect only decodes and encodes. `stream` handles many messages in one
//! request, within their `places`. `door` has the parts that all of them share, and `respond`
//! finishes every response.

#[cfg(test)]
mod counted;
mod dialect;
mod door;
mod headers;
mod pipeline;
mod places;
mod rejection;
mod respond;
mod routes;
mod stream;
mod terms;
mod upload;

pub use dialect::PROBLEM_TYPE_BASE;
pub use door::Door;
pub use routes::{ROUTES, routes};
