//! A served connection without a socket, for unit tests of services that answer requests.

use super::serve::connection;
use super::{Answering, Settings};
use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::watch;

/// The client's side of a connection that `answering` serves.
pub(crate) fn connected(answering: impl Answering) -> DuplexStream {
    let (client, server) = duplex(1 << 16);
    let settings = Settings {
        addresses: Vec::new(),
        header_timeout: Duration::from_secs(600),
        idle_timeout: Duration::from_secs(600),
        max_header_bytes: 1 << 16,
        max_connections: 1,
    };
    tokio::spawn(async move {
        // A sender that is gone would stop the connection.
        let (_stopper, stop) = watch::channel(false);
        connection(server, answering, &settings, stop).await;
    });
    client
}

/// The answer to one request over a connection of its own.
pub(crate) async fn asked(answering: impl Answering, request: Request<Body>) -> Response {
    let io = TokioIo::new(connected(answering));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap().map(Body::new)
}
