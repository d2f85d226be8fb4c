//! The spans of a decision: what it was, and how long its phases took. Nothing of the intent's content
//! is in them. Where nobody traces they are never made.

/// Whoever exports traces takes the spans of this target, and nothing else.
pub const TARGET: &str = "intended::trace";

/// A phase of a decision.
macro_rules! phase {
    ($name:literal) => {
        tracing::info_span!(target: $crate::spans::TARGET, $name)
    };
}
pub(crate) use phase;

use std::sync::atomic::{AtomicU64, Ordering};

use intended_model::{EnvironmentId, TenantId};

use crate::{Decided, RuntimeError};

/// What became of the spans, where somebody exports them.
#[derive(Debug, Default)]
pub struct TraceCounts {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl TraceCounts {
    /// So many were taken by the collector.
    pub fn exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }
    /// So many were not, and never will be.
    pub fn dropped(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }
    /// An attempt to hand spans over failed.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
    /// Exported, dropped, and attempts that failed.
    #[must_use]
    pub fn read(&self) -> [u64; 3] {
        [&self.exported, &self.dropped, &self.failed].map(|n| n.load(Ordering::Relaxed))
    }
}

/// One decision, whatever it takes. It may be decided several times until a commit stands.
pub(crate) fn decide(tenant: &TenantId, environment: &EnvironmentId) -> tracing::Span {
    use tracing::field::Empty;
    tracing::info_span!(
        target: TARGET,
        "decide",
        intended.tenant = tenant.as_str(),
        intended.environment = environment.as_str(),
        intended.intent = Empty,
        intended.decision = Empty,
        intended.reason = Empty,
        intended.replayed = Empty,
    )
}

/// Notes what came of it.
pub(crate) fn came_of(span: &tracing::Span, decided: &Result<Decided, RuntimeError>) {
    if span.is_disabled() {
        return;
    }
    match decided {
        Ok(decided) => {
            let decision = &decided.record.decision;
            span.record("intended.intent", tracing::field::display(decided.record.input.id));
            span.record("intended.decision", decision.decision.as_str());
            span.record("intended.reason", decision.reason.as_str());
            if decided.replayed {
                span.record("intended.replayed", true);
            }
        }
        Err(error) => drop(span.record("intended.reason", error.code.as_str())),
    }
}
