//! What a set of policies says of a request, worked out a second time: entities and context made with
//! Cedar's public constructors, every policy given to Cedar's authorizer, the outcome written down
//! again from the design. Nothing here is shared with the crate but the words of its answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, Request,
    RestrictedExpression as Is,
};
use intended_model::Value;
use intended_policy::{Change, EvalRequest, PolicyDecision, PolicyOutcome, Requirement};

use crate::grammar::{Asks, Spec};

pub fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(EntityTypeName::from_str(kind).unwrap(), EntityId::new(id))
}

fn text(t: &str) -> Is {
    Is::new_string(t.to_owned())
}
fn texts<'t>(items: impl IntoIterator<Item = &'t Box<str>>) -> Is {
    Is::new_set(items.into_iter().map(|i| text(i)))
}
fn record<const N: usize>(fields: [(&str, Is); N]) -> Is {
    Is::new_record(fields.map(|(n, v)| (n.to_owned(), v))).unwrap()
}
fn longs<const N: usize>(fields: [(&str, i64); N]) -> Is {
    record(fields.map(|(n, v)| (n, Is::new_long(v))))
}

type Tags = HashMap<String, Is>;

/// The arguments by type. Only what the generated requests hold.
fn arguments(r: &EvalRequest<'_>) -> [Tags; 4] {
    let [mut strings, mut numbers, mut flags, mut lists] = [const { None }; 4].map(|t| t.unwrap_or_else(Tags::new));
    for (name, value) in r.arguments.as_object().unwrap().iter() {
        let name = name.to_owned();
        match value {
            Value::String(t) => drop(strings.insert(name, text(t))),
            Value::Bool(b) => drop(flags.insert(name, Is::new_bool(*b))),
            Value::Number(n) => {
                let n = n.to_text();
                let n = if n.contains('.') { n } else { format!("{n}.0") };
                numbers.insert(name, Is::new_decimal(n));
            }
            Value::Array(items) => {
                numbers.insert(format!("{name}.length"), Is::new_decimal(format!("{}.0", items.len())));
                let items = items.iter().map(|i| match i {
                    Value::String(t) => text(t),
                    other => panic!("{other:?}"),
                });
                lists.insert(name, Is::new_set(items));
            }
            other => panic!("{other:?}"),
        }
    }
    [strings, numbers, flags, lists]
}

/// The request in Cedar's words.
pub struct Asked {
    request: Request,
    entities: Entities,
}

impl Asked {
    /// `None` if the tool, its category and its domain would be each other's ancestors.
    pub fn new(r: &EvalRequest<'_>) -> Option<Self> {
        let operation = format!("op:{}", r.operation);
        let (agent, action) = (uid("Agent", r.agent), uid("Action", r.tool));
        let resource = uid("Resource", &format!("{}/{}", r.resource_kind, r.resource_id));
        let set = |ids: Vec<EntityUid>| ids.into_iter().collect::<HashSet<_>>();
        let attributes = |fields: Vec<(&str, Is)>| fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        let entity = |uid, fields, parents| Entity::new(uid, attributes(fields), set(parents)).unwrap();
        let [strings, numbers, flags, lists] = arguments(r);
        let budgets = r.budgets.iter().map(|(n, seen)| ((*n).to_owned(), Is::new_long(*seen))).collect();
        let mut entities = vec![
            entity(
                agent.clone(),
                vec![
                    ("id", text(r.agent)),
                    ("kind", text(r.agent_kind)),
                    ("owner", text(r.agent_owner)),
                    ("trust", Is::new_long(r.trust)),
                ],
                r.teams.iter().map(|t| uid("Team", t)).collect(),
            ),
            entity(
                resource.clone(),
                vec![
                    ("kind", text(r.resource_kind)),
                    ("id", text(r.resource_id)),
                    ("known", Is::new_bool(r.resource_known)),
                    ("criticality", Is::new_long(r.criticality)),
                    ("dataClass", Is::new_long(r.data_class)),
                    ("owner", text(r.resource_owner)),
                    ("environment", text(r.resource_environment)),
                ],
                r.capability.iter().map(|c| uid("Capability", c)).collect(),
            ),
            entity(action.clone(), vec![], vec![uid("Action", r.category), uid("Action", &operation)]),
        ];
        if [r.category, r.domain, &operation].contains(&r.tool) || r.category == r.domain {
            return None;
        }
        entities.push(entity(uid("Action", r.category), vec![], vec![uid("Action", r.domain)]));
        for (kind, tags) in
            [("Text", strings), ("Number", numbers), ("Flag", flags), ("List", lists), ("Counter", budgets)]
        {
            entities.push(Entity::new_with_tags(uid(kind, "arguments"), [], [], tags).unwrap());
        }
        let tags = |kind| Is::new_entity_uid(uid(kind, "arguments"));
        let f = r.risk_factors;
        let context = Context::from_pairs(
            [
                ("environment", text(r.environment)),
                ("tier", text(r.tier)),
                ("tool", text(r.tool)),
                ("category", text(r.category)),
                ("domain", text(r.domain)),
                ("operation", text(r.operation)),
                ("confidence", Is::new_long(r.confidence)),
                ("indicators", texts(r.indicators)),
                ("reversible", text(r.reversible)),
                ("risk", Is::new_long(r.risk)),
                (
                    "riskFactors",
                    longs([
                        ("baseAction", f[0]),
                        ("environment", f[1]),
                        ("blastRadius", f[2]),
                        ("reversibility", f[3]),
                        ("dataSensitivity", f[4]),
                        ("privilege", f[5]),
                        ("actorTrust", f[6]),
                        ("timeOfDay", f[7]),
                    ]),
                ),
                ("text", tags("Text")),
                ("number", tags("Number")),
                ("flag", tags("Flag")),
                ("list", tags("List")),
                ("budgets", tags("Counter")),
                ("goal", record([("declared", Is::new_bool(r.goal_declared)), ("mentions", texts(r.goal_mentions))])),
                (
                    "session",
                    record([
                        ("declared", Is::new_bool(r.session_declared)),
                        ("intents", Is::new_long(r.session.intents.into())),
                        ("allowed", Is::new_long(r.session.allowed.into())),
                        ("denied", Is::new_long(r.session.denied.into())),
                        ("dataClass", Is::new_long(r.session.data_class)),
                        ("categories", texts(&r.session.categories)),
                        ("tools", texts(&r.session.tools)),
                        ("indicators", texts(&r.session.indicators)),
                    ]),
                ),
                ("time", longs([("hour", r.hour), ("minute", r.minute), ("weekday", r.weekday), ("epoch", r.epoch)])),
                ("approvals", Is::new_long(r.approvals)),
            ]
            .map(|(n, v)| (n.to_owned(), v)),
        )
        .unwrap();
        Some(Self {
            request: Request::new(agent, action, resource, context, None).unwrap(),
            entities: Entities::from_entities(entities, None).unwrap(),
        })
    }
}

/// All policies as Cedar's own set, under the ids that the specifications have.
pub struct Oracle<'s> {
    set: PolicySet,
    specs: BTreeMap<String, &'s Spec>,
}

impl<'s> Oracle<'s> {
    pub fn new(specs: &'s [Spec]) -> Self {
        let ids = specs.iter().enumerate().map(|(n, spec)| (format!("p{n}"), spec));
        let specs: BTreeMap<String, &Spec> = ids.collect();
        let policies = specs.iter().map(|(id, s)| Policy::parse(Some(PolicyId::new(id)), s.text()).unwrap());
        Self { set: PolicySet::from_policies(policies).unwrap(), specs }
    }

    /// The outcome as the design has it: `2-architecture`, "Policy is Cedar".
    pub fn says(&self, asked: &Asked) -> PolicyOutcome {
        let response = Authorizer::new().is_authorized(&asked.request, &self.set, &asked.entities);
        let mut errors: Vec<(String, String)> = response
            .diagnostics()
            .errors()
            .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(e)| {
                (AsRef::<str>::as_ref(e.policy_id()).to_owned(), e.inner().to_string())
            })
            .collect();
        errors.sort();
        let reasons: BTreeSet<&str> = response.diagnostics().reason().map(|id| id.as_ref()).collect();
        let satisfied: Vec<(&str, &Spec)> = reasons.iter().map(|id| (*id, self.specs[*id])).collect();
        let with = |wanted: fn(&Spec) -> bool| {
            satisfied.iter().copied().filter(|(_, s)| wanted(s)).collect::<Vec<(&str, &Spec)>>()
        };
        let forbids = with(|s| !s.permit);
        let permits = with(|s| s.permit);
        let plain = with(|s| s.permit && matches!(s.asks, Asks::Nothing));
        let escalates = with(|s| matches!(s.asks, Asks::People(_)));
        let defers = with(|s| matches!(s.asks, Asks::Context(_)));
        let modifies = with(|s| matches!(s.asks, Asks::Changes(_)));
        let (code, outcome, determining) = if !forbids.is_empty() {
            ("policy.forbid", PolicyDecision::Deny, forbids)
        } else if !errors.is_empty() {
            ("policy.error", PolicyDecision::Deny, vec![])
        } else if permits.is_empty() {
            ("policy.no_permit", PolicyDecision::Deny, vec![])
        } else if !plain.is_empty() {
            ("policy.permit", PolicyDecision::Allow, plain)
        } else if !escalates.is_empty() {
            let all: BTreeSet<Requirement> = escalates.iter().flat_map(|(_, s)| s.asks.people()).collect();
            ("policy.escalate", PolicyDecision::Escalate { requirements: all.into_iter().collect() }, escalates)
        } else if !defers.is_empty() {
            let all: BTreeSet<Box<str>> = defers.iter().filter_map(|(_, s)| s.asks.context()).collect();
            ("policy.defer", PolicyDecision::Defer { needs: all.into_iter().collect() }, defers)
        } else {
            let all: Vec<Change> = modifies.iter().flat_map(|(_, s)| s.asks.changes()).collect();
            let contradiction = all.iter().any(|a| all.iter().any(|b| a.argument() == b.argument() && a != b));
            let by_name: BTreeMap<String, Change> = all.into_iter().map(|c| (c.argument().to_owned(), c)).collect();
            if contradiction {
                ("policy.ambiguous", PolicyDecision::Deny, modifies)
            } else {
                ("policy.modify", PolicyDecision::Modify { changes: by_name.into_values().collect() }, modifies)
            }
        };
        PolicyOutcome {
            outcome,
            code,
            determining: determining.into_iter().map(|(id, _)| id.into()).collect(),
            errors: errors.into_iter().map(|(id, message)| (id.as_str().into(), message)).collect(),
            candidates: self.specs.len(),
        }
    }
}
