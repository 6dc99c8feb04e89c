//! Limits that the broker does not announce are learnt once, at nobody else's cost.

use crate::harness::*;
use futures_util::future::join_all;
use std::time::Duration;

const QUEUE: &str = "/v1/queues/orders/messages";
const MEBIBYTE: usize = 1024 * 1024;

async fn broker_that_takes_a_mebibyte() -> Broker {
    Broker::builder().config_line(&format!("max_message_size = {MEBIBYTE}")).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_above_the_brokers_size_limit_are_413_and_cost_no_other_its_verdict() {
    let broker = broker_that_takes_a_mebibyte().await;
    let vhost = broker.vhost("too_large").await;
    vhost.with_orders().await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;
    let too_large = vec![b'x'; MEBIBYTE + MEBIBYTE / 10];

    let many_too_large = async {
        let mut answers = Vec::new();
        for _ in 0..12 {
            answers.push(sidecar.post(QUEUE, &[], too_large.clone()).await);
        }
        answers
    };
    let good = load(sidecar, QUEUE, "good", 16, |n| n >= 2000);
    let (refused, good) = tokio::join!(many_too_large, good);

    let verdicts: Vec<_> = refused.iter().map(Answer::verdict).collect();
    assert!(verdicts.iter().all(|verdict| *verdict == (413, "payload_too_large")), "{verdicts:?}");
    assert!(refused[0].detail().contains("1048576"), "{}", refused[0].detail());
    assert_eq!(refused[0].outcome(), "not_published");
    let good = codes(&good);
    assert_eq!(good.keys().collect::<Vec<_>>(), ["confirmed"], "{good:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_exactly_the_brokers_size_limit_is_confirmed() {
    let broker = broker_that_takes_a_mebibyte().await;
    let vhost = broker.vhost("just_fits").await;
    vhost.with_orders().await;
    let sidecar = Sidecar::up(&vhost.uri()).await;

    for (size, code) in [(MEBIBYTE + 1, "payload_too_large"), (MEBIBYTE, "confirmed")] {
        assert_eq!(sidecar.post(QUEUE, &[], vec![b'x'; size]).await.code(), code, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_few_channels_loses_one_connection_for_it_and_then_does_without() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("few_channels_per_user").await;
    vhost.with_orders().await;
    let sidecar = &Sidecar::up(&vhost.uri()).await;
    let limit = r#"#{<<"max-channels">> => 6}"#;
    broker
        .run_ok(&format!(
            r#"rabbit_auth_backend_internal:set_user_limits(<<"guest">>, {limit}, <<"test">>)."#
        ))
        .await;

    // Each new exchange wants a channel of its own to prove itself.
    let unknown = async |n: usize| {
        let path = format!("/v1/exchanges/missing-{n}/messages");
        sidecar.post(&path, &[("amqpost-timeout", "2s")], "x").await.code().to_owned()
    };
    join_all((0..16).map(unknown)).await;
    eventually("the limit is known", Duration::from_secs(20), async || {
        join_all((16..32).map(unknown)).await;
        sidecar.log().contains("limits the channels")
    })
    .await;
    sidecar.link_is("up", Duration::from_secs(15)).await;
    let lost = sidecar.metric(r#"amqpost_disconnects_total{reason="closed_by_broker"}"#).await;

    join_all((32..48).map(unknown)).await;
    let sent = load(sidecar, QUEUE, "after", 8, |n| n >= 200).await;

    let now = sidecar.metric(r#"amqpost_disconnects_total{reason="closed_by_broker"}"#).await;
    assert_eq!(now, lost, "{}", sidecar.log());
    assert_eq!(codes(&sent).keys().collect::<Vec<_>>(), ["confirmed"]);
}
