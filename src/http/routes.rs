//! The table of doors. Finds the door of a request, and counts each request once under its route's
//! template.
//!
//! It replaces axum's router, which puts each request into several boxes (ADR-0006).

use super::dialect::{Dialect, envelope, raw};
use super::door::Door;
use super::pipeline;
use super::rejection::Rejection;
use crate::listener::{Answering, Arrived};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use axum::body::Body;
use axum::response::Response;
use futures_util::future::{Either, FutureExt};
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, StatusCode};
use std::ops::Range;
use std::sync::Arc;

/// The table of routes: one door each.
pub(super) const TABLE: &[Route] = &[
    Route::new("POST", "/v1/exchanges/{exchange}/messages", raw::TO_EXCHANGE),
    Route::new("POST", "/v1/queues/{queue}/messages", raw::TO_QUEUE),
    Route::new("POST", "/v1/messages", envelope::ENVELOPE),
];

/// The routes as metrics name them, with their methods.
pub const ROUTES: &[(&str, &str)] = &{
    let mut routes = [("", ""); TABLE.len()];
    let mut at = 0;
    while at < routes.len() {
        routes[at] = (TABLE[at].method, TABLE[at].template);
        at += 1;
    }
    routes
};

/// The label of requests for none of the routes.
const UNKNOWN: &str = "unknown";

const ENDPOINTS: &str = "expected /v1/queues/{queue}/messages, /v1/exchanges/{exchange}/messages or \
                         /v1/messages; health and metrics are on the admin listener";

/// The status under which a request is counted if its client left before the answer.
const CLIENT_LEFT: u16 = 499;

/// Counts on drop, so that a request whose client left is counted, too.
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

/// Answers requests at these doors. Every request is counted, whatever answers it.
pub fn routes(door: Arc<Door>) -> impl Answering {
    routes_of(TABLE, door)
}

pub(super) fn routes_of(table: &'static [Route], door: Arc<Door>) -> impl Answering {
    tower::service_fn(move |arrived: Arrived| {
        let method = method_label(arrived.request.method());
        let is_head = arrived.request.method() == Method::HEAD;
        // It counts when the request ends, however it ends.
        let mut counted =
            Counted { metrics: door.metrics.clone(), method, route: UNKNOWN, status: CLIENT_LEFT };
        let (template, answer) = answer(table, Arc::clone(&door), arrived);
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

/// One door: a method and a path, and the dialect that is spoken there.
pub(super) struct Route {
    method: &'static str,
    /// The path, with at most one `{name}`, or several names with a `/` between them.
    template: &'static str,
    dialect: Dialect,
    /// The parts of the template before and behind its names.
    prefix: &'static str,
    suffix: &'static str,
    /// How many `/` stand between its names; `None` without a name.
    slashes: Option<usize>,
}

impl Route {
    pub(super) const fn new(method: &'static str, template: &'static str, dialect: Dialect) -> Self {
        let bytes = template.as_bytes();
        let (mut begin, mut end) = (bytes.len(), bytes.len());
        let (mut at, mut slashes, mut between) = (0, 0, None);
        while at < bytes.len() {
            match bytes[at] {
                b'{' if begin == bytes.len() => begin = at,
                b'/' if begin < at => slashes += 1,
                b'}' => (end, between) = (at + 1, Some(slashes)),
                _ => {}
            }
            at += 1;
        }
        let (prefix, suffix) = (template.split_at(begin).0, template.split_at(end).1);
        Self { method, template, dialect, prefix, suffix, slashes: between }
    }

    /// Where the name stands in a path of this route. The path is not decoded: a `/` in a name is
    /// written `%2F`.
    fn name_in(&self, path: &str) -> Option<Range<usize>> {
        let name = path.strip_prefix(self.prefix)?.strip_suffix(self.suffix)?;
        let fits = match self.slashes {
            Some(0) => !name.contains('/'),
            Some(slashes) => name.matches('/').count() == slashes,
            None => name.is_empty(),
        };
        fits.then(|| self.prefix.len()..self.prefix.len() + name.len())
    }
}

/// What a request is for.
pub(super) enum Found {
    /// A route, and where its name stands in the path.
    Route(&'static Route, Range<usize>),
    /// The path of this route, but another method.
    Path(&'static Route),
    Nothing,
}

pub(super) fn find(table: &'static [Route], method: &str, path: &str) -> Found {
    let mut found = Found::Nothing;
    for route in table {
        if let Some(name) = route.name_in(path) {
            if route.method == method {
                return Found::Route(route, name);
            }
            found = Found::Path(route);
        }
    }
    found
}

/// The template of the route, and the answer.
fn answer(
    table: &'static [Route],
    door: Arc<Door>,
    arrived: Arrived,
) -> (&'static str, impl Future<Output = Response> + Send) {
    let request = &arrived.request;
    let path = request.uri().path();
    match find(table, request.method().as_str(), path) {
        Found::Route(route, name) => {
            (route.template, Either::Left(pipeline::answer(door, route.dialect, name, arrived)))
        }
        Found::Path(route) => {
            let allowed = table.iter().filter(|route| route.name_in(path).is_some());
            let allowed = allowed.map(|route| route.method).collect::<Vec<_>>().join(", ");
            (route.template, Either::Right(not_allowed(door, route.dialect, arrived, allowed).boxed()))
        }
        Found::Nothing => {
            let rejection = Rejection::new(Outcome::NotFound, ENDPOINTS);
            let turned_away = pipeline::turn_away(door, envelope::ENVELOPE, arrived, rejection);
            (UNKNOWN, Either::Right(turned_away.boxed()))
        }
    }
}

async fn not_allowed(door: Arc<Door>, dialect: Dialect, arrived: Arrived, allowed: String) -> Response {
    let rejection = Rejection::new(Outcome::MethodNotAllowed, format!("expected {allowed}"));
    let mut response = pipeline::turn_away(door, dialect, arrived, rejection).await;
    let allowed = HeaderValue::try_from(allowed).expect("methods are words");
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// Clients may make up methods; a label has few values.
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
        match find(TABLE, "POST", path) {
            Found::Route(route, _) | Found::Path(route) => route.template,
            Found::Nothing => UNKNOWN,
        }
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
