//! The one way to the store's log, and how long what is on it has been waiting.
//!
//! The *audit lag* is the age of the oldest commit with ledger entries that was handed to the store and
//! whose outcome is not known yet: neither durable nor refused. 0 when there is none. It is of this
//! process and counts whatever it hands over, also when nobody waits for it any more: a store that
//! hangs does not look well because its clients gave up. It says nothing of what was never handed over,
//! nor of what the store refused at once (a full disk, say): those are errors, and counted as such.
//!
//! A place in a fixed array for each commit, taken and given back with one atomic step each: nobody
//! waits for anybody, and reading it costs some microseconds to who reads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use intended_store::{BoxFuture, Commit, Committed, StoreError};

use crate::metrics::{Histogram, Stopwatch, Times};
use crate::{Follower, Metrics, Runtime};

/// Twice of what an engine lets wait at a time, so that a free place is found at once.
const PLACES: usize = 2 * intended_store::MAX_QUEUE;
/// How many of them are looked at for a free one. When all are taken by others, those are older, and
/// what is to be told is the age of the oldest.
const TRIES: usize = 64;

/// What is on its way to the log, and how long that took those that are there.
#[derive(Debug)]
pub(crate) struct Appends {
    base: Stopwatch,
    /// Nanoseconds after `base` at which a commit was handed over; 0 for a place that is free.
    waiting: Box<[AtomicU64]>,
    turn: AtomicUsize,
    took: Histogram,
}

impl Default for Appends {
    fn default() -> Self {
        Self {
            base: Stopwatch::start(),
            waiting: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            turn: AtomicUsize::new(0),
            took: Histogram::default(),
        }
    }
}

/// A commit on its way.
struct Waiting {
    of: Arc<Appends>,
    place: Option<usize>,
    watch: Stopwatch,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(place) = self.place.and_then(|at| self.of.waiting.get(at)) {
            place.store(0, Ordering::Release);
        }
    }
}

impl Appends {
    fn nanos(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn enter(self: &Arc<Self>) -> Waiting {
        let (since, turn) = (self.nanos().max(1), self.turn.fetch_add(1, Ordering::Relaxed));
        let free = |place: &AtomicU64| place.compare_exchange(0, since, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let mut places = (0..TRIES).map(|n| turn.wrapping_add(n) % PLACES);
        let place = places.find(|at| self.waiting.get(*at).is_some_and(free));
        Waiting { of: Arc::clone(self), place, watch: Stopwatch::start() }
    }

    fn lag(&self) -> Duration {
        let since = self.waiting.iter().map(|place| place.load(Ordering::Acquire)).filter(|since| *since > 0);
        let oldest = since.min();
        oldest.map_or(Duration::ZERO, |since| Duration::from_nanos(self.nanos().saturating_sub(since)))
    }

    pub(crate) fn times(&self) -> Times {
        self.took.read()
    }
}

impl Metrics {
    /// How long the oldest commit of ledger entries that was handed to the store has been waiting to be
    /// durable or refused.
    #[must_use]
    pub fn audit_lag(&self) -> Duration {
        self.appends.lag()
    }
}

/// A commit that was handed over. From then on it goes on by itself, as what is queued in the store
/// does: who lets it go no longer learns its outcome, and that is all.
pub(crate) struct Handed {
    left: Option<BoxFuture<'static, Result<Committed, StoreError>>>,
    begun: bool,
}

impl Future for Handed {
    type Output = Result<Committed, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.begun = true;
        let Some(left) = &mut self.left else { return Poll::Pending };
        let outcome = left.as_mut().poll(context);
        if outcome.is_ready() {
            self.left = None;
        }
        outcome
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(left) = self.left.take().filter(|_| self.begun)
            && let Ok(executor) = tokio::runtime::Handle::try_current()
        {
            executor.spawn(left);
        }
    }
}

impl Follower {
    /// Commits. Entries are measured from here until the store has answered; facts alone are not.
    pub(crate) fn commit(&self, commit: Commit) -> Handed {
        let follower = self.clone();
        Handed { left: Some(Box::pin(async move { follower.commit_here(commit).await })), begun: false }
    }

    /// [`Self::commit`] for a task of its own, which nobody ends: there is nothing to go on with.
    pub(crate) async fn commit_here(&self, commit: Commit) -> Result<Committed, StoreError> {
        let waiting = (!commit.entries.is_empty()).then(|| self.appends.enter());
        let committed = self.store.commit(commit).await;
        if let (Some(waiting), Ok(_)) = (&waiting, &committed) {
            self.appends.took.observe(waiting.watch.elapsed());
        }
        committed
    }
}

impl Runtime {
    /// Commits to the ledger, and measures how long that takes.
    pub(crate) async fn append(&self, commit: Commit) -> Result<Committed, StoreError> {
        self.follower.commit(commit).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_oldest_of_those_that_wait_is_told_and_none_is_0() {
        let appends = Arc::new(Appends::default());
        assert_eq!(appends.lag(), Duration::ZERO);
        let first = appends.enter();
        std::thread::sleep(Duration::from_millis(5));
        let second = appends.enter();
        let of_second = second.watch.elapsed();
        assert!(appends.lag() >= of_second + Duration::from_millis(5));
        drop(first);
        let lag = appends.lag();
        assert!(lag > Duration::ZERO && lag <= second.watch.elapsed() + Duration::from_millis(1), "{lag:?}");
        drop(second);
        assert_eq!(appends.lag(), Duration::ZERO);
    }

    #[test]
    fn more_than_there_are_places_for_hide_none_that_is_older_and_leave_no_place_taken() {
        let appends = Arc::new(Appends::default());
        let oldest = appends.enter();
        std::thread::sleep(Duration::from_millis(2));
        let others: Vec<_> = (0..PLACES + 10).map(|_| appends.enter()).collect();
        assert!(appends.lag() >= others[0].watch.elapsed() + Duration::from_millis(1));
        drop((oldest, others));
        assert_eq!(appends.lag(), Duration::ZERO);
        let again: Vec<_> = (0..PLACES).map(|_| appends.enter()).collect();
        assert!(again.iter().all(|waiting| waiting.place.is_some()), "every place is free again");
    }

    fn sources(dir: &Path, out: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else {
                out.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn nothing_in_the_runtime_commits_past_it() {
        let mut all = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        assert!(all.len() > 40);
        let past = |text: &str| {
            let dense: String = text.split_whitespace().collect();
            dense.contains("store().commit(") || dense.contains("store.commit(")
        };
        let wrong: Vec<_> = all.iter().filter(|(_, text)| past(text)).map(|(path, _)| path).collect();
        assert!(wrong.len() == 1 && wrong[0].ends_with("lag.rs"), "use `follower.commit`: {wrong:?}");
    }
}
