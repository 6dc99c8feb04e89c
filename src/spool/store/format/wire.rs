//! Numbers, texts and options to bytes and back. Reading never panics and never trusts a length.

use crate::message::ShortText;

/// The bytes do not form a record of a known version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be read")]
pub(crate) struct Unreadable;

/// Bytes being written.
#[derive(Default)]
pub(crate) struct Encoder(Vec<u8>);

/// Bytes being read.
pub(crate) struct Decoder<'a>(&'a [u8]);

impl Encoder {
    pub(crate) fn u8(&mut self, number: u8) {
        self.0.push(number);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A number of elements or bytes. A properties frame holds far fewer than 2^32.
    pub(crate) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("a table fits a frame"));
    }

    pub(crate) fn short(&mut self, text: &ShortText) {
        self.u8(u8::try_from(text.len()).expect("a short text has at most 255 bytes"));
        self.0.extend_from_slice(text.as_str().as_bytes());
    }

    pub(crate) fn long(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Unreadable> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Unreadable> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of elements or bytes. Each takes at least one byte, so a larger number is damage.
    pub(crate) fn count(&mut self) -> Result<usize, Unreadable> {
        let count = self.u32()? as usize;
        if count > self.0.len() { Err(Unreadable) } else { Ok(count) }
    }

    fn text(&mut self, length: usize) -> Result<&'a str, Unreadable> {
        str::from_utf8(self.take(length)?).map_err(|_| Unreadable)
    }

    pub(crate) fn short(&mut self) -> Result<ShortText, Unreadable> {
        let length = self.u8()?.into();
        ShortText::new(self.text(length)?).map_err(|_| Unreadable)
    }

    pub(crate) fn long(&mut self) -> Result<String, Unreadable> {
        let length = self.count()?;
        self.text(length).map(str::to_owned)
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn end(&self) -> Result<(), Unreadable> {
        if self.0.is_empty() { Ok(()) } else { Err(Unreadable) }
    }
}
