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
    Context, Eid, Entity, EntityType, EntityUID, EntityUIDEntry, Expr, ExprKind, Literal, Name, PartialValue, Request,
    RestrictedExpr, Value as CedarValue, ValueKind, Var,
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

/// Which members of `context` policies look at, a bit for each of [`CONTEXT`]. One that none of them
/// names cannot make a difference to any, so it is not made: they are a third of what a decision costs
/// the policy engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted(u32);

impl Wanted {
    pub const ALL: Self = Self(u32::MAX);

    /// Of these conditions. Whoever does anything with `context` but look at a member of it by name
    /// wants all.
    pub fn by<'e>(conditions: impl IntoIterator<Item = &'e Expr>) -> Self {
        let mut wanted = Self(0);
        for condition in conditions {
            let (mut all, mut by_name) = (0, 0);
            for expr in condition.subexpressions() {
                let (of, attr) = match expr.expr_kind() {
                    ExprKind::Var(Var::Context) => {
                        all += 1;
                        continue;
                    }
                    ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => (expr, attr),
                    ExprKind::ExtHasAttr { expr, attrs } => (expr, attrs.first()),
                    _ => continue,
                };
                if matches!(of.expr_kind(), ExprKind::Var(Var::Context)) {
                    // One that it never has is refused with a list of those that it has.
                    let Ok(at) = CONTEXT.binary_search_by_key(&attr.as_str(), |(name, _)| *name) else {
                        return Self::ALL;
                    };
                    wanted.0 |= 1 << at;
                    by_name += 1;
                }
            }
            if all != by_name {
                return Self::ALL;
            }
        }
        wanted
    }

    const fn has(self, at: usize) -> bool {
        self.0 >> at & 1 == 1
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
fn fields<const N: usize>(fields: [(&'static str, CedarValue); N]) -> Fields {
    fields.into_iter().map(|(n, v)| (smol_str::SmolStr::new_static(n), v.into())).collect()
}

/// The arguments by type.
struct Tags<'t> {
    types: &'t Types,
    text: Fields,
    number: Fields,
    flag: Fields,
    list: Fields,
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

    fn add(&mut self, name: &str, value: &Value) -> Result<(), EvalError> {
        let unrepresentable = || EvalError::Unrepresentable(name.to_owned());
        self.count += 1;
        if self.count > MAX_VALUES {
            return Err(unrepresentable());
        }
        match value {
            // No argument can have such a name: `[` stands in none.
            Value::Null => {
                self.flag.insert(format!("{name}[null]").into(), flag(true).into());
            }
            Value::Object(members) if members.is_empty() => {
                self.flag.insert(format!("{name}[empty]").into(), flag(true).into());
            }
            Value::Bool(b) => {
                self.flag.insert(name.into(), flag(*b).into());
            }
            Value::String(t) => {
                self.text.insert(name.into(), text(t).into());
            }
            Value::Number(number) => {
                let scaled = number.scaled(4).ok_or_else(unrepresentable)?;
                let decimal = self.decimal(i128::from(scaled)).ok_or_else(unrepresentable)?;
                self.number.insert(name.into(), decimal);
            }
            Value::Array(items) => {
                let length = i128::try_from(items.len()).map_err(|_| unrepresentable())? * 10_000;
                let length = self.decimal(length).ok_or_else(unrepresentable)?;
                self.number.insert(format!("{name}.length").into(), length);
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
                self.list.insert(name.into(), texts(found).into());
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

fn boxed<'t>(items: impl IntoIterator<Item = &'t Box<str>>) -> CedarValue {
    texts(items.into_iter().map(|i| &**i))
}

/// How a member of `context` is made.
type Member = fn(&Types, &EvalRequest<'_>) -> CedarValue;

/// What `context` has, sorted by its name.
const CONTEXT: [(&str, Member); 20] = [
    ("approvals", |_, r| long(r.approvals)),
    ("budgets", |types, _| entity(&types.counter)),
    ("category", |_, r| text(r.category)),
    ("confidence", |_, r| long(r.confidence)),
    ("domain", |_, r| text(r.domain)),
    ("environment", |_, r| text(r.environment)),
    ("flag", |types, _| entity(&types.flag)),
    ("goal", |_, r| record([("declared", flag(r.goal_declared)), ("mentions", boxed(r.goal_mentions))])),
    ("indicators", |_, r| boxed(r.indicators)),
    ("list", |types, _| entity(&types.list)),
    ("number", |types, _| entity(&types.number)),
    ("operation", |_, r| text(r.operation)),
    ("reversible", |_, r| text(r.reversible)),
    ("risk", |_, r| long(r.risk)),
    ("riskFactors", |_, r| {
        let [f0, f1, f2, f3, f4, f5, f6, f7] = r.risk_factors;
        let [n0, n1, n2, n3, n4, n5, n6, n7] = RISK_FACTORS;
        let factors = [(n0, f0), (n1, f1), (n2, f2), (n3, f3), (n4, f4), (n5, f5), (n6, f6), (n7, f7)];
        record(factors.map(|(name, value)| (name, long(value))))
    }),
    ("session", |_, r| {
        record([
            ("allowed", long(i64::from(r.session.allowed))),
            ("categories", boxed(&r.session.categories)),
            ("dataClass", long(r.session.data_class)),
            ("declared", flag(r.session_declared)),
            ("denied", long(i64::from(r.session.denied))),
            ("indicators", boxed(&r.session.indicators)),
            ("intents", long(i64::from(r.session.intents))),
            ("tools", boxed(&r.session.tools)),
        ])
    }),
    ("text", |types, _| entity(&types.text)),
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

/// The Cedar request, with those members of `context` that are wanted, and its entities, ancestors closed.
pub(crate) fn build(types: &Types, r: &EvalRequest<'_>, wanted: Wanted) -> Result<(Request, Entities), EvalError> {
    let broken = |what: &str| EvalError::Unrepresentable(what.to_owned());
    let mut tags =
        Tags { types, text: Fields::new(), number: Fields::new(), flag: Fields::new(), list: Fields::new(), count: 0 };
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

    // In the order of their names, here and below: a map is made of what is sorted already in one go.
    let context: Record = (0..)
        .zip(CONTEXT)
        .filter(|(at, _)| wanted.has(*at))
        .map(|(_, (name, make))| (smol_str::SmolStr::new_static(name), make(types, r)))
        .collect();

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
    let tagged = |id: &EntityUID, tags: Fields| plain(id.clone(), Fields::new(), none(), none(), tags);
    let entities = [
        plain(
            agent.clone(),
            fields([
                ("id", text(r.agent)),
                ("kind", text(r.agent_kind)),
                ("owner", text(r.agent_owner)),
                ("trust", long(r.trust)),
            ]),
            none(),
            r.teams.iter().map(|t| uid(&types.team, t)).collect(),
            Fields::new(),
        ),
        plain(
            resource.clone(),
            fields([
                ("criticality", long(r.criticality)),
                ("dataClass", long(r.data_class)),
                ("environment", text(r.resource_environment)),
                ("id", text(r.resource_id)),
                ("kind", text(r.resource_kind)),
                ("known", flag(r.resource_known)),
                ("owner", text(r.resource_owner)),
            ]),
            none(),
            r.capability.iter().map(|c| uid(&types.capability, c)).collect(),
            Fields::new(),
        ),
        plain(
            action.clone(),
            Fields::new(),
            HashSet::from([domain.clone()]),
            HashSet::from([category.clone(), operation]),
            Fields::new(),
        ),
        plain(category, Fields::new(), none(), HashSet::from([domain]), Fields::new()),
        tagged(&types.text, tags.text),
        tagged(&types.number, tags.number),
        tagged(&types.flag, tags.flag),
        tagged(&types.list, tags.list),
        tagged(&types.counter, r.budgets.iter().map(|(name, seen)| ((*name).into(), long(*seen).into())).collect()),
    ];
    let entities = Entities::from_entities(
        entities,
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
        let conditions: Vec<Expr> = parsed
            .map(|policy| {
                let ast: &cedar_policy_core::ast::Policy = policy.as_ref();
                ast.condition()
            })
            .collect();
        Wanted::by(&conditions)
    }

    fn names(wanted: Wanted) -> Vec<&'static str> {
        (0..).zip(CONTEXT).filter(|(at, _)| wanted.has(*at)).map(|(_, (name, _))| name).collect()
    }

    #[test]
    fn the_members_of_context_are_sorted_and_each_has_a_bit() {
        assert!(CONTEXT.is_sorted_by_key(|(name, _)| *name) && CONTEXT.len() <= 32);
        assert_eq!(names(Wanted::ALL).len(), CONTEXT.len());
    }

    #[test]
    fn what_policies_name_is_wanted_and_nothing_else() {
        assert_eq!(names(wanted(&["permit(principal, action, resource);"])), [""; 0]);
        let some = [
            r#"permit(principal, action, resource) when { context.text.getTag("to") == "x" && context.risk < 40 };"#,
            "forbid(principal, action, resource) unless { if context has goal then context.goal.declared else true };",
            "forbid(principal, action, resource) when { context has number.anything };",
            r#"permit(principal, action, resource) when { [context["time"].hour, 3].contains(context.session.intents) };"#,
        ];
        assert_eq!(names(wanted(&some)), ["goal", "number", "risk", "session", "text", "time"]);
        assert_eq!(names(wanted(&some[..1])), ["risk", "text"]);
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
        ] {
            let policy = format!("permit(principal, action, resource) when {{ context.risk == 1 && {odd} }};");
            assert_eq!(wanted(&[&policy]), Wanted::ALL, "{odd}");
        }
    }
}
