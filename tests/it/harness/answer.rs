//! An answer of the sidecar, as a client sees it.

use bytes::Bytes;
use hyper::http::response::Parts;
use std::time::Duration;

/// Status, headers, body and duration.
#[derive(Debug)]
pub struct Answer {
    head: Parts,
    body: Bytes,
    /// From sending the request to the last byte of the answer.
    pub elapsed: Duration,
}

impl Answer {
    pub(super) fn new(head: Parts, body: Bytes, elapsed: Duration) -> Self {
        Self { head, body, elapsed }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// A header's text, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.head.headers.get(name).map(|value| value.to_str().expect("visible ASCII")).unwrap_or_default()
    }

    /// The outcome's code.
    pub fn code(&self) -> &str {
        self.header("amqpost-code")
    }

    /// The outcome's class: confirmed, not_published or unknown.
    pub fn outcome(&self) -> &str {
        self.header("amqpost-outcome")
    }

    /// The id of the message.
    pub fn message_id(&self) -> &str {
        self.header("amqpost-message-id")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// The problem's detail.
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and code together, for assertions that show both.
    pub fn verdict(&self) -> (u16, &str) {
        (self.status(), self.code())
    }
}
