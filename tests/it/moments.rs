//! Refusals by the broker of destinations that it took before: they are about the moment, not about
//! the message.

use crate::harness::*;
use lapin::ExchangeKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What is mended works within this.
const MENDED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

/// A vhost with the exchange `orders`, and the queue `all` that is bound to it with the routing key
/// `k`.
async fn scene(name: &str) -> (Vhost, AmqpClient) {
    let vhost = shared().await.vhost(name).await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("all", true, arguments([])).await;
    declare_orders(&client).await;
    (vhost, client)
}

async fn declare_orders(client: &AmqpClient) {
    client.declare_exchange("orders", ExchangeKind::Direct).await;
    client.bind("all", "orders", "k").await;
}

const ORDERS: &str = "/v1/exchanges/orders/messages?routing_key=k";

async fn is_confirmed(sidecar: &Sidecar, path: &str, within: Duration) {
    eventually("the destination takes messages", within, async || {
        let answer = sidecar.post(path, &[], "x").await;
        if answer.code() == "confirmed" { Ok(()) } else { Err(answer.code().to_owned()) }
    })
    .await;
}

/// Publishes until the answer is neither a success, as before, nor the loss of a shared channel.
async fn refusal(sidecar: &Sidecar, path: &str) -> Answer {
    let refused = async || {
        let answer = sidecar.post(path, &[], "x").await;
        let is_refusal = !["confirmed", "link_lost", "link_down"].contains(&answer.code());
        if is_refusal { Ok(answer) } else { Err(answer.code().to_owned()) }
    };
    eventually("the destination is refused", PATIENCE, refused).await
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.verdict(), (503, "destination_unavailable"), "{}", answer.text());
    assert_eq!((answer.outcome(), &answer.json()["retry"]), ("not_published", &"safe".into()));
    let seconds: u32 = answer.header("retry-after").parse().expect("a number of seconds");
    assert!((1..=30).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn an_exchange_that_took_messages_and_vanished_is_unavailable_until_it_is_back() {
    let (vhost, client) = scene("vanished").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    assert_eq!(sidecar.post(ORDERS, &[], "x").await.verdict(), (200, "confirmed"));

    client.delete_exchange("orders").await;

    assert_unavailable(&refusal(&sidecar, ORDERS).await);
    let other = sidecar.post("/v1/exchanges/orders/messages?routing_key=other", &[], "x").await;
    assert_eq!(other.verdict(), (404, "exchange_not_found"), "nothing is known of this destination");
    declare_orders(&client).await;
    is_confirmed(&sidecar, ORDERS, MENDED).await;
}

#[tokio::test]
async fn a_refusal_that_lasts_longer_than_proven_for_is_a_verdict() {
    let (vhost, client) = scene("proven_for").await;
    let builder = Sidecar::builder(&vhost.uri()).set("publish.proven_for", "\"2s\"");
    let sidecar = builder.start().await.with_link_up().await;
    assert_eq!(sidecar.post(ORDERS, &[], "x").await.verdict(), (200, "confirmed"));

    client.delete_exchange("orders").await;

    assert_unavailable(&refusal(&sidecar, ORDERS).await);
    eventually("the refusal is a verdict", PATIENCE, async || {
        let answer = sidecar.post(ORDERS, &[], "x").await;
        let is_known = ["destination_unavailable", "exchange_not_found"].contains(&answer.code());
        assert!(is_known, "{}", answer.code());
        answer.code() == "exchange_not_found"
    })
    .await;
    let refused = sidecar.post(ORDERS, &[], "x").await;
    assert_eq!(refused.json()["retry"], "safe", "a word of the broker is never pointless");
    declare_orders(&client).await;
    is_confirmed(&sidecar, ORDERS, MENDED).await;
    client.delete_exchange("orders").await;
    assert_unavailable(&refusal(&sidecar, ORDERS).await);
}

#[tokio::test]
async fn a_permission_that_was_taken_away_is_waited_for_and_the_proof_outlives_the_connections() {
    let broker = Broker::start().await;
    let vhost = broker.vhost("/orders").await;
    broker.add_user("seller", "secret").await;
    vhost.set_permissions("seller", "", ".*", "").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("all", true, arguments([])).await;
    declare_orders(&client).await;
    let sidecar = Sidecar::up(&vhost.uri_as("seller", "secret")).await;
    assert_eq!(sidecar.post(ORDERS, &[], "x").await.verdict(), (200, "confirmed"));
    assert_eq!(sidecar.post("/v1/queues/all/messages", &[], "x").await.verdict(), (200, "confirmed"));

    // Channels that are open keep the permissions that they have used.
    vhost.set_permissions("seller", "", "^$", "").await;
    broker.close_all_connections("maintenance").await;
    let sidecar = sidecar.with_link_up().await;

    assert_unavailable(&refusal(&sidecar, ORDERS).await);
    assert_unavailable(&refusal(&sidecar, "/v1/queues/all/messages").await);
    let never = sidecar.post("/v1/exchanges/amq.direct/messages", &[], "x").await;
    assert_eq!(never.verdict(), (403, "access_refused"));
    assert_eq!(never.json()["retry"], "safe");

    vhost.set_permissions("seller", "", ".*", "").await;
    is_confirmed(&sidecar, ORDERS, MENDED).await;
    is_confirmed(&sidecar, "/v1/queues/all/messages", MENDED).await;
}

#[tokio::test]
async fn a_binding_that_is_gone_makes_its_destination_unavailable_and_no_other() {
    let (vhost, client) = scene("unbound").await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let optional = [("amqpost-mandatory", "false")];
    let other = "/v1/exchanges/orders/messages?routing_key=other";
    assert_eq!(sidecar.post(ORDERS, &[], "x").await.verdict(), (200, "confirmed"));
    assert_eq!(sidecar.post(other, &optional, "x").await.verdict(), (200, "confirmed"));

    client.delete_queue("all").await;

    assert_unavailable(&refusal(&sidecar, ORDERS).await);
    let unproven = sidecar.post(other, &[], "x").await;
    assert_eq!(unproven.verdict(), (422, "unroutable"), "no mandatory message was ever taken there");
    assert_eq!(unproven.json()["retry"], "safe");
}

#[tokio::test]
async fn a_confirm_that_copies_may_have_caused_does_not_prove_the_routing_key() {
    let (vhost, client) = scene("copies").await;
    client.declare_queue("copies", true, arguments([])).await;
    let sidecar = Sidecar::up(&vhost.uri()).await;
    let copied = r#"{"exchange":"amq.default","routing_key":"nobody","payload":"x",
        "properties":{"headers":{"CC":["copies"]}}}"#;
    let json = [("content-type", "application/json")];
    assert_eq!(sidecar.post("/v1/messages", &json, copied).await.verdict(), (200, "confirmed"));

    let answer = sidecar.post("/v1/queues/nobody/messages", &[], "x").await;

    assert_eq!(answer.verdict(), (422, "unroutable"));
}

#[tokio::test]
async fn a_route_that_is_known_needs_no_confirm_and_a_route_of_verdicts_has_no_moment() {
    let (vhost, client) = scene("known").await;
    let routes = r#"[
        { exchange = "known.*", known = true },
        { exchange = "orders", returns = "verdict" },
    ]"#;
    let sidecar = Sidecar::builder(&vhost.uri()).set("route", &routes.replace('\n', " ")).start().await;
    let sidecar = sidecar.with_link_up().await;

    assert_unavailable(&sidecar.post("/v1/exchanges/known.a/messages", &[], "x").await);
    assert_eq!(sidecar.post("/v1/exchanges/else/messages", &[], "x").await.code(), "exchange_not_found");

    assert_eq!(sidecar.post(ORDERS, &[], "x").await.verdict(), (200, "confirmed"));
    client.delete_queue("all").await;
    assert_eq!(sidecar.post(ORDERS, &[], "x").await.verdict(), (422, "unroutable"));
    client.delete_exchange("orders").await;
    assert_unavailable(&refusal(&sidecar, ORDERS).await);
}

#[tokio::test]
async fn what_is_kept_in_fallback_is_delivered_when_the_exchange_is_back() {
    let (vhost, client) = scene("kept").await;
    let spool = SpoolDir::new();
    let builder = Sidecar::builder(&vhost.uri()).set("spool.path", &spool.setting());
    let sidecar = builder.start().await.with_link_up().await;
    let fallback = [("amqpost-mode", "fallback")];
    assert_eq!(sidecar.post(ORDERS, &fallback, "first").await.verdict(), (200, "confirmed"));
    client.delete_exchange("orders").await;

    eventually("the message is kept", PATIENCE, async || {
        let answer = sidecar.post(ORDERS, &fallback, "second").await;
        if answer.code() == "spooled" { Ok(()) } else { Err(answer.code().to_owned()) }
    })
    .await;
    assert_eq!(sidecar.metric("amqpost_spool_parked_messages").await, 0.0);
    declare_orders(&client).await;

    eventually("all of it is delivered", PATIENCE, async || {
        let (waits, parked) = (
            sidecar.metric("amqpost_spool_messages").await,
            sidecar.metric("amqpost_spool_parked_messages").await,
        );
        assert_eq!(parked, 0.0, "nothing is parked");
        waits == 0.0
    })
    .await;
    let messages = client.drain("all").await;
    assert!(messages.iter().any(|message| message.text() == "second"));
}

// RabbitMQ 3 returns the message. RabbitMQ 4 nacks it. It also nacks messages that the queue took
// just before its node went away, so nobody can say that this one was not published.
#[tokio::test]
async fn a_queue_whose_node_is_away_is_unavailable_also_to_a_sidecar_that_never_saw_it() {
    const VHOST: &str = "away";
    let cluster = Cluster::start(2).await;
    cluster.add_vhost(VHOST).await;
    let client = AmqpClient::connect(&cluster.uris(VHOST)[1]).await;
    client.declare_queue("far", true, arguments([])).await;
    cluster.nodes()[1].run_ok("rabbit:stop(), ok.").await;
    let sidecar = Sidecar::up(&cluster.uris(VHOST)[0]).await;

    let (far, nobody) = ("/v1/queues/far/messages", "/v1/queues/nobody/messages");
    let answer = sidecar.post(far, &[], "x").await;
    match cluster.nodes()[0].generation().await {
        3 => assert_unavailable(&answer),
        _ => assert_eq!((answer.outcome(), answer.verdict()), ("unknown", (502, "nacked"))),
    }
    assert_eq!(sidecar.post(nobody, &[], "x").await.verdict(), (422, "unroutable"));

    cluster.nodes()[1].run_ok("rabbit:start().").await;
    is_confirmed(&sidecar, far, PATIENCE).await;
}

/// An exchange that keeps its last messages for queues that are bound later, and returns them
/// nevertheless.
async fn declare_history(client: &AmqpClient) {
    client.declare_exchange("history", ExchangeKind::Custom("x-recent-history".to_owned())).await;
    client.declare_queue("late", true, arguments([])).await;
}

#[tokio::test]
async fn an_exchange_that_keeps_what_it_returns_is_published_to_without_mandatory() {
    let builder = Broker::builder().plugins(&["rabbitmq_recent_history_exchange"]);
    let broker = builder.start().await;
    let vhost = broker.vhost("/orders").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    declare_history(&client).await;
    let spool = SpoolDir::new();
    let route = r#"[{ exchange = "history", returns = "nothing" }]"#;
    let builder = Sidecar::builder(&vhost.uri()).set("route", route).set("spool.path", &spool.setting());
    let sidecar = builder.start().await.with_link_up().await;
    let path = "/v1/exchanges/history/messages";

    let mandatory = [("amqpost-mandatory", "true")];
    assert_eq!(sidecar.post(path, &mandatory, "direct").await.verdict(), (200, "confirmed"));
    let kept = sidecar.post(path, &[("amqpost-mode", "spool")], "spooled").await;
    assert_eq!(kept.verdict(), (202, "spooled"));
    eventually("it is delivered", PATIENCE, async || {
        sidecar.metric("amqpost_spool_deliveries_total{result=\"confirmed\"}").await == 1.0
    })
    .await;
    assert_eq!(sidecar.metric("amqpost_spool_parked_messages").await, 0.0);

    client.bind("late", "history", "").await;
    eventually("what was kept arrives", PATIENCE, async || client.depth("late").await == 2).await;
    let arrived = client.drain("late").await;
    let marked = |message: &&Received| message.header("x-amqpost-redelivered").is_some();
    assert_eq!(arrived.iter().filter(marked).count(), 0);
}

/// Answers `allow` to every question of `rabbitmq_auth_backend_http` for as long as it lives.
async fn serve_permissions(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        tokio::spawn(async move {
            let mut head = [0; 4096];
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nallow";
            if stream.read(&mut head).await.is_ok() {
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
    }
}

#[tokio::test]
async fn a_broker_whose_permission_service_is_away_is_waited_for_whatever_is_known() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let permissions = tokio::spawn(serve_permissions(listener));
    let mut builder = Broker::builder()
        .plugins(&["rabbitmq_auth_backend_http", "amqp_client"])
        .config_line("auth_backends.1.authn = internal")
        .config_line("auth_backends.1.authz = rabbit_auth_backend_http")
        .config_line("auth_http.http_method = get");
    for question in ["user", "vhost", "resource", "topic"] {
        let line = format!("auth_http.{question}_path = http://127.0.0.1:{port}/{question}");
        builder = builder.config_line(&line);
    }
    let broker = builder.start().await;
    let vhost = broker.vhost("/orders").await;
    let sidecar = Sidecar::builder(&vhost.uri()).set("log.level", "\"debug\"").start().await;
    let sidecar = sidecar.with_link_up().await;

    permissions.abort();
    assert!(permissions.await.is_err(), "it ends with its listener");

    let answer = sidecar.post("/v1/exchanges/amq.fanout/messages", &[], "x").await;
    let logged = sidecar.log();
    println!("{}", logged.lines().filter(|line| line.contains("refused for")).collect::<Vec<_>>().join("\n"));
    assert_unavailable(&answer);
}

/// The key of the tokens, in base64.
const KEY: &str = "dG9rZW5rZXl0b2tlbmtleXRva2Vua2V5dG9rZW5rZXk";

/// A node that accepts as passwords tokens that the test makes.
async fn start_broker_with_tokens() -> Broker {
    let plugins = ["rabbitmq_auth_backend_oauth2", "oauth2_client", "jose", "base64url", "cowlib"];
    let broker = Broker::builder()
        .plugins(&plugins)
        .config_line("auth_backends.1 = rabbit_auth_backend_oauth2")
        .config_line("auth_backends.2 = internal")
        .start()
        .await;
    let setting = format!(
        "Set = fun(Name, Value) -> application:set_env(rabbitmq_auth_backend_oauth2, Name, Value) end,
         Key = #{{<<\"kty\">> => <<\"oct\">>, <<\"alg\">> => <<\"HS256\">>, <<\"k\">> => <<\"{KEY}\">>}},
         Set(resource_server_id, <<\"rabbitmq\">>),
         Set(key_config, [{{default_key, <<\"k\">>}}, {{signing_keys, #{{<<\"k\">> => {{map, Key}}}}}}])."
    );
    broker.run_ok(&setting).await;
    broker
}

/// A token that permits everything until a time in Unix seconds.
async fn token(broker: &Broker, until: u64) -> String {
    let making = format!(
        "Key = #{{<<\"kty\">> => <<\"oct\">>, <<\"k\">> => <<\"{KEY}\">>}},
         Head = #{{<<\"alg\">> => <<\"HS256\">>, <<\"kid\">> => <<\"k\">>}},
         Verbs = [<<\"configure\">>, <<\"write\">>, <<\"read\">>],
         All = [<<\"rabbitmq.\", Verb/binary, \":*/*\">> || Verb <- Verbs],
         Claims = #{{<<\"aud\">> => [<<\"rabbitmq\">>], <<\"sub\">> => <<\"seller\">>, <<\"scope\">> => All,
                    <<\"exp\">> => {until}}},
         {{_, Token}} = jose_jws:compact(jose_jwt:sign(Key, Head, Claims)),
         binary_to_list(Token)."
    );
    broker.run(&making).await.trim_matches('"').to_owned()
}

async fn unix_seconds(broker: &Broker) -> u64 {
    broker.run("os:system_time(seconds).").await.parse().expect("a number of seconds")
}

#[tokio::test]
async fn a_connection_whose_token_has_expired_is_waited_for_whatever_is_known() {
    let broker = start_broker_with_tokens().await;
    let vhost = broker.vhost("/orders").await;
    let client = AmqpClient::connect(&vhost.uri()).await;
    client.declare_queue("all", true, arguments([])).await;
    let until = unix_seconds(&broker).await + 8;
    let sidecar = Sidecar::up(&vhost.uri_as("seller", &token(&broker, until).await)).await;
    assert_eq!(sidecar.post("/v1/queues/all/messages", &[], "x").await.verdict(), (200, "confirmed"));

    eventually("the token has expired", PATIENCE, async || unix_seconds(&broker).await > until).await;

    assert_unavailable(&sidecar.post("/v1/exchanges/amq.fanout/messages", &[], "x").await);
}
