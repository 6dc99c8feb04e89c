//! A broker that only acks: the part of AMQP 0.9.1 that publishers need, with as little work as
//! possible.
//!
//! It has one thread per connection and blocking reads into one buffer. One `basic.ack` with
//! `multiple` confirms all publishes that a read completed, as RabbitMQ does for those of one
//! batch. Nothing is stored or routed; every exchange and queue exists. An unknown method ends the
//! connection with its number.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;
/// Type, channel and length before a frame's payload.
const FRAME_HEAD: usize = 7;
/// The bytes of a frame beside its payload.
const FRAME_AROUND: usize = FRAME_HEAD + 1;
const HEARTBEAT_FRAME: [u8; FRAME_AROUND] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END];
const CHANNEL_MAX: u16 = 2047;
const FRAME_MAX: u32 = 131_072;
/// Twice the largest frame, so that the rest of one read never prevents the next.
const BUFFER: usize = 2 * FRAME_MAX as usize;
/// A connection gets a heartbeat after this long without a byte: half of the shortest interval that
/// a client can ask for.
const BEAT: Duration = Duration::from_millis(500);

/// Class and method in one number, as they stand in a method frame.
const fn method(class: u32, method: u32) -> u32 {
    class << 16 | method
}

const CONNECTION_START: u32 = method(10, 10);
const CONNECTION_START_OK: u32 = method(10, 11);
const CONNECTION_TUNE: u32 = method(10, 30);
const CONNECTION_TUNE_OK: u32 = method(10, 31);
const CONNECTION_OPEN: u32 = method(10, 40);
const CONNECTION_OPEN_OK: u32 = method(10, 41);
const CONNECTION_CLOSE: u32 = method(10, 50);
const CONNECTION_CLOSE_OK: u32 = method(10, 51);
const CHANNEL_OPEN: u32 = method(20, 10);
const CHANNEL_OPEN_OK: u32 = method(20, 11);
const CHANNEL_CLOSE: u32 = method(20, 40);
const CHANNEL_CLOSE_OK: u32 = method(20, 41);
const EXCHANGE_DECLARE: u32 = method(40, 10);
const EXCHANGE_DECLARE_OK: u32 = method(40, 11);
const QUEUE_DECLARE: u32 = method(50, 10);
const QUEUE_DECLARE_OK: u32 = method(50, 11);
const BASIC_QOS: u32 = method(60, 10);
const BASIC_QOS_OK: u32 = method(60, 11);
const BASIC_PUBLISH: u32 = method(60, 40);
const BASIC_ACK: u32 = method(60, 80);
const CONFIRM_SELECT: u32 = method(85, 10);
const CONFIRM_SELECT_OK: u32 = method(85, 11);

/// A listening sink. Its threads end with its process, or with their clients.
#[derive(Debug)]
pub(crate) struct Sink(TcpListener);

impl Sink {
    /// Listens on a free loopback port.
    pub(crate) fn listen() -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(Self)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves for as long as the process runs.
    pub(crate) fn serve(self) -> io::Result<()> {
        loop {
            let (socket, _) = self.0.accept()?;
            thread::Builder::new().name("sink".to_owned()).spawn(move || {
                if let Err(error) = Connected::new(socket).and_then(|mut connected| connected.serve()) {
                    eprintln!("sink: a connection ended: {error}");
                }
            })?;
        }
    }
}

/// The publishes of a channel that are not yet confirmed.
#[derive(Debug, Default)]
struct Channel {
    confirms: bool,
    /// The tag of the last publish that arrived whole, and of the last one that was confirmed.
    published: u64,
    confirmed: u64,
    /// Bytes of content that the publish under way still lacks.
    missing: u64,
}

struct Connected {
    socket: TcpStream,
    channels: BTreeMap<u16, Channel>,
    out: Vec<u8>,
    is_open: bool,
}

impl Connected {
    fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(BEAT))?;
        Ok(Self { socket, channels: BTreeMap::new(), out: Vec::with_capacity(4096), is_open: true })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut greeting = [0; PROTOCOL_HEADER.len()];
        self.socket.read_exact(&mut greeting)?;
        if greeting != PROTOCOL_HEADER {
            return self.socket.write_all(PROTOCOL_HEADER);
        }
        self.start();
        self.flush()?;
        let (mut buffer, mut filled) = (vec![0; BUFFER], 0);
        while self.is_open {
            match self.socket.read(&mut buffer[filled..]) {
                Ok(0) => return Ok(()),
                Ok(read) => filled += read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.out.extend(HEARTBEAT_FRAME);
                }
                Err(error) => return Err(error),
            }
            let taken = self.take(&buffer[..filled])?;
            buffer.copy_within(taken..filled, 0);
            filled -= taken;
            self.confirm();
            self.flush()?;
        }
        Ok(())
    }

    /// Processes the complete frames that were read; returns their size in bytes.
    fn take(&mut self, read: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while let Some(head) = read[taken..].first_chunk::<FRAME_HEAD>() {
            let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            if length > FRAME_MAX as usize {
                return Err(io::Error::other(format!("a frame of {length} bytes")));
            }
            let end = taken + length + FRAME_AROUND;
            if end > read.len() {
                break;
            }
            let payload = &read[taken + FRAME_HEAD..end - 1];
            self.frame(head[0], u16::from_be_bytes([head[1], head[2]]), payload)?;
            taken = end;
        }
        Ok(taken)
    }

    fn frame(&mut self, kind: u8, number: u16, payload: &[u8]) -> io::Result<()> {
        match kind {
            METHOD => self.method(number, payload),
            HEADER => {
                let size = payload.get(4..12).and_then(|bytes| bytes.try_into().ok());
                let size = u64::from_be_bytes(size.ok_or(ErrorKind::InvalidData)?);
                self.content(number, size, 0);
                Ok(())
            }
            BODY => {
                self.content(number, 0, payload.len() as u64);
                Ok(())
            }
            HEARTBEAT => Ok(()),
            kind => Err(io::Error::other(format!("a frame of type {kind}"))),
        }
    }

    /// A content header announces bytes, a body brings some; with the last one the publish is
    /// whole.
    fn content(&mut self, number: u16, announced: u64, arrived: u64) {
        let channel = self.channels.entry(number).or_default();
        channel.missing = (channel.missing + announced).saturating_sub(arrived);
        if channel.missing == 0 {
            channel.published += 1;
        }
    }

    fn method(&mut self, number: u16, payload: &[u8]) -> io::Result<()> {
        let id = payload.first_chunk::<4>().copied().map(u32::from_be_bytes);
        let answer: (u32, &[u8]) = match id.ok_or(ErrorKind::InvalidData)? {
            BASIC_PUBLISH | CONNECTION_TUNE_OK | CONNECTION_CLOSE_OK | CHANNEL_CLOSE_OK => return Ok(()),
            CONNECTION_START_OK => {
                self.tune();
                return Ok(());
            }
            CONNECTION_OPEN => (CONNECTION_OPEN_OK, &[0]),
            CONNECTION_CLOSE => {
                self.is_open = false;
                (CONNECTION_CLOSE_OK, &[])
            }
            CHANNEL_OPEN => {
                self.channels.insert(number, Channel::default());
                (CHANNEL_OPEN_OK, &[0; 4])
            }
            CHANNEL_CLOSE => {
                self.channels.remove(&number);
                (CHANNEL_CLOSE_OK, &[])
            }
            CONFIRM_SELECT => {
                self.channels.insert(number, Channel { confirms: true, ..Channel::default() });
                (CONFIRM_SELECT_OK, &[])
            }
            EXCHANGE_DECLARE => (EXCHANGE_DECLARE_OK, &[]),
            QUEUE_DECLARE => {
                let declared = queue_declared(payload).ok_or(ErrorKind::InvalidData)?;
                self.put_method(number, QUEUE_DECLARE_OK, &declared);
                return Ok(());
            }
            BASIC_QOS => (BASIC_QOS_OK, &[]),
            other => {
                let text = format!("method {}.{} is not known to it", other >> 16, other & 0xffff);
                return Err(io::Error::other(text));
            }
        };
        // Earlier publishes are confirmed first: a client takes the answer as the end of them.
        self.confirm();
        self.put_method(number, answer.0, answer.1);
        Ok(())
    }

    fn start(&mut self) {
        let mut arguments = vec![0, 9];
        let mut capabilities = Vec::new();
        for name in ["publisher_confirms", "basic.nack", "connection.blocked", "consumer_cancel_notify"] {
            put_short(&mut capabilities, name);
            capabilities.extend([b't', 1]);
        }
        let mut properties = Vec::new();
        put_short(&mut properties, "capabilities");
        properties.push(b'F');
        put_long(&mut properties, &capabilities);
        put_long(&mut arguments, &properties);
        put_long(&mut arguments, b"PLAIN");
        put_long(&mut arguments, b"en_US");
        self.put_method(0, CONNECTION_START, &arguments);
    }

    fn tune(&mut self) {
        let mut arguments = CHANNEL_MAX.to_be_bytes().to_vec();
        arguments.extend(FRAME_MAX.to_be_bytes());
        // The sink proposes no heartbeat of its own. It accepts the client's and sends beats.
        arguments.extend(0_u16.to_be_bytes());
        self.put_method(0, CONNECTION_TUNE, &arguments);
    }

    fn confirm(&mut self) {
        for (number, channel) in &mut self.channels {
            if channel.confirms && channel.published > channel.confirmed {
                let is_multiple = channel.published > channel.confirmed + 1;
                channel.confirmed = channel.published;
                let mut arguments = [0; 9];
                arguments[..8].copy_from_slice(&channel.published.to_be_bytes());
                arguments[8] = u8::from(is_multiple);
                put_method(&mut self.out, *number, BASIC_ACK, &arguments);
            }
        }
    }

    fn put_method(&mut self, number: u16, id: u32, arguments: &[u8]) {
        put_method(&mut self.out, number, id, arguments);
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.socket.write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// The arguments of `queue.declare-ok` for a `queue.declare`: its name, no messages, no consumers.
fn queue_declared(payload: &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(*payload.get(6)?);
    let mut declared = payload.get(6..7 + length)?.to_vec();
    declared.extend([0; 8]);
    Some(declared)
}

fn put_method(out: &mut Vec<u8>, channel: u16, id: u32, arguments: &[u8]) {
    out.push(METHOD);
    out.extend(channel.to_be_bytes());
    out.extend((arguments.len() as u32 + 4).to_be_bytes());
    out.extend(id.to_be_bytes());
    out.extend(arguments);
    out.push(FRAME_END);
}

fn put_short(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend(text.as_bytes());
}

fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}
