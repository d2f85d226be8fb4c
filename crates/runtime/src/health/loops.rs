//! What runs by itself says that it goes on. A loop that ended, stands at one place for too long, or has
//! a step that panics, is named: nobody waits for it, so nobody else would notice. A step that panics is
//! that step's end, for the tenant that it was for: the others go on, and it is tried again in its turn.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use intended_model::{TenantId, Timestamp};

use super::{ENFORCEMENT, Finding, Sheet, degraded, healthy, unavailable};
use crate::{Clock, Runtime};

/// So many times later than it may be, a loop counts as one that has ended.
const GIVEN_UP: u32 = 4;

const TODO: &str = "Restart this node and keep its log: what it does by itself (timeouts that deny, checkpoints, \
    webhooks, halts left in the data directory) stands still. `checkpoints elsewhere`: see first whether \
    `checkpoint_dir` can be written.";

const BROKEN: &str = "Keep this node's log: it names the step, the tenant and the place in the code. It is a fault of \
    this release; all other steps and tenants go on, and the step is tried again.";

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
    /// The steps that panicked the last time, and for whom.
    broken: BTreeSet<(&'static str, Option<TenantId>)>,
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
        of.push(Beat { last: self.clock.now(), doing: "starting", within, ended: false, broken: BTreeSet::new() });
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
        let mut broken = Vec::new();
        for (name, beats) in all.iter() {
            for beat in beats {
                // Not of whom: this is shown to every tenant.
                for step in beat.broken.iter().map(|(step, _)| *step).collect::<BTreeSet<_>>() {
                    let of = beat.broken.iter().filter(|(s, tenant)| *s == step && tenant.is_some()).count();
                    let whose = if of > 0 {
                        format!(" of {of} tenant{}", if of == 1 { "" } else { "s" })
                    } else {
                        String::new()
                    };
                    broken.push(format!("`{name}` breaks off in `{step}`{whose}"));
                }
                let silent = Duration::from_millis(u64::try_from(now.millis_since(beat.last)).unwrap_or(0));
                let at = || format!("`{name}` has been at `{}` for {} s", beat.doing, silent.as_secs());
                if beat.ended {
                    ended.push(format!("`{name}` has ended, at `{}`", beat.doing));
                } else if silent > beat.within * GIVEN_UP {
                    stuck.push(at());
                } else if silent > beat.within {
                    late.push(at());
                } else if beat.broken.is_empty() {
                    fine.push(*name);
                }
            }
        }
        if all.is_empty() {
            return None;
        }
        if !ended.is_empty() || !stuck.is_empty() {
            let what: Vec<String> = ended.into_iter().chain(stuck).chain(late).chain(broken).collect();
            return Some(unavailable(what.join("; "), TODO));
        }
        if !late.is_empty() {
            late.extend(broken);
            return Some(degraded(late.join("; "), TODO));
        }
        if !broken.is_empty() {
            return Some(degraded(broken.join("; "), BROKEN));
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

    /// Does a step. `None` where it panicked: that is logged and shown until it is done to its end again.
    pub async fn step<T>(
        &self,
        doing: &'static str,
        tenant: Option<&TenantId>,
        step: impl Future<Output = T>,
    ) -> Option<T> {
        self.at(doing);
        let done = caught(step).await;
        let key = (doing, tenant.cloned());
        if done.is_none() {
            let tenant = tenant.map_or("", TenantId::as_str);
            tracing::error!(tenant, step = doing, name = self.name, "a bug: a step panicked; the others go on");
        }
        self.loops.with(self, |beat| match &done {
            Some(_) => drop(beat.broken.remove(&key)),
            None => drop(beat.broken.insert(key)),
        });
        done
    }
}

/// What a future comes to, or nothing where it panics. It is not polled again then.
async fn caught<T>(step: impl Future<Output = T>) -> Option<T> {
    let mut step = Box::pin(step);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| step.as_mut().poll(cx))) {
        Ok(Poll::Ready(done)) => Poll::Ready(Some(done)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(None),
    })
    .await
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

    #[tokio::test]
    async fn a_step_that_panics_is_named_until_it_is_done_and_the_loop_goes_on() {
        let clock = Arc::new(crate::ManualClock::at(1_000));
        let loops = Arc::new(Loops::new(Arc::clone(&clock) as Arc<dyn Clock>));
        let pulse = loops.begin("house", Duration::from_secs(30));
        let (acme, globex) = (TenantId::new("acme").unwrap(), TenantId::new("globex").unwrap());
        let fault = async || {
            tokio::task::yield_now().await;
            panic!("a fault")
        };
        for tenant in [&acme, &globex] {
            assert_eq!(pulse.step("closing", Some(tenant), fault()).await, None::<()>);
        }
        assert_eq!(pulse.step("removing", None, fault()).await, None::<()>);
        let said = |status: Status, what: &str| {
            let found = loops.found().unwrap();
            assert_eq!((found.status, &*found.detail), (status, what));
            assert!(!found.detail.contains("acme") && found.todo.is_empty() == (status == Status::Healthy));
        };
        said(Status::Degraded, "`house` breaks off in `closing` of 2 tenants; `house` breaks off in `removing`");
        assert_eq!(pulse.step("closing", Some(&acme), async { 7 }).await, Some(7));
        assert_eq!(pulse.step("removing", None, async { 7 }).await, Some(7));
        said(Status::Degraded, "`house` breaks off in `closing` of 1 tenant");
        clock.advance_millis(31_000);
        said(Status::Degraded, "`house` has been at `removing` for 31 s; `house` breaks off in `closing` of 1 tenant");
        assert_eq!(pulse.step("closing", Some(&globex), async { 7 }).await, Some(7));
        said(Status::Healthy, "house");
    }
}
