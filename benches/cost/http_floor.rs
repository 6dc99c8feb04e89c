//! The floor of HTTP: amqpost's own server stack and settings; reads the body and answers 200 at
//! once.

use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tower::ServiceExt;

/// The defaults of amqpost's configuration, and its constant for HTTP/2.
const MAX_HEADER_BYTES: usize = 64 << 10;
const HTTP2_STREAMS_MAX: u32 = 256;
const MAX_BODY: usize = 16 << 20;

/// As long as amqpost's answer.
const ANSWER: &str =
    r#"{"outcome":"confirmed","code":"confirmed","message_id":"01a20773-75b3-737a-be79-8f769451d59e"}"#;

/// Listens on a port and a Unix socket, prints where, and serves while the process runs.
pub(crate) async fn run(socket: &Path) {
    let router = Router::new().route("/v1/queues/{queue}/messages", post(answer));
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let unix = UnixListener::bind(socket).expect("a fresh path");
    println!("{}", tcp.local_addr().expect("it is bound"));
    loop {
        let router = router.clone();
        tokio::select! {
            accepted = tcp.accept() => {
                let (socket, _) = accepted.expect("a connection");
                socket.set_nodelay(true).expect("it is open");
                tokio::spawn(connection(socket, router));
            }
            accepted = unix.accept() => {
                tokio::spawn(connection(accepted.expect("a connection").0, router));
            }
        }
    }
}

async fn answer(request: Request<Body>) -> impl IntoResponse {
    axum::body::to_bytes(request.into_body(), MAX_BODY).await.expect("the load sends whole bodies");
    ([(CONTENT_TYPE, "application/json")], ANSWER)
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(socket: S, router: Router) {
    let service = service_fn(|request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(MAX_HEADER_BYTES).keep_alive(true);
    builder.http2().max_header_list_size(MAX_HEADER_BYTES as u32).max_concurrent_streams(HTTP2_STREAMS_MAX);
    // A client that leaves is not a failure.
    drop(builder.serve_connection(TokioIo::new(socket), service).await);
}
