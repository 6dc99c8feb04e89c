//! Strict percent-decoding of path segments and query values.

use std::borrow::Cow;

/// Why a text does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenEncoding {
    /// A `%` without two hexadecimal digits behind it.
    #[error("broken percent-encoding: '%' needs two hexadecimal digits behind it")]
    Sequence,
    /// The decoded bytes are not UTF-8.
    #[error("the decoded text is not UTF-8")]
    NotUtf8,
}

/// Decodes `%XX`. Unlike lenient decoders it lets no broken sequence through as text.
pub fn decode(text: &str) -> Result<Cow<'_, str>, BrokenEncoding> {
    let mut rest = text.as_bytes();
    while let Some(position) = rest.iter().position(|byte| *byte == b'%') {
        let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
        if !(is_hex(rest.get(position + 1)) && is_hex(rest.get(position + 2))) {
            return Err(BrokenEncoding::Sequence);
        }
        rest = &rest[position + 3..];
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map_err(|_| BrokenEncoding::NotUtf8)
}

/// Decodes a name or value of a query, where `+` is a space.
pub fn decode_query(text: &str) -> Result<Cow<'_, str>, BrokenEncoding> {
    if text.contains('+') {
        Ok(Cow::Owned(decode(&text.replace('+', " "))?.into_owned()))
    } else {
        decode(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back_and_what_is_broken_does_not() {
        let cases = [
            ("orders", Ok("orders")),
            ("a%2Fb%2fc", Ok("a/b/c")),
            ("%C3%A9", Ok("é")),
            ("a+b", Ok("a+b")),
            ("", Ok("")),
            ("%", Err(BrokenEncoding::Sequence)),
            ("%2", Err(BrokenEncoding::Sequence)),
            ("%zz", Err(BrokenEncoding::Sequence)),
            ("%+1", Err(BrokenEncoding::Sequence)),
            ("ok%", Err(BrokenEncoding::Sequence)),
            ("%FF", Err(BrokenEncoding::NotUtf8)),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text), expected.map(Cow::Borrowed), "{text}");
        }
        assert_eq!(decode_query("a+b%2Bc"), Ok(Cow::Borrowed("a b+c")));
    }
}
