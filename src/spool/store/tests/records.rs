//! Every message comes back unchanged, and damaged bytes never come back as a message.

use super::*;
use crate::message::testing::messages;
use crate::spool::store::format::record::{checksum, decode, encode};
use proptest::collection::vec;
use proptest::prelude::*;

fn message() -> impl Strategy<Value = Message> {
    let equal_to_itself = proptest::num::f64::ANY.prop_filter("equal to itself", |n| !n.is_nan());
    messages(equal_to_itself.boxed())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_comes_back_as_it_was(message in message()) {
        prop_assert_eq!(decode(&encode(&message), message.payload.clone()), Ok(message));
    }

    #[test]
    fn a_message_that_is_cut_or_longer_is_refused(message in message(), at in any::<prop::sample::Index>()) {
        let mut meta = encode(&message);
        prop_assert!(decode(&meta[..at.index(meta.len())], Bytes::new()).is_err());
        meta.push(0);
        prop_assert!(decode(&meta, Bytes::new()).is_err());
    }

    #[test]
    fn any_bytes_at_all_are_read_without_a_panic(mut meta in vec(any::<u8>(), 1..200)) {
        meta[0] = 1;
        drop(decode(&meta, Bytes::new()));
    }

    #[test]
    fn one_flipped_bit_changes_the_checksum(
        meta in vec(any::<u8>(), 1..50),
        body in vec(any::<u8>(), 1..50),
        bit in any::<prop::sample::Index>(),
    ) {
        let whole = checksum(1, 2, &meta, &body);
        let (mut damaged_meta, mut damaged_body) = (meta.clone(), body.clone());
        let bit = bit.index((meta.len() + body.len()) * 8);
        match damaged_meta.get_mut(bit / 8) {
            Some(byte) => *byte ^= 1 << (bit % 8),
            None => damaged_body[bit / 8 - meta.len()] ^= 1 << (bit % 8),
        }
        prop_assert_ne!(checksum(1, 2, &damaged_meta, &damaged_body), whole);
    }
}

#[test]
fn the_checksum_covers_the_place_and_the_border_between_properties_and_content() {
    let whole = checksum(1, 2, b"ab", b"cd");
    for other in [checksum(2, 2, b"ab", b"cd"), checksum(1, 1, b"ab", b"cd"), checksum(1, 2, b"abc", b"d")] {
        assert_ne!(other, whole);
    }
}

#[test]
fn another_version_and_a_bottomless_table_are_refused() {
    let mut meta = encode(&record("a", "x").message);
    let headers = meta.len() - 4;
    let mut deep = meta[..headers].to_vec();
    deep.extend([1, 0, 0, 0, 0]);
    deep.extend([b'A', 1, 0, 0, 0].repeat(100_000));
    deep.push(b'V');
    assert!(decode(&deep, Bytes::new()).is_err());
    meta[0] = 2;
    assert!(decode(&meta, Bytes::new()).is_err());
}

#[tokio::test]
async fn a_message_is_the_same_after_the_disk() {
    let mut bench = Bench::new();
    let mut new = record("a", body(100_000));
    new.message.exchange = short("");
    new.message.routing_key = short("a\0b");
    let expected = new.message.clone();
    let seq = stored(bench.handle.append(new).await);
    bench.reopen();
    let batch = bench.handle.next_batch(&Address::of(&expected), None, 10, 1).await.unwrap();
    assert_eq!(batch.records[0].message, expected);
    assert_eq!(bench.handle.get(seq).await.unwrap().unwrap().message, Some(expected));
}
