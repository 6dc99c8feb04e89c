//! Which request goes where, and every request counted once under its route's template.
//!
//! A service of three paths, in place of axum's router: that puts each request into boxes of its own (ADR-0006).

use super::clock::RequestStart;
use super::publish::{self, Finished};
use super::rejection::Rejection;
use super::{Answering, Door};
use crate::outcome::Outcome;
use axum::body::Body;
use axum::response::Response;
use hyper::{Method, Request};
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
    door: Arc<Door>,
    method: &'static str,
    route: &'static str,
    status: u16,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.door.metrics.request_finished(self.method, self.route, self.status);
    }
}

/// The routes. Every request is counted, whatever answers it.
pub fn routes(door: Arc<Door>) -> impl Answering {
    tower::service_fn(move |request: Request<Body>| {
        let route = Route::of(request.uri().path());
        let counted = Counted {
            door: Arc::clone(&door),
            method: method_label(request.method()),
            route: route.template(),
            status: CLIENT_LEFT,
        };
        async move {
            // The whole of it: it counts when the request ends, however that is.
            let mut counted = counted;
            let is_head = request.method() == Method::HEAD;
            let mut response = route.answer(&counted.door, request).await;
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

    async fn answer(self, door: &Arc<Door>, request: Request<Body>) -> Response {
        if self != Route::Unknown && request.method() != Method::POST {
            return astray(door, request, Outcome::MethodNotAllowed, "expected POST").await;
        }
        match self {
            Route::Exchange => publish::to_exchange(door, request).await,
            Route::Queue => publish::to_queue(door, request).await,
            Route::Messages => publish::from_envelope(door, request).await,
            Route::Unknown => astray(door, request, Outcome::NotFound, ENDPOINTS).await,
        }
    }
}

/// Answers a request that is for none of the endpoints.
async fn astray(door: &Door, request: Request<Body>, outcome: Outcome, detail: &str) -> Response {
    let start = RequestStart::of(&request);
    let (head, body) = request.into_parts();
    let rejection = door.turned_away(start, &head, body, Rejection::new(outcome, detail)).await;
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
