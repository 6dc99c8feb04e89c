//! The JSON envelope: a whole message in one document, with typed headers and binary payloads.
//!
//! `decode` reads it (payloads by `json_text`), `encode` writes it; `fields` are the parts that
//! other forms of a request share with it, `options` are the options of publishing that a request
//! sets.

mod decode;
mod encode;
mod fields;
mod json_text;
mod options;

pub use decode::{Envelope, decode};
pub use encode::envelope_of;
pub use fields::{Invalid, client_key, mandatory, message_id, mode, retry, short, timeout, timestamp};
pub use options::PublishOptions;
