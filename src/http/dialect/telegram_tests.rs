//! A dialect that nobody needs. It proves that a new dialect takes one file and its lines in a
//! table of routes, and nothing else.
//!
//! Telegrams are lines of text that are sent together or not at all; a single one is the body
//! itself.

use super::{Decoding, Dialect, Expected, Head, Orders};
use crate::envelope::{Envelope, PublishOptions, short};
use crate::http::counted::requests::{with_a_broker, without_a_broker};
use crate::http::rejection::Rejection;
use crate::http::routes::{Route, routes_of};
use crate::http::terms::Terms;
use crate::listener::testing::asked;
use crate::message::{Message, Order, Properties, Settlement, new_message_id};
use crate::outcome::Class;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use bytes::Bytes;
use hyper::{Request, StatusCode};

const TABLE: &[Route] = &[
    Route::new("POST", "/telegrams/{exchange}/{key}", Dialect { decode: together, encode }),
    Route::new("PUT", "/telegrams/{exchange}/{key}", Dialect { decode: alone, encode }),
];

fn alone(terms: &Terms, head: &Head) -> Result<Decoding, Rejection> {
    telegram(terms, head, PublishOptions::default(), Bytes::new()).map(Decoding::Payload)
}

fn together(_: &Terms, _: &Head) -> Result<Decoding, Rejection> {
    Ok(Decoding::Document(lines))
}

fn lines(terms: &Terms, expected: &Expected, document: &Bytes) -> Result<Orders, Rejection> {
    let text = str::from_utf8(document).map_err(|error| Rejection::invalid("body", error))?;
    let telegrams = text.lines().enumerate().map(|(index, line)| match line.trim() {
        "" => Err(Rejection::invalid(&format!("telegram {index}"), "is empty")),
        words => {
            let payload = Bytes::copy_from_slice(words.as_bytes());
            telegram(terms, &expected.head, expected.defaults.options, payload)
        }
    });
    Ok(Orders::All(telegrams.collect::<Result<_, _>>()?, encode_all))
}

fn telegram(terms: &Terms, head: &Head, options: PublishOptions, payload: Bytes) -> Result<Order, Rejection> {
    let (exchange, key) = head.name().split_once('/').expect("the template has two names");
    let properties = Properties { message_id: new_message_id(), ..Properties::default() };
    let (exchange, routing_key) = (short("exchange", exchange)?, short("key", key)?);
    let message = Message { exchange, routing_key, mandatory: true, properties, payload };
    let envelope = Envelope { message, options, key: None, id_is_assigned: true };
    terms.order(&head.client, envelope, head.start, ["timeout", "mode"])
}

fn encode(settlement: &Settlement) -> Response {
    let row = settlement.outcome.row();
    let text = match row.class {
        Class::Confirmed | Class::Spooled => "SENT STOP".to_owned(),
        Class::NotPublished | Class::Unknown => {
            format!("{} STOP {} STOP", row.code, settlement.detail.as_deref().unwrap_or(row.title))
        }
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    response
}

fn encode_all(settlements: &[Settlement]) -> Response {
    let codes: Vec<_> = settlements.iter().map(|settlement| settlement.outcome.code()).collect();
    Response::new(Body::from(codes.join(" STOP ")))
}

/// The answer to a telegram: status, text, `Amqpost-Code`, `Allow`.
async fn answered(response: Response) -> (u16, String, Option<String>, Option<String>) {
    let (head, body) = response.into_parts();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let text = String::from_utf8(to_bytes(body, 1 << 16).await.unwrap().to_vec()).unwrap();
    (head.status.as_u16(), text, header("amqpost-code"), header("allow"))
}

fn request(method: &str, text: &'static str) -> Request<Body> {
    Request::builder().method(method).uri("/telegrams/news/london").body(Body::from(text)).unwrap()
}

#[tokio::test]
async fn a_telegram_is_published_and_answered_in_its_own_words() {
    let (_link, door, _stopper) = with_a_broker().await;
    let routes = routes_of(TABLE, door);
    let alone = answered(asked(routes.clone(), request("PUT", "the war is over")).await).await;
    assert_eq!(alone, (418, "SENT STOP".to_owned(), Some("confirmed".to_owned()), None));
    let together = answered(asked(routes, request("POST", "arriving at noon\nmeet me\n")).await).await;
    assert_eq!(together, (200, "confirmed STOP confirmed".to_owned(), Some("confirmed".to_owned()), None));
}

#[tokio::test]
async fn one_bad_telegram_keeps_all_of_them_back() {
    let (_link, door, _stopper) = with_a_broker().await;
    let refused = answered(asked(routes_of(TABLE, door), request("POST", "one\n\nthree")).await).await;
    let text = "invalid_request STOP telegram 1: is empty STOP".to_owned();
    assert_eq!(refused, (418, text, Some("invalid_request".to_owned()), None));
}

#[tokio::test]
async fn a_telegram_is_refused_before_it_is_read_and_by_its_method_as_any_request_is() {
    let (door, _stopper) = without_a_broker();
    let routes = routes_of(TABLE, door);
    for method in ["PUT", "POST"] {
        let refused = answered(asked(routes.clone(), request(method, "anybody there?")).await).await;
        let text = "link_down STOP No connection to the broker is up STOP".to_owned();
        assert_eq!(refused, (418, text, Some("link_down".to_owned()), None), "{method}");
    }
    let (status, _, code, allow) = answered(asked(routes, request("GET", "")).await).await;
    assert_eq!(
        (status, code.as_deref(), allow.as_deref()),
        (418, Some("method_not_allowed"), Some("POST, PUT"))
    );
}
