//! Many times the same, and how long each took. On a thread that may be kept busy: those that answer
//! requests go on. It is bounded in number and in time, and gives way between one and the next.

use std::time::Duration;

use super::{Context, Figure, Limit, micros};
use crate::metrics::Stopwatch;

/// How much time all bursts of one kind may take in a run; no single one takes more than [`ONE`].
const ALL: Duration = Duration::from_secs(3);
const ONE: Duration = Duration::from_millis(250);
/// So many are made however long they take: fewer say nothing.
const LEAST: usize = 10;
/// After so many others get a turn.
const GIVE_WAY: usize = 32;

/// How much time each of the run's bursts has.
pub(super) fn budget(context: &Context<'_>) -> Duration {
    let each = ALL / u32::try_from(context.environments.len().max(1)).unwrap_or(u32::MAX);
    each.min(ONE)
}

/// How long each took, shortest first.
#[derive(Debug)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// Does something up to `most` times. What it is given is how often it was done before.
    pub fn of(
        most: usize,
        budget: Duration,
        mut work: impl FnMut(usize) -> Result<(), String>,
    ) -> Result<Self, String> {
        let whole = Stopwatch::start();
        let mut times = Vec::with_capacity(most);
        for n in 0..most {
            if n >= LEAST && whole.elapsed() > budget {
                break;
            }
            if n % GIVE_WAY == GIVE_WAY - 1 {
                std::thread::yield_now();
            }
            let watch = Stopwatch::start();
            work(n)?;
            times.push(watch.elapsed());
        }
        times.sort_unstable();
        Ok(Self(times))
    }

    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that so many of a hundred did not exceed (nearest rank).
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    fn longest(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// The two figures of a burst.
    pub fn figures(&self, context: &Context<'_>, p50: Limit, p99: Limit, what: &str) -> Vec<Figure> {
        let held =
            |name, limit, percent| Figure::held(name, limit, context.thresholds, micros(self.percentile(percent)));
        let longest = format!("the longest took {} µs", micros(self.longest()));
        vec![held("p50", p50, 50).with(what), held("p99", p99, 99).with(longest)]
    }
}

/// Runs a burst when it is its turn, on a thread of its own.
pub(super) async fn burst<T: Send + 'static>(
    context: &Context<'_>,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let bursts = std::sync::Arc::clone(context.bursts);
    let turn = context.in_time(bursts.acquire_owned()).await.ok_or("other checks are running: check again")?;
    let turn = turn.map_err(|e| e.to_string())?;
    // The turn ends with the work, also where nobody waits for it any more.
    let run = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    context.in_time(run).await.ok_or_else(super::late)?.map_err(|e| e.to_string())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(micros: impl IntoIterator<Item = u64>) -> Times {
        Times(micros.into_iter().map(Duration::from_micros).collect())
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let hundred = times(1..=100);
        assert_eq!([50, 99, 100].map(|p| micros(hundred.percentile(p))), [50, 99, 100]);
        assert_eq!(micros(times([7]).percentile(99)), 7);
        assert_eq!(micros(times(1..=10).percentile(99)), 10, "of ten the worst is in it");
        assert_eq!(micros(times([]).percentile(50)), 0);
    }

    #[test]
    fn a_burst_ends_with_its_time_but_not_before_it_says_something() {
        let mut done = 0;
        let slow = Times::of(1_000_000, Duration::ZERO, |_| {
            done += 1;
            Ok(())
        });
        assert_eq!((slow.unwrap().count(), done), (LEAST, LEAST));
        assert_eq!(Times::of(40, Duration::from_secs(60), |_| Ok(())).unwrap().count(), 40);
        assert_eq!(Times::of(40, ONE, |n| if n == 3 { Err("no".to_owned()) } else { Ok(()) }).unwrap_err(), "no");
    }
}
