//! Names with several addresses: each is an endpoint, looked up anew for each attempt to connect.

use crate::harness::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const QUEUE: &str = "/v1/queues/orders/messages";
const PATIENCE: Duration = Duration::from_secs(20);

/// A vhost of the shared node with the queue `orders`, and a URI that names the node `rabbit`.
async fn scene(name: &str) -> (Vhost, String) {
    let vhost = shared().await.vhost(name).await;
    AmqpClient::connect(&vhost.uri()).await.declare_queue("orders", true, arguments([])).await;
    let uri = vhost.uri().replace("127.0.0.1", "rabbit");
    (vhost, uri)
}

/// Accepts connections at `address` and says nothing.
async fn silent_at(address: &str, port: u16) {
    let listener = TcpListener::bind((address, port)).await.expect("a loopback address");
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
}

/// Leads from `address` to 127.0.0.1.
async fn lead_from(address: &str, port: u16) {
    let listener = TcpListener::bind((address, port)).await.expect("a loopback address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", port)).await.expect("the broker listens");
            tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut client, &mut server).await) });
        }
    });
}

/// How many connections are up at each address.
async fn up_at(sidecar: &Sidecar) -> BTreeMap<String, usize> {
    let link = sidecar.admin("/link").await.json();
    let mut up = BTreeMap::new();
    for connection in link["connections"].as_array().expect("a list") {
        if connection["state"] == "up" {
            let address = connection["address"].as_str().expect("a text").to_owned();
            *up.entry(address).or_default() += 1;
        }
    }
    up
}

async fn all_are_up(sidecar: &Sidecar, connections: usize) -> BTreeMap<String, usize> {
    eventually("all connections are up", PATIENCE, async || {
        let up = up_at(sidecar).await;
        if up.values().sum::<usize>() == connections { Ok(up) } else { Err((up, sidecar.log())) }
    })
    .await
}

#[tokio::test]
async fn addresses_that_accept_and_stay_silent_keep_no_connection_from_the_one_that_answers() {
    let (vhost, uri) = scene("silent_addresses").await;
    let port = vhost.broker().amqp_port();
    for address in ["127.0.1.2", "127.0.1.3"] {
        silent_at(address, port).await;
    }
    let sidecar = Sidecar::builder(&uri)
        .hosts("127.0.1.2 rabbit\n127.0.1.3 rabbit\n127.0.0.1 rabbit\n")
        .start()
        .await
        .with_link_up()
        .await;
    let up = all_are_up(&sidecar, 2).await;
    assert_eq!(up, BTreeMap::from([(format!("127.0.0.1:{port}"), 2)]));
    assert_eq!(sidecar.post(QUEUE, &[], "x").await.verdict(), (200, "confirmed"));
}

#[tokio::test]
async fn connections_are_spread_over_the_addresses_of_a_name() {
    let (vhost, uri) = scene("spread_addresses").await;
    let port = vhost.broker().amqp_port();
    lead_from("127.0.1.4", port).await;
    let sidecar = Sidecar::builder(&uri)
        .hosts("127.0.1.4 rabbit\n127.0.0.1 rabbit\n")
        .set("broker.connections", "4")
        .start()
        .await
        .with_link_up()
        .await;
    let up = all_are_up(&sidecar, 4).await;
    let two = |address: &str| (format!("{address}:{port}"), 2);
    assert_eq!(up, BTreeMap::from([two("127.0.0.1"), two("127.0.1.4")]));
    let link = sidecar.admin("/link").await.json();
    assert_eq!(link["connections"][0]["endpoint"], format!("rabbit:{port}"));
}

#[tokio::test]
async fn a_name_that_moves_to_another_address_is_followed() {
    let (vhost, uri) = scene("moved_name").await;
    let port = vhost.broker().amqp_port();
    let sidecar = Sidecar::builder(&uri).hosts("127.0.1.5 rabbit\n").start().await;
    eventually("the address is among the reasons", PATIENCE, async || {
        let ready = sidecar.admin("/readyz").await.text();
        let reason = format!("rabbit:{port} at 127.0.1.5:{port}: refused");
        if ready.contains(&reason) { Ok(()) } else { Err(ready) }
    })
    .await;

    sidecar.set_hosts("127.0.0.1 rabbit\n");

    all_are_up(&sidecar, 2).await;
}

#[tokio::test]
async fn tls_verifies_the_name_and_not_the_address() {
    let broker = Broker::builder().tls().start().await;
    lead_from("127.0.1.6", broker.tls_port()).await;
    let sidecar = Sidecar::builder(&broker.tls_uri("/"))
        .hosts("127.0.1.6 localhost\n")
        .set("broker.ca_file", &format!("\"{}\"", broker.ca_pem().display()))
        .start()
        .await;
    let up = all_are_up(&sidecar, 2).await;
    assert_eq!(up, BTreeMap::from([(format!("127.0.1.6:{}", broker.tls_port()), 2)]));
}
