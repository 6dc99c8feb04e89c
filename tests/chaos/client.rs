//! The clients: HTTP/1.1 and HTTP/2, patient ones and those that leave.

use super::books::{End, Reply};
use super::messages::{Message, id};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// How long a client waits beyond its deadline, to see whether an answer comes.
const BEYOND: Duration = Duration::from_secs(10);

/// Keeps connections, as the clients of a sidecar do.
#[derive(Clone)]
pub(crate) struct Clients {
    http1: Client<HttpConnector, Full<Bytes>>,
    http2: Client<HttpConnector, Full<Bytes>>,
}

impl Clients {
    /// With no connection yet.
    pub(crate) fn new() -> Self {
        let connector = || {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            connector
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(1024).retry_canceled_requests(false);
        Self { http1: builder.build(connector()), http2: builder.clone().http2_only(true).build(connector()) }
    }

    /// Sends a request and waits like its client.
    pub(crate) async fn publish(&self, seed: u64, message: &Message, host: &str) -> End {
        if message.stops_half_way() {
            return half_a_request(seed, message, host).await;
        }
        let is_leaver = message.kind == super::messages::Kind::Leaver;
        let patience = if is_leaver { message.patience } else { message.timeout + BEYOND };
        match tokio::time::timeout(patience, self.exchange(seed, message, host)).await {
            Ok(end) => end,
            Err(_) if is_leaver => End::Left,
            Err(_) => End::Silence,
        }
    }

    async fn exchange(&self, seed: u64, message: &Message, host: &str) -> End {
        let client = if message.http2 { &self.http2 } else { &self.http1 };
        let response = match client.request(message.request(seed, host)).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return End::NotConnected,
            Err(error) => return End::Broken(format!("{error:?}")),
        };
        match reply(response).await {
            Ok(reply) => End::Answered(Box::new(reply)),
            Err(error) => End::Broken(error.to_string()),
        }
    }
}

async fn reply(response: Response<Incoming>) -> Result<Reply, hyper::Error> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let header = |name: &str| {
        let value =
            head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        value.unwrap_or_default()
    };
    let (code, outcome, message_id) =
        (header("amqpost-code"), header("amqpost-outcome"), header("amqpost-message-id"));
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    let told = [&told["code"], &told["outcome"], &told["message_id"]]
        .map(|v| v.as_str().unwrap_or_default().to_owned());
    let agrees = told == [code.clone(), outcome.clone(), message_id.clone()];
    Ok(Reply {
        status: head.status.as_u16(),
        attempts: header("amqpost-attempts").parse().unwrap_or(1),
        retry_after: head.headers.contains_key("retry-after"),
        body_differs: (!agrees).then(|| String::from_utf8_lossy(&body).into_owned()),
        code,
        outcome,
        message_id,
    })
}

/// A client that goes away in the middle of its body.
async fn half_a_request(seed: u64, message: &Message, host: &str) -> End {
    let half = async {
        let mut socket = TcpStream::connect(host).await?;
        let payload = message.payload(&id(seed, message.number));
        let head = format!(
            "POST /v1/queues/good/messages HTTP/1.1\r\nhost: {host}\r\namqp-message-id: \
            {}\r\ncontent-length: {}\r\n\r\n",
            id(seed, message.number),
            payload.len(),
        );
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(&payload.as_bytes()[..payload.len() / 2]).await?;
        crate::pace::rest(message.patience).await;
        std::io::Result::Ok(())
    };
    match half.await {
        Ok(()) => End::Left,
        Err(_) => End::NotConnected,
    }
}
