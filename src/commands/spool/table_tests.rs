//! What people see, as it looks.

use super::*;
use crate::commands::spool::verify;
use crate::control::{Counter, LostView, Report};

const NOW: i64 = 1_800_000_000_000;

fn line(seq: i64, reason: Option<&str>) -> Line {
    Line {
        seq,
        state: if reason.is_some() { "parked" } else { "ready" }.to_owned(),
        reason: reason.map(str::to_owned),
        exchange: "orders".to_owned(),
        routing_key: "order.created".to_owned(),
        message_id: Some("01a20773".to_owned()),
        created_unix_ms: NOW - seq * 1000,
        expires_unix_ms: NOW + 1000,
        attempts: 3,
        payload_bytes: 1300 * seq.unsigned_abs(),
    }
}

#[test]
fn a_list_is_a_table() {
    let escaping = Line { routing_key: "red\u{1b}[31m\n".to_owned(), message_id: None, ..line(90_000, None) };
    insta::assert_snapshot!(lines(&[line(7, None), line(4000, Some("unroutable")), escaping], NOW), @r"
      SEQ  STATE   AGE  UNSURE       SIZE  EXCHANGE  ROUTING KEY      REASON      MESSAGE ID
        7  ready    7s       3    8.9 KiB  orders    order.created                01a20773
     4000  parked   1h       3    5.0 MiB  orders    order.created    unroutable  01a20773
    90000  ready   25h       3  111.6 MiB  orders    red\u{1b}[31m\n              (damaged)
    ");
}

fn held() -> Status {
    let holding = |key: &str, parked| HoldingView {
        exchange: "amq.default".to_owned(),
        routing_key: key.to_owned(),
        ready: 12,
        parked,
        bytes: 20_000,
    };
    Status {
        sidecar: Sidecar::None,
        live: None,
        ready: 24,
        parked: 3,
        oldest_unix_ms: Some(NOW - 300_000),
        bytes: 3 << 20,
        destinations: 5,
        largest: vec![holding("mail", 0), holding("invoices", 3)],
    }
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
    let live = Live {
        health: "working".to_owned(),
        failure: None,
        max_bytes: 1 << 30,
        full: true,
        appended: 1000,
        commits: 50,
        appends_per_second: 12.5,
        deliveries_per_second: 0.0,
        lost: Some(LostView { known: 10, committed: 12 }),
    };
    insta::assert_snapshot!(status(&Status { sidecar: Sidecar::Answers, live: Some(live), largest: Vec::new(), destinations: 0, ..held() }, NOW), @r"
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
    let mut report = Report {
        sound: true,
        messages: 10,
        structure: Vec::new(),
        damaged_count: 0,
        damaged: Vec::new(),
        counters: Vec::new(),
        lost: None,
    };
    insta::assert_snapshot!(verify::people(&report), @"10 messages looked at: sound");
    let counter = Counter {
        exchange: Some("orders".to_owned()),
        routing_key: Some("a".to_owned()),
        counter: "ready".to_owned(),
        says: 3,
        is: 2,
    };
    report = Report {
        sound: false,
        structure: vec!["Page 3: never used".to_owned()],
        damaged_count: 3,
        damaged: vec![4, 9],
        counters: vec![counter],
        lost: Some(LostView { known: 10, committed: 12 }),
        ..report
    };
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
