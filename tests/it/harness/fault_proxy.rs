//! A TCP proxy in front of the broker that simulates a failing network.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::ports::{ReservedPort, listen};
use super::proxy_lane::Way;
use super::proxy_link::{Order, Ordered, Ways, carry};

/// The receive buffer of connections that are accepted while the way to the broker is throttled.
const NARROW: usize = 16 * 1024;

const PATIENCE: Duration = Duration::from_secs(20);

/// A direction in which bytes travel through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    FromBroker,
    /// Both.
    Both,
}

/// A TCP proxy on loopback with its own thread. Its methods inject faults.
///
/// The methods block until the fault is in force for every open connection (well under a
/// millisecond); it also applies to later connections. A setting of one direction leaves the other
/// as it is; [`pass`](Self::pass) undoes everything. The proxy and its connections end when it is
/// dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    board: Arc<Board>,
    door: Option<UnboundedSender<DoorOrder>>,
    thread: Option<JoinHandle<()>>,
}

/// The state that the proxy's thread and its owner share.
#[derive(Debug)]
struct Board(Mutex<State>);

#[derive(Debug)]
struct State {
    ways: Ways,
    links: HashMap<u64, UnboundedSender<Ordered>>,
    accepted: u64,
}

/// Whether new connections are accepted, and whom to tell when they are.
type DoorOrder = (bool, mpsc::Sender<io::Result<()>>);

impl FaultProxy {
    /// Starts a proxy that forwards everything to `upstream`.
    ///
    /// # Panics
    /// When no port is free or no thread can be started.
    pub fn start(upstream: SocketAddr) -> Self {
        let port = ReservedPort::take();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let board =
            Arc::new(Board(Mutex::new(State { ways: Ways::FLOW, links: HashMap::new(), accepted: 0 })));
        let (door, orders) = unbounded_channel();
        let seen = Arc::clone(&board);
        let thread = thread::Builder::new()
            .name("fault-proxy".into())
            .spawn(move || serve(&port, upstream, &seen, orders))
            .unwrap_or_else(|e| panic!("starting the fault proxy's thread: {e}"));
        let proxy = Self { address, board, door: Some(door), thread: Some(thread) };
        proxy.set_door(true);
        proxy
    }

    /// Starts a proxy in front of a port on 127.0.0.1, such as a broker's.
    pub fn to_port(port: u16) -> Self {
        Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// The address that the proxy listens on, all its life.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port the proxy listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The network works again: the proxy listens, held bytes flow, delays and throttles end. A
    /// connection that has lost bytes to a black hole stays dead.
    pub fn pass(&self) {
        self.set_ways(Direction::Both, Way::Flow);
        self.set_door(true);
    }

    /// New connections get "connection refused" until [`pass`](Self::pass). Open ones continue; see
    /// [`reset_all`](Self::reset_all).
    pub fn refuse(&self) {
        self.set_door(false);
    }

    /// Ends all connections with RST on both sides. New ones are accepted as before.
    pub fn reset_all(&self) {
        self.end_all(Order::Reset);
    }

    /// Ends all connections with FIN on both sides. New ones are accepted as before.
    pub fn close_all(&self) {
        self.end_all(Order::Close);
    }

    /// Drops all bytes in a direction, including those on their way, and the end of a connection.
    /// New connections are accepted and get no answer.
    pub fn black_hole(&self, direction: Direction) {
        self.set_ways(direction, Way::Discard);
    }

    /// Holds all bytes in a direction, and the end of a connection, until [`pass`](Self::pass): an
    /// outage that TCP survives. A sender fills the kernel's buffers and then cannot write.
    pub fn hold(&self, direction: Direction) {
        self.set_ways(direction, Way::Hold);
    }

    /// Delays bytes, in order. Up to 16 MiB are on their way at once.
    pub fn delay(&self, direction: Direction, later: Duration) {
        self.set_ways(direction, Way::Delay(later));
    }

    /// Limits the rate of bytes on each connection. Connections that are accepted while bytes to
    /// the broker are limited have small buffers.
    ///
    /// # Panics
    /// When the rate is 0: that is [`hold`](Self::hold).
    pub fn throttle(&self, direction: Direction, bytes_per_second: u64) {
        assert!(bytes_per_second > 0, "a rate of 0 is hold()");
        self.set_ways(direction, Way::Throttle(bytes_per_second));
    }

    /// The number of open connections on the client's side.
    pub fn connections(&self) -> usize {
        self.board.state().links.len()
    }

    /// The number of connections accepted so far.
    pub fn accepted_total(&self) -> u64 {
        self.board.state().accepted
    }

    fn set_ways(&self, direction: Direction, way: Way) {
        let (done, in_force) = mpsc::channel();
        {
            let mut state = self.board.state();
            if direction != Direction::FromBroker {
                state.ways.to_broker = way;
            }
            if direction != Direction::ToBroker {
                state.ways.from_broker = way;
            }
            // Under the same lock as the change: a connection accepted now has the new setting or
            // is told of it.
            state.tell(Order::Ways(state.ways), &done);
        }
        drop(done);
        wait_for(&in_force);
    }

    fn end_all(&self, order: Order) {
        let (done, in_force) = mpsc::channel();
        {
            let mut state = self.board.state();
            state.tell(order, &done);
            state.links.clear();
        }
        drop(done);
        wait_for(&in_force);
    }

    fn set_door(&self, open: bool) {
        let (done, answer) = mpsc::channel();
        let told = self.door.as_ref().map(|door| door.send((open, done)));
        assert!(matches!(told, Some(Ok(()))), "the fault proxy has ended");
        match answer.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(e)) => panic!("the fault proxy cannot listen on {}: {e}", self.address),
            Err(e) => panic!("the fault proxy does not answer: {e}"),
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.door = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed when it happened.
            drop(thread.join());
        }
    }
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell(&self, order: Order, done: &mpsc::Sender<()>) {
        for link in self.links.values() {
            // A connection that has ended needs no orders.
            drop(link.send((order, done.clone())));
        }
    }
}

/// Waits until every connection has dropped its sender.
fn wait_for(in_force: &mpsc::Receiver<()>) {
    let waited = in_force.recv_timeout(PATIENCE);
    assert!(
        waited == Err(RecvTimeoutError::Disconnected),
        "a connection of the fault proxy does not take orders"
    );
}

/// The proxy's thread, which ends when the owner drops its side of `orders`.
fn serve(
    port: &ReservedPort,
    upstream: SocketAddr,
    board: &Arc<Board>,
    mut orders: UnboundedReceiver<DoorOrder>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|e| panic!("the fault proxy's runtime: {e}"));
    runtime.block_on(async {
        let mut listener = None;
        loop {
            tokio::select! {
                biased;
                ordered = orders.recv() => match ordered {
                    Some((true, done)) => {
                        let opened = open(port, &mut listener);
                        // After its deadline the owner no longer waits for the answer.
                        drop(done.send(opened));
                    }
                    Some((false, done)) => {
                        listener = None;
                        drop(done.send(Ok(())));
                    }
                    None => return,
                },
                client = accept(listener.as_ref()) => admit(client, upstream, board),
            }
        }
    });
}

fn open(port: &ReservedPort, listener: &mut Option<TcpListener>) -> io::Result<()> {
    if listener.is_none() {
        *listener = Some(TcpListener::from_std(listen(port)?)?);
    }
    Ok(())
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            // Usually the client has left again. If file descriptors have run out, an immediate
            // retry would keep the processor busy.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn admit(client: TcpStream, upstream: SocketAddr, board: &Arc<Board>) {
    let (link, orders) = unbounded_channel();
    let (number, ways) = {
        let mut state = board.state();
        state.accepted += 1;
        let number = state.accepted;
        state.links.insert(number, link);
        (number, state.ways)
    };
    if matches!(ways.to_broker, Way::Throttle(_)) {
        // A wide window would take in at once what is to travel slowly.
        drop(socket2::SockRef::from(&client).set_recv_buffer_size(NARROW));
    }
    let board = Arc::clone(board);
    tokio::spawn(async move {
        carry(client, upstream, ways, orders).await;
        board.state().links.remove(&number);
    });
}
