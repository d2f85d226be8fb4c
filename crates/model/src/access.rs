//! Who may do what with the runtime itself: scopes, the roles that are sets of them, and grants.

use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, Timestamp};

macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// What a credential may do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Scope { $($(#[$doc])* #[serde(rename = $text)] $variant,)+ }
        impl Scope {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)+ } }
        }
    };
}
scopes! {
    IntentSubmit = "intent:submit",
    IntentRead = "intent:read",
    TokenVerify = "token:verify",
    TokenRevoke = "token:revoke",
    PolicyRead = "policy:read",
    PolicyWrite = "policy:write",
    PolicyApprove = "policy:approve",
    AuditRead = "audit:read",
    AccessRead = "access:read",
    AccessWrite = "access:write",
    EmergencyRead = "emergency:read",
    EmergencyWrite = "emergency:write",
    KeyWrite = "key:write",
    StatusRead = "status:read",
    ApprovalRead = "approval:read",
    /// Approve, deny and ask, as a member.
    ApprovalDecide = "approval:decide",
    /// Make and sign access reviews, as a member.
    ReviewSign = "review:sign",
    /// Throw a halt and nothing else.
    EmergencyHalt = "emergency:halt",
    /// Submit the self-test and use up its token. Good for nothing else; whoever has `key:write` has it.
    TokenTest = "token:test",
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u32);

impl Scopes {
    pub const NONE: Self = Self(0);

    #[must_use]
    pub const fn of(scopes: &[Scope]) -> Self {
        let (mut set, mut rest) = (0, scopes);
        while let [first, others @ ..] = rest {
            set |= 1 << *first as u32;
            rest = others;
        }
        Self(set)
    }
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |s| self.contains(*s))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, |set, scope| set.or(Self::of(&[scope])))
    }
}

macro_rules! roles {
    ($($(#[$doc:meta])* $variant:ident = $text:literal: [$($scope:ident),+ $(,)?],)+) => {
        /// What a person is to the runtime. A role is a set of scopes; the table below is the whole of it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Role { $($(#[$doc])* #[serde(rename = $text)] $variant,)+ }
        impl Role {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)+ } }
            /// What it may do.
            #[must_use]
            pub const fn scopes(self) -> Scopes {
                match self { $(Self::$variant => Scopes::of(&[$(Scope::$scope),+]),)+ }
            }
        }
        impl std::str::FromStr for Role {
            type Err = UnknownRole;
            fn from_str(text: &str) -> Result<Self, UnknownRole> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err(UnknownRole) }
            }
        }
    };
}

/// The text names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of owner, admin, operator, policy-author, approver, auditor, viewer")]
pub struct UnknownRole;

roles! {
    /// Everything.
    Owner = "owner": [
        IntentSubmit, IntentRead, TokenVerify, TokenRevoke, PolicyRead, PolicyWrite, PolicyApprove, AuditRead,
        AccessRead, AccessWrite, EmergencyRead, EmergencyWrite, KeyWrite, StatusRead, ApprovalRead, ApprovalDecide,
        ReviewSign, EmergencyHalt, TokenTest,
    ],
    /// People, credentials, agents, capabilities, environments. Decides nothing that an agent asked for.
    Admin = "admin": [
        IntentRead, PolicyRead, AuditRead, AccessRead, AccessWrite, EmergencyRead, StatusRead, ApprovalRead, ReviewSign,
    ],
    /// Runs it: stops, resumes, revokes, rotates, deploys what was approved.
    Operator = "operator": [
        IntentRead, TokenVerify, TokenRevoke, PolicyRead, PolicyWrite, AuditRead, AccessRead, EmergencyRead,
        EmergencyWrite, KeyWrite, StatusRead, ApprovalRead, TokenTest,
    ],
    /// Writes policy, and approves that of others.
    PolicyAuthor = "policy-author": [
        IntentRead, PolicyRead, PolicyWrite, PolicyApprove, AccessRead, EmergencyRead, StatusRead, ApprovalRead,
    ],
    /// Decides escalated actions, as far as policy names a group of theirs.
    Approver = "approver": [IntentRead, PolicyRead, EmergencyRead, StatusRead, ApprovalRead, ApprovalDecide],
    /// Reads everything, and signs reviews.
    Auditor = "auditor": [
        IntentRead, PolicyRead, AuditRead, AccessRead, EmergencyRead, StatusRead, ApprovalRead, ReviewSign,
    ],
    /// Sees how things stand.
    Viewer = "viewer": [IntentRead, PolicyRead, EmergencyRead, StatusRead],
}

/// A role of a member: where, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleGrant {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<EnvironmentId>,
    /// Exclusive; absent: until it is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub role: Role,
    /// In every environment, also in those that are made later, and for what is the whole tenant's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// How a person says who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignInMethod {
    Password,
    /// A second factor (RFC 6238): never enough by itself.
    Totp,
    /// A link from the command line, good once.
    Link,
    /// An OpenID provider.
    Oidc,
}

impl SignInMethod {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp => "totp",
            Self::Link => "link",
            Self::Oidc => "oidc",
        }
    }
}

/// One step of the order of actions that an agent declares.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkflowStep {
    /// A pattern of the tools that this is about.
    pub action: Box<str>,
    /// One of these must have been allowed in the session before; none: nothing must.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Box<str>>,
    /// None of these may have been allowed in the session before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_after: Vec<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_scopes_holds_what_was_put_into_it() {
        for scope in Scope::ALL {
            let set = Scopes::of(&[*scope]);
            assert!(Scope::ALL.iter().all(|s| set.contains(*s) == (s == scope)));
            assert_eq!(set.iter().collect::<Vec<_>>(), [*scope]);
        }
        assert_eq!(Scope::ALL.iter().copied().collect::<Scopes>(), Scopes::of(Scope::ALL));
    }

    #[test]
    fn only_an_owner_has_everything_and_nobody_else_submits_intents() {
        for role in Role::ALL {
            assert_eq!(role.scopes() == Scopes::of(Scope::ALL), *role == Role::Owner, "{}", role.as_str());
            assert_eq!(role.scopes().contains(Scope::IntentSubmit), *role == Role::Owner);
            assert_eq!(role.as_str().parse(), Ok(*role));
        }
    }

    #[test]
    fn who_gives_roles_decides_nothing_that_is_asked_for() {
        // Whoever could do both would need nobody else.
        for role in Role::ALL.iter().filter(|r| **r != Role::Owner) {
            let both = role.scopes().contains(Scope::AccessWrite) && role.scopes().contains(Scope::ApprovalDecide);
            assert!(!both, "{}", role.as_str());
        }
    }
}
