//! The listener: TCP and Unix sockets that speak HTTP/1.1 and HTTP/2, for requests and for
//! operators alike.
//!
//! `serve` accepts connections and serves them, `clock` knows when a request began, `unread`
//! notices a body that is not read to its end. The caller provides the service that answers
//! ([`Answering`]).

mod clock;
mod serve;
#[cfg(test)]
pub(crate) mod testing;
mod unread;

pub use clock::{Arrival, ConnectionClock, UnderWay};
pub use serve::{BindError, Listeners};

use crate::config::{HttpConfig, ListenAddress};
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use std::convert::Infallible;
use std::time::Duration;
use tower::{Service, ServiceExt};
use unread::Noted;

/// Where a listener takes connections, and their limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At least one address.
    pub addresses: Vec<ListenAddress>,
    /// Open connections at a time.
    pub max_connections: usize,
    /// The time in which the head of a request must arrive.
    pub header_timeout: Duration,
    /// The time after which a connection without a request is closed.
    pub idle_timeout: Duration,
    /// The largest head of a request, in bytes.
    pub max_header_bytes: usize,
}

impl Settings {
    /// Those of an operators' listener: a few clients that ask short questions.
    #[must_use]
    pub fn for_operators(address: ListenAddress, max_connections: usize, max_header_bytes: usize) -> Self {
        Self {
            addresses: vec![address],
            max_connections,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            max_header_bytes,
        }
    }
}

impl From<&HttpConfig> for Settings {
    fn from(http: &HttpConfig) -> Self {
        Self {
            addresses: http.listen.clone(),
            max_connections: http.max_connections,
            header_timeout: http.header_timeout,
            idle_timeout: http.idle_timeout,
            max_header_bytes: http.max_header_bytes,
        }
    }
}

/// The body of a request, without a box. axum puts each body into a box with a table of functions
/// (ADR-0006).
pub type RequestBody = Noted<Incoming>;

/// A request and its arrival.
///
/// Not as an extension of the request, which would put it into a map and two boxes (ADR-0006).
#[derive(Debug)]
pub struct Arrived {
    /// The request itself.
    pub request: Request<RequestBody>,
    /// When it began, and on which connection.
    pub arrival: Arrival,
}

/// A service that answers requests. It is always ready: a request that it has no room for is
/// refused.
pub trait Answering:
    Service<Arrived, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Answering for S where
    S: Service<Arrived, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A router's answers.
pub fn routed(router: Router) -> impl Answering {
    tower::service_fn(move |arrived: Arrived| router.clone().oneshot(arrived.request.map(Body::new)))
}
