//! The work of the link that `scripts/instructions` counts: the steps of a publisher for each
//! publish.

use super::acceptance::{may_close_its_channel, unacceptable};
use super::destinations::{Breakers, FaultScope, ProvenDestinations, Standing, Standstill};
use super::lanes::{Attribution, Verdict};
use super::publisher::{WaitingJobs, deliver, of_broker};
use super::ticket::{Job, Parcel, Reply, Ticket};
use crate::admission::Admission;
use crate::config::{Config, Live};
use crate::message::testing::{message_to, short};
use crate::message::{Message, ShortText};
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use bytes::Bytes;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Publishes in one pass.
const TOGETHER: usize = 32;

const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Repeats the work as often as the script asks; in an ordinary test run it runs once.
fn repeat<T>(mut work: impl FnMut() -> T) {
    let times = std::env::var("COUNTED_TIMES").map_or(1, |times| times.parse().unwrap());
    for _ in 0..times {
        black_box(work());
    }
}

pub(super) fn message(number: usize) -> Message {
    let mut message = message_to("orders", "eu.created");
    message.properties.message_id = short(&format!("01a20773-75b3-737a-be79-8f769451{number:04x}"));
    message.payload = Bytes::from_static(&[b'x'; 1024]);
    message
}

/// 32 mandatory publishes enter, and are confirmed in one pass.
#[test]
fn a_pass_of_attribution() {
    let ids: Vec<ShortText> = (0..TOGETHER).map(|number| message(number).properties.message_id).collect();
    // Each one's maps have their own seeds, so that the count is an average over many seeds.
    let mut attributions: Vec<Attribution> = (0..64).map(|_| Attribution::default()).collect();
    let mut turns = (0..attributions.len()).cycle();
    let mut verdicts = Vec::new();
    repeat(|| {
        let attribution = &mut attributions[turns.next().unwrap()];
        for (slot, id) in ids.iter().enumerate() {
            attribution.expect(id.clone(), slot);
        }
        for (slot, id) in ids.iter().enumerate() {
            attribution.completed(slot, Some(id.clone()), true, None);
        }
        verdicts.clear();
        attribution.end_of_pass(0, &mut verdicts);
        assert_eq!(verdicts.len(), TOGETHER);
    });
}

/// A ticket is judged, queued, handed over and answered.
#[test]
fn a_ticket_to_its_reply() {
    let (admission, metrics, message) = (Admission::new(1, 1 << 20), Metrics::new(&[]), Arc::new(message(0)));
    let mut proven = ProvenDestinations::default();
    proven.insert(&message);
    let (standstill, mut waiting) = (Standstill::new(STALL_TIMEOUT), WaitingJobs::new(1024));
    repeat(|| {
        let parcel = Parcel { message: Arc::clone(&message), permit: admission.admit().unwrap() };
        let (reply, mut answer) = oneshot::channel();
        let job = Job { ticket: Ticket::new(parcel), reply, alone: false };
        let goes_together = job.ticket.peek(|message| {
            unacceptable(message, 1 << 15).is_none()
                && standstill.of(&FaultScope::of(message)) == Standing::Moving
                && proven.contains(message)
                && !may_close_its_channel(message, "guest")
        });
        assert_eq!(goes_together, Some(true));
        waiting.shared.push_back(job);
        waiting.sweep();
        let Job { ticket, reply, .. } = waiting.shared.pop_front().unwrap();
        let parcel = ticket.hand_over().unwrap();
        let verdict = of_broker(Verdict::Acked, &parcel.message);
        drop(parcel);
        deliver(reply, verdict, &ticket, &metrics);
        assert!(matches!(answer.try_recv(), Ok(Reply::Settled(Outcome::Confirmed, None))));
    });
}

/// A publish passes the breakers while another destination has one.
#[test]
fn a_passage_of_the_breakers() {
    let breakers = Breakers::new(Live::new(Config::default()), Metrics::new(&[]));
    let failing = Message { exchange: ShortText::new("failing").unwrap(), ..message(1) };
    breakers.admit(&failing).unwrap().ended(Outcome::Nacked);
    let message = message(0);
    repeat(|| breakers.admit(black_box(&message)).unwrap().ended(Outcome::Confirmed));
}
