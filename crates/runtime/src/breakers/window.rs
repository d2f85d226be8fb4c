//! What is measured within a sliding window, in sums that are kept as it slides: a decision costs the
//! same however many are in it.

use std::collections::VecDeque;

use intended_engine::breakers::MAX_AMOUNT;
use intended_model::Timestamp;
use intended_model::entry::{BreakerMeasure, BreakerMetric, BreakerRules, BreakerWindow};

/// A window of time slides in so many steps: what leaves it does so up to one step late.
const STEPS: i64 = 60;
/// Nothing in a window of calls is older.
const OLDEST_MS: i64 = 3_600_000;

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

#[derive(Debug, Clone, Copy, Default)]
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

#[derive(Debug, Default)]
struct Ring {
    /// With their time; of a window of time, that of the step.
    kept: VecDeque<(i64, Sums)>,
    total: Sums,
}

impl Ring {
    fn push(&mut self, window: BreakerWindow, at: i64, sums: Sums) {
        self.total.add(&sums);
        let place = match window {
            BreakerWindow::Calls(_) => at,
            BreakerWindow::Secs(secs) => at.div_euclid(step(secs)) * step(secs),
        };
        match self.kept.back_mut() {
            Some((last, kept)) if matches!(window, BreakerWindow::Secs(_)) && *last >= place => kept.add(&sums),
            _ => self.kept.push_back((place, sums)),
        }
        self.slide(window, at);
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
}

impl Window {
    #[must_use]
    pub fn new(of: BreakerWindow) -> Self {
        Self { of, decisions: Ring::default(), outcomes: Ring::default(), last: i64::MIN }
    }

    pub fn push(&mut self, at: Timestamp, sample: Sample) {
        let at = at.as_millis();
        self.last = self.last.max(at);
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
