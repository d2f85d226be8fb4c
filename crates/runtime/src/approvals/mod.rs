//! People and their say in what was escalated.
//!
//! * [`requests`]: what is open, and what there is to know about it
//! * [`people`]: approve, deny, withdraw, ask, answer
//! * [`settle`]: deciding again, and waiting for it
//!
//! What counts is `intended_engine::approvals`; here it is read, shown, and committed. Everything that
//! somebody says is fenced by the fact that the intent is open and by the state that says who may say it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use intended_engine::approvals::{self, Request, RequirementProgress};
use intended_engine::{KeptSession, State};
use intended_model::decision::{DecisionRecord, Outcome};
use intended_model::{CredentialId, Digest, IntentId, MemberId, TenantId, Timestamp};

use crate::RuntimeError;

pub mod people;
pub mod requests;
pub mod settle;

/// Most characters of a reason, a question or an answer.
pub const MAX_REASON: usize = 500;
/// Most approvals in one request.
pub const MAX_BULK: usize = 50;
/// Most open intents whose records are kept in memory.
const MAX_CACHED: usize = 4096;

/// What is open, by tenant and intent, with the version of the fact that says so.
pub(crate) type Cache = Mutex<HashMap<(TenantId, IntentId), Arc<Open>>>;

/// An intent that waits, for people or for context.
#[derive(Debug)]
pub struct Open {
    pub record: DecisionRecord,
    /// Ledger position of the last decision.
    pub index: u64,
    /// Ledger position of the decision that first asked people for it.
    pub request: u64,
    pub recorded_at: Timestamp,
    pub expires_at: Timestamp,
    /// Of the fact.
    version: u64,
}

impl Open {
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request::of(&self.record, self.request)
    }
    #[must_use]
    pub fn is_escalation(&self) -> bool {
        self.record.decision.decision == Outcome::Escalate
    }
}

/// A fact that must still be as it was read.
pub(crate) type Fence = (Box<str>, u64);

/// Something that was asked or answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub index: u64,
    pub at: Timestamp,
    pub by: CredentialId,
    pub member: Option<MemberId>,
    pub answer: bool,
    pub text: Box<str>,
}

/// How a request for approval ended, or that it has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Open,
    /// Decided again, for good.
    Decided(Outcome),
    Denied {
        by: CredentialId,
        member: Option<MemberId>,
        note: Box<str>,
    },
    TimedOut,
}

impl Ended {
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Decided(Outcome::Allow | Outcome::Modify) => "allowed",
            Self::Decided(_) | Self::Denied { .. } => "denied",
            Self::TimedOut => "timed_out",
        }
    }
}

/// An approval that was given, and whether it counts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub entry: u64,
    pub approver: MemberId,
    pub at: Option<Timestamp>,
    pub reason: Box<str>,
    pub counts: bool,
}

/// An earlier time when the same agent asked for the same tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Similar {
    pub intent: IntentId,
    pub at: Timestamp,
    pub outcome: &'static str,
    pub approvers: Vec<MemberId>,
}

/// Whether whoever asks may approve, and why not.
pub type MayApprove = Result<(), approvals::Ineligible>;

/// The entity tag of what waits: what would run, by which policy, and what was said of it. Whoever
/// approves names it, so that nobody approves something else than what they have read.
#[must_use]
pub fn tag(state: &State, record: &DecisionRecord, index: u64) -> String {
    let deployed = state.environments.get(&record.input.intent.environment).and_then(|e| e.deployed.as_ref());
    let given: Vec<String> =
        approvals::references(state, &record.input.id).iter().map(|a| a.entry.to_string()).collect();
    let text = format!(
        "{}\n{}\n{}\n{index}\n{}",
        record.input.id,
        record.input.intent_hash,
        deployed.map(|v| v.digest.to_string()).unwrap_or_default(),
        given.join(",")
    );
    Digest::of(text.as_bytes()).to_hex().get(..32).unwrap_or_default().to_owned()
}

/// Whether every requirement is met.
fn met(progress: &[RequirementProgress]) -> bool {
    !progress.is_empty() && progress.iter().all(RequirementProgress::is_met)
}

fn read_session(value: &[u8]) -> Result<KeptSession, RuntimeError> {
    serde_json::from_slice(value).map_err(RuntimeError::internal)
}
