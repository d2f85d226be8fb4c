//! What the runtime answers: the decision, gate by gate, and everything it was based on.
//! All of it is recorded; fields stand in canonical order, because the bytes are hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Class, Code, CredentialId, Digest, Intent, IntentId, MemberId, Timestamp, Value};

/// The version of the decision procedure this release runs: gates, risk, fold and policy language.
/// Raised by any change that would alter a recorded outcome; earlier procedures stay callable.
///
/// * 1: as it began
/// * 2: of those who act for each other, all are looked at; approvals count by whose they are and
///   what the approver was before the request, in steps; a session waits for what is deferred in it
/// * 3: the self-test ([`crate::synthetic`]); names that read as its own are nobody else's
///   Also: one way to tell a tool's target system, for catalogue, halts and breakers alike; a hold covers
///   what a halt of the same words does; a breaker on a domain covers its categories
pub const PROCEDURE: u32 = 3;

/// The five outcomes (AARM v1.0, R4; `escalate` is its STEP_UP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Allow,
    Deny,
    Escalate,
    Defer,
    Modify,
}

impl Outcome {
    pub const ALL: [Self; 5] = [Self::Allow, Self::Deny, Self::Escalate, Self::Defer, Self::Modify];
    /// Whether a token follows.
    #[must_use]
    pub const fn permits(self) -> bool {
        matches!(self, Self::Allow | Self::Modify)
    }
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Escalate => "escalate",
            Self::Defer => "defer",
            Self::Modify => "modify",
        }
    }
}

/// What kind of thing a tool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Read,
    List,
    Create,
    Update,
    Delete,
    Execute,
    Send,
    Transfer,
    Grant,
    Revoke,
    Configure,
    Authenticate,
    /// Of the self-test alone: it does nothing. No tool of a catalogue does that.
    Probe,
}

impl Operation {
    /// What tools do.
    pub const ALL: [Self; 12] = [
        Self::Read,
        Self::List,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Execute,
        Self::Send,
        Self::Transfer,
        Self::Grant,
        Self::Revoke,
        Self::Configure,
        Self::Authenticate,
    ];
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Execute => "execute",
            Self::Send => "send",
            Self::Transfer => "transfer",
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::Configure => "configure",
            Self::Authenticate => "authenticate",
            Self::Probe => "probe",
        }
    }
}

/// Whether the effect of a tool can be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reversible {
    Yes,
    Partly,
    No,
}

impl Reversible {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Partly => "partly",
            Self::No => "no",
        }
    }
}

/// What the catalogue says about a tool. An input of the decision, recorded with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classification {
    /// Two equally specific catalogue entries disagree: never allowed.
    pub ambiguous: bool,
    /// How much one call can touch, 0–100.
    pub blast: u8,
    /// Open Intent Layer category, `OIL-104`; absent for an unknown tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Box<str>>,
    /// 0 (unknown) to 100 (named exactly).
    pub confidence: u8,
    /// Risk indicators, sorted.
    pub indicators: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    pub reversible: Reversible,
    /// The target system, `github`, in lower case: [`connector_of`](crate::emergency::connector_of) the tool.
    /// Until the second procedure what the entry of the catalogue began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Box<str>>,
}

/// Sensitivity of data, ordered. Unknown counts as the most sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataClass {
    Public,
    Internal,
    Confidential,
    Restricted,
    Unknown,
}

impl DataClass {
    /// 0 public, 1 internal, 2 confidential, 3 restricted, 4 unknown.
    #[must_use]
    pub const fn level(self) -> i64 {
        match self {
            Self::Public => 0,
            Self::Internal => 1,
            Self::Confidential => 2,
            Self::Restricted => 3,
            Self::Unknown => 4,
        }
    }
}

/// The steps of the evaluation, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateName {
    Emergency,
    Breaker,
    Identity,
    Classify,
    Capability,
    Context,
    Risk,
    Policy,
    Approval,
}

impl GateName {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Breaker => "breaker",
            Self::Identity => "identity",
            Self::Classify => "classify",
            Self::Capability => "capability",
            Self::Context => "context",
            Self::Risk => "risk",
            Self::Policy => "policy",
            Self::Approval => "approval",
        }
    }
}

/// What a gate said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateOutcome {
    Pass,
    Deny,
    Escalate,
    Defer,
    Modify,
    /// Could not be evaluated, because something before it is missing.
    Skipped,
}

/// One line of the gate trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    pub code: Code,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub detail: Box<str>,
    pub gate: GateName,
    pub outcome: GateOutcome,
}

/// One of the eight risk factors, 0–100, with its weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    pub name: std::borrow::Cow<'static, str>,
    pub value: u8,
    pub weight: u16,
}

/// The risk score with its breakdown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Risk {
    pub factors: Vec<Factor>,
    /// 0–100: the weighted mean of the factors, rounded to the nearest integer.
    pub score: u8,
}

/// `2 of release-managers`: so many people of one group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    pub count: u32,
    pub group: Box<str>,
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.count, self.group)
    }
}

/// `1 of owners then 1 of security or 2 of leads`: steps in order, each met by any of its quorums.
/// The first step stands in the requirement itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    pub count: u32,
    /// The agent's owner does not count, whatever the environment's settings say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub except_owner: bool,
    pub group: Box<str>,
    /// What meets the first step as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub or: Vec<Quorum>,
    /// The steps after the first, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Vec<Quorum>>,
}

impl Requirement {
    /// So many people of one group.
    #[must_use]
    pub fn of(count: u32, group: &str) -> Self {
        Self { count, except_owner: false, group: group.into(), or: Vec::new(), then: Vec::new() }
    }
    /// Its steps in order, each with what meets it.
    #[must_use]
    pub fn steps(&self) -> Vec<Vec<Quorum>> {
        let first = Quorum { count: self.count, group: self.group.clone() };
        let first = std::iter::once(first).chain(self.or.iter().cloned()).collect();
        std::iter::once(first).chain(self.then.iter().cloned()).collect()
    }
    /// The groups that it asks, as they are written.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.group).chain(self.or.iter().chain(self.then.iter().flatten()).map(|q| &*q.group))
    }
}

/// As the annotation writes it.
impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.count, self.group)?;
        self.or.iter().try_for_each(|q| write!(f, " or {q}"))?;
        for step in &self.then {
            for (at, quorum) in step.iter().enumerate() {
                write!(f, " {} {quorum}", if at == 0 { "then" } else { "or" })?;
            }
        }
        if self.except_owner { f.write_str(" except owner") } else { Ok(()) }
    }
}

/// What must happen before the action may run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obligations {
    /// For `modify`: the arguments that the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// For `escalate`: who must approve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Requirement>,
    /// For `escalate` and `defer`: when it denies by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// For `defer`: what is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Box<str>>,
}

impl Obligations {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The policy version that was active, and which of its policies determined the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRef {
    pub determining: Vec<Box<str>>,
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Box<str>>,
    pub pack: Box<str>,
    pub version: Box<str>,
}

/// The answer of the pure procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub decision: Outcome,
    pub gates: Vec<Gate>,
    #[serde(default, skip_serializing_if = "Obligations::is_empty")]
    pub obligations: Obligations,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyRef>,
    /// The code of the gate that settled it.
    pub reason: Code,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
}

/// What the session had done before, as the decision saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionContext {
    pub allowed: u32,
    pub categories: BTreeSet<Box<str>>,
    /// Level of the most sensitive data class an allowed action of the session touched.
    pub data_class: i64,
    pub denied: u32,
    pub indicators: BTreeSet<Box<str>>,
    pub intents: u32,
    /// Set when there were more tools than are tracked.
    pub overflow: bool,
    pub tools: BTreeSet<Box<str>>,
    /// The intents of it that wait for context, the first of them first: the others wait for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<IntentId>,
}

/// One approval that the decision may count: a reference to its ledger entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRef {
    pub approver: MemberId,
    pub entry: u64,
    pub expires_at: Timestamp,
    pub intent_hash: Digest,
    pub policy: Digest,
}

/// Everything that went into a decision besides the tenant's state. Recorded with it, so that
/// anyone can decide again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ApprovalRef>,
    /// When it was evaluated.
    pub at: Timestamp,
    /// Who is to verify the token, where the request names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Box<str>>,
    pub catalogue: Digest,
    /// What it is: follows from the tool, and stands here for who reads it.
    #[serde(default, skip_serializing_if = "Class::is_traffic")]
    pub class: Class,
    pub classification: Classification,
    /// How many control entries the state had seen.
    pub control: u64,
    /// The budget counters as they were read, by budget and window.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<Box<str>, i64>,
    pub credential: CredentialId,
    /// Of what was escalated or deferred and is decided again: until when it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub id: IntentId,
    pub intent: Intent,
    pub intent_hash: Digest,
    pub procedure: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionContext>,
}

/// The authority that follows an allow: what the token will say that the decision does not.
/// Recorded before the token exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    pub aud: Box<str>,
    pub exp: i64,
    pub iat: i64,
    pub jti: Box<str>,
    pub kid: Box<str>,
}

/// The body of a `decision` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRecord {
    pub decision: Decision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    pub input: Input,
    pub v: u32,
}
