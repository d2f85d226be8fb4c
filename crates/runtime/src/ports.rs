//! What the shell takes from outside, as traits: time. (Randomness and signing are ports of the
//! keyring, storage is the `Store`.) Tests put their own behind them.

use std::sync::atomic::{AtomicI64, Ordering};

use intended_model::Timestamp;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The system's clock. Within one process it never goes backwards: after a step back it stands
/// still until the system's time has caught up. The ledger then keeps it so across restarts.
#[derive(Debug, Default)]
pub struct SystemClock {
    last: AtomicI64,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the port")]
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        Timestamp::from_millis(self.last.fetch_max(now, Ordering::Relaxed).max(now))
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
