//! What a review says. It is a document: kept as canonical JSON, whose digest stands in the ledger, and
//! read by people who were not there.

use std::fmt;

use intended_model::decision::Quorum;
use intended_model::entry::{AgentState, Role, Scope, SignInMethod, Tier};
use intended_model::{CredentialId, EnvironmentId, MemberId, Name, TenantId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version of reports that this release makes.
pub const VERSION: u32 = 1;
/// What was not used for so many days counts as not used.
pub const UNUSED_DAYS: i64 = 90;
/// What ends within so many days ends soon.
pub const SOON_DAYS: i64 = 30;
/// Most names that are listed of those who can approve something alone.
pub const MAX_ALONE: usize = 100;

/// A time as people and other programs read it: RFC 3339, UTC, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct When(pub Timestamp);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not a time such as 2026-11-24T12:00:00.000Z"))
    }
}

/// Reads what [`Timestamp`] writes, and nothing else.
fn parse(text: &str) -> Option<Timestamp> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second, milli) = (part(11..13)?, part(14..16)?, part(17..19)?, part(20..23)?);
    // Civil to days, after Howard Hinnant.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let of_era =
        y.rem_euclid(400) * 365 + y.rem_euclid(400) / 4 - y.rem_euclid(400) / 100 + (153 * m + 2) / 5 + day - 1;
    let days = y.div_euclid(400) * 146_097 + of_era - 719_468;
    let at = Timestamp::from_millis(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + milli);
    (at.to_string() == text).then_some(at)
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    High,
    Medium,
    Low,
}

impl Severity {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    Policy,
    Group,
    Member,
    Credential,
    Agent,
}

impl About {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Group => "group",
            Self::Member => "member",
            Self::Credential => "credential",
            Self::Agent => "agent",
        }
    }
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    pub about: About,
    pub subject: Box<str>,
    /// Stable: `credential.no_expiry`.
    pub code: std::borrow::Cow<'static, str>,
    pub detail: Box<str>,
}

/// Some scopes in some environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct May {
    pub environments: Vec<EnvironmentId>,
    pub scopes: Vec<Scope>,
}

/// What somebody may do when the review was made, roles, expiry and all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Effective {
    /// Environments with the same scopes stand together.
    pub environments: Vec<May>,
    /// For what is the whole tenant's.
    pub tenant: Vec<Scope>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRow {
    pub environments: Vec<EnvironmentId>,
    pub expired: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<When>,
    pub role: Role,
    pub whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    pub active: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Box<str>>,
    pub grants: Vec<GrantRow>,
    pub groups: Vec<Name>,
    /// Signed in, or with a key of theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<When>,
    pub may: Effective,
    pub member: MemberId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    pub sign_in: Vec<SignInMethod>,
    /// Scopes that were never seen in use.
    pub unused: Vec<Scope>,
    /// Where something was done within the days that count.
    pub used_in: Vec<EnvironmentId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    Active,
    Expired,
    MemberInactive,
    Revoked,
    /// It was good for one halt, and has thrown it.
    Spent,
}

impl CredentialState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::MemberInactive => "member inactive",
            Self::Revoked => "revoked",
            Self::Spent => "spent",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRow {
    pub actions: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<Box<str>>,
    /// Who made it.
    pub by: CredentialId,
    pub credential: CredentialId,
    pub environments: Vec<EnvironmentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<When>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<When>,
    pub may: Effective,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    pub networks: Vec<Box<str>>,
    pub scopes: Vec<Scope>,
    pub state: CredentialState,
    pub test: bool,
    pub unused: Vec<Scope>,
    pub used_in: Vec<EnvironmentId>,
    pub whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRow {
    pub agent: Box<str>,
    pub categories: Vec<Box<str>>,
    pub environments: Vec<EnvironmentId>,
    pub kind: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<When>,
    pub owner: Box<str>,
    pub purpose: Box<str>,
    pub state: AgentState,
    pub teams: Vec<Name>,
    pub tools: Vec<Box<str>>,
    pub trust: u8,
    pub used_in: Vec<EnvironmentId>,
    /// Steps of the workflow that it declares.
    pub workflow: u32,
}

/// What one policy asks of people, and who they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRow {
    /// Members of whom each can meet it alone, at most [`MAX_ALONE`].
    pub alone: Vec<MemberId>,
    pub alone_count: u32,
    pub environment: EnvironmentId,
    /// Steps that take everybody there is for them.
    pub exact: Vec<Box<str>>,
    /// Steps that there are not enough people for.
    pub impossible: Vec<Box<str>>,
    pub pack: Name,
    /// People who can take part in it; two members of one address are one.
    pub people: u32,
    pub policy: Box<str>,
    /// Steps, each met by any of its quorums.
    pub steps: Vec<Vec<Quorum>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    pub active: u32,
    pub group: Name,
    pub inactive: u32,
    /// The environments whose policy or settings name it.
    pub named_in: Vec<EnvironmentId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRow {
    pub environment: EnvironmentId,
    pub suspended: bool,
    pub tier: Tier,
}

/// What a role gave when the review was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRow {
    pub role: Role,
    pub scopes: Vec<Scope>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub agents: u32,
    pub credentials: u32,
    pub credentials_active: u32,
    pub grants: u32,
    pub high: u32,
    pub low: u32,
    pub medium: u32,
    pub members: u32,
    pub members_active: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub agents: Vec<AgentRow>,
    pub approvals: Vec<ApprovalRow>,
    pub at: When,
    pub by: CredentialId,
    /// How many control entries the state had seen that this is about.
    pub control: u64,
    pub counts: Counts,
    pub credentials: Vec<CredentialRow>,
    pub environments: Vec<EnvironmentRow>,
    pub findings: Vec<Finding>,
    pub groups: Vec<GroupRow>,
    pub members: Vec<MemberRow>,
    /// Since when it is noted where somebody did something; absent: nothing was noted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noted_since: Option<When>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Name>,
    pub review: Name,
    pub roles: Vec<RoleRow>,
    pub soon_days: i64,
    pub tenant: TenantId,
    pub unused_days: i64,
    pub v: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_was_written_is_read_back_and_nothing_else_is() {
        for millis in [0, 951_868_799_999, 1_709_164_800_000, 1_795_521_600_000, 4_107_542_399_001] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(parse(&at.to_string()), Some(at));
        }
        for bad in ["", "2026-11-24", "2026-11-24T12:00:00Z", "2026-02-30T12:00:00.000Z", "2026-11-24T25:00:00.000Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
