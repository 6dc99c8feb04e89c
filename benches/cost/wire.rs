//! HTTP clients that cost little: HTTP/1.1 with no library at all, HTTP/2 with hyper, over TCP or a
//! Unix socket.

use crate::drive::Worker;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Where a subject listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What requests ask for, and the expected answer.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    /// By turns.
    pub(crate) paths: Vec<String>,
    /// Further header lines, each with its end.
    pub(crate) headers: String,
    pub(crate) body: Bytes,
    pub(crate) status: u16,
    /// Whether the server may close a connection between two requests, as some do after a number of
    /// requests.
    pub(crate) reconnects: bool,
}

impl Post {
    /// The bytes of each request as HTTP/1.1.
    fn requests(&self) -> Vec<Vec<u8>> {
        let Self { paths, headers, body, .. } = self;
        let length = body.len();
        let requests = paths.iter().map(|path| {
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: sidecar\r\n{headers}content-length: {length}\r\n\r\n");
            [head.as_bytes(), body].concat()
        });
        requests.collect()
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Connects.
pub(crate) async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    Ok(match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

/// An HTTP/1.1 connection that is kept alive.
pub(crate) struct Http1 {
    stream: Box<dyn Stream>,
    address: Address,
    requests: Arc<Vec<Vec<u8>>>,
    next: usize,
    status: u16,
    reconnects: bool,
    buffer: Vec<u8>,
}

impl Http1 {
    /// This many connections; each begins with another of the requests.
    pub(crate) async fn connect(address: &Address, post: &Post, connections: usize) -> io::Result<Vec<Self>> {
        let requests = Arc::new(post.requests());
        let mut clients = Vec::new();
        for number in 0..connections {
            clients.push(Self {
                stream: connect(address).await?,
                address: address.clone(),
                requests: Arc::clone(&requests),
                next: number * requests.len() / connections,
                status: post.status,
                reconnects: post.reconnects,
                buffer: Vec::with_capacity(1024),
            });
        }
        Ok(clients)
    }

    async fn answer(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.stream.write_all(&self.requests[self.next % self.requests.len()]).await?;
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(length) = answer_length(&self.buffer)
                && self.buffer.len() >= length
            {
                break;
            }
        }
        let status = self.buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        if status == Some(self.status) {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&self.buffer).into_owned()))
    }
}

/// The length of an answer, once its head is there.
fn answer_length(read: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length: ";
    let head = read.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let at = read[..head].windows(NAME.len()).position(|bytes| bytes.eq_ignore_ascii_case(NAME));
    let digits = at.map_or(&[][..], |at| &read[at + NAME.len()..head]);
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let body = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    Some(head + 4 + body)
}

impl Worker for Http1 {
    async fn exchange(&mut self) -> Result<(), String> {
        self.next += 1;
        let mut answered = self.answer().await;
        if answered.is_err() && self.reconnects && self.buffer.is_empty() {
            self.stream = connect(&self.address).await.map_err(|error| error.to_string())?;
            answered = self.answer().await;
        }
        answered.map_err(|error| error.to_string())
    }
}

/// A place on an HTTP/2 connection that all workers share.
pub(crate) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    post: Arc<Post>,
    next: usize,
}

impl Http2 {
    /// This many places on one connection.
    pub(crate) async fn connect(address: &Address, post: &Post, places: usize) -> io::Result<Vec<Self>> {
        let stream = TokioIo::new(connect(address).await?);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 24);
        let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(async move { drop(connection.await) });
        let post = Arc::new(post.clone());
        Ok((0..places).map(|next| Self { sender: sender.clone(), post: Arc::clone(&post), next }).collect())
    }
}

impl Worker for Http2 {
    async fn exchange(&mut self) -> Result<(), String> {
        let text = |error: hyper::Error| error.to_string();
        self.next += 1;
        let path = &self.post.paths[self.next % self.post.paths.len()];
        let request = Request::post(format!("http://sidecar{path}"));
        let request = request.body(Full::new(self.post.body.clone())).expect("a valid request");
        self.sender.ready().await.map_err(text)?;
        let answer = self.sender.send_request(request).await.map_err(text)?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(text)?.to_bytes();
        if status == self.post.status {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
    }
}
