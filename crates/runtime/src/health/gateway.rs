//! The gateway: whether what comes in is taken up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::{GATEWAY, Sheet, degraded, healthy, unavailable};
use crate::Runtime;
use crate::metrics::Stopwatch;

/// When a request that comes now waits so long before anybody looks at it, that is felt; and from the
/// second on, nobody waits any more.
const WORKERS_SLOW: Duration = Duration::from_millis(250);
const WORKERS_STUCK: Duration = Duration::from_secs(2);

/// From this share of its places on a server is close to letting nobody in.
const NEARLY_FULL_PERCENT: u64 = 90;

/// Who is inside, as whoever listens says.
#[derive(Debug, Default)]
pub struct Door {
    inside: AtomicU32,
    /// 0 where nobody has said.
    places: AtomicU32,
    draining: AtomicBool,
}

impl Door {
    /// How many connections there can be.
    pub fn places(&self, places: u32) {
        self.places.store(places, Ordering::Relaxed);
    }
    /// Counts a connection for as long as what it returns is held.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Inside {
        self.inside.fetch_add(1, Ordering::Relaxed);
        Inside(Arc::clone(self))
    }
    /// From here on it is shutting down.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

/// One connection.
#[derive(Debug)]
pub struct Inside(Arc<Door>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long work that comes now waits until one of the process's workers takes it up; `None` when
/// that is too long to wait for.
async fn workers() -> Option<Duration> {
    let watch = Stopwatch::start();
    let taken = tokio::spawn(async move { watch.elapsed() });
    tokio::time::timeout(WORKERS_STUCK, taken).await.ok()?.ok()
}

impl Runtime {
    /// Where whoever listens counts connections and says that it stops.
    #[must_use]
    pub const fn door(&self) -> &Arc<Door> {
        &self.door
    }

    pub(super) async fn check_gateway(&self, sheet: &mut Sheet, measure: bool) {
        const BUSY: &str =
            "Give it more processors or fewer requests; look for what keeps them busy (simulations, exports, reviews).";
        if measure {
            let found = match workers().await {
                Some(waited) if waited < WORKERS_SLOW => {
                    healthy(format!("new work starts after {} ms", waited.as_millis()))
                }
                Some(waited) => degraded(format!("new work starts after {} ms", waited.as_millis()), BUSY),
                None => unavailable(format!("new work does not start within {} ms", WORKERS_STUCK.as_millis()), BUSY),
            };
            sheet.add(GATEWAY, "workers", found);
        }
        let (inside, places) = (self.door.inside.load(Ordering::Relaxed), self.door.places.load(Ordering::Relaxed));
        if places > 0 {
            let detail = format!("{inside} of {places} in use");
            let full = u64::from(inside) * 100 >= u64::from(places) * NEARLY_FULL_PERCENT;
            let found = if full {
                degraded(
                    detail,
                    "Raise `connections` (and `ulimit -n`), lower `head_millis`, or have the proxy in front keep fewer open.",
                )
            } else {
                healthy(detail)
            };
            sheet.add(GATEWAY, "connections", found);
        }
        let found = if self.door.draining.load(Ordering::Acquire) {
            unavailable("it was asked to stop", "Nothing, if that was meant: send requests to another node.")
        } else {
            healthy("takes requests")
        };
        sheet.add(GATEWAY, "draining", found);
    }
}
