//! The output for people.

use super::*;
use crate::commands::spool::verify;
use crate::control::Report;
use crate::message::ShortText;
use crate::spool::Rates;
use crate::spool::store::{Found, LostTail, RecordState, Seq, Stats, Summary, WrongCounter};

const NOW: i64 = 1_800_000_000_000;

fn short(text: &str) -> ShortText {
    ShortText::new(text).unwrap()
}

fn address(exchange: &str, routing_key: &str) -> Address {
    Address { exchange: short(exchange), routing_key: short(routing_key) }
}

fn line(seq: i64, reason: Option<&str>) -> RecordEntry {
    RecordEntry {
        seq: Seq::new(seq),
        state: if reason.is_some() { RecordState::Parked } else { RecordState::Ready },
        reason: reason.map(str::to_owned),
        destination: address("orders", "order.created"),
        message_id: Some(short("01a20773")),
        created_ms: NOW - seq * 1000,
        expires_ms: NOW + 1000,
        attempts: 3,
        payload_bytes: 1300 * seq.unsigned_abs(),
    }
}

#[test]
fn a_list_is_a_table() {
    let destination = address("orders", "red\u{1b}[31m\n");
    let escaping = RecordEntry { destination, message_id: None, ..line(90_000, None) };
    insta::assert_snapshot!(lines(&[line(7, None), line(4000, Some("unroutable")), escaping], NOW), @r"
      SEQ  STATE   AGE  UNSURE       SIZE  EXCHANGE  ROUTING KEY      REASON      MESSAGE ID
        7  ready    7s       3    8.9 KiB  orders    order.created                01a20773
     4000  parked   1h       3    5.0 MiB  orders    order.created    unroutable  01a20773
    90000  ready   25h       3  111.6 MiB  orders    red\u{1b}[31m\n              (damaged)
    ");
}

fn held() -> Status {
    let holding =
        |key: &str, parked| Holding { destination: address("", key), ready: 12, parked, bytes: 20_000 };
    let held = Summary {
        ready: 24,
        parked: 3,
        oldest_ms: Some(NOW - 300_000),
        live_bytes: 3 << 20,
        destinations: 5,
        largest: vec![holding("mail", 0), holding("invoices", 3)],
    };
    Status { sidecar: Sidecar::None, live: None, held }
}

#[test]
fn the_status_of_a_spool_that_nobody_has() {
    insta::assert_snapshot!(status(&held(), NOW), @r"
    sidecar   none has the spool
    ready     24, oldest 5m
    parked    3
    size      3.0 MiB

    EXCHANGE     ROUTING KEY  READY  PARKED      SIZE
    amq.default  mail            12       0  19.5 KiB
    amq.default  invoices        12       3  19.5 KiB
    and 3 more destinations
    ");
}

#[test]
fn the_status_of_a_spool_whose_process_does_not_answer() {
    let first = |sidecar| status(&Status { sidecar, ..held() }, NOW).lines().next().map(str::to_owned);
    let silent = |pid| Sidecar::Silent { pid, why: "no answer within 2s".to_owned() };
    assert_eq!(
        first(silent(Some(4711))).as_deref(),
        Some("sidecar   process 4711 has the spool and does not answer: no answer within 2s")
    );
    assert_eq!(
        first(silent(None)).as_deref(),
        Some("sidecar   a process has the spool and does not answer: no answer within 2s")
    );
}

#[test]
fn the_status_of_a_full_spool_that_has_lost_its_end() {
    let stats = Stats {
        max_bytes: 1 << 30,
        full: true,
        appended: 1000,
        commits: 50,
        lost: Some(LostTail { known: Seq::new(10), committed: Seq::new(12) }),
        ..Stats::default()
    };
    let live = SpoolSnapshot {
        stats,
        rates: Rates { appends: 12.5, deliveries: 0.0 },
        refused_since_ms: None,
        now_ms: NOW,
    };
    let held = Summary { largest: Vec::new(), destinations: 0, ..held().held };
    insta::assert_snapshot!(status(&Status { sidecar: Sidecar::Answers, live: Some(live), held }, NOW), @r"
    sidecar   working, 1000 stored and 50 commits since its start
    rates     12.5 stored and 0.0 delivered a second
    ready     24, oldest 5m
    parked    3
    size      3.0 MiB of 1.0 GiB, FULL
    LOST      messages 11 to 12 are gone; see docs/spool.md
    ");
}

#[test]
fn a_verification_says_everything_that_is_wrong() {
    let sound = Found { records: 10, ..Found::default() };
    let report = Report::from(sound.clone());
    insta::assert_snapshot!(verify::people(&report), @"10 messages looked at: sound");
    let destination = Some(address("orders", "a"));
    let report = Report::from(Found {
        structure: vec!["Page 3: never used".to_owned()],
        damaged_count: 3,
        damaged: vec![Seq::new(4), Seq::new(9)],
        counters: vec![WrongCounter { destination, counter: "ready", says: 3, is: 2 }],
        lost: Some(LostTail { known: Seq::new(10), committed: Seq::new(12) }),
        ..sound
    });
    insta::assert_snapshot!(verify::people(&report), @r"
    database: Page 3: never used
    message 4 is not what was stored
    message 9 is not what was stored
    and 1 more messages are not
    orders / a: ready says 3, there are 2
    messages 11 to 12 were answered for and are gone
    10 messages looked at: NOT SOUND
    ");
}
