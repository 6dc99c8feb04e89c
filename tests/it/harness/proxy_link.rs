//! One proxied connection: its two lanes, and the orders that it executes while bytes flow.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::proxy_lane::{Broken, Lane, Way};

/// How long a closed connection waits until its peers have closed as well.
const LINGER: Duration = Duration::from_secs(2);

/// The treatment of the two directions.
#[derive(Debug, Clone, Copy)]
pub struct Ways {
    /// From the client to the broker.
    pub to_broker: Way,
    /// From the broker to the client.
    pub from_broker: Way,
}

impl Ways {
    /// A network that works.
    pub const FLOW: Self = Self { to_broker: Way::Flow, from_broker: Way::Flow };
}

/// An order to a connection.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Treat bytes like this from now on.
    Ways(Ways),
    /// End with RST on both sides.
    Reset,
    /// End with FIN on both sides.
    Close,
}

/// An order; the sender in it is dropped once the order is in force.
pub type Ordered = (Order, mpsc::Sender<()>);

/// Carries one accepted connection until it ends.
pub async fn carry(
    client: TcpStream,
    upstream: SocketAddr,
    mut ways: Ways,
    mut orders: UnboundedReceiver<Ordered>,
) {
    // If the socket is broken, the first read reports it.
    drop(client.set_nodelay(true));
    if ways.to_broker == Way::Discard {
        return swallow(client, orders).await;
    }
    let dialled = {
        let dialling = TcpStream::connect(upstream);
        tokio::pin!(dialling);
        loop {
            tokio::select! {
                biased;
                Some((order, done)) = orders.recv() => match order {
                    Order::Ways(new) => ways = new,
                    Order::Reset => return reset([client], done),
                    Order::Close => return close([client], done).await,
                },
                dialled = &mut dialling => break dialled,
            }
        }
    };
    match dialled {
        Ok(upstream) => {
            drop(upstream.set_nodelay(true));
            Link::new(client, upstream, ways).run(orders).await;
        }
        Err(_) if ways.to_broker.is_silent() || ways.from_broker.is_silent() => {
            swallow(client, orders).await;
        }
        Err(_) => drop(client.set_zero_linger()),
    }
}

/// Reads everything and sends nothing, until an order or the client ends it.
async fn swallow(client: TcpStream, mut orders: UnboundedReceiver<Ordered>) {
    let mut waste = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            biased;
            ordered = orders.recv() => match ordered {
                Some((Order::Ways(_), _)) => {}
                Some((Order::Reset, done)) => return reset([client], done),
                Some((Order::Close, done)) => return close([client], done).await,
                None => return,
            },
            ready = client.readable() => match ready.and_then(|()| client.try_read(&mut waste)) {
                Ok(0) => return,
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {}
            },
        }
    }
}

fn reset<const N: usize>(streams: [TcpStream; N], done: mpsc::Sender<()>) {
    for stream in streams {
        // Without lingering the kernel sends RST when the socket is dropped.
        drop(stream.set_zero_linger());
    }
    drop(done);
}

async fn close<const N: usize>(mut streams: [TcpStream; N], done: mpsc::Sender<()>) {
    for stream in &mut streams {
        drop(stream.shutdown().await);
    }
    drop(done);
    // Dropping a socket with unread bytes would send RST where FIN was ordered.
    for stream in &mut streams {
        drop(timeout(LINGER, tokio::io::copy(stream, &mut tokio::io::sink())).await);
    }
}

/// A connection with both its sides.
struct Link {
    client: TcpStream,
    upstream: TcpStream,
    to_broker: Lane,
    from_broker: Lane,
}

/// What a link does next.
enum Next {
    GoOn,
    Ordered(Ordered),
    Abort,
}

impl Link {
    fn new(client: TcpStream, upstream: TcpStream, ways: Ways) -> Self {
        Self {
            client,
            upstream,
            to_broker: Lane::new(ways.to_broker),
            from_broker: Lane::new(ways.from_broker),
        }
    }

    async fn run(mut self, mut orders: UnboundedReceiver<Ordered>) {
        let (mut told_broker, mut told_client) = (false, false);
        while !(self.to_broker.is_over() && self.from_broker.is_over()) {
            match self.step(&mut orders).await {
                Next::GoOn => {}
                Next::Ordered((Order::Ways(ways), _in_force)) => {
                    self.to_broker.set_way(ways.to_broker);
                    self.from_broker.set_way(ways.from_broker);
                }
                Next::Ordered((Order::Reset, done)) => {
                    return reset([self.client, self.upstream], done);
                }
                Next::Ordered((Order::Close, done)) => {
                    return close([self.client, self.upstream], done).await;
                }
                Next::Abort => return reset([self.client, self.upstream], mpsc::channel().0),
            }
            if self.to_broker.is_closing() && !told_broker {
                told_broker = true;
                drop(self.upstream.shutdown().await);
            }
            if self.from_broker.is_closing() && !told_client {
                told_client = true;
                drop(self.client.shutdown().await);
            }
        }
    }

    async fn step(&mut self, orders: &mut UnboundedReceiver<Ordered>) -> Next {
        let Self { client, upstream, to_broker, from_broker } = self;
        // Only orders go first; the lanes take turns at random.
        let (broken, lane, back) = tokio::select! {
            biased;
            ordered = orders.recv() => return ordered.map_or(Next::Abort, Next::Ordered),
            moved = async {
                tokio::select! {
                    moved = to_broker.step(client, upstream) => (moved, true),
                    moved = from_broker.step(upstream, client) => (moved, false),
                }
            } => match moved {
                (Ok(()), _) => return Next::GoOn,
                (Err(broken), true) => (broken, to_broker, from_broker),
                (Err(broken), false) => (broken, from_broker, to_broker),
            },
        };
        match broken {
            // If nothing flows back to the sender, it must not learn of a broken receiver.
            Broken::Writing(_) if back.way().is_silent() => {
                lane.lose();
                Next::GoOn
            }
            Broken::Writing(_) | Broken::Reading(_) => Next::Abort,
        }
    }
}
