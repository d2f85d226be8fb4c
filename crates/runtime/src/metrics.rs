//! Counters of the decision path, kept as plain atomics: the hot path takes no lock for them. The
//! HTTP edge renders them in Prometheus' text format.

use std::sync::atomic::{AtomicU64, Ordering};

use intended_model::decision::{DecisionRecord, Outcome};

/// What the runtime counts.
#[derive(Debug, Default)]
pub struct Metrics {
    decisions: [AtomicU64; 5],
    tokens_issued: AtomicU64,
    conflicts: AtomicU64,
    verified: AtomicU64,
    refused: AtomicU64,
}

impl Metrics {
    pub(crate) fn decided(&self, record: &DecisionRecord) {
        let at = Outcome::ALL.iter().position(|o| *o == record.decision.decision).unwrap_or(0);
        if let Some(counter) = self.decisions.get(at) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if record.grant.is_some() {
            self.tokens_issued.fetch_add(1, Ordering::Relaxed);
        }
    }
    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn verification(&self, accepted: bool) {
        let counter = if accepted { &self.verified } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    /// Decisions by outcome.
    #[must_use]
    pub fn decisions(&self) -> Vec<(Outcome, u64)> {
        Outcome::ALL.iter().zip(&self.decisions).map(|(o, n)| (*o, n.load(Ordering::Relaxed))).collect()
    }
    #[must_use]
    pub fn tokens_issued(&self) -> u64 {
        self.tokens_issued.load(Ordering::Relaxed)
    }
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }
    /// Accepted and refused token verifications.
    #[must_use]
    pub fn verifications(&self) -> (u64, u64) {
        (self.verified.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}
