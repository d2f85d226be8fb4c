//! What is measured within a sliding window, in sums that are kept as it slides: a decision costs the
//! same however many are in it.

use intended_engine::breakers::MAX_AMOUNT;
use intended_model::Timestamp;
use intended_model::entry::{BreakerMeasure, BreakerMetric, BreakerRules, BreakerWindow};

use super::ring::{Ring, Sums};
use super::written::{Block, Kept, Part, Written};

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

/// What one breaker has seen of what it watches.
#[derive(Debug)]
pub struct Window {
    of: BreakerWindow,
    decisions: Ring,
    outcomes: Ring,
    last: i64,
    /// When the first thing happened to it. Tells what is written down of it from what is left of one
    /// before it, which was dropped.
    born: i64,
    /// When the first thing happened that is not written down.
    unkept: i64,
    /// Of one that was written down: what happened before is in it.
    since: i64,
}

impl Window {
    #[must_use]
    pub fn new(of: BreakerWindow) -> Self {
        let (decisions, outcomes) = (Ring::default(), Ring::default());
        Self { of, decisions, outcomes, last: i64::MIN, born: i64::MIN, unkept: i64::MAX, since: i64::MIN }
    }

    /// What was written down of one, if it is of the same kind. All of it is to be written down again.
    #[must_use]
    pub fn recalled(of: BreakerWindow, kept: &Kept) -> Option<Self> {
        let all = kept.decisions.iter().chain(&kept.outcomes);
        let last = all.map(|(at, _)| *at).max().filter(|_| kept.of == of)?;
        let (decisions, outcomes) = (Ring::recalled(of, &kept.decisions), Ring::recalled(of, &kept.outcomes));
        Some(Self { of, decisions, outcomes, last, born: kept.until, unkept: i64::MIN, since: kept.until })
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
    /// What is to be written down: what happened before the second of a time. Of a window of calls only
    /// the blocks in which something did since it was written down last.
    #[must_use]
    pub fn keep(&mut self, target: &str, until: i64) -> Written {
        let from = self.unkept;
        self.unkept = if self.last < until { i64::MAX } else { until };
        self.decisions.slide(self.of, until);
        self.outcomes.slide(self.of, until);
        let (of, born) = (self.of, self.born);
        let mut head = Kept { of, target: target.into(), until, born, decisions: Vec::new(), outcomes: Vec::new() };
        let mut blocks = Vec::new();
        match of {
            BreakerWindow::Secs(secs) => {
                head.decisions = self.decisions.before(secs, until);
                head.outcomes = self.outcomes.before(secs, until);
            }
            BreakerWindow::Calls(_) => {
                for (part, ring) in [(Part::Decisions, &self.decisions), (Part::Outcomes, &self.outcomes)] {
                    let changed = ring.changed(from, until).into_iter();
                    blocks.extend(changed.map(|(first, calls)| Block { born, part, first, calls }));
                }
            }
        }
        Written { head, blocks }
    }

    pub fn push(&mut self, at: Timestamp, sample: Sample) {
        let at = at.as_millis();
        if at < self.since {
            return;
        }
        if self.last == i64::MIN {
            self.born = at;
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
        let (decided, reported) = (self.decisions.total(), self.outcomes.total());
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

    use super::super::ring::{BLOCK, OLDEST_MS};
    use super::super::written::assembled;
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

    /// What is read of what was written: heads and blocks are texts of their own.
    fn read_again(written: &Written) -> Kept {
        let head = serde_json::from_slice(&serde_json::to_vec(&written.head).unwrap()).unwrap();
        let block = |b: &Block| serde_json::from_slice(&serde_json::to_vec(b).unwrap()).unwrap();
        assembled(head, written.blocks.iter().map(block).collect())
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
                let written = first.keep("t", until);
                assert!(!first.is_unkept(until));
                assert_eq!(first.is_unkept(until + 10_000), until < 84_000, "{until}");
                let mut again = Window::recalled(of, &read_again(&written)).unwrap();
                // Read again from further back than it was written down.
                happened.iter().filter(|(time, _)| *time > 10_000).for_each(|(time, s)| again.push(at(*time), *s));
                // What leaves a window leaves it when it is written down, too: nobody looks back.
                for now in [85_000, 100_000, 140_000].into_iter().filter(|now| *now >= until) {
                    let (a, b): (Vec<_>, Vec<_>) =
                        (whole.measure(&rules, at(now)).collect(), again.measure(&rules, at(now)).collect());
                    assert_eq!(a, b, "{of} written down until {until}, looked at {now}");
                }
                whole = Window::new(of);
                happened.iter().for_each(|(time, sample)| whole.push(at(*time), *sample));
            }
            assert!(Window::recalled(BreakerWindow::Secs(61), &read_again(&whole.keep("t", 90_000))).is_none());
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

    /// All that happened, looked at one by one: the window says the same, and so does one that was
    /// written down at any second and read again.
    #[test]
    fn a_window_of_any_length_measures_what_a_list_of_all_that_happened_does() {
        for secs in (1..=400).chain([901, 1_000, 3_599, 3_661, 7_201, 86_399, 86_400]) {
            let of = BreakerWindow::Secs(secs);
            let (step, length) = ((i64::from(secs) * 1000 / 60).max(1), i64::from(secs) * 1000);
            let rules = BreakerRules { velocity: Some(100_000), latency_ms: Some(100_000), ..rules(of, 100_000) };
            // Not from zero, in no rhythm that steps or seconds have, a little out of order, for longer
            // than the window is and than the last minute.
            let begin = 1_764_106_121_337;
            let pace = (length / 50).clamp(97, 1_411);
            let happened: Vec<i64> = (0..260).map(|n| begin + n * pace + (n * 389) % 701).collect();
            let naive = |upto: usize, now: i64| {
                let inside = |at: &&i64| **at - at.rem_euclid(step) + step + length > now;
                let (mut some, mut millis, mut reported) = (0_i64, 0_i64, 0_i64);
                for (n, at) in happened.iter().enumerate().take(upto) {
                    if inside(&at) {
                        some += i64::from(n % 2 == 0);
                        reported += i64::from(n % 2 == 1);
                        millis += if n % 2 == 1 { n as i64 } else { 0 };
                    }
                }
                (millis / reported.max(1), some)
            };
            let sample = |n: usize| match n % 2 {
                0 => ALLOWED,
                _ => Sample::Outcome { failed: false, millis: Some(n as u32) },
            };
            let found = |window: &mut Window, now: i64| {
                let m: Vec<_> = window.measure(&rules, at(now)).map(|m| m.value).collect();
                (m[0], m[1])
            };
            let mut window = Window::new(of);
            for (n, time) in happened.iter().enumerate() {
                window.push(at(*time), sample(n));
                let (fine, kept) = window.decisions.sizes();
                assert!(fine <= 200 && kept <= 62, "{secs}: {fine} fine and {kept} coarse steps");
                if n % 20 != 19 {
                    continue;
                }
                let newest = happened[..=n].iter().max().unwrap();
                for ago in [0, 7_000, 20_000, 41_000] {
                    let until = (newest - ago).div_euclid(1000) * 1000;
                    let written = window.keep("t", until);
                    let kept = read_again(&written);
                    let before: Vec<_> = happened[..=n].iter().filter(|at| **at < until).collect();
                    let inside =
                        before.iter().filter(|at| ***at - at.rem_euclid(step) + step + length > *newest).count();
                    // Decisions and outcomes each leave when another of their kind comes.
                    let weight = kept.weight() as usize;
                    assert!(inside <= weight && weight <= before.len(), "{secs} until {until}: {weight}, {inside}");
                    let mut again = Window::recalled(of, &kept).unwrap_or_else(|| Window::new(of));
                    for (m, time) in happened.iter().enumerate().take(n + 1).filter(|(_, time)| **time >= until) {
                        again.push(at(*time), sample(m));
                    }
                    for now in [*newest, newest + length / 3] {
                        assert_eq!(
                            found(&mut again, now),
                            naive(n + 1, now),
                            "{secs}, written until {until}, at {now}"
                        );
                    }
                }
                assert_eq!(found(&mut window, *newest), naive(n + 1, *newest), "{secs}: keeping changes nothing");
            }
        }
    }

    #[test]
    fn of_a_window_of_calls_only_what_changed_is_written_in_parts_of_a_bounded_size() {
        let of = BreakerWindow::Calls(10_000);
        let mut window = Window::new(of);
        for n in 0..12_345_i64 {
            window.push(at(n), DENIED);
        }
        let all = window.keep("t", 20_000);
        let calls: usize = all.blocks.iter().map(|b| b.calls.len()).sum();
        assert_eq!(calls, 10_000);
        for block in &all.blocks {
            assert!(block.calls.len() as u64 <= BLOCK && serde_json::to_vec(block).unwrap().len() < 16 << 10);
        }
        assert!(serde_json::to_vec(&all.head).unwrap().len() < 500, "nothing of it is in the head");
        assert!(window.keep("t", 20_000).blocks.is_empty());
        window.push(at(21_000), DENIED);
        let one = window.keep("t", 22_000);
        let calls = one.blocks.iter().map(|b| b.calls.len() as u64).collect::<Vec<_>>();
        assert!(matches!(calls[..], [n] if n <= BLOCK), "{calls:?}");
        window.unkeep();
        assert_eq!(window.keep("t", 22_000).blocks.len(), all.blocks.len(), "where nothing is known all of it is");
    }

    /// What is written over what, and what is not written again, is still the window when it is read.
    #[test]
    fn a_window_of_calls_that_is_written_part_by_part_is_read_as_it_was() {
        for n in [1, 5, 255, 256, 257, 700] {
            let of = BreakerWindow::Calls(n);
            let rules = BreakerRules { denial_rate_permille: Some(999), latency_ms: Some(100_000), ..rules(of, 1) };
            let (mut window, mut stored) = (Window::new(of), std::collections::BTreeMap::new());
            let mut head = None;
            let mut time = 0;
            for round in 0..40_usize {
                for k in 0..(round * 37) % 190 {
                    // Out of order by up to a second.
                    time += 29;
                    let sample = [DENIED, ALLOWED, FAILED, DENIED, DONE][(round + k) % 5];
                    window.push(at(time + (k as i64 * 389) % 1000), sample);
                }
                let until = (time - 3_000).div_euclid(1000) * 1000;
                if window.is_unkept(until) {
                    let written = window.keep("t", until);
                    // The last round ends halfway: the head still says how far it is whole.
                    let half = round == 39;
                    let some = if half { written.blocks.len() / 2 } else { written.blocks.len() };
                    for block in written.blocks.into_iter().take(some) {
                        stored.insert(block.name(n), block);
                    }
                    if !half {
                        head = Some(written.head);
                    }
                }
                let Some(head) = head.clone() else { continue };
                let until = head.until;
                let kept = assembled(head, stored.values().cloned().collect());
                assert!(stored.len() as u64 <= 2 * (u64::from(n).div_ceil(BLOCK) + 1));
                let mut again = Window::recalled(of, &kept).unwrap_or_else(|| Window::new(of));
                let mut time = 0;
                for before in 0..=round {
                    for k in 0..(before * 37) % 190 {
                        time += 29;
                        let happened = time + (k as i64 * 389) % 1000;
                        if happened >= until {
                            again.push(at(happened), [DENIED, ALLOWED, FAILED, DENIED, DONE][(before + k) % 5]);
                        }
                    }
                }
                let now = at(time + 1_000);
                let whole: Vec<_> = window.measure(&rules, now).collect();
                assert_eq!(whole, again.measure(&rules, now).collect::<Vec<_>>(), "{n} calls, round {round}");
            }
        }
    }

    #[test]
    fn what_is_left_of_a_window_that_was_dropped_is_not_taken_for_the_next() {
        let of = BreakerWindow::Calls(1_000);
        let mut first = Window::new(of);
        (0..900).for_each(|n| first.push(at(n), DENIED));
        let left = first.keep("t", 5_000).blocks;
        let mut second = Window::new(of);
        second.push(at(6_000), DENIED);
        let written = second.keep("t", 9_000);
        // Its own is over the first of those.
        let blocks = written.blocks.into_iter().chain(left.into_iter().skip(1)).collect();
        assert_eq!(assembled(written.head, blocks).weight(), 1);
    }
}
