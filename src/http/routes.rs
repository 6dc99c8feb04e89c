//! Which request goes where, and every request counted once under its route's template.
//!
//! A service of three paths, in place of axum's router: that puts each request into boxes of its own (ADR-0006).

use super::body::Upload;
use super::publish::{self, Finished};
use super::raw;
use super::rejection::Rejection;
use super::{Answering, Arrived, Door};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use axum::body::Body;
use axum::response::Response;
use futures_util::future::{Either, FutureExt};
use hyper::Method;
use std::sync::Arc;

/// The routes as metrics name them, with their methods.
pub const ROUTES: &[(&str, &str)] = &[
    ("POST", Route::Exchange.template()),
    ("POST", Route::Queue.template()),
    ("POST", Route::Messages.template()),
];

const ENDPOINTS: &str = "expected /v1/queues/{queue}/messages, /v1/exchanges/{exchange}/messages or /v1/messages; health and metrics are on the admin listener";

/// The status under which a request is counted whose client left before the answer.
const CLIENT_LEFT: u16 = 499;

/// Counts on drop, so that a request whose client left is counted as well.
struct Counted {
    metrics: Metrics,
    method: &'static str,
    route: &'static str,
    status: u16,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.request_finished(self.method, self.route, self.status);
    }
}

/// The routes. Every request is counted, whatever answers it.
pub fn routes(door: Arc<Door>) -> impl Answering {
    tower::service_fn(move |arrived: Arrived| {
        let route = Route::of(arrived.request.uri().path());
        let counted = Counted {
            metrics: door.metrics.clone(),
            method: method_label(arrived.request.method()),
            route: route.template(),
            status: CLIENT_LEFT,
        };
        let is_head = arrived.request.method() == Method::HEAD;
        let answer = route.answer(&door, arrived);
        async move {
            // The whole of it: it counts when the request ends, however that is.
            let mut counted = counted;
            let mut response = answer.await;
            if is_head {
                // hyper leaves the content out over HTTP/1 only.
                *response.body_mut() = Body::empty();
            }
            counted.status = response.status().as_u16();
            Ok(response)
        }
    })
}

/// What is there under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Exchange,
    Queue,
    Messages,
    Unknown,
}

impl Route {
    /// By the undecoded path: a `/` in a name is written `%2F`.
    fn of(path: &str) -> Self {
        let mut segments = path.split('/').skip(1);
        match [segments.next(), segments.next(), segments.next(), segments.next(), segments.next()] {
            [Some("v1"), Some("exchanges"), Some(_), Some("messages"), None] => Route::Exchange,
            [Some("v1"), Some("queues"), Some(_), Some("messages"), None] => Route::Queue,
            [Some("v1"), Some("messages"), None, None, None] => Route::Messages,
            _ => Route::Unknown,
        }
    }

    const fn template(self) -> &'static str {
        match self {
            Route::Exchange => "/v1/exchanges/{exchange}/messages",
            Route::Queue => "/v1/queues/{queue}/messages",
            Route::Messages => "/v1/messages",
            Route::Unknown => "unknown",
        }
    }

    /// The future of a raw request is small; those of all others are in boxes, since hyper has the room for the largest of them
    /// with each connection.
    fn answer(self, door: &Arc<Door>, arrived: Arrived) -> impl Future<Output = Response> + Send + use<> {
        let (door, uri) = (Arc::clone(door), arrived.request.uri());
        if self != Route::Unknown && arrived.request.method() != Method::POST {
            return Either::Right(astray(door, arrived, Outcome::MethodNotAllowed, "expected POST").boxed());
        }
        match self {
            Route::Exchange => {
                let destination = raw::exchange_destination(uri.path(), uri.query());
                Either::Left(publish::from_raw(door, destination, arrived))
            }
            Route::Queue => {
                let destination = raw::queue_destination(uri.path(), uri.query());
                Either::Left(publish::from_raw(door, destination, arrived))
            }
            Route::Messages => Either::Right(publish::from_envelope(door, arrived).boxed()),
            Route::Unknown => Either::Right(astray(door, arrived, Outcome::NotFound, ENDPOINTS).boxed()),
        }
    }
}

/// Answers a request that is for none of the endpoints.
async fn astray(door: Arc<Door>, arrived: Arrived, outcome: Outcome, detail: &'static str) -> Response {
    let Arrived { request, arrival } = arrived;
    let (head, body) = request.into_parts();
    let upload = Upload::new(body, &head.headers);
    let rejection = door.turned_away(arrival.start, upload, Rejection::new(outcome, detail)).await;
    Finished::from(rejection).answer().into_response()
}

/// Methods are whatever clients make up; labels are not.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "POST",
        "GET" => "GET",
        "PUT" => "PUT",
        "HEAD" => "HEAD",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(path: &str) -> &'static str {
        Route::of(path).template()
    }

    #[test]
    fn only_known_routes_and_methods_become_labels() {
        assert_eq!(template("/v1/exchanges/a%2Fb/messages"), "/v1/exchanges/{exchange}/messages");
        assert_eq!(template("/v1/queues/q/messages"), "/v1/queues/{queue}/messages");
        assert_eq!(template("/v1/messages"), "/v1/messages");
        for unknown in ["/", "/v1", "/v1/messages/", "/v1/queues/q/messages/x", "/%00"] {
            assert_eq!(template(unknown), "unknown", "{unknown}");
        }
        assert_eq!(method_label(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
