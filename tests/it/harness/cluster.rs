//! A private cluster of RabbitMQ nodes.

use std::net::Ipv4Addr;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Mutex, MutexGuard};

use super::broker::Broker;
use super::control::binary;
use super::eventually::eventually;
use super::node::Membership;
use super::ports::ReservedPort;
use super::queue::{AmqpClient, arguments, text};

/// The deadline for joining and for an election, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(180);

/// Allows one cluster per test process at a time: each uses the CPU and memory of several nodes.
static TURN: Mutex<()> = Mutex::const_new(());

/// Takes a node into the cluster of the first one, as `rabbitmqctl join_cluster` does, and leaves
/// its applications stopped. The node does not look for the cluster by itself at its start: since
/// RabbitMQ 3.13 that starts another Erlang node, which needs epmd.
fn joining(first: &Membership) -> String {
    let first = first.node_name();
    format!(
        "ok = rabbit:stop(),
         case code:ensure_loaded(rabbit_db_cluster) of
           {{module, _}} -> rabbit_db_cluster:join('{first}', disc);
           {{error, _}} -> rabbit_mnesia:join_cluster('{first}', disc)
         end."
    )
}

/// A cluster of RabbitMQ nodes on loopback.
///
/// Each is a [`Broker`] with its faults: `kill_9`, `pause`, `resume`, `stop`, `restart`. Clients
/// reach all of them at 127.0.0.1. The nodes reach each other without epmd: each at an address of
/// its own (127.0.0.2 and up), all at one port, which is reserved while the cluster lives.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Broker>,
    _port: ReservedPort,
    // Released last, when the nodes are gone.
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts `count` nodes with one scheduler each and returns when all have joined, after about
    /// six seconds. Waits for the end of an earlier cluster of this test process.
    pub async fn start(count: usize) -> Self {
        let turn = TURN.lock().await;
        let port = ReservedPort::take();
        let cookie = format!("c{:032x}", fastrand::u128(..));
        let memberships: Vec<_> = (2..)
            .map(|last| Ipv4Addr::new(127, 0, 0, last))
            .map(|address| Membership { address, port: port.number(), cookie: cookie.clone() })
            .take(count)
            .collect();
        let start = |membership: &Membership| Broker::builder().membership(membership.clone()).start();
        let nodes = join_all(memberships.iter().map(start)).await;
        for node in &nodes[1..] {
            node.run_ok(&joining(&memberships[0])).await;
        }
        join_all(nodes[1..].iter().map(|node| node.run_ok("rabbit:start()."))).await;
        let cluster = Self { nodes, _port: port, _turn: turn };
        cluster.wait_until_all_joined().await;
        cluster
    }

    /// The nodes, in the order of [`uris`](Self::uris).
    pub fn nodes(&self) -> &[Broker] {
        &self.nodes
    }

    /// Creates a fresh vhost in which guest may do everything, on all nodes.
    pub async fn add_vhost(&self, name: &str) {
        self.nodes[0].vhost(name).await;
    }

    /// The URIs of a vhost for guest, one for each node.
    pub fn uris(&self, vhost: &str) -> Vec<String> {
        let uri = |node: &Broker| node.uri_for(vhost, "guest", "guest", node.amqp_port());
        self.nodes.iter().map(uri).collect()
    }

    /// Waits until every node sees all of them running. None of them may be down or paused.
    pub async fn wait_until_all_joined(&self) {
        eventually("every node sees all of them", PATIENCE, async || {
            for node in &self.nodes {
                let seen = node.run("length(rabbit_mnesia:cluster_nodes(running)).").await;
                if seen != self.nodes.len().to_string() {
                    return Err(format!("port {}: {seen} running", node.amqp_port()));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Declares a quorum queue with a member on every node; its leader is on node `leader`.
    pub async fn declare_quorum_queue(&self, vhost: &str, name: &str, leader: usize) {
        let client = AmqpClient::connect(&self.uris(vhost)[leader]).await;
        let members = i32::try_from(self.nodes.len()).unwrap_or(i32::MAX);
        let quorum = [("x-queue-type", text("quorum")), ("x-quorum-initial-group-size", members.into())];
        client.declare_queue(name, true, arguments(quorum)).await;
        self.wait_until_all_members_online(vhost, name).await;
    }

    /// Waits until every node's member of a quorum queue runs and one of them leads.
    pub async fn wait_until_all_members_online(&self, vhost: &str, name: &str) {
        let [vhost, queue] = [vhost, name].map(binary);
        let look = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r({vhost}, queue, {queue})),
             length(proplists:get_value(online, rabbit_quorum_queue:info(Q, [online]))) * length(
               [led || {{ok, _, {{_, _}}}} <- [ra:members(amqqueue:get_pid(Q), 1000)]])."
        );
        eventually("all members of the queue are online", PATIENCE, async || {
            let online = self.nodes[0].run(&look).await;
            if online == self.nodes.len().to_string() { Ok(()) } else { Err(format!("{online} online")) }
        })
        .await;
    }
}
