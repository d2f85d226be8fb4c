//! The sums of a window, which slide. A window of time is kept in steps; the last minute of it once more
//! in finer ones, of which none reaches over the edge of a step or of a second: so that what happened
//! before a second can be told from what happened in the same step after it.

use std::collections::VecDeque;

use intended_model::entry::BreakerWindow;
use serde::{Deserialize, Serialize};

/// A window of time slides in so many steps: what leaves it does so up to one step late.
const STEPS: i64 = 60;
/// Nothing in a window of calls is older.
pub const OLDEST_MS: i64 = 3_600_000;
/// For so long it is known by the second what happened, so that what is written down of a window can end
/// at any second and not at a step. More than [`super::keep::LAG_MS`].
const FINE_MS: i64 = 60_000;
/// So many calls of a window of calls are written down together.
pub const BLOCK: u64 = 256;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u64, i64)", into = "(u64, u64, u64, i64)")]
pub struct Sums {
    /// Decisions, or outcomes.
    pub all: u64,
    /// Denied, or failed.
    pub bad: u64,
    /// Allowed, or with a duration.
    pub some: u64,
    /// Spent, or milliseconds.
    pub amount: i64,
}

impl From<(u64, u64, u64, i64)> for Sums {
    fn from((all, bad, some, amount): (u64, u64, u64, i64)) -> Self {
        Self { all, bad, some, amount }
    }
}
impl From<Sums> for (u64, u64, u64, i64) {
    fn from(sums: Sums) -> Self {
        (sums.all, sums.bad, sums.some, sums.amount)
    }
}

impl Sums {
    /// What is read from a store may be anything: no sum of it overflows.
    const fn add(&mut self, other: &Self) {
        self.all = self.all.saturating_add(other.all);
        self.bad = self.bad.saturating_add(other.bad);
        self.some = self.some.saturating_add(other.some);
        self.amount = self.amount.saturating_add(other.amount);
    }
    const fn take(&mut self, other: &Self) {
        self.all = self.all.saturating_sub(other.all);
        self.bad = self.bad.saturating_sub(other.bad);
        self.some = self.some.saturating_sub(other.some);
        self.amount = self.amount.saturating_sub(other.amount);
    }
    pub fn permille(&self) -> i64 {
        i64::try_from(self.bad.saturating_mul(1000) / self.all.max(1)).unwrap_or(1000)
    }
    pub fn mean(&self) -> i64 {
        self.amount / i64::try_from(self.some.max(1)).unwrap_or(i64::MAX)
    }
}

/// What happened, with its time: of a window of time that of the step, of the last minute that of the
/// finer one.
type Past = VecDeque<(i64, Sums)>;

#[derive(Debug, Default)]
pub struct Ring {
    kept: Past,
    /// Of a window of time, the last minute of it once more.
    fine: Past,
    total: Sums,
    /// How many have left a window of calls: the number of its first.
    left: u64,
}

/// Adds to what there is of a time. What is recorded by many at once comes a little out of order.
fn add(past: &mut Past, place: i64, sums: &Sums) {
    match past.iter().rposition(|(at, _)| *at <= place) {
        Some(at) => match past.get_mut(at) {
            Some((same, there)) if *same == place => there.add(sums),
            _ => past.insert(at + 1, (place, *sums)),
        },
        None => past.push_front((place, *sums)),
    }
}

impl Ring {
    pub const fn total(&self) -> Sums {
        self.total
    }

    pub fn push(&mut self, window: BreakerWindow, at: i64, sums: Sums) {
        self.total.add(&sums);
        match window {
            BreakerWindow::Calls(_) => self.kept.push_back((at, sums)),
            BreakerWindow::Secs(secs) => {
                add(&mut self.kept, place(secs, at), &sums);
                // Of two edges the later one: what comes after it is on the same side of both.
                add(&mut self.fine, second(at).max(place(secs, at)), &sums);
                // By the newest, so that there are never more than the edges of a minute or of the window.
                let newest = self.fine.back().map_or(at, |(last, _)| at.max(*last));
                let gone = newest.saturating_sub(FINE_MS.min(reach(window)));
                while self.fine.front().is_some_and(|(first, _)| *first < gone) {
                    self.fine.pop_front();
                }
            }
        }
        self.slide(window, at);
    }

    /// What of a window of time happened before the second of a time.
    pub fn before(&self, secs: u32, until: i64) -> Vec<(i64, Sums)> {
        let mut past: Vec<(i64, Sums)> = self.kept.iter().copied().collect();
        for (at, sums) in self.fine.iter().filter(|(at, _)| *at >= until) {
            let of = past.iter_mut().find(|(step, _)| *step == place(secs, *at));
            of.into_iter().for_each(|(_, there)| there.take(sums));
        }
        past.retain(|(_, sums)| sums.all > 0);
        past
    }

    /// The blocks of a window of calls in which something happened between two times, each as far as
    /// before the second, with the number of its first.
    pub fn changed(&self, from: i64, until: i64) -> Vec<(u64, Vec<(i64, Sums)>)> {
        let mut blocks: Vec<(u64, Vec<_>)> = Vec::new();
        let mut block: Vec<(i64, Sums)> = Vec::new();
        let (mut first, mut news) = (self.left, false);
        for (number, call) in (self.left..).zip(&self.kept) {
            if number.is_multiple_of(BLOCK) {
                if std::mem::take(&mut news) {
                    blocks.push((first, std::mem::take(&mut block)));
                }
                block.clear();
                first = number;
            }
            if call.0 < until {
                news |= call.0 >= from;
                block.push(*call);
            }
        }
        if news {
            blocks.push((first, block));
        }
        blocks
    }

    pub fn recalled(window: BreakerWindow, past: &[(i64, Sums)]) -> Self {
        let mut ring = Self { kept: past.iter().copied().collect(), ..Self::default() };
        past.iter().for_each(|(_, sums)| ring.total.add(sums));
        // Of calls no more than there may be: nothing is too old at the beginning of time.
        ring.slide(window, i64::MIN);
        ring
    }

    pub fn slide(&mut self, window: BreakerWindow, now: i64) {
        let reach = reach(window);
        while let Some((at, sums)) = self.kept.front().copied() {
            let many = matches!(window, BreakerWindow::Calls(n) if self.kept.len() > n as usize);
            if !many && at.saturating_add(reach) > now {
                return;
            }
            self.total.take(&sums);
            self.kept.pop_front();
            self.left = self.left.wrapping_add(1);
        }
    }

    /// How many fine and coarse steps there are.
    #[cfg(test)]
    pub fn sizes(&self) -> (usize, usize) {
        (self.fine.len(), self.kept.len())
    }
}

fn step(secs: u32) -> i64 {
    (i64::from(secs) * 1000 / STEPS).max(1)
}
fn place(secs: u32, at: i64) -> i64 {
    at.div_euclid(step(secs)).saturating_mul(step(secs))
}
fn second(at: i64) -> i64 {
    at.div_euclid(1000).saturating_mul(1000)
}

/// How far back a window reaches, in milliseconds.
#[must_use]
pub fn reach(window: BreakerWindow) -> i64 {
    match window {
        BreakerWindow::Calls(_) => OLDEST_MS,
        BreakerWindow::Secs(secs) => i64::from(secs) * 1000 + step(secs),
    }
}
