//! What the runtime counts and measures, kept as plain atomics: the decision path takes no lock for
//! it and allocates nothing. The HTTP edge renders it in Prometheus' text format.
//!
//! Decisions are kept by tenant and environment, so that a tenant can be shown its own by name, and
//! everyone else only sums (see `intended-api`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use intended_model::decision::{DecisionRecord, Outcome};
use intended_model::{Code, EnvironmentId, TenantId};
use intended_token::Refusal;

use crate::lag::Appends;

/// Measures how long something takes. Nothing is decided by it.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "measures; decides nothing")]
    pub fn start() -> Self {
        Self(Instant::now())
    }
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
    /// The time since the start or the last lap.
    pub fn lap(&mut self) -> Duration {
        let now = Self::start();
        let took = now.0.duration_since(self.0);
        *self = now;
        took
    }
}

/// Upper bounds of the buckets, in seconds. A decision in memory takes some ten microseconds, a disk
/// some hundred, a database in another place some milliseconds.
pub const BOUNDS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Times by bucket; the last one is for what is above all bounds.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, took: Duration) {
        let at = BOUNDS.partition_point(|bound| *bound < took.as_secs_f64());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    #[must_use]
    pub fn read(&self) -> Times {
        Times {
            buckets: std::array::from_fn(|at| self.buckets.get(at).map_or(0, |b| b.load(Ordering::Relaxed))),
            seconds: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// What a [`Histogram`] holds. Counts are of the bucket itself, not of all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    pub buckets: [u64; BOUNDS.len() + 1],
    pub seconds: f64,
}

impl Times {
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
    pub fn add(&mut self, other: &Self) {
        for (sum, n) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += n;
        }
        self.seconds += other.seconds;
    }
}

/// How long the parts of one decision took.
#[derive(Debug, Clone, Copy)]
pub struct Phases {
    /// Gathering inputs and deciding, of the attempt that was committed.
    pub evaluate: Duration,
    /// Until it was durable.
    pub commit: Duration,
    /// Token and checkpoint.
    pub sign: Duration,
    /// All of it, with attempts that lost.
    pub total: Duration,
}

/// The names of the phases, in the order of [`InEnvironment::phases`].
pub const PHASES: [&str; 4] = ["evaluate", "commit", "sign", "total"];

/// What is counted of one environment.
#[derive(Debug)]
pub struct InEnvironment {
    /// By outcome, then by reason.
    decisions: Box<[AtomicU64]>,
    phases: [Histogram; PHASES.len()],
}

impl Default for InEnvironment {
    fn default() -> Self {
        let decisions = (0..Outcome::ALL.len() * Code::ALL.len()).map(|_| AtomicU64::new(0)).collect();
        Self { decisions, phases: Default::default() }
    }
}

impl InEnvironment {
    fn decided(&self, outcome: Outcome, reason: Code) {
        // Both enums stand in the order of their lists.
        if let Some(counter) = self.decisions.get(outcome as usize * Code::ALL.len() + reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// What was decided at all, with how often.
    pub fn decisions(&self) -> impl Iterator<Item = (Outcome, Code, u64)> + '_ {
        let kinds = Outcome::ALL.iter().flat_map(|outcome| Code::ALL.iter().map(move |reason| (*outcome, *reason)));
        let counted =
            kinds.zip(&self.decisions).map(|((outcome, reason), n)| (outcome, reason, n.load(Ordering::Relaxed)));
        counted.filter(|(_, _, n)| *n > 0)
    }
    /// The times of each of [`PHASES`].
    #[must_use]
    pub fn phases(&self) -> [Times; PHASES.len()] {
        std::array::from_fn(|at| self.phases.get(at).map_or_else(Times::default, Histogram::read))
    }
}

type ByEnvironment = HashMap<EnvironmentId, Arc<InEnvironment>>;

/// What the runtime counts.
#[derive(Debug)]
pub struct Metrics {
    environments: ArcSwap<HashMap<TenantId, ByEnvironment>>,
    tokens_issued: AtomicU64,
    conflicts: AtomicU64,
    accepted: AtomicU64,
    /// In the order of the catalogue.
    refused: Box<[AtomicU64]>,
    pub(crate) appends: Arc<Appends>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            environments: ArcSwap::default(),
            tokens_issued: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            refused: Code::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            appends: Arc::default(),
        }
    }
}

impl Metrics {
    /// What is counted of an environment. Only those that exist get here, so there are few.
    fn of(&self, tenant: &TenantId, environment: &EnvironmentId) -> Arc<InEnvironment> {
        let known = |all: &HashMap<TenantId, ByEnvironment>| all.get(tenant)?.get(environment).cloned();
        if let Some(known) = known(&self.environments.load()) {
            return known;
        }
        self.environments.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.entry(tenant.clone()).or_default().entry(environment.clone()).or_default();
            all
        });
        known(&self.environments.load()).unwrap_or_default()
    }
    /// A decision is recorded.
    pub(crate) fn decided(&self, tenant: &TenantId, record: &DecisionRecord) {
        let (decision, environment) = (&record.decision, &record.input.intent.environment);
        self.of(tenant, environment).decided(decision.decision, decision.reason);
    }
    /// A decision was answered, and it took so long.
    pub(crate) fn took(&self, tenant: &TenantId, environment: &EnvironmentId, took: Phases) {
        let of = self.of(tenant, environment);
        for (histogram, took) in of.phases.iter().zip([took.evaluate, took.commit, took.sign, took.total]) {
            histogram.observe(took);
        }
    }
    pub(crate) fn token_issued(&self) {
        self.tokens_issued.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn refused(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal.catalogued() as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// Every tenant's environments that something was decided in.
    pub fn each(&self, mut with: impl FnMut(&TenantId, &EnvironmentId, &InEnvironment)) {
        for (tenant, environments) in &**self.environments.load() {
            for (environment, counted) in environments {
                with(tenant, environment, counted);
            }
        }
    }
    #[must_use]
    pub fn tokens_issued(&self) -> u64 {
        self.tokens_issued.load(Ordering::Relaxed)
    }
    /// Commits of decisions that were decided again.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }
    /// Token verifications: `accepted`, and each refusal that there was.
    pub fn verifications(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let refused = Code::ALL.iter().zip(&self.refused).map(|(code, n)| (code.as_str(), n.load(Ordering::Relaxed)));
        [("accepted", self.accepted.load(Ordering::Relaxed))].into_iter().chain(refused.filter(|(_, n)| *n > 0))
    }
    /// How long entries took to become durable.
    #[must_use]
    pub fn append(&self) -> Times {
        self.appends.times()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [1, 50, 51, 100, 9_999_999, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let times = histogram.read();
        assert_eq!(times.buckets[..2], [2, 2]);
        assert_eq!(times.buckets[15..], [1, 1]);
        assert_eq!(times.count(), 6);
        assert!((times.seconds - 20.000_202).abs() < 1e-9, "{}", times.seconds);
    }

    #[test]
    fn each_outcome_and_reason_has_a_counter_of_its_own() {
        let counted = InEnvironment::default();
        for outcome in Outcome::ALL {
            for reason in Code::ALL {
                counted.decided(outcome, *reason);
            }
        }
        assert_eq!(counted.decisions().count(), Outcome::ALL.len() * Code::ALL.len());
        assert!(counted.decisions().all(|(_, _, n)| n == 1));
        counted.decided(Outcome::Escalate, Code::PolicyEscalate);
        let twice: Vec<_> = counted.decisions().filter(|(_, _, n)| *n == 2).collect();
        assert_eq!(twice, [(Outcome::Escalate, Code::PolicyEscalate, 2)]);
    }
}
