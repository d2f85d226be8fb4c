//! One intent as a Cedar request.
//!
//! Arguments become tags of four entities, by type: `context.text`, `context.number` (decimal),
//! `context.flag` and `context.list` (sets of texts). Nested arguments are named `a.b` and `a[0].b`;
//! a list's length is the number `a.length`. `null` has no type of Cedar's: it is the flag `a[null]`,
//! and an object without members the flag `a[empty]`, so that neither is unseen. An argument that Cedar cannot hold exactly is an error:
//! it is never silently absent, because a policy that forbids it would then not see it.
//!
//! The values are made as Cedar's evaluator holds them, not as expressions that it would have to
//! evaluate into them for each request (`docs/decisions/0006-cedar-values.md`). The entities'
//! ancestors are closed by construction; [`crate::PolicySetVersion::evaluate_full`] computes the
//! closure again and goes through Cedar's public authorizer, and property tests hold both alike.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cedar_policy_core::ast::{
    BinaryOp, Context, Eid, Entity, EntityType, EntityUID, EntityUIDEntry, Expr, ExprKind, Literal, Name, PartialValue,
    Request, RestrictedExpr, Value as CedarValue, ValueKind, Var,
};
use cedar_policy_core::entities::{Entities, NoEntitiesSchema, TCComputation};
use cedar_policy_core::evaluator::RestrictedEvaluator;
use cedar_policy_core::extensions::Extensions;
use intended_model::Value;
use intended_model::decision::SessionContext;

/// Most values one call's arguments may come to.
pub const MAX_VALUES: usize = 256;

/// Everything that a policy can ask about.
#[derive(Debug, Clone)]
pub struct EvalRequest<'a> {
    pub agent: &'a str,
    pub agent_kind: &'a str,
    pub trust: i64,
    pub agent_owner: &'a str,
    pub teams: &'a [&'a str],
    pub tool: &'a str,
    pub category: &'a str,
    pub domain: &'a str,
    pub operation: &'a str,
    pub resource_kind: &'a str,
    pub resource_id: &'a str,
    pub capability: Option<&'a str>,
    pub resource_known: bool,
    pub criticality: i64,
    pub data_class: i64,
    pub resource_owner: &'a str,
    pub resource_environment: &'a str,
    pub environment: &'a str,
    pub tier: &'a str,
    pub confidence: i64,
    pub indicators: &'a [Box<str>],
    pub reversible: &'a str,
    pub risk: i64,
    /// In the order of [`RISK_FACTORS`].
    pub risk_factors: [i64; 8],
    pub arguments: &'a Value,
    /// What the caller says of subject and resource: tags named `@subject.x` and `@resource.x`.
    /// Claims, not facts; a policy that trusts them trusts the caller.
    pub subject_claims: &'a Value,
    pub resource_claims: &'a Value,
    /// What the caller says of the situation.
    pub context_claims: &'a Value,
    pub goal_declared: bool,
    /// Arguments whose value occurs in the goal.
    pub goal_mentions: &'a [Box<str>],
    pub session_declared: bool,
    pub session: &'a SessionContext,
    /// What each budget that applies has counted so far.
    pub budgets: &'a [(&'a str, i64)],
    pub hour: i64,
    pub minute: i64,
    pub weekday: i64,
    pub epoch: i64,
    pub approvals: i64,
}

/// Names of the risk factors in `context.riskFactors`.
pub const RISK_FACTORS: [&str; 8] = [
    "baseAction",
    "environment",
    "blastRadius",
    "reversibility",
    "dataSensitivity",
    "privilege",
    "actorTrust",
    "timeOfDay",
];

/// The request cannot be put to Cedar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("the argument `{0}` cannot be given to a policy exactly")]
    Unrepresentable(String),
}

impl EvalError {
    #[must_use]
    pub fn argument(&self) -> &str {
        let Self::Unrepresentable(argument) = self;
        argument
    }
}

/// Entity types, and the entities that hold arguments and counters, made once.
#[derive(Debug, Clone)]
pub struct Types {
    agent: EntityType,
    team: EntityType,
    action: EntityType,
    resource: EntityType,
    capability: EntityType,
    text: EntityUID,
    number: EntityUID,
    flag: EntityUID,
    list: EntityUID,
    counter: EntityUID,
    decimal: Name,
}

impl Types {
    pub fn new() -> Result<Self, cedar_policy::ParseErrors> {
        let kind = |name: &str| EntityType::from_normalized_str(name).map_err(cedar_policy::ParseErrors::from);
        let one = |name: &str| Ok::<_, cedar_policy::ParseErrors>(uid(&kind(name)?, "arguments"));
        Ok(Self {
            agent: kind("Agent")?,
            team: kind("Team")?,
            action: kind("Action")?,
            resource: kind("Resource")?,
            capability: kind("Capability")?,
            text: one("Text")?,
            number: one("Number")?,
            flag: one("Flag")?,
            list: one("List")?,
            counter: one("Counter")?,
            decimal: kind("decimal")?.into_name(),
        })
    }
}

fn uid(kind: &EntityType, id: &str) -> EntityUID {
    EntityUID::from_components(kind.clone(), Eid::new(id), None)
}

/// A resource's Cedar id: `type/id`.
#[must_use]
pub fn resource_id(kind: &str, id: &str) -> String {
    [kind, "/", id].concat()
}

/// An operation's Cedar id, among the actions.
#[must_use]
pub(crate) fn operation_id(operation: &str) -> String {
    ["op:", operation].concat()
}

/// The members of `context` that are entities, which hold arguments and counters. Nothing else leads to them.
const HOLDERS: [&str; 5] = ["text", "number", "flag", "list", "budgets"];

/// What policies look at. A member of `context` or an attribute that none of them names, or an entity that
/// none of them can come to, cannot make a difference to any, so it is not made: that is half of what a
/// decision costs the policy engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// A bit for each member of [`CONTEXT`].
    context: u32,
    /// A bit for each member of [`SESSION`], for where `context` has that at all.
    session: u32,
    /// A bit for each attribute of [`AGENT`].
    principal: u32,
    /// A bit for each attribute of [`RESOURCE`].
    resource: u32,
    /// Whether the principal, the resource and the action are looked at.
    entities: [bool; 3],
    /// Which of [`HOLDERS`].
    holders: [bool; 5],
    /// Whether the tool's category is asked for what stands above it. Who asks the tool has the answer
    /// from the tool.
    category: bool,
}

impl Wanted {
    pub const NOTHING: Self = Self {
        context: 0,
        session: 0,
        principal: 0,
        resource: 0,
        entities: [false; 3],
        holders: [false; 5],
        category: false,
    };
    pub const ALL: Self = Self {
        context: u32::MAX,
        session: u32::MAX,
        principal: u32::MAX,
        resource: u32::MAX,
        entities: [true; 3],
        holders: [true; 5],
        category: true,
    };

    /// Of a condition. Whoever does anything with `context`, its session, the principal or the resource but
    /// look at something of it by name, or compare it, wants all of it.
    pub fn by(condition: &Expr) -> Self {
        let mut wanted = Self::NOTHING;
        let (mut seen, mut known) = (Uses::default(), Uses::default());
        for expr in condition.subexpressions() {
            seen.count(expr);
            let (of, attr) = match expr.expr_kind() {
                ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => (expr, attr),
                ExprKind::ExtHasAttr { expr, attrs } => {
                    // What a member of the session is asked for is not looked at: it gets all of it.
                    if attrs.first() == "session" && !attrs.tail().is_empty() {
                        wanted.session = u32::MAX;
                    }
                    (expr, attrs.first())
                }
                // What something is in is said by the one, and not by what it is in.
                ExprKind::BinaryApp { op: BinaryOp::In, arg1, arg2 } => {
                    if matches!(arg1.expr_kind(), ExprKind::Var(_)) {
                        known.count_entities(arg1);
                    }
                    known.count_all(arg2);
                    continue;
                }
                ExprKind::BinaryApp { op: BinaryOp::Eq, arg1, arg2 } => {
                    known.count_entities(arg1);
                    known.count_entities(arg2);
                    continue;
                }
                ExprKind::Is { expr, .. } => {
                    known.count_entities(expr);
                    continue;
                }
                _ => continue,
            };
            // One that it never has: whatever that comes to, it comes to with everything.
            let found = match of.expr_kind() {
                ExprKind::Var(Var::Context) => bit(&CONTEXT, attr).map(|bit| wanted.context |= bit),
                ExprKind::Var(Var::Principal) => bit(&AGENT, attr).map(|bit| wanted.principal |= bit),
                ExprKind::Var(Var::Resource) => bit(&RESOURCE, attr).map(|bit| wanted.resource |= bit),
                _ if is_session(of) => {
                    wanted.session |= bit(&SESSION, attr).unwrap_or(u32::MAX);
                    Some(())
                }
                _ => continue,
            };
            if found.is_none() {
                return Self::ALL;
            }
            known.count(of);
        }
        if seen.others || seen.context != known.context {
            return Self::ALL;
        }
        if (seen.principal, seen.agents) != (known.principal, known.agents) {
            wanted.principal = u32::MAX;
        }
        if (seen.resource, seen.resources) != (known.resource, known.resources) {
            wanted.resource = u32::MAX;
        }
        if seen.session != known.session {
            wanted.session = u32::MAX;
        }
        wanted.entities =
            [seen.principal + seen.agents, seen.resource + seen.resources, seen.action + seen.actions].map(|n| n > 0);
        wanted.category = seen.actions != known.actions;
        wanted.holders = HOLDERS.map(|name| bit(&CONTEXT, name).is_some_and(|bit| wanted.context & bit != 0));
        wanted
    }
}

/// What either wants.
impl std::ops::BitOr for Wanted {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        let mut holders = self.holders;
        holders.iter_mut().zip(other.holders).for_each(|(holder, too)| *holder |= too);
        let ([p, r, a], [principal, resource, action]) = (self.entities, other.entities);
        Self {
            context: self.context | other.context,
            session: self.session | other.session,
            principal: self.principal | other.principal,
            resource: self.resource | other.resource,
            entities: [p | principal, r | resource, a | action],
            holders,
            category: self.category | other.category,
        }
    }
}

/// The bit of what is called so.
fn bit<M>(members: &[(&str, M)], name: &str) -> Option<u32> {
    members.binary_search_by_key(&name, |(name, _)| *name).ok().map(|at| 1 << at)
}

/// Whether this is `context.session`.
fn is_session(expr: &Expr) -> bool {
    matches!(expr.expr_kind(), ExprKind::GetAttr { expr, attr }
        if attr == "session" && matches!(expr.expr_kind(), ExprKind::Var(Var::Context)))
}

/// How often something stands in a condition: by its variable, or by its own name.
#[derive(Debug, Default)]
struct Uses {
    context: usize,
    session: usize,
    principal: usize,
    resource: usize,
    action: usize,
    agents: usize,
    resources: usize,
    actions: usize,
    /// What holds arguments, by its own name.
    others: bool,
}

impl Uses {
    fn count(&mut self, expr: &Expr) {
        match expr.expr_kind() {
            ExprKind::Var(Var::Context) => self.context += 1,
            ExprKind::Var(Var::Principal) => self.principal += 1,
            ExprKind::Var(Var::Resource) => self.resource += 1,
            ExprKind::Var(Var::Action) => self.action += 1,
            _ if is_session(expr) => self.session += 1,
            ExprKind::Lit(Literal::EntityUID(uid)) => match &*uid.entity_type().to_string() {
                "Agent" => self.agents += 1,
                "Resource" => self.resources += 1,
                "Action" => self.actions += 1,
                // Neither is ever there.
                "Team" | "Capability" => {}
                _ => self.others = true,
            },
            _ => {}
        }
    }

    /// The same, but neither `context` itself nor its session is an entity.
    fn count_entities(&mut self, expr: &Expr) {
        if !matches!(expr.expr_kind(), ExprKind::Var(Var::Context)) && !is_session(expr) {
            self.count(expr);
        }
    }

    /// One, or a list of them.
    fn count_all(&mut self, expr: &Expr) {
        match expr.expr_kind() {
            ExprKind::Set(items) => items.iter().for_each(|item| self.count_entities(item)),
            _ => self.count_entities(expr),
        }
    }
}

type Record = BTreeMap<smol_str::SmolStr, CedarValue>;
type Fields = BTreeMap<smol_str::SmolStr, PartialValue>;

fn text(value: &str) -> CedarValue {
    CedarValue::new(ValueKind::Lit(Literal::String(value.into())), None)
}
fn long(value: i64) -> CedarValue {
    CedarValue::new(ValueKind::Lit(Literal::Long(value)), None)
}
fn flag(value: bool) -> CedarValue {
    CedarValue::new(ValueKind::Lit(Literal::Bool(value)), None)
}
fn entity(id: &EntityUID) -> CedarValue {
    CedarValue::new(ValueKind::Lit(Literal::EntityUID(Arc::new(id.clone()))), None)
}
fn texts<'t>(items: impl IntoIterator<Item = &'t str>) -> CedarValue {
    CedarValue::set_of_lits(items.into_iter().map(|i| Literal::String(i.into())), None)
}
fn record<const N: usize>(fields: [(&'static str, CedarValue); N]) -> CedarValue {
    let record: Record = fields.into_iter().map(|(n, v)| (smol_str::SmolStr::new_static(n), v)).collect();
    CedarValue::record_arc(Arc::new(record), None)
}

/// The arguments by type: those that somebody wants to see. The others are counted and checked all the same.
struct Tags<'t> {
    types: &'t Types,
    text: Option<Fields>,
    number: Option<Fields>,
    flag: Option<Fields>,
    list: Option<Fields>,
    count: usize,
}

impl Tags<'_> {
    /// `n` ten-thousandths as Cedar's decimal.
    fn decimal(&self, n: i128) -> Option<PartialValue> {
        let (sign, n) = (if n < 0 { "-" } else { "" }, n.unsigned_abs());
        let text = RestrictedExpr::val(format!("{sign}{}.{:04}", n / 10_000, n % 10_000));
        let call = RestrictedExpr::call_extension_fn(self.types.decimal.clone(), [text]);
        RestrictedEvaluator::new(Extensions::all_available()).partial_interpret(call.as_borrowed()).ok()
    }

    /// `None` if it is not a decimal.
    fn add_number(&mut self, name: impl FnOnce() -> smol_str::SmolStr, n: i128) -> Option<()> {
        // All that a decimal holds is so many ten-thousandths in 64 bits.
        i64::try_from(n).ok()?;
        if self.number.is_some() {
            let decimal = self.decimal(n)?;
            self.number.as_mut()?.insert(name(), decimal);
        }
        Some(())
    }

    fn add(&mut self, name: &str, value: &Value) -> Result<(), EvalError> {
        let unrepresentable = || EvalError::Unrepresentable(name.to_owned());
        self.count += 1;
        if self.count > MAX_VALUES {
            return Err(unrepresentable());
        }
        match value {
            // No argument can have such a name: `[` stands in none.
            Value::Null => {
                put(&mut self.flag, || format!("{name}[null]"), || flag(true));
            }
            Value::Object(members) if members.is_empty() => {
                put(&mut self.flag, || format!("{name}[empty]"), || flag(true));
            }
            Value::Bool(b) => put(&mut self.flag, || name, || flag(*b)),
            Value::String(t) => put(&mut self.text, || name, || text(t)),
            Value::Number(number) => {
                let scaled = number.scaled(4).ok_or_else(unrepresentable)?;
                self.add_number(|| name.into(), i128::from(scaled)).ok_or_else(unrepresentable)?;
            }
            Value::Array(items) => {
                let length = i128::try_from(items.len()).map_err(|_| unrepresentable())? * 10_000;
                self.add_number(|| format!("{name}.length").into(), length).ok_or_else(unrepresentable)?;
                let mut found = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    match item {
                        Value::String(text) => {
                            self.count += 1;
                            found.push(&**text);
                        }
                        other => self.add(&format!("{name}[{i}]"), other)?,
                    }
                    if self.count > MAX_VALUES {
                        return Err(unrepresentable());
                    }
                }
                put(&mut self.list, || name, || texts(found));
            }
            Value::Object(members) => {
                for (member, value) in members.iter() {
                    // A dot in a member's name would let two different arguments share a tag.
                    if member.contains(['.', '[']) {
                        return Err(EvalError::Unrepresentable(format!("{name}.{member}")));
                    }
                    self.add(&format!("{name}.{member}"), value)?;
                }
            }
        }
        Ok(())
    }
}

/// Adds one where it is wanted.
fn put<N: Into<smol_str::SmolStr>>(
    fields: &mut Option<Fields>,
    name: impl FnOnce() -> N,
    value: impl FnOnce() -> CedarValue,
) {
    if let Some(fields) = fields {
        fields.insert(name().into(), value().into());
    }
}

fn boxed<'t>(items: impl IntoIterator<Item = &'t Box<str>>) -> CedarValue {
    texts(items.into_iter().map(|i| &**i))
}

/// What members are made with.
#[derive(Clone, Copy)]
struct Making<'t> {
    types: &'t Types,
    wanted: Wanted,
}

/// How a member of `context` or an attribute is made.
type Member = fn(Making<'_>, &EvalRequest<'_>) -> CedarValue;

/// Those of the members that are wanted. Sorted as they are, a map is made of them in one go.
fn made<const N: usize, V, M>(
    members: &'static [(&'static str, Member); N],
    wanted: u32,
    making: Making<'_>,
    r: &EvalRequest<'_>,
) -> M
where
    V: From<CedarValue>,
    M: FromIterator<(smol_str::SmolStr, V)>,
{
    let some = (0..).zip(members).filter(|(at, _)| wanted >> at & 1 == 1);
    some.map(|(_, (name, make))| (smol_str::SmolStr::new_static(name), make(making, r).into())).collect()
}

/// What the principal has, sorted by its name.
const AGENT: [(&str, Member); 4] = [
    ("id", |_, r| text(r.agent)),
    ("kind", |_, r| text(r.agent_kind)),
    ("owner", |_, r| text(r.agent_owner)),
    ("trust", |_, r| long(r.trust)),
];

/// What the resource has, sorted by its name.
const RESOURCE: [(&str, Member); 7] = [
    ("criticality", |_, r| long(r.criticality)),
    ("dataClass", |_, r| long(r.data_class)),
    ("environment", |_, r| text(r.resource_environment)),
    ("id", |_, r| text(r.resource_id)),
    ("kind", |_, r| text(r.resource_kind)),
    ("known", |_, r| flag(r.resource_known)),
    ("owner", |_, r| text(r.resource_owner)),
];

/// What `context` has, sorted by its name.
const CONTEXT: [(&str, Member); 20] = [
    ("approvals", |_, r| long(r.approvals)),
    ("budgets", |making, _| entity(&making.types.counter)),
    ("category", |_, r| text(r.category)),
    ("confidence", |_, r| long(r.confidence)),
    ("domain", |_, r| text(r.domain)),
    ("environment", |_, r| text(r.environment)),
    ("flag", |making, _| entity(&making.types.flag)),
    ("goal", |_, r| record([("declared", flag(r.goal_declared)), ("mentions", boxed(r.goal_mentions))])),
    ("indicators", |_, r| boxed(r.indicators)),
    ("list", |making, _| entity(&making.types.list)),
    ("number", |making, _| entity(&making.types.number)),
    ("operation", |_, r| text(r.operation)),
    ("reversible", |_, r| text(r.reversible)),
    ("risk", |_, r| long(r.risk)),
    ("riskFactors", |_, r| {
        let [f0, f1, f2, f3, f4, f5, f6, f7] = r.risk_factors;
        let [n0, n1, n2, n3, n4, n5, n6, n7] = RISK_FACTORS;
        let factors = [(n0, f0), (n1, f1), (n2, f2), (n3, f3), (n4, f4), (n5, f5), (n6, f6), (n7, f7)];
        record(factors.map(|(name, value)| (name, long(value))))
    }),
    ("session", |making, r| {
        let session: Record = made(&SESSION, making.wanted.session, making, r);
        CedarValue::record_arc(Arc::new(session), None)
    }),
    ("text", |making, _| entity(&making.types.text)),
    ("tier", |_, r| text(r.tier)),
    ("time", |_, r| {
        record([
            ("epoch", long(r.epoch)),
            ("hour", long(r.hour)),
            ("minute", long(r.minute)),
            ("weekday", long(r.weekday)),
        ])
    }),
    ("tool", |_, r| text(r.tool)),
];

/// What `context.session` has, sorted by its name.
const SESSION: [(&str, Member); 8] = [
    ("allowed", |_, r| long(i64::from(r.session.allowed))),
    ("categories", |_, r| boxed(&r.session.categories)),
    ("dataClass", |_, r| long(r.session.data_class)),
    ("declared", |_, r| flag(r.session_declared)),
    ("denied", |_, r| long(i64::from(r.session.denied))),
    ("indicators", |_, r| boxed(&r.session.indicators)),
    ("intents", |_, r| long(i64::from(r.session.intents))),
    ("tools", |_, r| boxed(&r.session.tools)),
];

/// The Cedar request, with those members of `context` and of its session that are wanted, and those entities
/// that are, ancestors closed. Whether it can be made does not depend on what is wanted.
pub(crate) fn build(types: &Types, r: &EvalRequest<'_>, wanted: Wanted) -> Result<(Request, Entities), EvalError> {
    let broken = |what: &str| EvalError::Unrepresentable(what.to_owned());
    let [text_tags, number_tags, flag_tags, list_tags, counters] =
        wanted.holders.map(|wanted| wanted.then(Fields::new));
    let mut tags = Tags { types, text: text_tags, number: number_tags, flag: flag_tags, list: list_tags, count: 0 };
    for (name, value) in r.arguments.as_object().into_iter().flat_map(|o| o.iter()) {
        if name.contains(['.', '[']) || name.starts_with('@') {
            return Err(EvalError::Unrepresentable(name.to_owned()));
        }
        tags.add(name, value)?;
    }
    for (name, claims) in
        [("@subject", r.subject_claims), ("@resource", r.resource_claims), ("@context", r.context_claims)]
    {
        if claims.as_object().is_some_and(|o| !o.is_empty()) {
            tags.add(name, claims)?;
        }
    }

    let making = Making { types, wanted };
    let context: Record = made(&CONTEXT, wanted.context, making, r);

    let agent = uid(&types.agent, r.agent);
    let action = uid(&types.action, r.tool);
    let resource = uid(&types.resource, &resource_id(r.resource_kind, r.resource_id));
    let category = uid(&types.action, r.category);
    let domain = uid(&types.action, r.domain);
    let operation = uid(&types.action, &operation_id(r.operation));
    // A tool named like its own category would be its own ancestor.
    if [&category, &domain, &operation].contains(&&action) || category == domain {
        return Err(broken("tool"));
    }
    let none = HashSet::new;
    let plain = Entity::new_with_attr_partial_value;
    let counters = counters.map(|mut counters| {
        counters.extend(r.budgets.iter().map(|(name, seen)| ((*name).into(), long(*seen).into())));
        counters
    });
    let above = wanted
        .category
        .then(|| plain(category.clone(), Fields::new(), none(), HashSet::from([domain.clone()]), Fields::new()));
    let holders = [
        (&types.text, tags.text),
        (&types.number, tags.number),
        (&types.flag, tags.flag),
        (&types.list, tags.list),
        (&types.counter, counters),
    ];
    let tagged =
        |(id, tags): (&EntityUID, Option<Fields>)| Some(plain(id.clone(), Fields::new(), none(), none(), tags?));
    let [looks_at_principal, looks_at_resource, looks_at_action] = wanted.entities;
    let principal = looks_at_principal.then(|| {
        let teams = r.teams.iter().map(|t| uid(&types.team, t)).collect();
        plain(agent.clone(), made(&AGENT, wanted.principal, making, r), none(), teams, Fields::new())
    });
    let target = looks_at_resource.then(|| {
        let capability = r.capability.iter().map(|c| uid(&types.capability, c)).collect();
        plain(resource.clone(), made(&RESOURCE, wanted.resource, making, r), none(), capability, Fields::new())
    });
    let called = looks_at_action.then(|| {
        plain(
            action.clone(),
            Fields::new(),
            HashSet::from([domain]),
            HashSet::from([category, operation]),
            Fields::new(),
        )
    });
    let entities = [principal, target, called, above].into_iter().flatten();
    let entities = Entities::from_entities(
        entities.chain(holders.into_iter().filter_map(tagged)),
        None::<&NoEntitiesSchema>,
        TCComputation::AssumeAlreadyComputed,
        Extensions::all_available(),
    )
    .map_err(|_| broken("entities"))?;
    let known = |id| EntityUIDEntry::known(id, None);
    let context = Context::Value(Arc::new(context));
    Ok((Request::new_unchecked(known(agent), known(action), known(resource), Some(context)), entities))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(policies: &[&str]) -> Wanted {
        let parsed = policies.iter().map(|text| cedar_policy::Policy::parse(None, *text).unwrap());
        let conditions = parsed.map(|policy| {
            let ast: &cedar_policy_core::ast::Policy = policy.as_ref();
            ast.condition()
        });
        conditions.fold(Wanted::NOTHING, |all, condition| all | Wanted::by(&condition))
    }

    fn names(members: &[(&'static str, Member)], wanted: u32) -> Vec<&'static str> {
        (0..).zip(members).filter(|(at, _)| wanted >> at & 1 == 1).map(|(_, (name, _))| *name).collect()
    }

    fn context(policies: &[&str]) -> Vec<&'static str> {
        names(&CONTEXT, wanted(policies).context)
    }

    #[test]
    fn members_and_attributes_are_sorted_and_each_has_a_bit() {
        for members in [&CONTEXT[..], &AGENT, &RESOURCE] {
            assert!(members.is_sorted_by_key(|(name, _)| *name) && members.len() <= 32);
            assert_eq!(names(members, u32::MAX).len(), members.len());
        }
        assert!(HOLDERS.iter().all(|name| bit(&CONTEXT, name).is_some()));
    }

    #[test]
    fn what_policies_name_is_wanted_and_nothing_else() {
        assert_eq!(context(&["permit(principal, action, resource);"]), [""; 0]);
        let some = [
            r#"permit(principal, action, resource) when { context.text.getTag("to") == "x" && context.risk < 40 };"#,
            "forbid(principal, action, resource) unless { if context has goal then context.goal.declared else true };",
            "forbid(principal, action, resource) when { context has number.anything };",
            r#"permit(principal, action, resource) when { [context["time"].hour, 3].contains(context.session.intents) };"#,
        ];
        assert_eq!(context(&some), ["goal", "number", "risk", "session", "text", "time"]);
        assert_eq!(context(&some[..1]), ["risk", "text"]);
        assert_eq!(wanted(&some).holders, [true, true, false, false, false]);
    }

    #[test]
    fn who_does_anything_else_with_context_gets_all_of_it() {
        for odd in [
            "context == {risk: 1}",
            "(if principal == resource then context else context).risk == 1",
            "{a: context}.a.risk == 1",
            "context has unheard || true",
            "context has unheard.member || true",
            "context.unheard == 1",
            "context in principal",
            "principal in context",
            "context is Agent",
            r#"Text::"arguments".hasTag("a")"#,
            r#"Counter::"arguments" == principal"#,
        ] {
            let policy = format!("permit(principal, action, resource) when {{ context.risk == 1 && {odd} }};");
            assert_eq!(wanted(&[&policy]), Wanted::ALL, "{odd}");
        }
    }

    #[test]
    fn members_of_the_session_are_wanted_by_their_name_where_nothing_else_leads_to_them() {
        let of = |condition: &str| {
            let wanted = wanted(&[&format!("permit(principal, action, resource) when {{ {condition} }};")]);
            assert!(bit(&CONTEXT, "session").is_some_and(|bit| wanted.context & bit != 0), "{condition}");
            names(&SESSION, wanted.session)
        };
        let all = names(&SESSION, u32::MAX);
        assert!(all.is_sorted() && all.len() == SESSION.len());
        assert_eq!(of("context.session.dataClass > 1 && context[\"session\"] has tools"), ["dataClass", "tools"]);
        assert_eq!(of("context has session"), [""; 0]);
        for odd in [
            "context.session == {}",
            "context has session.tools && context.risk > 1",
            "context.session has unheard",
            "[context.session].contains({})",
            "(if true then context.session else {a: 1}).a == 1",
            "context.session in principal",
            "context.session is Agent",
        ] {
            assert_eq!(of(&format!("context.session.denied == 1 && {odd}")), all, "{odd}");
        }
    }

    #[test]
    fn entities_are_wanted_where_they_are_spoken_of() {
        for (condition, entities) in [
            ("context.risk > 1", [false; 3]),
            (r#"Team::"a" == Capability::"b""#, [false; 3]),
            (r#"principal in Team::"a""#, [true, false, false]),
            (r#"Agent::"a" has id"#, [true, false, false]),
            ("resource.known", [false, true, false]),
            (r#"[Resource::"a/b"].contains(principal)"#, [true, true, false]),
            (r#"action in Action::"a""#, [false, false, true]),
            ("action == context.tool", [false, false, true]),
            (r#"Action::"a" in Action::"b""#, [false, false, true]),
        ] {
            let policy = format!("permit(principal, action, resource) when {{ {condition} }};");
            let parsed = cedar_policy::Policy::parse(None, &policy).unwrap();
            let ast: &cedar_policy_core::ast::Policy = parsed.as_ref();
            let wanted = Wanted::by(ast.non_scope_constraints().unwrap());
            assert_eq!(wanted.entities, entities, "{condition}");
        }
    }

    #[test]
    fn attributes_are_wanted_by_their_name_where_nothing_else_leads_to_them() {
        let of = |condition: &str| {
            let wanted = wanted(&[&format!("permit(principal, action, resource) when {{ {condition} }};")]);
            (names(&AGENT, wanted.principal), names(&RESOURCE, wanted.resource))
        };
        let all = (names(&AGENT, u32::MAX), names(&RESOURCE, u32::MAX));
        for (condition, agent, resource) in [
            ("true", &[][..], &[][..]),
            ("principal.trust > 1 && principal has owner", &["owner", "trust"], &[]),
            ("resource.known && principal == resource && principal is Agent", &[], &["known"]),
            (r#"principal in Team::"a" && resource in [Capability::"b", Resource::"c"]"#, &[], &[]),
            (r#"resource has id.nothing && principal == Agent::"a""#, &[], &["id"]),
        ] {
            assert_eq!(of(condition), (agent.to_vec(), resource.to_vec()), "{condition}");
        }
        for (condition, agent, resource) in [
            (r#"Agent::"a".trust > 1"#, true, false),
            (r#"Agent::"a" in Team::"b""#, true, false),
            ("[principal].contains(resource)", true, true),
            ("{a: principal}.a.trust > 1", true, false),
            (r#"resource.hasTag("a")"#, false, true),
            (r#"Resource::"a" has known"#, false, true),
            ("(if true then principal else principal).trust > 1", true, false),
        ] {
            let (is_agent, is_resource) = of(condition);
            assert_eq!((is_agent == all.0, is_resource == all.1), (agent, resource), "{condition}");
        }
        assert_eq!(wanted(&["permit(principal, action, resource) when { principal.unheard };"]), Wanted::ALL);
    }

    #[test]
    fn the_category_is_wanted_where_it_is_asked_for_what_stands_above_it() {
        let asks = |scope: &str, condition: &str| {
            wanted(&[&format!("permit(principal, {scope}, resource) when {{ {condition} }};")]).category
        };
        let list = r#"action in [Action::"a", Action::"b"]"#;
        assert!(!asks(list, r#"action == Action::"c" || action in Action::"d""#));
        assert!(asks(list, r#"Action::"c" in Action::"d""#));
        assert!(asks("action", r#"[Action::"c"].contains(action)"#));
        assert!(asks("action", r#"(if true then Action::"c" else action) in Action::"d""#));
        assert!(asks("action", r#"action in [[Action::"c"]]"#));
    }
}
