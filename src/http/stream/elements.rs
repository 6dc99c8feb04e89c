//! The elements of a JSON array, one after the other, each with its exact text.

use super::arriving::Upcoming;
use super::engine::Ending;
use crate::http::places::Room;
use crate::http::rejection::Rejection;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// White space of JSON.
const BLANK: [u8; 4] = [b' ', b'\t', b'\r', b'\n'];

/// A checked array, and how far it has been read.
#[derive(Debug)]
pub(super) struct Elements {
    document: Bytes,
    position: usize,
    _room: Room,
}

impl Elements {
    /// Checks that the array is JSON to its end, so that nothing of a broken array is published.
    pub(super) fn of(document: Bytes, room: Room) -> Result<Self, Rejection> {
        let text = str::from_utf8(&document).map_err(|_| Rejection::invalid("array", "is not UTF-8"))?;
        // A list of ignored values takes no memory, however long it is.
        serde_json::from_str::<Vec<IgnoredAny>>(text).map_err(|error| Rejection::invalid("array", error))?;
        let position = text.find('[').map_or(0, |bracket| bracket + 1);
        Ok(Self { document, position, _room: room })
    }

    pub(super) fn next(&mut self) -> Upcoming {
        let rest = &self.document[self.position..];
        let start = rest.iter().position(|byte| !BLANK.contains(byte) && *byte != b',').unwrap_or(rest.len());
        let mut elements = serde_json::Deserializer::from_slice(&rest[start..]).into_iter::<&RawValue>();
        // The bracket behind the last element is not a value.
        let Some(Ok(element)) = elements.next() else { return Upcoming::End(Ending::Complete) };
        let element = self.document.slice_ref(element.get().as_bytes());
        self.position += start + element.len();
        Upcoming::Line(element, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(document: &'static str) -> Result<Vec<String>, Rejection> {
        let mut elements = Elements::of(Bytes::from_static(document.as_bytes()), Room::none())?;
        let mut texts = Vec::new();
        while let Upcoming::Line(text, None) = elements.next() {
            texts.push(String::from_utf8(text.to_vec()).unwrap());
        }
        Ok(texts)
    }

    #[test]
    fn every_element_is_given_as_it_is_written() {
        assert_eq!(elements(" [] "), Ok(vec![]));
        assert_eq!(
            elements("\n[ {\"a\": [1,\t2]},{},\"x,]\" , -1.5e3,null\n, []]\n").unwrap(),
            ["{\"a\": [1,\t2]}", "{}", "\"x,]\"", "-1.5e3", "null", "[]"]
        );
    }

    #[test]
    fn a_broken_array_is_refused_as_a_whole() {
        for broken in ["[", "[{}", "[{},]", "[{}{}]", "[{}] x", "[{]"] {
            let refused = elements(broken).unwrap_err();
            assert!(refused.to_string().starts_with("array: "), "{broken}: {refused}");
        }
    }
}
