//! What a version names and the tenant has not.
//!
//! A policy that names a team, a capability or an action which is no longer there cannot be trusted to
//! say what its author meant: a forbid on it would match nothing, and what it stood against would go
//! through under another name. So, until the version is replaced, such a policy never helps anything
//! through:
//!
//! * a *permit* that names what is missing grants nothing; where it would have had a say in the outcome,
//!   the decision denies. It has none where a permit without an obligation, which names nothing that is
//!   missing, allows already
//! * a *forbid* that names it denies wherever it could have matched: principal and action of its scope
//!   match, where what is missing counts as matching, and its condition, if that does not name what is
//!   missing, holds or fails
//!
//! A missing agent needs no such care: an agent that is not registered or retired is denied by the
//! identity gate, and nobody else can be taken for it. It is still named, because a version that
//! names what does not exist is stale. A team is another matter: its members may be there still, in a
//! team of another name.

use std::sync::Arc;

use cedar_policy::{ActionConstraint, EntityUid, PrincipalConstraint};
use cedar_policy_core::ast::{Expr, ExprKind, Literal};

use crate::request::EvalRequest;

/// What kind of thing a policy names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamedKind {
    Agent,
    Team,
    Capability,
    /// A tool, a category, a domain or `op:` with an operation.
    Action,
}

impl NamedKind {
    /// As in Cedar.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "Agent",
            Self::Team => "Team",
            Self::Capability => "Capability",
            Self::Action => "Action",
        }
    }
    /// Whether a policy that names a missing one may let through what it was meant to stop.
    pub(crate) const fn breaks(self) -> bool {
        match self {
            Self::Team | Self::Capability | Self::Action => true,
            Self::Agent => false,
        }
    }
    fn parse(name: &str) -> Option<Self> {
        [Self::Agent, Self::Team, Self::Capability, Self::Action].into_iter().find(|k| k.as_str() == name)
    }
}

/// A thing of the tenant that a policy names, anywhere in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    pub kind: NamedKind,
    pub id: Box<str>,
}

/// What a version names and the tenant has not, with the policies concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Sorted.
    pub names: Vec<(Named, Arc<str>)>,
    /// Positions of the policies that cannot be trusted for it, sorted.
    pub(crate) broken: Vec<u32>,
    /// What they cannot be trusted for, sorted.
    pub(crate) gone: Vec<Named>,
}

impl Missing {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
    pub(crate) fn breaks(&self, position: u32) -> bool {
        self.broken.binary_search(&position).is_ok()
    }
    pub(crate) fn lacks(&self, named: &Named) -> bool {
        self.gone.binary_search(named).is_ok()
    }
    /// Whether what a scope names is gone.
    fn lacks_entity(&self, entity: &EntityUid) -> bool {
        let named = |kind| Named { kind, id: entity.id().unescaped().into() };
        NamedKind::parse(&entity.type_name().to_string()).is_some_and(|kind| self.lacks(&named(kind)))
    }
}

/// Everything of the tenant that an expression names.
pub(crate) fn named(expr: &Expr) -> Vec<Named> {
    let mut found: Vec<Named> = expr
        .subexpressions()
        .filter_map(|e| match e.expr_kind() {
            ExprKind::Lit(Literal::EntityUID(uid)) => {
                let kind = NamedKind::parse(&uid.entity_type().to_string())?;
                let id: &str = uid.eid().as_ref();
                Some(Named { kind, id: id.into() })
            }
            _ => None,
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Whether principal and action of a policy's scope match the request, or name what is missing.
pub(crate) fn principal_and_action_match(
    policy: &cedar_policy::Policy,
    r: &EvalRequest<'_>,
    missing: &Missing,
) -> bool {
    let is = |e: &EntityUid, kind: &str, id: &str| e.type_name().to_string() == kind && e.id().unescaped() == id;
    let agent = |e: &EntityUid| is(e, "Agent", r.agent);
    let within = |e: &EntityUid| agent(e) || r.teams.iter().any(|t| is(e, "Team", t)) || missing.lacks_entity(e);
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(kind) => kind.to_string() == "Agent",
        PrincipalConstraint::Eq(e) => agent(&e),
        PrincipalConstraint::In(e) => within(&e),
        PrincipalConstraint::IsIn(kind, e) => kind.to_string() == "Agent" && within(&e),
    };
    let operation = format!("op:{}", r.operation);
    let tool = |e: &EntityUid| is(e, "Action", r.tool) || missing.lacks_entity(e);
    let within = |e: &EntityUid| tool(e) || [r.category, r.domain, &operation].iter().any(|a| is(e, "Action", a));
    principal
        && match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(e) => tool(&e),
            ActionConstraint::In(many) => many.iter().any(within),
        }
}
