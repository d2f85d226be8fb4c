//! What runs by itself says that it goes on. A loop that ended, or stands at one place for too long,
//! is named: nobody waits for it, so nobody else would notice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use intended_model::Timestamp;

use super::{ENFORCEMENT, Finding, Sheet, degraded, healthy, unavailable};
use crate::{Clock, Runtime};

/// So many times later than it may be, a loop counts as one that has ended.
const GIVEN_UP: u32 = 4;

const TODO: &str = "Restart this node and keep its log: what it does by itself (timeouts that deny, checkpoints, \
    webhooks, halts left in the data directory) stands still. `checkpoints elsewhere`: see first whether \
    `checkpoint_dir` can be written.";

/// All loops of a process. They go by the node's clock, which goes on when the system's is set back.
pub struct Loops {
    clock: Arc<dyn Clock>,
    all: Mutex<BTreeMap<&'static str, Vec<Beat>>>,
}

impl std::fmt::Debug for Loops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loops").field("all", &self.all).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Beat {
    last: Timestamp,
    doing: &'static str,
    within: Duration,
    ended: bool,
}

/// One loop, for as long as it runs: when this is let go, the loop has ended.
#[derive(Debug)]
pub struct Pulse {
    loops: Arc<Loops>,
    name: &'static str,
    /// Of several with one name.
    at: usize,
}

impl Loops {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, all: Mutex::default() }
    }

    /// A loop begins, which says something more often than `within`.
    #[must_use]
    pub fn begin(self: &Arc<Self>, name: &'static str, within: Duration) -> Pulse {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let of = all.entry(name).or_default();
        of.push(Beat { last: self.clock.now(), doing: "starting", within, ended: false });
        Pulse { loops: Arc::clone(self), name, at: of.len() - 1 }
    }

    fn with(&self, pulse: &Pulse, change: impl FnOnce(&mut Beat)) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(beat) = all.get_mut(pulse.name).and_then(|of| of.get_mut(pulse.at)) {
            change(beat);
        }
    }

    /// The worst of them first; `None` where there are none.
    fn found(&self) -> Option<Finding> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let (mut ended, mut stuck, mut late, mut fine) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, beats) in all.iter() {
            for beat in beats {
                let silent = Duration::from_millis(u64::try_from(now.millis_since(beat.last)).unwrap_or(0));
                let at = || format!("`{name}` has been at `{}` for {} s", beat.doing, silent.as_secs());
                if beat.ended {
                    ended.push(format!("`{name}` has ended, at `{}`", beat.doing));
                } else if silent > beat.within * GIVEN_UP {
                    stuck.push(at());
                } else if silent > beat.within {
                    late.push(at());
                } else {
                    fine.push(*name);
                }
            }
        }
        if all.is_empty() {
            return None;
        }
        if !ended.is_empty() || !stuck.is_empty() {
            let what: Vec<String> = ended.into_iter().chain(stuck).chain(late).collect();
            return Some(unavailable(what.join("; "), TODO));
        }
        if !late.is_empty() {
            return Some(degraded(late.join("; "), TODO));
        }
        fine.dedup();
        Some(healthy(fine.join(", ")))
    }
}

impl Pulse {
    /// It goes on, and this is what it does next.
    pub fn at(&self, doing: &'static str) {
        let now = self.loops.clock.now();
        self.loops.with(self, |beat| {
            beat.last = now;
            beat.doing = doing;
        });
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.loops.with(self, |beat| beat.ended = true);
    }
}

impl Runtime {
    /// The loops that run for this node.
    #[must_use]
    pub const fn loops(&self) -> &Arc<Loops> {
        &self.loops
    }

    pub(super) fn check_loops(&self, sheet: &mut Sheet) {
        if let Some(found) = self.loops.found() {
            sheet.add(ENFORCEMENT, "housekeeping", found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn a_loop_that_is_silent_or_over_is_named_with_where_it_was() {
        let clock = Arc::new(crate::ManualClock::at(1_000));
        let loops = Arc::new(Loops::new(Arc::clone(&clock) as Arc<dyn Clock>));
        assert!(loops.found().is_none(), "nothing is said of loops that there are not");
        let good = loops.begin("good", Duration::from_secs(3600));
        let slow = loops.begin("slow", Duration::from_secs(10));
        let said = |status: Status, what: &str| {
            let found = loops.found().unwrap();
            assert_eq!((found.status, &*found.detail), (status, what));
            assert_eq!(found.todo.is_empty(), status == Status::Healthy);
        };
        said(Status::Healthy, "good, slow");
        slow.at("waiting for a collector");
        clock.advance_millis(10_000);
        said(Status::Healthy, "good, slow");
        clock.advance_millis(1_000);
        said(Status::Degraded, "`slow` has been at `waiting for a collector` for 11 s");
        clock.advance_millis(30_000);
        said(Status::Unavailable, "`slow` has been at `waiting for a collector` for 41 s");
        slow.at("sending");
        said(Status::Healthy, "good, slow");
        drop(good);
        said(Status::Unavailable, "`good` has ended, at `starting`");
        let again = loops.begin("good", Duration::from_secs(3600));
        assert_eq!(loops.found().unwrap().status, Status::Unavailable, "another one does not make up for it");
        drop((again, slow));
    }
}
