//! The notes about refusals survive a restart, and the right records are parked.

use super::*;

fn tries(count: u32) -> Option<Tries> {
    Some(Tries { count, first_ms: 1, last_ms: 2, word: "nacked".to_owned() })
}

#[tokio::test]
async fn a_refused_record_was_handed_over_also_after_a_restart_and_a_redrive() {
    let mut bench = Bench::new();
    let seqs = [bench.append("a", "1").await, bench.append("a", "2").await, bench.append("a", "3").await];
    let refused = |seq, is_unsure, tries| RefusalNote { seq, is_unsure, tries, clock: None };
    assert_eq!(bench.handle.refused(refused(seqs[0], false, None)).await, Ok(1));
    assert_eq!(bench.handle.refused(refused(seqs[1], true, tries(1))).await, Ok(1));
    assert_eq!(bench.handle.refused(refused(seqs[1], true, tries(2))).await, Ok(1));
    bench.reopen();
    let seen = |stored: &Stored| (stored.handed_over, stored.attempts, stored.tries.clone());
    let ready: Vec<_> = bench.ready("a").await.iter().map(seen).collect();
    assert_eq!(ready, [(true, 0, None), (true, 2, tries(2)), (false, 0, None)]);
    bench.handle.park(seqs.to_vec(), "nacked").await.unwrap();
    bench.handle.redrive(seqs.to_vec()).await.unwrap();
    let ready: Vec<_> = bench.ready("a").await.iter().map(seen).collect();
    assert_eq!(ready, [(true, 0, None), (true, 2, None), (false, 0, None)], "its tries begin anew");
    bench.handle.confirm(seqs.to_vec()).await.unwrap();
    assert_eq!(bench.handle.refused(refused(seqs[0], false, None)).await, Ok(0), "it is gone");
    let found = StoreReader::open(&bench.settings.directory).unwrap().verify(|_| {}).await.unwrap();
    assert!(found.is_sound(), "{found:?}");
}

#[tokio::test]
async fn the_clock_of_a_destination_goes_on_after_a_restart_until_a_message_is_accepted() {
    let mut bench = Bench::new();
    let seq = bench.append("a", "1").await;
    bench.append("b", "1").await;
    let since = RefusedSince { since_ms: 17, last: seq };
    let clock = Some((destination("a"), since));
    bench.handle.refused(RefusalNote { seq, is_unsure: false, tries: None, clock }).await.unwrap();
    bench.reopen();
    let clock = async |bench: &Bench, key| {
        bench.handle.next_batch(&destination(key), None, 1, 1).await.unwrap().clock
    };
    assert_eq!((clock(&bench, "a").await, clock(&bench, "b").await), (Some(since), None));
    assert_eq!(bench.handle.accepted(destination("a")).await, Ok(1));
    assert_eq!(bench.handle.accepted(destination("nobody")).await, Ok(0));
    assert_eq!(clock(&bench, "a").await, None);
}

#[tokio::test]
async fn what_was_kept_until_a_record_is_parked_part_by_part_and_nothing_else() {
    let bench = Bench::new();
    let mut seqs = Vec::new();
    for key in ["a", "b"].into_iter().cycle().take(600) {
        seqs.push(bench.append(key, "x").await);
    }
    let last = seqs[500];
    let park = async |limit| bench.handle.park_kept(destination("a"), last, "unroutable", limit).await;
    assert_eq!((park(200).await, park(200).await, park(200).await), (Ok(200), Ok(51), Ok(0)));
    let stats = bench.handle.stats();
    assert_eq!((stats.ready, stats.parked), (349, 251));
    assert!(bench.seqs("a").await.iter().all(|seq| *seq > last));
}

#[tokio::test]
async fn only_what_was_tried_for_long_enough_is_too_old_and_an_expiration_holds_for_all() {
    let day = 24 * 60 * 60 * 1000;
    let mut bench = Bench::new();
    let first = bench.append("a", "1").await;
    let second = bench.append("a", "2").await;
    let mut brief = record("a", "3");
    brief.message.properties.expiration_ms = Some(60_000);
    let brief = stored(bench.handle.append(brief).await);
    bench.reopen();
    let then = bench.handle.now_ms() + 2 * day;
    let take = async |tried| bench.handle.take_expired(then, tried, 256).await;
    assert_eq!(take(Seq::new(0)).await, Ok(1));
    assert_eq!(bench.seqs("a").await, [first, second], "not {brief}, which has an expiration");
    assert_eq!((take(first).await, take(first).await), (Ok(1), Ok(0)));
    assert_eq!(bench.seqs("a").await, [second]);
    assert_eq!(take(second).await, Ok(1));
}

#[tokio::test]
async fn moments_are_kept_for_the_next_run_until_they_are_of_no_use() {
    let mut bench = Bench::new();
    let moment = |total_ms| TriedUntil { total_ms, last: Seq::new(total_ms / 10) };
    for (total_ms, from_ms) in [(10, 10), (20, 10), (30, 20)] {
        bench.handle.note_tried(moment(total_ms), from_ms).await.unwrap();
    }
    bench.reopen();
    assert_eq!(bench.handle.tried().await, Ok(vec![moment(20), moment(30)]));
}
