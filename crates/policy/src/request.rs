//! One intent as a Cedar request.
//!
//! Arguments become tags of four entities, by type: `context.text`, `context.number` (decimal),
//! `context.flag` and `context.list` (sets of texts). Nested arguments are named `a.b` and `a[0].b`;
//! a list's length is the number `a.length`. An argument that Cedar cannot hold exactly is an error:
//! it is never silently absent, because a policy that forbids it would then not see it.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
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

/// Entity type names, parsed once.
#[derive(Debug, Clone)]
pub struct Types {
    pub agent: EntityTypeName,
    pub team: EntityTypeName,
    pub action: EntityTypeName,
    pub resource: EntityTypeName,
    pub capability: EntityTypeName,
    text: EntityUid,
    number: EntityUid,
    flag: EntityUid,
    list: EntityUid,
    counter: EntityUid,
}

impl Types {
    pub fn new() -> Result<Self, cedar_policy::ParseErrors> {
        let one = |name: &str| Ok::<_, cedar_policy::ParseErrors>(uid(&name.parse()?, "arguments"));
        Ok(Self {
            agent: "Agent".parse()?,
            team: "Team".parse()?,
            action: "Action".parse()?,
            resource: "Resource".parse()?,
            capability: "Capability".parse()?,
            text: one("Text")?,
            number: one("Number")?,
            flag: one("Flag")?,
            list: one("List")?,
            counter: one("Counter")?,
        })
    }
}

pub(crate) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// A resource's Cedar id: `type/id`.
#[must_use]
pub fn resource_id(kind: &str, id: &str) -> String {
    format!("{kind}/{id}")
}

#[derive(Default)]
struct Tags {
    text: Vec<(String, RestrictedExpression)>,
    number: Vec<(String, RestrictedExpression)>,
    flag: Vec<(String, RestrictedExpression)>,
    list: Vec<(String, RestrictedExpression)>,
    count: usize,
}

impl Tags {
    fn add(&mut self, name: &str, value: &Value) -> Result<(), EvalError> {
        let unrepresentable = || EvalError::Unrepresentable(name.to_owned());
        self.count += 1;
        if self.count > MAX_VALUES {
            return Err(unrepresentable());
        }
        match value {
            Value::Null => {}
            Value::Bool(b) => self.flag.push((name.to_owned(), RestrictedExpression::new_bool(*b))),
            Value::String(text) => {
                self.text.push((name.to_owned(), RestrictedExpression::new_string(text.to_string())))
            }
            Value::Number(number) => {
                let scaled = number.scaled(4).ok_or_else(unrepresentable)?;
                let (sign, n) = (if scaled < 0 { "-" } else { "" }, scaled.unsigned_abs());
                let text = format!("{sign}{}.{:04}", n / 10_000, n % 10_000);
                self.number.push((name.to_owned(), RestrictedExpression::new_decimal(text)));
            }
            Value::Array(items) => {
                let length = format!("{}.0", items.len());
                self.number.push((format!("{name}.length"), RestrictedExpression::new_decimal(length)));
                let mut texts = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    match item {
                        Value::String(text) => {
                            self.count += 1;
                            texts.push(RestrictedExpression::new_string(text.to_string()));
                        }
                        other => self.add(&format!("{name}[{i}]"), other)?,
                    }
                    if self.count > MAX_VALUES {
                        return Err(unrepresentable());
                    }
                }
                self.list.push((name.to_owned(), RestrictedExpression::new_set(texts)));
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

/// The Cedar request and its entities.
pub(crate) fn build(types: &Types, r: &EvalRequest<'_>) -> Result<(Request, Entities), EvalError> {
    let broken = |what: &str| EvalError::Unrepresentable(what.to_owned());
    let mut tags = Tags::default();
    for (name, value) in r.arguments.as_object().into_iter().flat_map(|o| o.iter()) {
        if name.contains(['.', '[']) || name.starts_with('@') {
            return Err(EvalError::Unrepresentable(name.to_owned()));
        }
        tags.add(name, value)?;
    }
    for (name, claims) in [("@subject", r.subject_claims), ("@resource", r.resource_claims)] {
        if claims.as_object().is_some_and(|o| !o.is_empty()) {
            tags.add(name, claims)?;
        }
    }
    let text = |t: &str| RestrictedExpression::new_string(t.to_owned());
    let long = RestrictedExpression::new_long;
    let set = |items: &mut dyn Iterator<Item = &Box<str>>| {
        RestrictedExpression::new_set(items.map(|i| RestrictedExpression::new_string(i.to_string())))
    };

    let agent = uid(&types.agent, r.agent);
    let teams: HashSet<EntityUid> = r.teams.iter().map(|t| uid(&types.team, t)).collect();
    let agent_attributes = HashMap::from([
        ("id".to_owned(), text(r.agent)),
        ("kind".to_owned(), text(r.agent_kind)),
        ("owner".to_owned(), text(r.agent_owner)),
        ("trust".to_owned(), long(r.trust)),
    ]);
    let resource = uid(&types.resource, &resource_id(r.resource_kind, r.resource_id));
    let resource_attributes = HashMap::from([
        ("kind".to_owned(), text(r.resource_kind)),
        ("id".to_owned(), text(r.resource_id)),
        ("known".to_owned(), RestrictedExpression::new_bool(r.resource_known)),
        ("criticality".to_owned(), long(r.criticality)),
        ("dataClass".to_owned(), long(r.data_class)),
        ("owner".to_owned(), text(r.resource_owner)),
        ("environment".to_owned(), text(r.resource_environment)),
    ]);
    let capability: HashSet<EntityUid> = r.capability.iter().map(|c| uid(&types.capability, c)).collect();
    let action = uid(&types.action, r.tool);
    let category = uid(&types.action, r.category);
    let domain = uid(&types.action, r.domain);
    let operation = uid(&types.action, &format!("op:{}", r.operation));

    let context = Context::from_pairs([
        ("environment".to_owned(), text(r.environment)),
        ("tier".to_owned(), text(r.tier)),
        ("tool".to_owned(), text(r.tool)),
        ("category".to_owned(), text(r.category)),
        ("domain".to_owned(), text(r.domain)),
        ("operation".to_owned(), text(r.operation)),
        ("confidence".to_owned(), long(r.confidence)),
        ("indicators".to_owned(), set(&mut r.indicators.iter())),
        ("reversible".to_owned(), text(r.reversible)),
        ("risk".to_owned(), long(r.risk)),
        (
            "riskFactors".to_owned(),
            record(RISK_FACTORS.iter().zip(r.risk_factors).map(|(n, v)| ((*n).to_owned(), long(v))))?,
        ),
        ("text".to_owned(), RestrictedExpression::new_entity_uid(types.text.clone())),
        ("number".to_owned(), RestrictedExpression::new_entity_uid(types.number.clone())),
        ("flag".to_owned(), RestrictedExpression::new_entity_uid(types.flag.clone())),
        ("list".to_owned(), RestrictedExpression::new_entity_uid(types.list.clone())),
        ("budgets".to_owned(), RestrictedExpression::new_entity_uid(types.counter.clone())),
        (
            "goal".to_owned(),
            record([
                ("declared".to_owned(), RestrictedExpression::new_bool(r.goal_declared)),
                ("mentions".to_owned(), set(&mut r.goal_mentions.iter())),
            ])?,
        ),
        (
            "session".to_owned(),
            record([
                ("declared".to_owned(), RestrictedExpression::new_bool(r.session_declared)),
                ("intents".to_owned(), long(i64::from(r.session.intents))),
                ("allowed".to_owned(), long(i64::from(r.session.allowed))),
                ("denied".to_owned(), long(i64::from(r.session.denied))),
                ("dataClass".to_owned(), long(r.session.data_class)),
                ("categories".to_owned(), set(&mut r.session.categories.iter())),
                ("tools".to_owned(), set(&mut r.session.tools.iter())),
                ("indicators".to_owned(), set(&mut r.session.indicators.iter())),
            ])?,
        ),
        (
            "time".to_owned(),
            record([
                ("hour".to_owned(), long(r.hour)),
                ("minute".to_owned(), long(r.minute)),
                ("weekday".to_owned(), long(r.weekday)),
                ("epoch".to_owned(), long(r.epoch)),
            ])?,
        ),
        ("approvals".to_owned(), long(r.approvals)),
    ])
    .map_err(|_| broken("context"))?;

    let plain = |id: EntityUid, parents: HashSet<EntityUid>| Entity::new_no_attrs(id, parents);
    let tagged = |id: &EntityUid, tags: Vec<(String, RestrictedExpression)>| {
        Entity::new_with_tags(id.clone(), [], [], tags).map_err(|_| broken("arguments"))
    };
    let mut entities = vec![
        Entity::new(agent.clone(), agent_attributes, teams).map_err(|_| broken("agent"))?,
        Entity::new(resource.clone(), resource_attributes, capability).map_err(|_| broken("resource"))?,
        plain(category.clone(), HashSet::from([domain])),
        plain(action.clone(), HashSet::from([category, operation])),
        tagged(&types.text, tags.text)?,
        tagged(&types.number, tags.number)?,
        tagged(&types.flag, tags.flag)?,
        tagged(&types.list, tags.list)?,
    ];
    let counters = r.budgets.iter().map(|(name, seen)| ((*name).to_owned(), long(*seen))).collect();
    entities.push(tagged(&types.counter, counters)?);
    let entities = Entities::from_entities(entities, None).map_err(|_| broken("entities"))?;
    let request = Request::new(agent, action, resource, context, None).map_err(|_| broken("request"))?;
    Ok((request, entities))
}

fn record(fields: impl IntoIterator<Item = (String, RestrictedExpression)>) -> Result<RestrictedExpression, EvalError> {
    RestrictedExpression::new_record(fields).map_err(|_| EvalError::Unrepresentable("context".to_owned()))
}
