//! Message ids that sort by time (UUIDv7, RFC 9562 §5.7).

use super::ShortText;

/// A new message id: a UUIDv7 in its hyphenated lower-case form.
#[must_use]
pub fn new_message_id() -> ShortText {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = uuid::Uuid::now_v7().hyphenated().encode_lower(&mut text);
    ShortText::new(&*text).expect("a hyphenated UUID has 36 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_version_7_and_ascending() {
        let ids: Vec<_> = (0..1000).map(|_| new_message_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        let parsed = uuid::Uuid::parse_str(ids[0].as_str()).unwrap();
        assert_eq!(parsed.get_version_num(), 7);
    }
}
