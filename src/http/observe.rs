//! Counts every request once, under its route's template.

use super::{Answering, Door};
use axum::Router;
use axum::body::Body;
use hyper::{Method, Request};
use std::sync::Arc;
use tower::ServiceExt;

/// The routes as metrics name them, with their methods.
pub const ROUTES: &[(&str, &str)] = &[
    ("POST", "/v1/exchanges/{exchange}/messages"),
    ("POST", "/v1/queues/{queue}/messages"),
    ("POST", "/v1/messages"),
];

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

/// Counts what passes to `router`, as a service around it: a middleware of axum would put each request into boxes of
/// its own (ADR-0006).
pub(super) fn counting(door: Arc<Door>, router: Router) -> impl Answering {
    tower::service_fn(move |request: Request<Body>| {
        let counted = Counted {
            door: Arc::clone(&door),
            method: method_label(request.method()),
            route: route_label(request.uri().path()),
            status: CLIENT_LEFT,
        };
        let router = router.clone();
        async move {
            // The whole of it: it counts when the request ends, however that is.
            let mut counted = counted;
            let response = router.oneshot(request).await?;
            counted.status = response.status().as_u16();
            Ok(response)
        }
    })
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

fn route_label(path: &str) -> &'static str {
    let mut segments = path.split('/').skip(1);
    let parts = [segments.next(), segments.next(), segments.next(), segments.next(), segments.next()];
    match parts {
        [Some("v1"), Some("exchanges"), Some(name), Some("messages"), None] if !name.is_empty() => {
            ROUTES[0].1
        }
        [Some("v1"), Some("queues"), Some(name), Some("messages"), None] if !name.is_empty() => ROUTES[1].1,
        [Some("v1"), Some("messages"), None, None, None] => ROUTES[2].1,
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_routes_and_methods_become_labels() {
        assert_eq!(route_label("/v1/exchanges/a%2Fb/messages"), "/v1/exchanges/{exchange}/messages");
        assert_eq!(route_label("/v1/queues/q/messages"), "/v1/queues/{queue}/messages");
        assert_eq!(route_label("/v1/messages"), "/v1/messages");
        for unknown in
            ["/", "/v1", "/v1/messages/", "/v1/exchanges//messages", "/v1/queues/q/messages/x", "/%00"]
        {
            assert_eq!(route_label(unknown), "unknown", "{unknown}");
        }
        assert_eq!(method_label(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
