//! What is measured within a sliding window, in sums that are kept as it slides: a decision costs the
//! same however many are in it.

use std::collections::VecDeque;

use intended_engine::breakers::MAX_AMOUNT;
use intended_model::Timestamp;
use intended_model::entry::{BreakerMeasure, BreakerMetric, BreakerRules, BreakerWindow};
use serde::{Deserialize, Serialize};

/// A window of time slides in so many steps: what leaves it does so up to one step late.
const STEPS: i64 = 60;
/// Nothing in a window of calls is older.
const OLDEST_MS: i64 = 3_600_000;

/// For so long it is known by the second what happened, so that what is written down of a window can end
/// at any second and not at a step. More than [`super::keep::LAG_MS`].
const FINE_MS: i64 = 60_000;

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub enum Sample {
    Decision {
        denied: bool,
        allowed: bool,
        /// In hundredths.
        spent: i64,
    },
    Outcome {
        failed: bool,
        millis: Option<u32>,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sums {
    /// Decisions, or outcomes.
    all: u64,
    /// Denied, or failed.
    bad: u64,
    /// Allowed, or with a duration.
    some: u64,
    /// Spent, or milliseconds.
    amount: i64,
}

impl Sums {
    const fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.bad += other.bad;
        self.some += other.some;
        self.amount = self.amount.saturating_add(other.amount);
    }
    const fn take(&mut self, other: &Self) {
        self.all -= other.all;
        self.bad -= other.bad;
        self.some -= other.some;
        self.amount = self.amount.saturating_sub(other.amount);
    }
    fn permille(&self) -> i64 {
        i64::try_from(self.bad.saturating_mul(1000) / self.all.max(1)).unwrap_or(1000)
    }
    fn mean(&self) -> i64 {
        self.amount / i64::try_from(self.some.max(1)).unwrap_or(i64::MAX)
    }
}

/// What happened, with its time: of a window of time that of the step, of the last minute that of the
/// second.
type Past = VecDeque<(i64, Sums)>;

#[derive(Debug, Default)]
struct Ring {
    kept: Past,
    /// Of a window of time, the last minute of it once more.
    fine: Past,
    total: Sums,
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
    fn push(&mut self, window: BreakerWindow, at: i64, sums: Sums) {
        self.total.add(&sums);
        match window {
            BreakerWindow::Calls(_) => self.kept.push_back((at, sums)),
            BreakerWindow::Secs(secs) => {
                add(&mut self.kept, place(secs, at), &sums);
                add(&mut self.fine, second(at), &sums);
                while self.fine.front().is_some_and(|(first, _)| first + FINE_MS < at) {
                    self.fine.pop_front();
                }
            }
        }
        self.slide(window, at);
    }

    /// What of it happened before the second of a time.
    fn before(&self, window: BreakerWindow, until: i64) -> Vec<(i64, Sums)> {
        let mut past: Vec<(i64, Sums)> = self.kept.iter().copied().collect();
        match window {
            BreakerWindow::Calls(_) => past.retain(|(at, _)| *at < until),
            BreakerWindow::Secs(secs) => {
                for (at, sums) in self.fine.iter().filter(|(at, _)| *at >= until) {
                    let of = past.iter_mut().find(|(step, _)| *step == place(secs, *at));
                    of.into_iter().for_each(|(_, there)| there.take(sums));
                }
                past.retain(|(_, sums)| sums.all > 0);
            }
        }
        past
    }

    fn recalled(past: &[(i64, Sums)]) -> Self {
        let mut ring = Self { kept: past.iter().copied().collect(), ..Self::default() };
        past.iter().for_each(|(_, sums)| ring.total.add(sums));
        ring
    }

    fn slide(&mut self, window: BreakerWindow, now: i64) {
        while let Some((at, sums)) = self.kept.front() {
            let gone = match window {
                BreakerWindow::Calls(n) => self.kept.len() > n as usize || at + OLDEST_MS <= now,
                BreakerWindow::Secs(secs) => at + step(secs) + i64::from(secs) * 1000 <= now,
            };
            if !gone {
                return;
            }
            self.total.take(&sums.clone());
            self.kept.pop_front();
        }
    }
}

fn step(secs: u32) -> i64 {
    (i64::from(secs) * 1000 / STEPS).max(1)
}
fn place(secs: u32, at: i64) -> i64 {
    at.div_euclid(step(secs)) * step(secs)
}
fn second(at: i64) -> i64 {
    at.div_euclid(1000) * 1000
}

/// How far back a window reaches, in milliseconds.
#[must_use]
pub fn reach(window: BreakerWindow) -> i64 {
    match window {
        BreakerWindow::Calls(_) => OLDEST_MS,
        BreakerWindow::Secs(secs) => i64::from(secs) * 1000 + step(secs),
    }
}

/// What one breaker has seen of what it watches.
#[derive(Debug)]
pub struct Window {
    of: BreakerWindow,
    decisions: Ring,
    outcomes: Ring,
    last: i64,
    /// When the first thing happened that is not written down.
    unkept: i64,
    /// Of one that was written down: what happened before is in it.
    since: i64,
}

/// A window as it is written down: everything in it from before a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    of: BreakerWindow,
    pub target: Box<str>,
    pub until: i64,
    decisions: Vec<(i64, Sums)>,
    outcomes: Vec<(i64, Sums)>,
}

impl Kept {
    /// How much is in it.
    pub fn weight(&self) -> u64 {
        self.decisions.iter().chain(&self.outcomes).map(|(_, sums)| sums.all).sum()
    }
}

impl Window {
    #[must_use]
    pub fn new(of: BreakerWindow) -> Self {
        let (decisions, outcomes) = (Ring::default(), Ring::default());
        Self { of, decisions, outcomes, last: i64::MIN, unkept: i64::MAX, since: i64::MIN }
    }

    /// What was written down of one, if it is of the same kind. All of it is to be written down again.
    #[must_use]
    pub fn recalled(of: BreakerWindow, kept: &Kept) -> Option<Self> {
        let all = kept.decisions.iter().chain(&kept.outcomes);
        let last = all.map(|(at, _)| *at).max().filter(|_| kept.of == of)?;
        let (decisions, outcomes) = (Ring::recalled(&kept.decisions), Ring::recalled(&kept.outcomes));
        Some(Self { of, decisions, outcomes, last, unkept: i64::MIN, since: kept.until })
    }

    /// Whether something happened before a time that is not written down.
    #[must_use]
    pub const fn is_unkept(&self, until: i64) -> bool {
        self.unkept < until
    }
    /// All of it is to be written down again.
    pub const fn unkeep(&mut self) {
        self.unkept = i64::MIN;
    }
    /// What is to be written down: what happened before the second of a time.
    #[must_use]
    pub fn keep(&mut self, target: &str, until: i64) -> Kept {
        self.unkept = if self.last < until { i64::MAX } else { until };
        Kept {
            of: self.of,
            target: target.into(),
            until,
            decisions: self.decisions.before(self.of, until),
            outcomes: self.outcomes.before(self.of, until),
        }
    }

    pub fn push(&mut self, at: Timestamp, sample: Sample) {
        let at = at.as_millis();
        if at < self.since {
            return;
        }
        self.last = self.last.max(at);
        self.unkept = self.unkept.min(at);
        match sample {
            Sample::Decision { denied, allowed, spent } => {
                let sums = Sums { all: 1, bad: denied.into(), some: allowed.into(), amount: spent };
                self.decisions.push(self.of, at, sums);
            }
            Sample::Outcome { failed, millis } => {
                let sums = Sums {
                    all: 1,
                    bad: failed.into(),
                    some: millis.is_some().into(),
                    amount: millis.unwrap_or(0).into(),
                };
                self.outcomes.push(self.of, at, sums);
            }
        }
    }

    /// How close it is to a threshold, in thousandths of what is missing least: of its number of calls,
    /// and of what is measured of them.
    #[must_use]
    pub fn closeness(&mut self, rules: &BreakerRules, now: Timestamp) -> i64 {
        let minimum = i64::from(rules.minimum_calls);
        let part = |value: i64, of: i64| value.saturating_mul(1000) / of.max(1);
        let of = |m: BreakerMeasure| {
            let calls = i64::try_from(m.calls).unwrap_or(i64::MAX);
            part(calls, minimum).min(part(m.value, m.threshold))
        };
        self.measure(rules, now).map(of).max().unwrap_or(0)
    }

    /// When it last saw something.
    #[must_use]
    pub const fn last(&self) -> i64 {
        self.last
    }

    /// Each metric that has a threshold, as it stands.
    pub fn measure<'r>(
        &mut self,
        rules: &'r BreakerRules,
        now: Timestamp,
    ) -> impl Iterator<Item = BreakerMeasure> + use<'r> {
        self.decisions.slide(self.of, now.as_millis());
        self.outcomes.slide(self.of, now.as_millis());
        let (decided, reported) = (self.decisions.total, self.outcomes.total);
        let found = move |metric| {
            let (calls, value) = match metric {
                BreakerMetric::ErrorRate => (reported.all, reported.permille()),
                BreakerMetric::DenialRate => (decided.all, decided.permille()),
                BreakerMetric::Latency => (reported.some, reported.mean()),
                BreakerMetric::Velocity => (decided.some, i64::try_from(decided.some).unwrap_or(i64::MAX)),
                BreakerMetric::Spend => (decided.some, decided.amount),
                BreakerMetric::Probes => return None,
            };
            let threshold = rules.threshold(metric)?;
            // What is found must be recorded, however much it is.
            let value = value.min(MAX_AMOUNT);
            Some(BreakerMeasure { calls, metric, threshold, value, window: rules.window })
        };
        use BreakerMetric::{DenialRate, ErrorRate, Latency, Spend, Velocity};
        [ErrorRate, DenialRate, Latency, Velocity, Spend].into_iter().filter_map(found)
    }

    /// What has reached its threshold, if anything has.
    pub fn crossed(&mut self, rules: &BreakerRules, now: Timestamp) -> Option<BreakerMeasure> {
        let minimum = u64::from(rules.minimum_calls);
        self.measure(rules, now).find(|m| m.calls >= minimum && m.value >= m.threshold)
    }
}

#[cfg(test)]
mod tests {
    use intended_model::entry::BreakerSpend;

    use super::*;

    const DENIED: Sample = Sample::Decision { denied: true, allowed: false, spent: 0 };
    const ALLOWED: Sample = Sample::Decision { denied: false, allowed: true, spent: 250 };
    const FAILED: Sample = Sample::Outcome { failed: true, millis: Some(300) };
    const DONE: Sample = Sample::Outcome { failed: false, millis: Some(100) };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }
    fn rules(window: BreakerWindow, minimum_calls: u32) -> BreakerRules {
        BreakerRules { window, minimum_calls, ..BreakerRules::default() }
    }
    /// After how many of `samples`, over and over, one a second, the rules trip.
    fn trips(rules: &BreakerRules, samples: &[Sample]) -> Option<(usize, BreakerMeasure)> {
        let mut window = Window::new(rules.window);
        samples.iter().cycle().take(200).enumerate().find_map(|(n, sample)| {
            let now = at(n as i64 * 1000);
            window.push(now, *sample);
            window.crossed(rules, now).map(|m| (n + 1, m))
        })
    }

    #[test]
    fn each_metric_trips_at_its_threshold_and_not_below_the_minimum_of_calls() {
        let minute = BreakerWindow::Secs(3_600);
        for minimum in [1, 7, 20] {
            let base = rules(minute, minimum);
            let least = minimum as usize;
            let all = [
                (BreakerRules { error_rate_permille: Some(1000), ..base.clone() }, FAILED, least),
                (BreakerRules { denial_rate_permille: Some(1000), ..base.clone() }, DENIED, least),
                (BreakerRules { latency_ms: Some(100), ..base.clone() }, DONE, least),
                (BreakerRules { velocity: Some(25), ..base.clone() }, ALLOWED, 25),
                (
                    BreakerRules { spend: Some(BreakerSpend { argument: "a".into(), limit: 2_500 }), ..base.clone() },
                    ALLOWED,
                    least.max(10),
                ),
            ];
            for (rules, sample, expected) in all {
                let (n, found) = trips(&rules, &[sample]).unwrap();
                assert_eq!(n, expected, "{found:?}");
                assert!(found.value >= found.threshold && found.calls >= u64::from(minimum));
            }
        }
        // One below its threshold never trips.
        let base = rules(minute, 2);
        let half = BreakerRules { error_rate_permille: Some(501), ..base.clone() };
        assert_eq!(trips(&half, &[DONE, FAILED]), None);
        assert_eq!(
            trips(&BreakerRules { error_rate_permille: Some(500), ..base.clone() }, &[DONE, FAILED]).unwrap().0,
            2
        );
        let slow = BreakerRules { latency_ms: Some(201), ..base.clone() };
        assert_eq!(trips(&slow, &[DONE, FAILED]), None, "their mean is 200");
        assert_eq!(trips(&BreakerRules { latency_ms: Some(200), ..base }, &[DONE, FAILED]).unwrap().1.value, 200);
    }

    #[test]
    fn what_is_found_can_be_recorded_however_much_it_is() {
        let spend = BreakerSpend { argument: "a".into(), limit: MAX_AMOUNT };
        let rules = BreakerRules { spend: Some(spend), ..rules(BreakerWindow::Secs(60), 1) };
        let mut window = Window::new(rules.window);
        for n in 0..3 {
            window.push(at(n), Sample::Decision { denied: false, allowed: true, spent: MAX_AMOUNT });
        }
        assert_eq!(window.crossed(&rules, at(3)).unwrap().value, MAX_AMOUNT);
    }

    #[test]
    fn a_window_of_calls_forgets_the_oldest_call_and_what_is_an_hour_old() {
        let rules = BreakerRules { error_rate_permille: Some(600), ..rules(BreakerWindow::Calls(5), 5) };
        let mut window = Window::new(rules.window);
        for (n, sample) in [FAILED, FAILED, DONE, DONE, DONE, FAILED, FAILED].into_iter().enumerate() {
            window.push(at(n as i64), sample);
            assert_eq!(window.crossed(&rules, at(n as i64)), None, "{n}: the first two had left");
        }
        window.push(at(8), FAILED);
        let found = window.crossed(&rules, at(8)).unwrap();
        assert_eq!((found.calls, found.value), (5, 600));
        assert_eq!(window.crossed(&rules, at(8 + OLDEST_MS)), None);
        assert_eq!(window.measure(&rules, at(8 + OLDEST_MS)).next().unwrap().calls, 0);
    }

    /// What was written down and what happened after it is, together, what there was.
    #[test]
    fn a_window_that_is_written_down_at_any_second_and_read_again_is_the_same_window() {
        for of in [BreakerWindow::Secs(60), BreakerWindow::Secs(7_200), BreakerWindow::Calls(40)] {
            let rules = BreakerRules {
                velocity: Some(1000),
                denial_rate_permille: Some(999),
                latency_ms: Some(10_000),
                ..rules(of, 1000)
            };
            // Some of it comes out of order, by up to a second.
            let happened: Vec<(i64, Sample)> = (0..120_i64)
                .map(|n| (n * 700 + (n * 389) % 1000, [ALLOWED, DENIED, FAILED, DONE][n as usize % 4]))
                .collect();
            let mut whole = Window::new(of);
            happened.iter().for_each(|(time, sample)| whole.push(at(*time), *sample));
            for until in [30_000, 45_000, 61_000, 84_000, 90_000] {
                let mut first = Window::new(of);
                happened.iter().for_each(|(time, sample)| first.push(at(*time), *sample));
                assert!(first.is_unkept(until));
                let kept = first.keep("t", until);
                assert!(!first.is_unkept(until));
                assert_eq!(first.is_unkept(until + 10_000), until < 84_000, "{until}");
                let text = serde_json::to_vec(&kept).unwrap();
                let mut again = Window::recalled(of, &serde_json::from_slice(&text).unwrap()).unwrap();
                // Read again from further back than it was written down.
                happened.iter().filter(|(time, _)| *time > 10_000).for_each(|(time, s)| again.push(at(*time), *s));
                for now in [85_000, 100_000, 140_000] {
                    let (a, b): (Vec<_>, Vec<_>) =
                        (whole.measure(&rules, at(now)).collect(), again.measure(&rules, at(now)).collect());
                    assert_eq!(a, b, "{of} written down until {until}, looked at {now}");
                }
                whole = Window::new(of);
                happened.iter().for_each(|(time, sample)| whole.push(at(*time), *sample));
            }
            assert!(Window::recalled(BreakerWindow::Secs(61), &whole.keep("t", 90_000)).is_none());
        }
    }

    #[test]
    fn a_window_of_time_forgets_what_is_older_and_nothing_else() {
        let rules = BreakerRules { velocity: Some(3), ..rules(BreakerWindow::Secs(60), 1) };
        let mut window = Window::new(rules.window);
        window.push(at(0), ALLOWED);
        window.push(at(30_000), ALLOWED);
        assert_eq!(window.measure(&rules, at(59_999)).next().unwrap().value, 2);
        // One step of a second later than a minute.
        assert_eq!(window.measure(&rules, at(61_000)).next().unwrap().value, 1);
        window.push(at(61_500), ALLOWED);
        assert_eq!(window.crossed(&rules, at(61_500)), None);
        window.push(at(62_000), ALLOWED);
        assert_eq!(window.crossed(&rules, at(62_000)).unwrap().value, 3);
        assert_eq!(window.measure(&rules, at(123_000)).next().unwrap().value, 0);
    }
}
