//! The text of a JSON string that serde_json has already checked, without a second check.

use serde_json::value::RawValue;
use std::borrow::Cow;

/// The bytes of the text, which are UTF-8. `None` if the value is not a string, or has surrogate
/// pairs: serde_json reads those.
///
/// A payload that is JSON itself has an escape every few bytes. A second reading of 1 KiB by
/// serde_json took 26,000 of the envelope's 58,000 instructions.
pub(super) fn text_of(value: &RawValue) -> Option<Cow<'_, [u8]>> {
    let written = value.get().strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    match memchr::memchr(b'\\', written) {
        None => Some(Cow::Borrowed(written)),
        Some(first) => without_escapes(written, first).map(Cow::Owned),
    }
}

/// `first` is where the first backslash is.
fn without_escapes(written: &[u8], first: usize) -> Option<Vec<u8>> {
    // No escape is shorter than the character that it stands for.
    let mut text = Vec::with_capacity(written.len());
    let (plain, mut rest) = written.split_at(first);
    text.extend_from_slice(plain);
    while let [b'\\', escape, behind @ ..] = rest {
        rest = behind;
        match escape {
            b'"' | b'\\' | b'/' => text.push(*escape),
            b'n' => text.push(b'\n'),
            b't' => text.push(b'\t'),
            b'r' => text.push(b'\r'),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'u' => {
                let (digits, behind) = rest.split_at_checked(4)?;
                let character = char::from_u32(u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?)?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = behind;
            }
            _ => return None,
        }
        let plain;
        (plain, rest) = rest.split_at(memchr::memchr(b'\\', rest).unwrap_or(rest.len()));
        text.extend_from_slice(plain);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(written: &str) -> Option<Vec<u8>> {
        let value: &RawValue = serde_json::from_str(written).unwrap();
        text_of(value).map(Cow::into_owned)
    }

    #[test]
    fn every_escape_is_the_character_it_stands_for() {
        let read = read(r#""\" \\ \/ \b \f \n \r \t A\u00fc\u20AC \u0000""#);
        assert_eq!(read.unwrap(), "\" \\ / \u{8} \u{c} \n \r \t Aü€ \0".as_bytes());
    }

    #[test]
    fn a_text_without_an_escape_is_not_copied() {
        let value: &RawValue = serde_json::from_str("\"plain ü\"").unwrap();
        assert!(matches!(text_of(value), Some(Cow::Borrowed(text)) if text == "plain ü".as_bytes()));
    }

    #[test]
    fn what_is_no_text_is_left_to_serde_json() {
        for written in [r#""\ud83d\ude00""#, r#""\ud83d""#, "1", "null", "{}", "[\"\"]"] {
            assert_eq!(read(written), None, "{written}");
        }
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            r#"\\["\\/bfnrt]"#.prop_map(String::from),
            any::<char>().prop_map(|character| {
                let mut units = [0; 2];
                character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }),
            "[^\"\\\\\\p{Cc}]{0,20}".prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_text_that_is_read_is_the_one_that_serde_json_reads(pieces in pieces()) {
            let written = format!("\"{pieces}\"");
            let expected: String = serde_json::from_str(&written).unwrap();
            let read = read(&written);
            prop_assert!(read.is_some() || pieces.contains("\\ud"), "{} is left to serde_json", written);
            if let Some(read) = read {
                prop_assert_eq!(read, expected.into_bytes());
            }
        }
    }
}
