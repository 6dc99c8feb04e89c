//! Attribution against a model of lapin's queue of returned messages.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn id(slot: usize) -> ShortText {
    ShortText::new(format!("m{slot}")).unwrap()
}

/// A model of how lapin treats the frames that it reads: returns wait in a queue, and each
/// completing confirm takes the oldest.
#[derive(Default)]
struct Lapin {
    waiting: VecDeque<usize>,
    completed: Vec<(usize, bool, Option<usize>)>,
}

impl Lapin {
    fn read_return(&mut self, slot: usize) {
        self.waiting.push_back(slot);
    }

    fn read_ack(&mut self, slot: usize, ack: bool) {
        let carried = self.waiting.pop_front();
        self.completed.push((slot, ack, carried));
    }
}

#[derive(Clone, Copy, Debug)]
enum Truth {
    Stored,
    Returned,
    Nacked,
}

fn truth() -> impl Strategy<Value = Truth> {
    prop_oneof![3 => Just(Truth::Stored), 3 => Just(Truth::Returned), 1 => Just(Truth::Nacked)]
}

/// One run: the truth about every publish, the order in which acks are read, and the ends of the
/// passes.
#[derive(Debug)]
struct Run {
    truths: Vec<Truth>,
    acks: Vec<usize>,
    passes: Vec<bool>,
    early_returns: Vec<bool>,
}

fn run() -> impl Strategy<Value = Run> {
    (1..40usize).prop_flat_map(|n| {
        (
            prop::collection::vec(truth(), n),
            Just((0..n).collect::<Vec<_>>()).prop_shuffle(),
            prop::collection::vec(any::<bool>(), n),
            prop::collection::vec(any::<bool>(), n),
        )
            .prop_map(|(truths, acks, passes, early_returns)| Run {
                truths,
                acks,
                passes,
                early_returns,
            })
    })
}

fn expected(truth: Truth) -> Verdict {
    match truth {
        Truth::Stored => Verdict::Acked,
        Truth::Returned => Verdict::Returned,
        Truth::Nacked => Verdict::Nacked,
    }
}

fn play(run: &Run) -> Vec<(usize, Verdict)> {
    let mut attribution = Attribution::default();
    for slot in 0..run.truths.len() {
        attribution.expect(id(slot), slot);
    }
    let mut lapin = Lapin::default();
    let is_returned = |slot: usize| matches!(run.truths[slot], Truth::Returned);
    for slot in (0..run.truths.len()).filter(|slot| is_returned(*slot) && run.early_returns[*slot]) {
        lapin.read_return(slot);
    }
    let mut verdicts = Vec::new();
    for (read, slot) in run.acks.iter().copied().enumerate() {
        if is_returned(slot) && !run.early_returns[slot] {
            lapin.read_return(slot);
        }
        lapin.read_ack(slot, !matches!(run.truths[slot], Truth::Nacked));
        if run.passes[read] || read + 1 == run.acks.len() {
            for (slot, ack, carried) in std::mem::take(&mut lapin.completed) {
                attribution.completed(slot, Some(id(slot)), ack, carried.map(id).as_ref());
            }
            verdicts.extend(verdicts_of(&mut attribution, run.acks.len() - read - 1));
        }
    }
    verdicts
}

fn verdicts_of(attribution: &mut Attribution, in_flight: usize) -> Vec<(usize, Verdict)> {
    let mut verdicts = Vec::new();
    attribution.end_of_pass(in_flight, &mut verdicts);
    verdicts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_publish_gets_its_own_verdict_exactly_once(run in run()) {
        let mut verdicts = play(&run);
        verdicts.sort_by_key(|(slot, _)| *slot);
        let expected: Vec<_> =
            run.truths.iter().enumerate().map(|(slot, truth)| (slot, expected(*truth))).collect();
        prop_assert_eq!(verdicts, expected);
    }
}

#[test]
fn a_publish_that_carries_anothers_return_waits_for_its_own() {
    let mut attribution = Attribution::default();
    attribution.expect(id(0), 0);
    attribution.expect(id(1), 1);
    attribution.completed(0, Some(id(0)), true, Some(&id(1)));
    assert_eq!(verdicts_of(&mut attribution, 1), []);
    attribution.completed(1, Some(id(1)), true, Some(&id(0)));
    let mut verdicts = verdicts_of(&mut attribution, 0);
    verdicts.sort_by_key(|(slot, _)| *slot);
    assert_eq!(verdicts, [(0, Verdict::Returned), (1, Verdict::Returned)]);
}

#[test]
fn a_publish_that_is_not_mandatory_is_never_suspended() {
    let mut attribution = Attribution::default();
    attribution.expect(id(1), 1);
    attribution.completed(0, None, true, Some(&id(1)));
    assert_eq!(verdicts_of(&mut attribution, 1), [(0, Verdict::Acked)]);
}

/// Why two publishes with the same id must not share a channel: the verdict on the first removes
/// the id.
#[test]
fn two_with_the_same_id_on_one_channel_would_turn_a_return_into_an_ack() {
    let mut attribution = Attribution::default();
    attribution.expect(id(0), 0);
    assert!(attribution.carries(&id(0)), "so the second one has to wait or to go elsewhere");
    attribution.expect(id(0), 1);
    attribution.completed(0, Some(id(0)), true, None);
    verdicts_of(&mut attribution, 1);
    attribution.completed(1, Some(id(0)), true, Some(&id(0)));
    assert_eq!(verdicts_of(&mut attribution, 0), [(1, Verdict::Acked)], "it was returned");
}
