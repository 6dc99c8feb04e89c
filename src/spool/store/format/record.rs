//! The bytes of a record: a message without its content as versioned `meta`, and the checksum over
//! all of it.

use super::wire::{Decoder, Encoder, Unreadable};
use crate::message::{DeliveryMode, HeaderTable, HeaderValue, MAX_HEADER_DEPTH, Message, Properties};
use bytes::Bytes;

/// The newest version of `meta`, its first byte. Older ones stay readable.
const VERSION: u8 = 1;

/// The checksum of a record. It includes the number and the destination, so that bytes in a wrong
/// row fail.
pub(crate) fn checksum(seq: i64, dest: i64, meta: &[u8], body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&seq.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &dest.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &(meta.len() as u64).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, meta), body)
}

/// A message without its content.
pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let Message { exchange, routing_key, mandatory, properties, payload: _ } = message;
    let mut to = Encoder::default();
    to.u8(VERSION);
    to.short(exchange);
    to.short(routing_key);
    to.u8(u8::from(*mandatory));
    to.short(&properties.message_id);
    to.u8(properties.delivery_mode.as_u8());
    for text in [
        &properties.content_type,
        &properties.content_encoding,
        &properties.correlation_id,
        &properties.reply_to,
        &properties.kind,
        &properties.user_id,
        &properties.app_id,
    ] {
        to.option(text.as_ref(), Encoder::short);
    }
    to.option(properties.priority, Encoder::u8);
    to.option(properties.expiration_ms, Encoder::u32);
    to.option(properties.timestamp, Encoder::u64);
    table(&mut to, &properties.headers);
    to.finish()
}

/// The message that was encoded, with its content.
pub(crate) fn decode(meta: &[u8], payload: Bytes) -> Result<Message, Unreadable> {
    let mut from = Decoder::new(meta);
    if from.u8()? != VERSION {
        return Err(Unreadable);
    }
    let (exchange, routing_key) = (from.short()?, from.short()?);
    let mandatory = from.bool()?;
    // Read in the order in which they were written; the fields of the literal are evaluated in that
    // order.
    let properties = Properties {
        message_id: from.short()?,
        delivery_mode: DeliveryMode::from_u64(from.u8()?.into()).ok_or(Unreadable)?,
        content_type: from.option(Decoder::short)?,
        content_encoding: from.option(Decoder::short)?,
        correlation_id: from.option(Decoder::short)?,
        reply_to: from.option(Decoder::short)?,
        kind: from.option(Decoder::short)?,
        user_id: from.option(Decoder::short)?,
        app_id: from.option(Decoder::short)?,
        priority: from.option(Decoder::u8)?,
        expiration_ms: from.option(Decoder::u32)?,
        timestamp: from.option(Decoder::u64)?,
        headers: read_table(&mut from, 0)?,
    };
    from.end()?;
    Ok(Message { exchange, routing_key, mandatory, properties, payload })
}

fn table(to: &mut Encoder, table: &HeaderTable) {
    to.count(table.len());
    for (name, header) in table {
        to.short(name);
        value(to, header);
    }
}

fn value(to: &mut Encoder, header: &HeaderValue) {
    match header {
        HeaderValue::Void => to.u8(b'V'),
        HeaderValue::Bool(flag) => {
            to.u8(b't');
            to.u8(u8::from(*flag));
        }
        HeaderValue::Int(number) => {
            to.u8(b'l');
            to.u64(number.cast_unsigned());
        }
        HeaderValue::Double(number) => {
            to.u8(b'd');
            to.u64(number.to_bits());
        }
        HeaderValue::Text(text) => {
            to.u8(b'S');
            to.long(text);
        }
        HeaderValue::Array(values) => {
            to.u8(b'A');
            to.count(values.len());
            for element in values {
                value(to, element);
            }
        }
        HeaderValue::Table(entries) => {
            to.u8(b'F');
            table(to, entries);
        }
    }
}

fn read_table(from: &mut Decoder<'_>, depth: usize) -> Result<HeaderTable, Unreadable> {
    let mut table = HeaderTable::new();
    for _ in 0..from.count()? {
        let name = from.short()?;
        table.insert(name, read_value(from, depth)?);
    }
    Ok(table)
}

fn read_value(from: &mut Decoder<'_>, depth: usize) -> Result<HeaderValue, Unreadable> {
    // No deeper header was accepted. Without the bound, damaged bytes could exhaust the stack.
    if depth > MAX_HEADER_DEPTH {
        return Err(Unreadable);
    }
    Ok(match from.u8()? {
        b'V' => HeaderValue::Void,
        b't' => HeaderValue::Bool(from.bool()?),
        b'l' => HeaderValue::Int(from.u64()?.cast_signed()),
        b'd' => HeaderValue::Double(f64::from_bits(from.u64()?)),
        b'S' => HeaderValue::Text(from.long()?),
        b'A' => {
            let count = from.count()?;
            HeaderValue::Array((0..count).map(|_| read_value(from, depth + 1)).collect::<Result<_, _>>()?)
        }
        b'F' => HeaderValue::Table(read_table(from, depth + 1)?),
        _ => return Err(Unreadable),
    })
}
