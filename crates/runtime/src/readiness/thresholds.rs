//! What a figure is held against: above `warn` it warns, above `fail` it fails.
//!
//! Who operates the server sets them (`[readiness]` in its config file). Who asks for a check may make
//! them stricter for that one check, and never looser: a run is evidence, and whoever runs it must not
//! be able to make a pass of what the operator calls a failure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Micros,
    Seconds,
    Days,
}

impl Unit {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Micros => "micros",
            Self::Seconds => "seconds",
            Self::Days => "days",
        }
    }
}

/// Two bounds, in the unit that the threshold's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Above this it warns;
    pub warn: u64,
    /// above this it fails.
    pub fail: u64,
}

impl Bound {
    #[must_use]
    pub const fn judge(self, value: u64) -> Verdict {
        if value > self.fail {
            Verdict::Fail
        } else if value > self.warn {
            Verdict::Warn
        } else {
            Verdict::Pass
        }
    }
    const fn none_looser(self, than: Self) -> bool {
        self.warn <= than.warn && self.fail <= than.fail
    }
}

macro_rules! thresholds {
    ($($(#[$doc:meta])* $limit:ident = $name:literal, $unit:ident, $warn:literal, $fail:literal, $hint:literal;)+) => {
        /// The thresholds by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Limit { $($(#[$doc])* $limit,)+ }
        impl Limit {
            pub const ALL: &'static [Self] = &[$(Self::$limit,)+];
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$limit => $name,)+ } }
            #[must_use]
            pub const fn unit(self) -> Unit { match self { $(Self::$limit => Unit::$unit,)+ } }
            /// What it is unless somebody says otherwise.
            #[must_use]
            pub const fn usual(self) -> Bound {
                match self { $(Self::$limit => Bound { warn: $warn, fail: $fail },)+ }
            }
            /// What to do when it is exceeded.
            #[must_use]
            pub const fn hint(self) -> &'static str { match self { $(Self::$limit => $hint,)+ } }
        }
    };
}

thresholds! {
    /// From asking the store for the ledger's head until it has answered.
    StoreRead = "store_read_micros", Micros, 50_000, 500_000,
        "look at the load and the disk of the machine, or at the database and the way to it";
    /// From handing the store a fact until it is durable.
    StoreWrite = "store_write_micros", Micros, 250_000, 2_000_000,
        "the disk is slow or busy: every decision waits for it; see intended_audit_append_duration_seconds";
    /// From the caller to the server and back, as the caller measured it.
    RoundTrip = "round_trip_micros", Micros, 100_000, 1_000_000,
        "look at the network, proxies and TLS between the caller and the server";
    /// Since the active key was made. Keys do not end by themselves: they are replaced.
    KeyAge = "key_age_days", Days, 90, 365,
        "rotate it: `intended keys rotate -e <environment>`; the one before stays good for what it signed";
    /// How long the oldest commit that was handed to the store has been waiting.
    AuditLag = "audit_lag_micros", Micros, 1_000_000, 5_000_000,
        "the store does not take what it is given: nothing is allowed until it does; see its health";
    /// How long the oldest entry without a kept checkpoint has been waiting for one.
    CheckpointAge = "checkpoint_age_seconds", Seconds, 60, 600,
        "checkpoints are kept every 10 seconds: the log says why they are not";
    /// How long the oldest entry that a collector has not acknowledged has been waiting.
    SiemLag = "siem_lag_seconds", Seconds, 60, 900,
        "`intended siem status` says what it answers; nothing is lost, it is sent when it is taken";
    /// Half of the decisions take at most so long;
    PolicyP50 = "policy_p50_micros", Micros, 2_000, 20_000,
        "`intended policy bench` finds what is slow in a pack; or the machine has too little to decide with";
    /// 99 of 100 do.
    PolicyP99 = "policy_p99_micros", Micros, 10_000, 100_000,
        "`intended policy bench` finds what is slow in a pack; or the machine has too little to decide with";
    /// Half of the signatures take at most so long;
    SigningP50 = "signing_p50_micros", Micros, 2_000, 20_000,
        "the machine has too little to sign with; an RS256 key signs slowest, an EdDSA key fastest";
    /// 99 of 100 do.
    SigningP99 = "signing_p99_micros", Micros, 10_000, 100_000,
        "the machine has too little to sign with; an RS256 key signs slowest, an EdDSA key fastest";
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Bound>", into = "BTreeMap<String, Bound>")]
pub struct Thresholds(Box<[Bound]>);

impl Default for Thresholds {
    fn default() -> Self {
        Self(Limit::ALL.iter().map(|limit| limit.usual()).collect())
    }
}

/// A threshold that cannot be so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("there is no threshold `{name}`; there are {}", names())]
    Unknown { name: String },
    #[error("`{name}`: `warn` is above `fail`")]
    Order { name: String },
    #[error("`{name}`: at most warn = {}, fail = {}: a check may be stricter than the server's config, not looser", .of.warn, .of.fail)]
    Looser { name: String, of: Bound },
}

impl ThresholdError {
    /// Which one.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unknown { name } | Self::Order { name } | Self::Looser { name, .. } => name,
        }
    }
}

fn names() -> String {
    Limit::ALL.iter().map(|limit| limit.as_str()).collect::<Vec<_>>().join(", ")
}

impl Thresholds {
    #[must_use]
    pub fn of(&self, limit: Limit) -> Bound {
        self.0.get(limit as usize).copied().unwrap_or(limit.usual())
    }

    /// The same with some of them changed.
    pub fn with(mut self, changes: &BTreeMap<String, Bound>) -> Result<Self, ThresholdError> {
        for (name, bound) in changes {
            let limit = Limit::ALL.iter().find(|limit| limit.as_str() == name);
            let limit = limit.ok_or_else(|| ThresholdError::Unknown { name: name.clone() })?;
            if bound.warn > bound.fail {
                return Err(ThresholdError::Order { name: name.clone() });
            }
            if let Some(slot) = self.0.get_mut(*limit as usize) {
                *slot = *bound;
            }
        }
        Ok(self)
    }

    /// The same with some of them stricter.
    pub fn stricter(&self, changes: &BTreeMap<String, Bound>) -> Result<Self, ThresholdError> {
        let changed = self.clone().with(changes)?;
        for limit in Limit::ALL {
            let of = self.of(*limit);
            if !changed.of(*limit).none_looser(of) {
                return Err(ThresholdError::Looser { name: limit.as_str().to_owned(), of });
            }
        }
        Ok(changed)
    }
}

impl TryFrom<BTreeMap<String, Bound>> for Thresholds {
    type Error = ThresholdError;
    fn try_from(changes: BTreeMap<String, Bound>) -> Result<Self, ThresholdError> {
        Self::default().with(&changes)
    }
}

impl From<Thresholds> for BTreeMap<String, Bound> {
    fn from(thresholds: Thresholds) -> Self {
        Limit::ALL.iter().map(|limit| (limit.as_str().to_owned(), thresholds.of(*limit))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, warn: u64, fail: u64) -> BTreeMap<String, Bound> {
        BTreeMap::from([(name.to_owned(), Bound { warn, fail })])
    }

    #[test]
    fn what_is_at_a_bound_is_within_it() {
        let bound = Bound { warn: 10, fail: 20 };
        let verdicts = [0, 10, 11, 20, 21].map(|value| bound.judge(value));
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Pass, Verdict::Warn, Verdict::Warn, Verdict::Fail]);
    }

    #[test]
    fn every_default_warns_before_it_fails_and_has_a_name_with_its_unit() {
        for limit in Limit::ALL {
            assert!(limit.usual().warn < limit.usual().fail, "{limit:?}");
            assert!(limit.as_str().ends_with(limit.unit().as_str()), "{limit:?}");
            assert_eq!(Thresholds::default().of(*limit), limit.usual());
        }
    }

    #[test]
    fn a_name_that_is_none_or_bounds_the_wrong_way_round_are_refused() {
        let read = |changes| Thresholds::try_from(changes);
        assert!(matches!(read(one("polcy_p99_micros", 1, 2)), Err(ThresholdError::Unknown { .. })));
        assert!(matches!(read(one("policy_p99_micros", 3, 2)), Err(ThresholdError::Order { .. })));
        let changed = read(one("policy_p99_micros", 2, 3)).unwrap();
        assert_eq!(changed.of(Limit::PolicyP99), Bound { warn: 2, fail: 3 });
        assert_eq!(changed.of(Limit::SigningP99), Limit::SigningP99.usual(), "the others stay");
    }

    #[test]
    fn a_check_is_as_strict_as_the_server_or_stricter_in_both_bounds() {
        let server = Thresholds::try_from(one("key_age_days", 30, 60)).unwrap();
        assert_eq!(
            server.stricter(&one("key_age_days", 1, 60)).unwrap().of(Limit::KeyAge),
            Bound { warn: 1, fail: 60 }
        );
        for (warn, fail) in [(31, 60), (30, 61), (1, 61)] {
            let error = server.stricter(&one("key_age_days", warn, fail)).unwrap_err();
            assert_eq!(error.name(), "key_age_days", "{error}");
            assert!(matches!(error, ThresholdError::Looser { .. }), "{error}");
        }
        // A default can be looser than the server's.
        assert!(server.stricter(&one("key_age_days", 90, 365)).is_err());
    }

    #[test]
    fn what_is_written_down_is_read_back() {
        let some = Thresholds::try_from(one("siem_lag_seconds", 5, 6)).unwrap();
        let text = serde_json::to_string(&some).unwrap();
        assert_eq!(serde_json::from_str::<Thresholds>(&text).unwrap(), some);
        assert!(serde_json::from_str::<Thresholds>(r#"{"siem_lag_seconds": {"warn": 1, "fail": 2, "x": 3}}"#).is_err());
    }
}
