//! The words of an emergency: what a halt stops, which tokens a revocation is about, what a drill did.

use serde::{Deserialize, Serialize};

use crate::{CredentialId, Digest, EnvironmentId, IntentId, MemberId, Timestamp};

/// What a halt is on, within its environment or in all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HaltTarget {
    /// An agent by its id: whatever it asks for, and whatever others ask for on its behalf.
    Agent(Box<str>),
    /// A target system: what stands before the first `.`, `/` or `:` of a tool's name, in any case.
    Connector(Box<str>),
    /// A tool, or a pattern of tools that ends in `*`.
    Tool(Box<str>),
    /// A category or domain of the Open Intent Layer by its code, or a pattern of codes that ends in `*`.
    Category(Box<str>),
}

impl HaltTarget {
    /// Reads `kind` and what it is about.
    #[must_use]
    pub fn of(kind: &str, text: &str) -> Option<Self> {
        Some(match kind {
            "agent" => Self::Agent(text.into()),
            "connector" => Self::Connector(text.into()),
            "tool" => Self::Tool(text.into()),
            "category" => Self::Category(text.into()),
            _ => return None,
        })
    }
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Connector(_) => "connector",
            Self::Tool(_) => "tool",
            Self::Category(_) => "category",
        }
    }
    #[must_use]
    pub const fn text(&self) -> &str {
        match self {
            Self::Agent(text) | Self::Connector(text) | Self::Tool(text) | Self::Category(text) => text,
        }
    }
    /// Whether it can be meant: 1 to 128 printable ASCII characters, with a `*` at the end of a tool's or
    /// a category's pattern and nowhere else. A halt that can cover nothing would look like one.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let text = self.text();
        let body = match self {
            Self::Tool(_) | Self::Category(_) => text.strip_suffix('*').unwrap_or(text),
            Self::Agent(_) | Self::Connector(_) => text,
        };
        let stray = matches!(self, Self::Connector(_)) && text.contains(['.', '/', ':']);
        !text.is_empty() && text.len() <= 128 && !stray && body.bytes().all(|b| b.is_ascii_graphic() && b != b'*')
    }
}

impl std::fmt::Display for HaltTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.kind(), self.text())
    }
}

/// The target system of a tool, in lower case: what stands before the first separator of its name.
/// `None` where nothing does.
#[must_use]
pub fn connector_of(tool: &str) -> Option<std::borrow::Cow<'_, str>> {
    let (system, _) = tool.split_once(['.', '/', ':'])?;
    let upper = system.bytes().any(|b| b.is_ascii_uppercase());
    Some(if upper { system.to_ascii_lowercase().into() } else { system.into() })
}

/// What a halt stops: everything of a tenant or of an environment, or one thing there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaltScope {
    /// Absent: every environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentId>,
    /// Absent: everything there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<HaltTarget>,
}

impl std::fmt::Display for HaltScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.on, &self.environment) {
            (None, None) => f.write_str("tenant"),
            (None, Some(environment)) => write!(f, "environment={environment}"),
            (Some(on), None) => write!(f, "{on} in every environment"),
            (Some(on), Some(environment)) => write!(f, "{on} in {environment}"),
        }
    }
}

/// A ledger's tree: how many entries, and the root that they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeAt {
    /// In base64, as a checkpoint has it.
    pub root: Box<str>,
    pub size: u64,
}

/// Which tokens are meant: those that all of this is true of. At least one thing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSelector {
    /// Asked for by this agent, or on its behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<str>>,
    /// Submitted with this credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentId>,
    /// Decided at this time or after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<IntentId>,
    /// Submitted by this person, or with a credential of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    /// Decided by this version of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
    /// Decided before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

impl TokenSelector {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A procedure that is tried before it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrillKind {
    Halt,
    Revoke,
    Rollback,
}

impl DrillKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Revoke => "revoke",
            Self::Rollback => "rollback",
        }
    }
}

/// One step of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillStep {
    /// What came of it, for people.
    pub detail: Box<str>,
    /// How long it took, in microseconds.
    pub micros: u64,
    pub passed: bool,
    pub step: Box<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_is_what_stands_before_the_first_separator() {
        for (tool, system) in [
            ("github.create_issue", Some("github")),
            ("GitHub.create_issue", Some("github")),
            ("github/create.issue", Some("github")),
            ("mcp:github.create", Some("mcp")),
            ("create", None),
        ] {
            assert_eq!(connector_of(tool).as_deref(), system, "{tool}");
        }
    }

    #[test]
    fn a_target_that_can_be_meant_has_its_star_at_the_end_of_a_pattern() {
        for (kind, text, valid) in [
            ("agent", "support-agent", true),
            ("agent", "support-*", false),
            ("connector", "github", true),
            ("connector", "github.create", false),
            ("connector", "git*", false),
            ("tool", "github.*", true),
            ("tool", "*", true),
            ("tool", "git*hub", false),
            ("category", "OIL-15*", true),
            ("category", "", false),
        ] {
            assert_eq!(HaltTarget::of(kind, text).unwrap().is_valid(), valid, "{kind}={text}");
        }
        assert_eq!(HaltTarget::of("person", "x"), None);
    }
}
