//! The floor of AMQP: lapin publishes mandatory, persistent messages with confirms and without
//! HTTP, on orders from its input.

use crate::drive::{Gauge, Pace, Worker, drive};
use async_compat::Compat;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::tcp::AsyncTcpStream;
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The frame size that amqpost asks for.
const FRAME_MAX: u32 = 32 << 10;
const HEARTBEAT: u16 = 5;

/// Serves orders until its input ends: `start WORKERS BYTES RATE` (0 for as fast as it goes),
/// `mark`, `count`, `end`. Each is answered by a line.
pub(crate) async fn run(uri: &str, queue: &str) {
    let connection = connect(uri).await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    println!("ready");
    let (orders, mut given) = mpsc::channel(1);
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines.for_each(|line| orders.blocking_send(line).expect("orders are taken until they end"));
    });
    let mut load = None;
    while let Some(order) = given.recv().await {
        let mut words = order.split(' ');
        let order = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<f64>().ok()).expect("a number");
        if order == "start" {
            let (workers, bytes, rate) = (number() as usize, number() as usize, number());
            let gauge = Gauge::new(if rate > 0.0 { Pace::Open(rate) } else { Pace::Closed });
            let publisher = Publisher::new(&channel, queue, bytes);
            let publishers = vec![publisher; workers];
            load = Some((Arc::clone(&gauge), tokio::spawn(drive(publishers, gauge))));
            println!("started");
            continue;
        }
        let (gauge, running) = load.as_mut().expect("it was started");
        match order {
            "mark" => println!("{}", gauge.mark()),
            "count" => println!("{}", gauge.done()),
            "end" => {
                gauge.stop();
                let latencies = running.await.expect("no panic");
                let [exchanges, lateness] = [latencies.exchanges, latencies.lateness].map(|q| q.to_words());
                println!("{exchanges} {lateness} {}", latencies.failed);
                gauge.failure().iter().for_each(|failure| eprintln!("amqp-floor: {failure}"));
            }
            order => panic!("the order {order}"),
        }
    }
}

/// Connects as amqpost does: over a socket of its own without delay, with amqpost's frame size and
/// heartbeat.
pub(crate) async fn connect(uri: &str) -> Connection {
    let mut uri: AMQPUri = uri.parse().expect("a URI");
    uri.query.frame_max = Some(FRAME_MAX);
    uri.query.heartbeat = Some(HEARTBEAT);
    let socket = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await;
    let socket = socket.expect("a broker that listens");
    socket.set_nodelay(true).expect("it is open");
    let stream = Mutex::new(Some(AsyncTcpStream::Plain(Compat::new(socket))));
    let hand_out = async move |_, _| {
        let stream = stream.lock().expect("no panic").take();
        stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
    };
    let runtime = lapin::runtime::default_runtime().expect("a runtime");
    let properties = ConnectionProperties::default().with_connection_name("amqp floor".into());
    Connection::connector(uri, runtime, hand_out, properties).await.expect("a connection")
}

/// One task's place on the one channel.
#[derive(Clone)]
pub(crate) struct Publisher {
    channel: Channel,
    queue: ShortString,
    body: Arc<[u8]>,
    properties: BasicProperties,
}

impl Publisher {
    /// A publisher that sends this many bytes to a queue each time.
    pub(crate) fn new(channel: &Channel, queue: &str, bytes: usize) -> Self {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id("01a20773-75b3-737a-be79-8f769451d59e".into());
        Self { channel: channel.clone(), queue: queue.into(), body: vec![b'x'; bytes].into(), properties }
    }
}

impl Worker for Publisher {
    async fn exchange(&mut self) -> Result<(), String> {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let (queue, properties) = (self.queue.clone(), self.properties.clone());
        let sent = self.channel.basic_publish("".into(), queue, options, &self.body, properties).await;
        match sent.map_err(|error| error.to_string())?.await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}
