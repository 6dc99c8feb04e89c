//! The store's clock: Unix milliseconds that no step of the wall clock moves while the machine
//! runs.
//!
//! It is the time since the machine's boot, plus an offset that is kept in the database together
//! with the boot's id. A store that is opened again within the same boot goes on with the same
//! offset, so a record that was kept an hour ago is an hour old, even if the wall clock was set in
//! between. After a boot the wall clock gives a new offset.

use super::entry::now_ms;
use super::index::numbers::{fact, keep_fact};
use rusqlite::{Connection, OptionalExtension};
use rustix::time::{ClockId, clock_gettime};

/// Names the boot of the machine: 36 characters of a random UUID.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Tells the time of an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreClock {
    offset_ms: i64,
}

/// The clocks of the machine at the moment when the store is opened.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// `None` if the system does not tell.
    boot: Option<i64>,
    since_boot_ms: i64,
    wall_ms: i64,
}

/// The offset that an earlier run used, and the boot in which it ran.
#[derive(Clone, Copy, Debug)]
struct Kept {
    boot: i64,
    offset_ms: i64,
}

impl StoreClock {
    /// The clock of the store behind this connection. Notes its offset for the next run.
    pub(super) fn resume(connection: &Connection) -> rusqlite::Result<Self> {
        let kept = fact(connection, "clock_boot")?.zip(fact(connection, "clock_offset_ms")?);
        let kept = kept.map(|(boot, offset_ms)| Kept { boot, offset_ms });
        let newest = "SELECT created_ms FROM msg ORDER BY seq DESC LIMIT 1";
        let newest_ms = connection.query_row(newest, [], |row| row.get(0)).optional()?;
        let reading = Reading { boot: boot(), since_boot_ms: since_boot_ms(), wall_ms: now_ms() };
        let offset_ms = offset_ms(kept, reading, newest_ms);
        // The boot last: without it the offset is not used.
        keep_fact(connection, "clock_offset_ms", offset_ms)?;
        keep_fact(connection, "clock_boot", reading.boot.unwrap_or_default())?;
        Ok(Self { offset_ms })
    }

    /// Now, in Unix milliseconds. It never goes back within a boot.
    #[must_use]
    pub(crate) fn now_ms(self) -> i64 {
        since_boot_ms().saturating_add(self.offset_ms)
    }
}

/// The offset to add to the time since the boot. `newest_ms` is when the newest record was kept:
/// time does not go back behind it, even if a machine boots with a wrong wall clock.
fn offset_ms(kept: Option<Kept>, now: Reading, newest_ms: Option<i64>) -> i64 {
    match kept.filter(|kept| now.boot == Some(kept.boot)) {
        Some(kept) => kept.offset_ms,
        None => now.wall_ms.max(newest_ms.unwrap_or(i64::MIN)).saturating_sub(now.since_boot_ms),
    }
}

fn boot() -> Option<i64> {
    let id = std::fs::read_to_string(BOOT_ID).ok()?;
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    // Zero stands for a boot that is not known.
    u64::from_str_radix(&digits, 16).ok().map(u64::cast_signed).filter(|id| *id != 0)
}

fn since_boot_ms() -> i64 {
    let since = clock_gettime(ClockId::Boottime);
    since.tv_sec.saturating_mul(1000).saturating_add(since.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An event in the life of a machine with a store.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Passes(i64),
        WallClockIsSet(i64),
        StoreIsOpenedAgain,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0..7_200_000i64).prop_map(Event::Passes),
            (-86_400_000..86_400_000i64).prop_map(Event::WallClockIsSet),
            Just(Event::StoreIsOpenedAgain),
        ]
    }

    proptest! {
        #[test]
        fn within_a_boot_only_time_that_passes_moves_it(events in prop::collection::vec(event(), 1..60)) {
            let mut now = Reading { boot: Some(7), since_boot_ms: 5_000, wall_ms: 1_800_000_000_000 };
            let mut offset = offset_ms(None, now, None);
            let (begun, mut passed) = (now.since_boot_ms + offset, 0);
            for event in events {
                match event {
                    Event::Passes(ms) => {
                        now.since_boot_ms += ms;
                        now.wall_ms += ms;
                        passed += ms;
                    }
                    Event::WallClockIsSet(by) => now.wall_ms += by,
                    Event::StoreIsOpenedAgain => {
                        offset = offset_ms(Some(Kept { boot: 7, offset_ms: offset }), now, Some(begun));
                    }
                }
                prop_assert_eq!(now.since_boot_ms + offset, begun + passed);
            }
        }
    }

    #[test]
    fn after_a_boot_it_is_the_wall_clock_and_not_earlier_than_the_newest_record() {
        let kept = Some(Kept { boot: 7, offset_ms: 1_000_000 });
        let booted = |wall_ms| Reading { boot: Some(8), since_boot_ms: 20_000, wall_ms };
        let at = |wall_ms, newest| 20_000 + offset_ms(kept, booted(wall_ms), newest);
        assert_eq!(at(3_000_000, Some(2_000_000)), 3_000_000);
        assert_eq!(at(0, Some(2_000_000)), 2_000_000, "a wall clock that begins in 1970");
        assert_eq!(at(0, None), 0);
        let unknown = Reading { boot: None, ..booted(5_000_000) };
        assert_eq!(20_000 + offset_ms(kept, unknown, None), 5_000_000);
    }

    #[test]
    fn the_machine_tells_its_boot_and_the_time_since() {
        assert!(boot().is_some() && boot() == boot());
        let first = since_boot_ms();
        assert!(first > 0 && since_boot_ms() >= first);
    }
}
