//! What of a ledger belongs on an incident's timeline. Pure, so that who verifies a timeline makes it
//! of the entries again.

use std::collections::BTreeMap;

use intended_model::about::about;
use intended_model::{Event, Kind, Timestamp};
use serde::{Deserialize, Serialize};

/// One line of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    pub at: Timestamp,
    /// The ledger entry that says so. Absent where it was counted: see [`Spike`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The entry's kind, or `denial.spike`.
    pub kind: Box<str>,
    pub what: Box<str>,
}

/// Whether entries of a kind are on the timeline of an incident. Total: a new kind needs its line.
#[must_use]
pub const fn concerns(kind: Kind) -> bool {
    match kind {
        // What was stopped and what was let go on.
        Kind::HaltThrown
        | Kind::LedgerRestored
        | Kind::HaltResumeAsked
        | Kind::HaltResumed
        | Kind::BreakerHeld
        | Kind::BreakerReleased
        | Kind::BreakerSet
        | Kind::BreakerOpened
        | Kind::BreakerProbing
        | Kind::BreakerClosed
        | Kind::AccessSuspended
        | Kind::AccessReinstated
        // What was changed.
        | Kind::PolicyDeployed
        | Kind::PolicyVerified
        | Kind::RollbackRequested
        | Kind::EnvironmentSet
        | Kind::AgentSet
        | Kind::CatalogueSet
        | Kind::CapabilitySet
        // What was taken away, and keys.
        | Kind::CredentialRevoked
        | Kind::CredentialRotated
        | Kind::TokenRevoked
        | Kind::TokensRevoked
        | Kind::KeyAdded
        | Kind::KeyRetired
        // Who came to have a say.
        | Kind::MemberSet
        | Kind::CredentialCreated
        | Kind::BreakGlassPrepared
        | Kind::SignInSet
        | Kind::LinkIssued
        | Kind::IdentityProviderSet
        // What was rehearsed.
        | Kind::DrillRecorded
        // What people said.
        | Kind::IncidentOpened
        | Kind::IncidentNoted
        | Kind::IncidentClosed => true,
        Kind::TenantCreated
        | Kind::ReviewMade
        | Kind::ReviewSigned
        | Kind::WebhookSet
        | Kind::PolicyPublished
        | Kind::PolicyDrafted
        | Kind::PolicySubmitted
        | Kind::PolicyApproved
        | Kind::PolicyRejected
        | Kind::PolicySourced
        | Kind::ApprovalGranted
        | Kind::ApprovalWithdrawn
        | Kind::Decision
        | Kind::TokenConsumed
        | Kind::IntentOutcome
        | Kind::EscalationClosed
        | Kind::ApprovalNote
        | Kind::SessionStarted
        | Kind::SessionEnded => false,
    }
}

/// The line of an entry.
#[must_use]
pub fn item(index: u64, at: Timestamp, event: &Event) -> Item {
    Item { at, index: Some(index), kind: event.kind().as_str().into(), what: about(event).summary.into() }
}

/// Denials in a minute from which on they can be a spike.
pub const SPIKE_AT_LEAST: u32 = 10;
/// So many times the median of the minutes before.
pub const SPIKE_TIMES: u32 = 3;
/// How many minutes that is.
pub const BASELINE_MINUTES: i64 = 60;

/// Minutes in which far more was denied than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spike {
    /// Minutes since the epoch, both inclusive.
    pub from_minute: i64,
    pub to_minute: i64,
    /// All of them, and those of the worst minute.
    pub denials: u64,
    pub peak: u32,
    /// Denials in a minute before it began.
    pub median: u32,
}

impl Spike {
    #[must_use]
    pub fn item(&self) -> Item {
        let minutes = self.to_minute - self.from_minute + 1;
        Item {
            at: Timestamp::from_millis(self.from_minute * 60_000),
            index: None,
            kind: "denial.spike".into(),
            what: format!(
                "{} denials in {minutes} min, at most {} in one; {} in a usual minute of the hour before",
                self.denials, self.peak, self.median
            )
            .into(),
        }
    }
}

/// The spikes among the denials of each minute. A minute is one that has at least [`SPIKE_AT_LEAST`]
/// and at least [`SPIKE_TIMES`] times the median of the [`BASELINE_MINUTES`] before it, or before the
/// spike that it goes on; minutes without any count as 0.
#[must_use]
pub fn spikes(denials: &BTreeMap<i64, u32>, from_minute: i64, to_minute: i64) -> Vec<Spike> {
    let mut out: Vec<Spike> = Vec::new();
    for (minute, n) in denials.range(from_minute..=to_minute) {
        let going_on = out.last().copied().filter(|s| s.to_minute + 1 == *minute);
        let median = going_on.map_or_else(|| median(denials, *minute), |s| s.median);
        if *n < SPIKE_AT_LEAST || *n < median.saturating_mul(SPIKE_TIMES) {
            continue;
        }
        match out.last_mut().filter(|_| going_on.is_some()) {
            Some(spike) => {
                spike.to_minute = *minute;
                spike.denials += u64::from(*n);
                spike.peak = spike.peak.max(*n);
            }
            None => {
                out.push(Spike { from_minute: *minute, to_minute: *minute, denials: u64::from(*n), peak: *n, median })
            }
        }
    }
    out
}

fn median(denials: &BTreeMap<i64, u32>, minute: i64) -> u32 {
    let before = minute - BASELINE_MINUTES..minute;
    let mut counts: Vec<u32> = before.map(|m| denials.get(&m).copied().unwrap_or(0)).collect();
    counts.sort_unstable();
    counts.get(counts.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_many_denials_and_many_more_than_before() {
        let mut denials: BTreeMap<i64, u32> = (0..100).map(|m| (m, 4)).collect();
        assert_eq!(spikes(&denials, 60, 99), []);
        // Three times the usual, and ten at least.
        denials.insert(70, 11);
        assert_eq!(spikes(&denials, 60, 99), []);
        denials.extend([(70, 12), (71, 30), (72, 12), (80, 12)]);
        let found = spikes(&denials, 60, 99);
        assert_eq!(
            found,
            [
                Spike { from_minute: 70, to_minute: 72, denials: 54, peak: 30, median: 4 },
                Spike { from_minute: 80, to_minute: 80, denials: 12, peak: 12, median: 4 },
            ]
        );
        assert_eq!(spikes(&denials, 73, 79), []);
        // Where nothing was denied before, ten are.
        let quiet = BTreeMap::from([(5, 9), (9, 10)]);
        assert_eq!(spikes(&quiet, 0, 9).iter().map(|s| (s.from_minute, s.median)).collect::<Vec<_>>(), [(9, 0)]);
        // A busy hour is none by itself.
        let busy: BTreeMap<i64, u32> = (0..200).map(|m| (m, 50)).collect();
        assert_eq!(spikes(&busy, 60, 199), []);
    }
}
