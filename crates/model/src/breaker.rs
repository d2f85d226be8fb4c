//! Circuit breakers: what one watches, when it opens, what was measured, what came of an action.

use serde::{Deserialize, Serialize};

/// What a breaker or a hold is about. `connector` is the catalogue's target system, `category` the
/// Open Intent Layer's; `tenant` is everything in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerScope {
    Agent,
    Tool,
    Connector,
    Category,
    Tenant,
}

impl BreakerScope {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tool => "tool",
            Self::Connector => "connector",
            Self::Category => "category",
            Self::Tenant => "tenant",
        }
    }
    /// Whether a `*` at the end of what is named stands for anything.
    #[must_use]
    pub const fn has_patterns(self) -> bool {
        matches!(self, Self::Tool | Self::Category)
    }
}

/// What a breaker watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerTarget {
    pub scope: BreakerScope,
    /// Which one; of a tool or category, a `*` at its end stands for anything, and all of them are
    /// measured together. Absent: each one, measured and opened by itself. Always absent for `tenant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<str>>,
}

impl BreakerTarget {
    /// Whether it stands for many that are measured each by itself.
    #[must_use]
    pub fn is_each(&self) -> bool {
        self.target.is_none() && self.scope != BreakerScope::Tenant
    }
}

impl std::fmt::Display for BreakerTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.target, self.scope) {
            (_, BreakerScope::Tenant) => f.write_str("everything"),
            (Some(target), scope) => write!(f, "{} `{target}`", scope.as_str()),
            (None, scope) => write!(f, "each {}", scope.as_str()),
        }
    }
}

/// How far back a breaker looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerWindow {
    /// The last so many, none older than an hour.
    Calls(u32),
    /// The last so many seconds.
    Secs(u32),
}

impl std::fmt::Display for BreakerWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Calls(n) => write!(f, "the last {n} calls"),
            Self::Secs(n) => write!(f, "the last {n} s"),
        }
    }
}

/// A bound on what is moved within the window.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerSpend {
    /// The argument whose amount counts.
    pub argument: Box<str>,
    /// In hundredths of the argument's unit. Opens when it is reached.
    pub limit: i64,
}

/// When a breaker opens, and how it closes. Each threshold opens it when it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerRules {
    /// Denied among the decisions, in thousandths. What a halt or a breaker denied does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial_rate_permille: Option<u32>,
    /// Failed among the reported outcomes, in thousandths; one that nobody knows counts as failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate_permille: Option<u32>,
    /// The mean of the reported durations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
    /// Below so many of what a threshold is about, it opens nothing.
    pub minimum_calls: u32,
    /// How long it stays open before it is tried again.
    pub open_secs: u32,
    /// How long after its token's time nobody is waited for to say what came of a probe: it counts as
    /// failed then, where outcomes are what opened the breaker, and as neither where they are not.
    pub probe_timeout_secs: u32,
    /// Most actions that are let through while it is half-open.
    pub probes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spend: Option<BreakerSpend>,
    /// Probes that must succeed for it to close.
    pub successes: u32,
    /// Allowed actions within the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub velocity: Option<u32>,
    pub window: BreakerWindow,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            denial_rate_permille: None,
            error_rate_permille: None,
            latency_ms: None,
            minimum_calls: 20,
            open_secs: 60,
            probe_timeout_secs: 60,
            probes: 3,
            spend: None,
            successes: 3,
            velocity: None,
            window: BreakerWindow::Secs(300),
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerMetric {
    ErrorRate,
    DenialRate,
    Latency,
    Velocity,
    Spend,
    /// Failed probes: what opens a half-open breaker again.
    Probes,
}

impl BreakerMetric {
    /// Whether it is about what came of actions: what was opened by that is closed by that.
    #[must_use]
    pub const fn is_about_outcomes(self) -> bool {
        matches!(self, Self::ErrorRate | Self::Latency | Self::Probes)
    }
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::DenialRate => "denial_rate",
            Self::Latency => "latency",
            Self::Velocity => "velocity",
            Self::Spend => "spend",
            Self::Probes => "probes",
        }
    }
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::ErrorRate | Self::DenialRate => "permille",
            Self::Latency => "ms",
            Self::Velocity => "allowed",
            Self::Spend => "hundredths",
            Self::Probes => "failed",
        }
    }
}

impl BreakerRules {
    /// The threshold of a metric, if it has one.
    #[must_use]
    pub fn threshold(&self, metric: BreakerMetric) -> Option<i64> {
        match metric {
            BreakerMetric::ErrorRate => self.error_rate_permille.map(i64::from),
            BreakerMetric::DenialRate => self.denial_rate_permille.map(i64::from),
            BreakerMetric::Latency => self.latency_ms.map(i64::from),
            BreakerMetric::Velocity => self.velocity.map(i64::from),
            BreakerMetric::Spend => self.spend.as_ref().map(|s| s.limit),
            BreakerMetric::Probes => Some(1),
        }
    }
}

/// What a breaker has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerMeasure {
    /// Of how many.
    pub calls: u64,
    pub metric: BreakerMetric,
    pub threshold: i64,
    pub value: i64,
    pub window: BreakerWindow,
}

/// Which breakers an environment has of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerDefaults {
    /// Those of `intended_engine::breakers::defaults`, each until it is set explicitly.
    #[default]
    Defaults,
    None,
}

impl BreakerDefaults {
    #[must_use]
    pub const fn is_default(&self) -> bool {
        matches!(self, Self::Defaults)
    }
}

/// Of a count that is left out where there is nothing to count.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "how serde asks")]
pub(crate) const fn is_none(count: &u32) -> bool {
    *count == 0
}

/// What came of an action, as its enforcement point says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionOutcome {
    Succeeded,
    Failed,
    /// Nobody knows whether it happened: counts as failed.
    Unknown,
}

impl ActionOutcome {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}
