//! Which request goes where, and every request counted once under its route's template.
//!
//! A service of three paths, in place of axum's router: that puts each request into boxes of its own (ADR-0006).

use super::rejection::Rejection;
use super::upload::Upload;
use super::{Door, publish, raw, respond};
use crate::listener::{Answering, Arrived};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use axum::body::Body;
use axum::response::Response;
use futures_util::future::{Either, FutureExt};
use hyper::{Method, StatusCode};
use std::sync::Arc;

/// The routes as metrics name them, with their methods.
pub const ROUTES: &[(&str, &str)] = &[
    ("POST", Route::Exchange("").template()),
    ("POST", Route::Queue("").template()),
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

impl Counted {
    fn answered(mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.request_finished(self.method, self.route, self.status);
    }
}

/// The routes. Every request is counted, whatever answers it.
pub fn routes(door: Arc<Door>) -> impl Answering {
    tower::service_fn(move |arrived: Arrived| {
        let method = method_label(arrived.request.method());
        let is_head = arrived.request.method() == Method::HEAD;
        // It counts when the request ends, however that is.
        let route = Route::Unknown.template();
        let mut counted = Counted { metrics: door.metrics.clone(), method, route, status: CLIENT_LEFT };
        let (template, answer) = answer(Arc::clone(&door), arrived);
        counted.route = template;
        answer.map(move |mut response| {
            if is_head {
                // hyper leaves the content out over HTTP/1 only.
                *response.body_mut() = Body::empty();
            }
            counted.answered(response.status());
            Ok(response)
        })
    })
}

/// What is there under a path, with the name in it, undecoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Exchange(&'a str),
    Queue(&'a str),
    Messages,
    Unknown,
}

impl<'a> Route<'a> {
    /// By the undecoded path: a `/` in a name is written `%2F`.
    pub(super) fn of(path: &'a str) -> Self {
        let named =
            |prefix| path.strip_prefix(prefix)?.strip_suffix("/messages").filter(|name| !name.contains('/'));
        if path == "/v1/messages" {
            Route::Messages
        } else if let Some(queue) = named("/v1/queues/") {
            Route::Queue(queue)
        } else if let Some(exchange) = named("/v1/exchanges/") {
            Route::Exchange(exchange)
        } else {
            Route::Unknown
        }
    }

    const fn template(self) -> &'static str {
        match self {
            Route::Exchange(_) => "/v1/exchanges/{exchange}/messages",
            Route::Queue(_) => "/v1/queues/{queue}/messages",
            Route::Messages => "/v1/messages",
            Route::Unknown => "unknown",
        }
    }
}

/// The template of the route, and the answer.
///
/// The future of a raw request is small; those of all others are in boxes, since hyper has the room for the largest of them
/// with each connection.
fn answer(door: Arc<Door>, arrived: Arrived) -> (&'static str, impl Future<Output = Response> + Send) {
    let uri = arrived.request.uri();
    let route = Route::of(uri.path());
    let template = route.template();
    if route != Route::Unknown && arrived.request.method() != Method::POST {
        let astray = astray(door, arrived, Outcome::MethodNotAllowed, "expected POST");
        return (template, Either::Right(astray.boxed()));
    }
    let answer = match route {
        Route::Exchange(exchange) => {
            let destination = raw::exchange_destination(exchange, uri.query());
            Either::Left(publish::from_raw(door, destination, arrived))
        }
        Route::Queue(queue) => {
            let destination = raw::queue_destination(queue, uri.query());
            Either::Left(publish::from_raw(door, destination, arrived))
        }
        Route::Messages => Either::Right(publish::from_envelope(door, arrived).boxed()),
        Route::Unknown => Either::Right(astray(door, arrived, Outcome::NotFound, ENDPOINTS).boxed()),
    };
    (template, answer)
}

/// Answers a request that is for none of the endpoints.
async fn astray(door: Arc<Door>, arrived: Arrived, outcome: Outcome, detail: &'static str) -> Response {
    let Arrived { request, arrival } = arrived;
    let (head, body) = request.into_parts();
    let mut upload = Upload::new(body, &head.headers);
    let rejection = door.turned_away(arrival.start, &mut upload, Rejection::new(outcome, detail)).await;
    respond::response(&rejection.into())
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
