//! What the shell takes from outside, as traits: time. (Randomness and signing are ports of the
//! keyring, storage is the `Store`.) Tests put their own behind them.

use std::sync::atomic::{AtomicI64, Ordering};

use intended_model::Timestamp;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    /// How far it is ahead of the system's clock, in milliseconds, where it has one.
    fn ahead_millis(&self) -> i64 {
        0
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
}

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port")]
    fn default() -> Self {
        Self { started: std::time::Instant::now(), offset: AtomicI64::new(i64::MIN) }
    }
}

impl SystemClock {
    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
    /// Now, when the system's clock says `wall` after `elapsed` milliseconds.
    fn at(&self, wall: i64, elapsed: i64) -> Timestamp {
        let offset = wall.saturating_sub(elapsed);
        let offset = self.offset.fetch_max(offset, Ordering::AcqRel).max(offset);
        Timestamp::from_millis(offset.saturating_add(elapsed))
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
