//! The operations over HTTP, as a script uses them, and their effects on the backlog.

use super::*;
use crate::message::{Message, Properties, ShortText};
use crate::spool::SpoolHandle;
use crate::spool::store::{Address, Appended, NewRecord, Seq, Store, StoreReader, StoreSettings};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// A spool in use, and the router of its socket.
struct Office {
    router: Router,
    spool: SpoolHandle,
    _store: Store,
    _directory: TempDir,
}

fn to(key: &str) -> Address {
    Address { exchange: ShortText::default(), routing_key: ShortText::new(key).unwrap() }
}

impl Office {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("spool");
        let (store, handle) = Store::open(StoreSettings::new(&path)).unwrap();
        let spool = SpoolHandle::new(handle);
        let desk = Desk::new(spool.clone(), StoreReader::open(&path).unwrap());
        Self { router: routes::router(desk, &path), spool, _store: store, _directory: directory }
    }

    async fn append(&self, key: &str) -> i64 {
        let Address { exchange, routing_key } = to(key);
        let payload = format!("for {key}").into();
        let message =
            Message { exchange, routing_key, mandatory: true, properties: Properties::default(), payload };
        match self.spool.store.append(NewRecord { message, idempotency: None }).await {
            Ok(Appended::Stored(seq)) => seq.number(),
            other => panic!("{other:?}"),
        }
    }

    async fn text(&self, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, text) = self.text(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, path: &str, order: Value) -> (StatusCode, Value) {
        let (status, text) = self.text(Method::POST, path, &order.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")))
    }

    async fn done(&self, path: &str, order: Value) -> Value {
        let (status, done) = self.post(path, order).await;
        assert_eq!(status, StatusCode::OK, "{done}");
        done
    }

    fn waits(&self, key: &str) -> bool {
        self.spool.backlog.has(&to(key))
    }
}

fn seqs(page: &Value) -> Vec<i64> {
    page["messages"].as_array().unwrap().iter().map(|line| line["seq"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn what_is_there_can_be_listed_page_by_page_and_shown() {
    let office = Office::new();
    for key in ["a", "b", "a"] {
        office.append(key).await;
    }
    let status = office.get("/v1/status").await;
    assert_eq!((&status["ready"], &status["live"]["health"]), (&json!(3), &json!("working")));
    let page = office.get("/v1/messages?limit=2").await;
    assert_eq!((seqs(&page), &page["next"]), (vec![1, 2], &json!(2)));
    let page = office.get("/v1/messages?limit=2&after=2").await;
    assert_eq!((seqs(&page), &page["next"]), (vec![3], &Value::Null));
    let page = office.get("/v1/messages?exchange=amq.default&routing_key=a").await;
    assert_eq!(seqs(&page), [1, 3]);
    let shown = office.get("/v1/messages/2").await;
    assert_eq!((&shown["exchange"], &shown["envelope"]["payload"]), (&json!("amq.default"), &json!("for b")));
    let (status, lines) = office.text(Method::GET, "/v1/export?routing_key=a", "").await;
    assert_eq!((status, lines.lines().count()), (StatusCode::OK, 2));
    assert!(lines.lines().all(|line| line.contains(r#""payload":"for a""#)), "{lines}");
    let (_, report) = office.post("/v1/verify", Value::Null).await;
    assert_eq!((&report["sound"], &report["messages"]), (&json!(true), &json!(3)));
}

#[tokio::test]
async fn a_change_is_made_part_by_part_and_not_to_what_came_later() {
    let office = Office::new();
    for _ in 0..5 {
        office.append("a").await;
    }
    let order = |after: Value| json!({"filter": {"state": "ready", "limit": 2, "after": after}, "until": 4});
    let parked = office.done("/v1/park", order(Value::Null)).await;
    assert_eq!(parked, json!({"matched": 2, "changed": 2, "next": 2}));
    let parked = office.done("/v1/park", order(parked["next"].clone())).await;
    assert_eq!(parked, json!({"matched": 2, "changed": 2, "next": 4}));
    let parked = office.done("/v1/park", order(parked["next"].clone())).await;
    assert_eq!(parked, json!({"matched": 0, "changed": 0, "next": null}));
    assert_eq!(seqs(&office.get("/v1/messages?reason=operator").await), [1, 2, 3, 4]);
}

#[tokio::test]
async fn the_backlog_follows_every_change() {
    let office = Office::new();
    let (one, two) = (office.append("a").await, office.append("b").await);
    office.done("/v1/park", json!({"seqs": [one], "reason": "poison"})).await;
    assert!(!office.waits("a") && office.waits("b"));
    assert_eq!(office.get("/v1/messages/1").await["reason"], "poison");
    office.done("/v1/redrive", json!({"seqs": [one, two]})).await;
    assert!(office.waits("a") && office.waits("b"));
    let dropped = office.done("/v1/drop", json!({"filter": {}})).await;
    assert_eq!(dropped, json!({"matched": 2, "changed": 2, "next": null}));
    assert!(!office.waits("a") && !office.waits("b"));
}

#[tokio::test]
async fn what_was_delivered_while_it_was_parked_or_removed_is_counted_once() {
    let office = Office::new();
    let mut seqs = Vec::new();
    for _ in 0..4 {
        seqs.push(office.append("a").await);
    }
    let confirm = async |seq| office.spool.store.confirm(vec![Seq::new(seq)]).await.unwrap();
    // The broker got the first two while the operator parked one and removed the other.
    office.done("/v1/park", json!({"seqs": [seqs[0]]})).await;
    confirm(seqs[0]).await;
    office.done("/v1/drop", json!({"seqs": [seqs[1]]})).await;
    confirm(seqs[1]).await;
    assert!(office.waits("a"), "two wait, and nothing may overtake them");
    confirm(seqs[2]).await;
    let dropped = office.done("/v1/drop", json!({"seqs": [seqs[2], seqs[3]]})).await;
    assert_eq!(dropped["changed"], 1);
    assert!(!office.waits("a"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_reason() {
    let office = Office::new();
    office.append("a").await;
    for (path, order) in [
        ("/v1/drop", json!({})),
        ("/v1/drop", json!({"seqs": [1], "filter": {}})),
        ("/v1/drop", json!({"filter": {"state": "lost"}})),
        ("/v1/drop", json!({"filter": {"colour": "red"}})),
        ("/v1/park", json!({"seqs": (0..1001).collect::<Vec<_>>()})),
        ("/v1/redrive", json!([])),
    ] {
        let (status, fault) = office.post(path, order.clone()).await;
        assert!(status.is_client_error() && fault["error"].is_string(), "{order}: {status} {fault}");
    }
    let (status, fault) = office.text(Method::GET, "/v1/messages?state=lost", "").await;
    assert_eq!(
        (status, fault.as_str()),
        (StatusCode::BAD_REQUEST, r#"{"error":"state: expected ready or parked"}"#)
    );
    assert_eq!(office.text(Method::GET, "/v1/messages/7", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(office.text(Method::GET, "/v1/nothing", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(office.get("/v1/status").await["ready"], 1, "nothing was changed");
}
