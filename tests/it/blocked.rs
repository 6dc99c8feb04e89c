//! A broker that blocks publishers: requests are refused at once, nothing is lost, no restart is
//! needed.

use crate::harness::*;
use std::collections::HashSet;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_refuses_at_once_and_ends_without_a_ghost() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("alarm").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let mut sent = load(&sidecar, QUEUE, "before", 8, |n| n >= 100).await;

    broker.set_memory_alarm(true).await;
    // The broker tells only connections that publish, so these messages are on their way.
    let during = load(&sidecar, QUEUE, "during", 32, |n| n >= 64);
    let refused = async {
        sidecar.link_is("blocked", Duration::from_secs(10)).await;
        let answer =
            sidecar.post(QUEUE, &[("amqp-message-id", "refused"), ("amqpost-timeout", "30s")], "x").await;
        assert_eq!(answer.verdict(), (503, "broker_blocked"));
        assert!(answer.elapsed < Duration::from_secs(5), "at once, not at the deadline");
        assert_eq!(sidecar.metric("amqpost_link_up").await, 0.0);
        assert_eq!(sidecar.metric("amqpost_link_state{state=\"blocked\"}").await, 1.0);
        broker.set_memory_alarm(false).await;
    };
    sent.extend(tokio::join!(during, refused).0);

    sidecar.link_is("up", Duration::from_secs(10)).await;
    sent.extend(load(&sidecar, QUEUE, "after", 8, |n| n >= 100).await);
    let arrived: HashSet<_> =
        client.drain("orders").await.iter().map(|message| message.message_id().unwrap().to_owned()).collect();
    assert_no_loss_and_no_ghost(&sent, &arrived);
    assert!(!arrived.contains("refused"), "a ghost");
    assert!(
        sent.iter()
            .filter(|message| message.id.starts_with("after"))
            .all(|message| message.code == "confirmed")
    );
}
