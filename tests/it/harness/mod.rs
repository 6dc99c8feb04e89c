//! The test harness: a real broker, a view into its queues, and a network with injected faults.
//!
//! A test takes a vhost of the node that the test process shares, and reads its queues directly:
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_message_survives_a_lost_connection() {
//!     let vhost = shared().await.vhost("lost_connection").await;
//!     let client = AmqpClient::connect(&vhost.uri()).await;
//!     client.declare_queue("orders", true, arguments([])).await;
//!
//!     // What is under test connects through the proxy, the test's own client never does.
//!     let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
//!     let sidecar = Sidecar::up(&vhost.uri_via(proxy.port())).await;
//!
//!     proxy.black_hole(Direction::FromBroker); // the broker confirms, and nobody hears it
//!     sidecar.post("/v1/queues/orders/messages", &[("amqpost-timeout", "1s")], "one").await;
//!     proxy.reset_all();
//!     proxy.pass();
//!
//!     eventually("the message arrives", Duration::from_secs(10), async || {
//!         client.depth("orders").await >= 1
//!     })
//!     .await;
//!     let messages = client.drain("orders").await;
//!     assert_eq!(messages[0].text(), "one");
//! }
//! ```
//!
//! A test that harms the node itself (`kill_9`, `pause`, `set_memory_alarm`, `stop`) starts its own
//! with `Broker::start().await`, or `Broker::builder().tls().start().await` for one with TLS. That
//! takes two seconds. However the test process ends, it leaves no node and no directory behind: see
//! [`watchdog`].

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "a test binary need not use all of the harness"
)]

mod answer;
mod arrivals;
mod broker;
mod certificates;
mod cluster;
mod command;
mod control;
mod eventually;
mod fault_proxy;
mod impostor;
mod line_stream;
mod load;
mod machine;
mod metronome;
mod node;
mod orders;
mod ports;
mod proxy_lane;
mod proxy_link;
mod queue;
mod sidecar;
mod slow_client;
mod spool;
mod starvation;
pub mod stocked;
mod tap;
mod token;
mod vhost;
mod watchdog;

pub use answer::Answer;
pub use arrivals::{Arrival, Arrivals};
pub use broker::{Broker, BrokerBuilder, shared};
pub use cluster::Cluster;
pub use command::amqpost;
pub use eventually::{Look, eventually};
pub use fault_proxy::{Direction, FaultProxy};
pub use impostor::{Impostor, connection_close, method_frame};
pub use lapin::types::AMQPValue;
pub use line_stream::{LineStream, codes_of, envelope};
pub use load::{Sent, assert_no_loss_and_no_ghost, codes, load, load_of, paced_load, quantile, with_outcome};
pub use machine::Machine;
pub use metronome::beat;
pub use node::Started;
pub use orders::{orders, orders_up};
pub use queue::{AmqpClient, Received, arguments, text};
pub use sidecar::{Sidecar, SidecarBuilder};
pub use slow_client::SlowClient;
pub use spool::{SpoolDir, spooled, spooled_for};
pub use starvation::Starvation;
pub use tap::Tap;
pub use token::{forged_token, token};
pub use vhost::Vhost;
