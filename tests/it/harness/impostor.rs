//! A proxy that can replace the broker's bytes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::ports::{ReservedPort, listen};

const FRAME_METHOD: u8 = 1;
const FRAME_END: u8 = 0xCE;

/// A proxy on loopback for one connection, the first, that speaks in place of the broker.
///
/// The client's bytes always reach the broker. The proxy ends with the test's runtime.
#[derive(Debug)]
pub struct Impostor {
    port: ReservedPort,
    muted: Arc<AtomicBool>,
    words: UnboundedSender<Vec<u8>>,
}

impl Impostor {
    /// Starts one in front of a port on 127.0.0.1, such as a broker's.
    ///
    /// # Panics
    /// When no port is free.
    pub fn to_port(upstream: u16) -> Self {
        let port = ReservedPort::take();
        let listener = listen(&port).and_then(TcpListener::from_std);
        let listener = listener.unwrap_or_else(|e| panic!("the impostor cannot listen: {e}"));
        let muted = Arc::new(AtomicBool::new(false));
        let (words, said) = unbounded_channel();
        tokio::spawn(impersonate(listener, upstream, Arc::clone(&muted), said));
        Self { port, muted, words }
    }

    /// The port the impostor listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// From now on no byte of the broker reaches the client.
    pub fn mute_broker(&self) {
        self.muted.store(true, Ordering::SeqCst);
    }

    /// Sends these bytes to the client as if they were the broker's. Mute the broker first, so that
    /// they do not split one of its frames.
    ///
    /// # Panics
    /// When the connection has ended.
    pub fn say(&self, bytes: Vec<u8>) {
        assert!(self.words.send(bytes).is_ok(), "the impostor's connection has ended");
    }
}

/// An AMQP frame with a method of the broker's; `arguments` as they are on the wire.
pub fn method_frame(channel: u16, class: u16, method: u16, arguments: &[u8]) -> Vec<u8> {
    let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
    let size = u32::try_from(payload.len()).expect("a frame of a test is small");
    let mut frame = vec![FRAME_METHOD];
    frame.extend(channel.to_be_bytes());
    frame.extend(size.to_be_bytes());
    frame.extend(payload);
    frame.push(FRAME_END);
    frame
}

/// The frame of a `connection.close` that blames no method.
pub fn connection_close(code: u16, text: &str) -> Vec<u8> {
    let mut arguments = code.to_be_bytes().to_vec();
    arguments.push(u8::try_from(text.len()).expect("a short text"));
    arguments.extend(text.as_bytes());
    arguments.extend([0, 0, 0, 0]);
    method_frame(0, 10, 50, &arguments)
}

async fn impersonate(
    listener: TcpListener,
    upstream: u16,
    muted: Arc<AtomicBool>,
    said: UnboundedReceiver<Vec<u8>>,
) {
    let (client, _) = listener.accept().await.expect("a client connects");
    let broker = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await.expect("the broker listens");
    let (mut from_client, to_client) = client.into_split();
    let (from_broker, mut to_broker) = broker.into_split();
    let forward = tokio::io::copy(&mut from_client, &mut to_broker);
    // Either side may leave; bytes sent before that stay sent.
    drop(tokio::join!(forward, speak(from_broker, to_client, &muted, said)));
}

/// Sends the client the broker's bytes, unless that is muted, and the invented ones.
async fn speak(
    mut from_broker: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    muted: &AtomicBool,
    mut said: UnboundedReceiver<Vec<u8>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            read = from_broker.read(&mut buffer) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                if !muted.load(Ordering::SeqCst) {
                    to_client.write_all(&buffer[..length]).await?;
                }
            }
            Some(words) = said.recv() => to_client.write_all(&words).await?,
        }
    }
}
