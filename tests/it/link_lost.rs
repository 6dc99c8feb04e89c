//! A connection that dies between the hand-over and the verdict: the answer is `unknown`.

use crate::harness::*;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";

#[tokio::test]
async fn a_confirm_that_is_lost_with_its_connection_is_unknown() {
    let vhost = shared().await.vhost("lost_confirm").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let uri = vhost.uri_via(proxy.port());
    let sidecar = Sidecar::builder(&uri).set("broker.connections", "1").start().await.with_link_up().await;
    // Proven beforehand, so that the message under test travels over the shared channel.
    assert_eq!(sidecar.post(QUEUE, &[], "first").await.code(), "confirmed");

    proxy.black_hole(Direction::FromBroker);
    let publishing = sidecar.post(QUEUE, &[("amqpost-timeout", "30s")], "second");
    let cut = async {
        eventually("the broker has the message", Duration::from_secs(10), async || {
            client.depth("orders").await == 2
        })
        .await;
        proxy.reset_all();
        proxy.pass();
    };
    let (answer, ()) = tokio::join!(publishing, cut);

    assert_eq!(answer.verdict(), (502, "link_lost"));
    assert_eq!((answer.outcome(), &answer.json()["retry"]), ("unknown", &"may_duplicate".into()));
    let sidecar = sidecar.with_link_up().await;
    assert_eq!(sidecar.post(QUEUE, &[], "third").await.code(), "confirmed");
}

#[tokio::test]
async fn a_connection_closed_by_an_operator_is_replaced() {
    let vhost = shared().await.vhost("closed_by_operator").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.code(), "confirmed");

    vhost.close_connections("maintenance").await;

    eventually("both connections were replaced", Duration::from_secs(15), async || {
        let lost = sidecar.metric("amqpost_disconnects_total{reason=\"closed_by_broker\"}").await;
        let up = sidecar.metric("amqpost_connections{state=\"up\"}").await;
        if (lost, up) == (2.0, 2.0) { Ok(()) } else { Err((lost, up)) }
    })
    .await;
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.code(), "confirmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_under_load_make_no_ghosts_and_no_losses() {
    let vhost = shared().await.vhost("breaking").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("orders", true, arguments([])).await;
    let proxy = FaultProxy::to_port(vhost.broker().amqp_port());
    let sidecar = Sidecar::up(&vhost.uri_via(proxy.port())).await;

    let publishing = load(&sidecar, QUEUE, "b", 64, |n| n >= 8_000);
    let breaking = async {
        for reset in [true, false, true, false] {
            let before = sidecar.published("confirmed", "confirmed").await;
            eventually("messages flow", Duration::from_secs(20), async || {
                sidecar.published("confirmed", "confirmed").await > before + 500.0
            })
            .await;
            if reset { proxy.reset_all() } else { proxy.close_all() }
        }
    };
    let (sent, ()) = tokio::join!(publishing, breaking);

    let arrived = client.drain("orders").await;
    let arrived = arrived.iter().map(|message| message.message_id().unwrap().to_owned()).collect();
    assert_no_loss_and_no_ghost(&sent, &arrived);
    let unknown = with_outcome(&sent, "unknown").len();
    assert!(unknown <= 4 * 64, "at most what was in flight at each break, not {unknown}");
}
