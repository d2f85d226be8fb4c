//! Scopes as sets: which contain others, which meet.

use std::collections::BTreeMap;

use cedar_policy::{ActionConstraint, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use intended_model::decision::Operation;

use crate::schema::Schema;

/// Tools, as a set of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tools(Vec<u64>);

impl Tools {
    fn add(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (number % 64);
        }
    }
    fn extend(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), 0);
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }
    pub(super) fn within(&self, other: &Self) -> bool {
        let beyond = other.0.iter().copied().chain(std::iter::repeat(0));
        self.0.iter().zip(beyond).all(|(a, b)| a & !b == 0)
    }
    fn meet(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

/// The tools that each action stands for.
pub(super) struct Groups {
    all: Tools,
    /// Tools that only read or list.
    pub reading: Tools,
    /// A tool stands for itself.
    exact: BTreeMap<String, Tools>,
    within: BTreeMap<String, Tools>,
}

impl Groups {
    pub(super) fn new(schema: &Schema) -> Self {
        let mut groups =
            Self { all: Tools::default(), reading: Tools::default(), exact: BTreeMap::new(), within: BTreeMap::new() };
        for (number, tool) in schema.tools().enumerate() {
            groups.all.add(number);
            if [Operation::Read.as_str(), Operation::List.as_str()].contains(&tool.operation) {
                groups.reading.add(number);
            }
            groups.exact.entry(tool.tool.clone()).or_default().add(number);
            for group in [&tool.tool, &tool.category, &tool.domain, &format!("op:{}", tool.operation)] {
                groups.within.entry(group.clone()).or_default().add(number);
            }
        }
        for group in schema.actions() {
            groups.within.entry(group.to_owned()).or_default();
            groups.exact.entry(group.to_owned()).or_default();
        }
        groups
    }
}

/// One side of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Any,
    /// Nothing that a request has here.
    Never,
    One(String),
    /// In a team, or in a capability.
    In(String),
}

impl Side {
    fn one(entity: &EntityUid, kind: &str) -> Self {
        if entity.type_name().to_string() == kind { Self::One(entity.id().unescaped().to_owned()) } else { Self::Never }
    }
    /// Nothing is in an agent or a resource but itself.
    fn within(entity: &EntityUid, kind: &str, group: &str) -> Self {
        let named = entity.type_name().to_string();
        if named == group { Self::In(entity.id().unescaped().to_owned()) } else { Self::one(entity, kind) }
    }
    fn covers(&self, other: &Self) -> bool {
        *self == Self::Any || self == other
    }
    /// Whether one contains the other. Two teams may share an agent, and an agent may be in a team:
    /// that is not to be seen from the policies, and is not taken for granted.
    fn meets(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// What a policy says of principal, action and resource.
#[derive(Debug)]
pub(super) struct Scope {
    principal: Side,
    resource: Side,
    any_action: bool,
    pub tools: Tools,
    /// All actions that it names exist.
    pub known: bool,
}

impl Scope {
    pub(super) fn new(policy: &Policy, groups: &Groups) -> Self {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Side::Any,
            PrincipalConstraint::Is(kind) if kind.to_string() == "Agent" => Side::Any,
            PrincipalConstraint::Eq(e) => Side::one(&e, "Agent"),
            PrincipalConstraint::In(e) => Side::within(&e, "Agent", "Team"),
            PrincipalConstraint::IsIn(kind, e) if kind.to_string() == "Agent" => Side::within(&e, "Agent", "Team"),
            PrincipalConstraint::Is(_) | PrincipalConstraint::IsIn(..) => Side::Never,
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any => Side::Any,
            ResourceConstraint::Is(kind) if kind.to_string() == "Resource" => Side::Any,
            ResourceConstraint::Eq(e) => Side::one(&e, "Resource"),
            ResourceConstraint::In(e) => Side::within(&e, "Resource", "Capability"),
            ResourceConstraint::IsIn(kind, e) if kind.to_string() == "Resource" => {
                Side::within(&e, "Resource", "Capability")
            }
            ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => Side::Never,
        };
        let (mut tools, mut known, mut any_action) = (Tools::default(), true, false);
        let mut add = |from: &BTreeMap<String, Tools>, e: &EntityUid| match from.get(e.id().unescaped()) {
            Some(named) => tools.extend(named),
            None => known = false,
        };
        match policy.action_constraint() {
            ActionConstraint::Any => any_action = true,
            ActionConstraint::Eq(e) => add(&groups.exact, &e),
            ActionConstraint::In(many) => many.iter().for_each(|e| add(&groups.within, e)),
        }
        if any_action {
            tools = groups.all.clone();
        }
        Self { principal, resource, any_action, tools, known }
    }

    pub(super) fn unconstrained(&self) -> bool {
        self.principal == Side::Any && self.any_action && self.resource == Side::Any
    }
    pub(super) fn reachable(&self) -> bool {
        self.principal != Side::Never && self.resource != Side::Never && !self.tools.is_empty()
    }
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.principal.covers(&other.principal)
            && self.resource.covers(&other.resource)
            && (self.any_action || other.tools.within(&self.tools))
    }
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.principal.meets(&other.principal) && self.resource.meets(&other.resource) && self.tools.meet(&other.tools)
    }
}
