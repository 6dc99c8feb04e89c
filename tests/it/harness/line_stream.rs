//! A client that sends lines in one request and reads an answer for each, both at any pace.

use super::sidecar::Sidecar;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper::http::response::Parts;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// The sender of a body, frame by frame.
type Body = StreamBody<mpsc::Receiver<Result<Frame<Bytes>, Infallible>>>;

/// An open stream of lines. A drop closes its connection.
pub struct LineStream {
    lines: Option<mpsc::Sender<Result<Frame<Bytes>, Infallible>>>,
    head: Parts,
    body: Incoming,
    read: Vec<u8>,
    driver: JoinHandle<()>,
}

/// An envelope for a queue, on one line.
pub fn envelope(queue: &str, id: &str) -> String {
    let members = json!({
        "exchange": "amq.default", "routing_key": queue, "payload": id, "properties": {"message_id": id},
    });
    members.to_string()
}

impl LineStream {
    /// Opens a stream over HTTP/1.1.
    pub async fn open(sidecar: &Sidecar, headers: &[(&str, &str)]) -> Self {
        let socket = TokioIo::new(TcpStream::connect(sidecar.http()).await.expect("the sidecar listens"));
        let (lines, request) = request(headers);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(socket).await.expect("a connection");
        let driver = tokio::spawn(async move { drop(connection.await) });
        let answered = timeout(PATIENCE, sender.send_request(request)).await.expect("in time");
        let (head, body) = answered.expect("the answer begins").into_parts();
        Self { lines: Some(lines), head, body, read: Vec::new(), driver }
    }

    /// Opens a stream over HTTP/2 with prior knowledge.
    pub async fn open_http2(sidecar: &Sidecar, headers: &[(&str, &str)]) -> Self {
        let socket = TokioIo::new(TcpStream::connect(sidecar.http()).await.expect("the sidecar listens"));
        let (lines, request) = request(headers);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket);
        let (mut sender, connection) = handshake.await.expect("a connection");
        let driver = tokio::spawn(async move { drop(connection.await) });
        let answered = timeout(PATIENCE, sender.send_request(request)).await.expect("in time");
        let (head, body) = answered.expect("the answer begins").into_parts();
        Self { lines: Some(lines), head, body, read: Vec::new(), driver }
    }

    /// The head of the answer.
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// Sends one line.
    pub async fn send(&mut self, line: impl Into<String>) {
        self.send_bytes(line.into() + "\n").await;
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        assert!(self.try_send_bytes(bytes).await, "the sidecar reads");
    }

    /// The same for a sidecar that may stop reading; returns whether it reads them within a second.
    pub async fn try_send_bytes(&mut self, bytes: impl Into<Bytes>) -> bool {
        let lines = self.lines.as_mut().expect("not finished");
        let sending = lines.send(Ok(Frame::data(bytes.into())));
        matches!(timeout(Duration::from_secs(1), sending).await, Ok(Ok(())))
    }

    /// Ends the lines.
    pub fn finish(&mut self) {
        self.lines = None;
    }

    /// The next answer; `None` when there are no more.
    pub async fn answer(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("every line is JSON"));
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("an answer in time")?;
            let data = frame.expect("the answer does not break off").into_data().unwrap_or_default();
            self.read.extend_from_slice(&data);
        }
    }

    /// The next `count` answers, by their index.
    pub async fn answers(&mut self, count: usize) -> Vec<Value> {
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            answers.push(self.answer().await.expect("there are more"));
        }
        by_index(answers)
    }

    /// All other answers, by their index.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        by_index(answers)
    }
}

impl Drop for LineStream {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn by_index(mut answers: Vec<Value>) -> Vec<Value> {
    answers.sort_by_key(|answer| answer["index"].as_u64());
    answers
}

/// The codes of answers, in order.
pub fn codes_of(answers: &[Value]) -> Vec<&str> {
    answers.iter().map(|answer| answer["code"].as_str().unwrap_or_default()).collect()
}

fn request(headers: &[(&str, &str)]) -> (mpsc::Sender<Result<Frame<Bytes>, Infallible>>, Request<Body>) {
    let (lines, body) = mpsc::channel(0);
    let mut request =
        Request::post("http://sidecar/v1/messages").header("content-type", "application/x-ndjson");
    request = request.header("host", "sidecar");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    (lines, request.body(StreamBody::new(body)).expect("a valid request"))
}
