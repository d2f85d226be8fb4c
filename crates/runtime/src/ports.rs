//! What the shell takes from outside, as traits: time, and the root key. (Randomness and signing are ports of the
//! keyring, storage is the `Store`.) Tests put their own behind them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use intended_keyring::RootKey;
use intended_model::Timestamp;

/// Where the root key came from, to see whether it is still there. It may take its time.
pub trait RootSource: Send + Sync + 'static {
    /// `Err` says why it cannot be had, for the log, and nothing of the key.
    fn read(&self) -> Result<RootKey, String>;
}

/// From here on a clock has jumped, and not drifted.
const JUMP_MS: i64 = 5_000;
/// Jumps within this time are added up, so that several are not as small as the last.
pub const JUMP_KEPT_MS: i64 = 3_600_000;

/// The system's clock was set ahead, or stood still with the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    pub millis: i64,
    /// Where it jumped to.
    pub at: Timestamp,
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    /// How far it is ahead of the system's clock, in milliseconds, where it has one.
    fn ahead_millis(&self) -> i64 {
        0
    }
    /// The newest jump ahead, where it would know of one.
    fn jumped(&self) -> Option<Jump> {
        None
    }
    /// A ledger says that it is at least this late. A clock that is behind goes on from there.
    fn not_before(&self, _at: Timestamp) {}
}

/// The system's clock, going at the pace of the monotonic one. It follows the system's clock ahead,
/// and when that is set back it goes on from where it was: time neither goes backwards nor stands
/// still, so what is to expire expires.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
    /// Milliseconds between the monotonic clock and this one; only grows.
    offset: AtomicI64,
    jumped: Mutex<Option<Jump>>,
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port")]
    fn default() -> Self {
        Self { started: std::time::Instant::now(), offset: AtomicI64::new(i64::MIN), jumped: Mutex::default() }
    }
}

impl SystemClock {
    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
    /// Now, when the system's clock says `wall` after `elapsed` milliseconds.
    fn at(&self, wall: i64, elapsed: i64) -> Timestamp {
        let offset = wall.saturating_sub(elapsed);
        let before = self.offset.fetch_max(offset, Ordering::AcqRel);
        let now = Timestamp::from_millis(before.max(offset).saturating_add(elapsed));
        // Only ahead: what was set back does not move this clock. At the start there is nothing to jump from.
        if before != i64::MIN && offset.saturating_sub(before) > JUMP_MS {
            self.jump(offset.saturating_sub(before), now);
        }
        now
    }
    fn jump(&self, millis: i64, at: Timestamp) {
        let mut jumped = self.jumped.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = jumped.filter(|last| at.millis_since(last.at) < JUMP_KEPT_MS.saturating_add(millis));
        *jumped = Some(Jump { millis: millis.saturating_add(recent.map_or(0, |last| last.millis)), at });
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the port")]
fn wall() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.at(wall(), self.elapsed())
    }

    fn ahead_millis(&self) -> i64 {
        self.now().as_millis().saturating_sub(wall()).max(0)
    }

    fn jumped(&self) -> Option<Jump> {
        *self.jumped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn not_before(&self, at: Timestamp) {
        self.offset.fetch_max(at.as_millis().saturating_sub(self.elapsed()), Ordering::AcqRel);
    }
}

/// A clock that stands still until it is told otherwise.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicI64,
}

impl ManualClock {
    #[must_use]
    pub const fn at(millis: i64) -> Self {
        Self { now: AtomicI64::new(millis) }
    }
    pub fn set(&self, at: Timestamp) {
        self.now.store(at.as_millis(), Ordering::Relaxed);
    }
    pub fn advance_millis(&self, millis: i64) {
        self.now.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_at_its_pace() {
        let clock = SystemClock::default();
        assert_eq!(clock.at(1_000_000, 0).as_millis(), 1_000_000);
        assert_eq!(clock.at(1_000_500, 500).as_millis(), 1_000_500);
        assert_eq!(clock.at(400_000, 600).as_millis(), 1_000_600, "set back by ten minutes");
        assert_eq!(clock.at(460_000, 60_600).as_millis(), 1_060_600, "and still going");
        assert_eq!(clock.at(2_000_000, 60_700).as_millis(), 2_000_000, "set ahead");
    }

    #[test]
    fn a_clock_that_jumps_ahead_keeps_by_how_much_and_one_that_drifts_or_is_set_back_has_not() {
        let clock = SystemClock::default();
        clock.at(1_000_000, 0);
        clock.at(1_005_500, 500);
        assert_eq!(clock.jumped(), None, "five seconds are borne");
        clock.at(400_000, 600);
        clock.at(1_005_700, 700);
        assert_eq!(clock.jumped(), None, "set back, and right again");
        let at = clock.at(1_605_801, 800);
        assert_eq!(clock.jumped(), Some(Jump { millis: 600_001, at }));
        clock.at(1_605_901, 900);
        assert_eq!(clock.jumped(), Some(Jump { millis: 600_001, at }), "it stays said");
        let at = clock.at(1_615_001, 1_000);
        assert_eq!(clock.jumped(), Some(Jump { millis: 609_001, at }), "two are added up");
        let hours = 3 * 3_600_000;
        let at = clock.at(1_615_001 + hours + 7_000, 1_000 + hours);
        assert_eq!(clock.jumped(), Some(Jump { millis: 7_000, at }), "what is long over is not");
    }

    #[test]
    fn a_ledger_that_is_ahead_is_no_jump_of_the_clock() {
        let clock = SystemClock::default();
        clock.at(1_000_000, 0);
        clock.not_before(Timestamp::from_millis(9_000_000));
        clock.at(1_000_100, 100);
        assert_eq!(clock.jumped(), None);
    }

    #[test]
    fn a_clock_behind_the_ledger_goes_on_from_the_ledgers_time() {
        let clock = SystemClock::default();
        assert!(clock.ahead_millis() < 60_000);
        let ahead = clock.now().plus_millis(3_600_000);
        clock.not_before(ahead);
        assert!(clock.ahead_millis() > 3_500_000);
        let now = clock.now();
        assert!(now >= ahead && now.millis_since(ahead) < 60_000);
    }
}
