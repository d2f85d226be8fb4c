//! What a run says: measurements, each made of figures, each with its verdict.

use intended_model::{CredentialId, EnvironmentId, Timestamp};
use serde::{Deserialize, Serialize};

use super::thresholds::{Bound, Limit, Thresholds, Unit};

/// The best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    Warn,
    Fail,
}

impl Verdict {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One number and what it is held against; or one thing that is so, or is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    pub figure: Box<str>,
    /// Which environment it is about; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentId>,
    pub verdict: Verdict,
    /// The number, in `unit`; absent where there is none, or none came in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// The threshold's name, and what it was for this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// What was measured and how, or what is wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What to do, where it did not pass.
    #[serde(default, rename = "do", skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Figure {
    /// A number against its threshold.
    pub fn held(figure: &str, limit: Limit, thresholds: &Thresholds, value: u64) -> Self {
        let bound = thresholds.of(limit);
        let verdict = bound.judge(value);
        let advice = if verdict == Verdict::Pass { String::new() } else { limit.hint().to_owned() };
        Self { value: Some(value), verdict, advice, ..Self::without(figure, limit, thresholds, "") }
    }

    /// A number that there is not: it could not be measured, which is a failure.
    pub fn without(figure: &str, limit: Limit, thresholds: &Thresholds, why: impl Into<String>) -> Self {
        Self {
            unit: Some(limit.unit()),
            threshold: Some(limit.as_str().into()),
            bound: Some(thresholds.of(limit)),
            ..Self::stated(figure, Verdict::Fail, why, limit.hint())
        }
    }

    /// Something without a number. `advice` is kept only where it is needed.
    pub fn stated(figure: &str, verdict: Verdict, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            figure: figure.into(),
            environment: None,
            verdict,
            value: None,
            unit: None,
            threshold: None,
            bound: None,
            detail: detail.into(),
            advice: if verdict == Verdict::Pass { String::new() } else { advice.into() },
        }
    }

    #[must_use]
    pub fn of(self, environment: &EnvironmentId) -> Self {
        Self { environment: Some(environment.clone()), ..self }
    }

    #[must_use]
    pub fn with(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// The same, at least as bad as this.
    #[must_use]
    pub fn at_least(self, verdict: Verdict, advice: &str) -> Self {
        if verdict <= self.verdict {
            return self;
        }
        Self { verdict, advice: advice.to_owned(), ..self }
    }
}

/// The names of the five.
pub const MEASUREMENTS: [&str; 5] = [
    "service connectivity",
    "key material available",
    "audit pipeline lag",
    "policy engine response time",
    "token signing latency",
];

/// One of the five: as bad as its worst figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    pub measurement: Box<str>,
    pub verdict: Verdict,
    pub figures: Vec<Figure>,
}

impl Measurement {
    /// What measured nothing has not passed.
    pub fn new(measurement: &str, mut figures: Vec<Figure>) -> Self {
        if figures.is_empty() {
            let what = "there is no environment to measure in";
            figures.push(Figure::stated(
                "environments",
                Verdict::Fail,
                what,
                "set one up, or name one that takes part",
            ));
        }
        let verdict = figures.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Fail);
        Self { measurement: measurement.into(), verdict, figures }
    }
}

/// One check: who ran it, when and where, about what, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Of the form of this record.
    pub v: u32,
    /// Its number in the tenant's history, from 1; absent when it could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    pub at: Timestamp,
    pub by: CredentialId,
    /// Which node measured.
    pub node: Box<str>,
    pub version: Box<str>,
    /// Whether it was about every environment of the tenant that takes part.
    pub whole: bool,
    pub environments: Vec<EnvironmentId>,
    /// Whether it was held against more than the server's own thresholds.
    pub stricter: bool,
    pub verdict: Verdict,
    pub took_micros: u64,
    pub measurements: Vec<Measurement>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_as_bad_as_its_worst_figure_and_nothing_measured_is_a_failure() {
        let of = |verdicts: &[Verdict]| {
            let figures = verdicts.iter().map(|v| Figure::stated("x", *v, "", "do it")).collect();
            Measurement::new("m", figures).verdict
        };
        assert_eq!(of(&[Verdict::Pass, Verdict::Pass]), Verdict::Pass);
        assert_eq!(of(&[Verdict::Pass, Verdict::Warn]), Verdict::Warn);
        assert_eq!(of(&[Verdict::Warn, Verdict::Fail, Verdict::Pass]), Verdict::Fail);
        assert_eq!(of(&[]), Verdict::Fail);
    }

    #[test]
    fn what_did_not_pass_says_what_to_do_and_what_passed_does_not() {
        let thresholds = Thresholds::default();
        let bound = thresholds.of(Limit::KeyAge);
        assert!(Figure::held("x", Limit::KeyAge, &thresholds, bound.warn).advice.is_empty());
        assert!(!Figure::held("x", Limit::KeyAge, &thresholds, bound.warn + 1).advice.is_empty());
        let missing = Figure::without("x", Limit::KeyAge, &thresholds, "why");
        assert_eq!((missing.verdict, missing.value, missing.bound), (Verdict::Fail, None, Some(bound)));
        let passed = Figure::stated("x", Verdict::Pass, "", "never shown");
        assert!(passed.advice.is_empty());
        assert_eq!(passed.at_least(Verdict::Warn, "look").advice, "look");
    }
}
