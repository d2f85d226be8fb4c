//! A policy version made ready, and its evaluation.
//!
//! Cedar evaluates every policy of a set, so its cost grows with the set. Here policies stand in
//! buckets by their scope: what they say of principal, action and resource. A request can match
//! only policies whose scope names one of its own entities or their ancestors, so only those
//! buckets are evaluated, each as a Cedar policy set of its own. That is sound because a policy
//! whose scope does not match cannot be satisfied and cannot fail: Cedar evaluates the scope before
//! the condition. Property tests hold the result against full evaluation.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Authorizer, Effect, Entities, EntityUid, PolicySet, PrincipalConstraint, Request,
    ResourceConstraint,
};
use intended_model::Digest;

use crate::obligation::{Change, Obligation, Requirement, merge};
use crate::pack::Pack;
use crate::request::{EvalError, EvalRequest, Types, build, resource_id, uid};

/// What the policies come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyDecision {
    Allow,
    Deny,
    Escalate { requirements: Vec<Requirement> },
    Defer { needs: Vec<Box<str>> },
    Modify { changes: Vec<Change> },
}

/// The outcome with what determined it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyOutcome {
    pub outcome: PolicyDecision,
    /// A code of the catalogue.
    pub code: &'static str,
    /// Ids of the policies that determined it, sorted.
    pub determining: Vec<Arc<str>>,
    /// Policies that failed, with Cedar's message, sorted.
    pub errors: Vec<(Arc<str>, String)>,
    /// How many policies were evaluated.
    pub candidates: usize,
}

/// The scope of a policy on one side: an entity, or anything.
type Key = Option<EntityUid>;

#[derive(Debug)]
struct Bucket {
    set: PolicySet,
    size: usize,
}

#[derive(Debug)]
struct Known {
    id: Arc<str>,
    effect: Effect,
    obligation: Option<Obligation>,
}

/// A version that can be evaluated.
#[derive(Debug)]
pub struct PolicySetVersion {
    digest: Digest,
    types: Types,
    buckets: HashMap<(Key, Key, Key), Bucket>,
    /// Keys that stand on each side of some bucket: what is not here need not be looked up.
    principals: BTreeSet<EntityUid>,
    actions: BTreeSet<EntityUid>,
    resources: BTreeSet<EntityUid>,
    known: BTreeMap<String, Known>,
    full: PolicySet,
}

/// Policies that were satisfied, and that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Satisfied {
    pub permits: BTreeSet<Arc<str>>,
    pub forbids: BTreeSet<Arc<str>>,
    pub errors: BTreeMap<Arc<str>, String>,
}

/// A version cannot be made of the pack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pack cannot be compiled: {0}")]
pub struct CompileError(String);

impl PolicySetVersion {
    /// Indexes a pack.
    pub fn compile(pack: &Pack) -> Result<Self, CompileError> {
        let wrong = |e: &dyn std::fmt::Display| CompileError(e.to_string());
        let mut version = Self {
            digest: pack.digest(),
            types: Types::new().map_err(|e| wrong(&e))?,
            buckets: HashMap::new(),
            principals: BTreeSet::new(),
            actions: BTreeSet::new(),
            resources: BTreeSet::new(),
            known: BTreeMap::new(),
            full: PolicySet::new(),
        };
        for entry in pack.policies() {
            let policy = &entry.policy;
            let principal = match policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
                PrincipalConstraint::In(e) | PrincipalConstraint::Eq(e) | PrincipalConstraint::IsIn(_, e) => Some(e),
            };
            let actions = match policy.action_constraint() {
                ActionConstraint::Any => vec![None],
                ActionConstraint::Eq(e) => vec![Some(e)],
                ActionConstraint::In(many) => many.into_iter().map(Some).collect(),
            };
            let resource = match policy.resource_constraint() {
                ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
                ResourceConstraint::In(e) | ResourceConstraint::Eq(e) | ResourceConstraint::IsIn(_, e) => Some(e),
            };
            version.principals.extend(principal.clone());
            version.resources.extend(resource.clone());
            // An action list puts the policy in several buckets; results are merged by id.
            for action in actions.into_iter().collect::<BTreeSet<_>>() {
                version.actions.extend(action.clone());
                let bucket = version
                    .buckets
                    .entry((principal.clone(), action, resource.clone()))
                    .or_insert_with(|| Bucket { set: PolicySet::new(), size: 0 });
                bucket.set.add(policy.clone()).map_err(|e| wrong(&e))?;
                bucket.size += 1;
            }
            version.full.add(policy.clone()).map_err(|e| wrong(&e))?;
            let known =
                Known { id: Arc::clone(&entry.id), effect: policy.effect(), obligation: entry.obligation.clone() };
            version.known.insert(entry.id.to_string(), known);
        }
        Ok(version)
    }

    /// The pack's content digest.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Evaluates the policies whose scope can match.
    pub fn evaluate(&self, r: &EvalRequest<'_>) -> Result<PolicyOutcome, EvalError> {
        let (request, entities) = build(&self.types, r)?;
        let (satisfied, candidates) = self.indexed(r, &request, &entities);
        Ok(self.outcome(satisfied, candidates))
    }

    /// Evaluates every policy: the oracle of the tests and the comparison of the benchmark.
    pub fn evaluate_full(&self, r: &EvalRequest<'_>) -> Result<PolicyOutcome, EvalError> {
        let (request, entities) = build(&self.types, r)?;
        let mut satisfied = Satisfied::default();
        self.add(&mut satisfied, &self.full, &request, &entities);
        Ok(self.outcome(satisfied, self.known.len()))
    }

    fn indexed(&self, r: &EvalRequest<'_>, request: &Request, entities: &Entities) -> (Satisfied, usize) {
        let present = |keys: &BTreeSet<EntityUid>, candidates: Vec<EntityUid>| {
            let mut out: Vec<Key> = candidates.into_iter().filter(|c| keys.contains(c)).map(Some).collect();
            out.push(None);
            out
        };
        let t = &self.types;
        let mut principals = vec![uid(&t.agent, r.agent)];
        principals.extend(r.teams.iter().map(|team| uid(&t.team, team)));
        let mut actions = vec![uid(&t.action, r.tool), uid(&t.action, r.category), uid(&t.action, r.domain)];
        actions.push(uid(&t.action, &format!("op:{}", r.operation)));
        let mut resources = vec![uid(&t.resource, &resource_id(r.resource_kind, r.resource_id))];
        resources.extend(r.capability.map(|c| uid(&t.capability, c)));
        let principals = present(&self.principals, principals);
        let actions = present(&self.actions, actions);
        let resources = present(&self.resources, resources);

        let mut satisfied = Satisfied::default();
        let mut candidates = 0;
        let mut key = (None, None, None);
        for principal in &principals {
            key.0.clone_from(principal);
            for action in &actions {
                key.1.clone_from(action);
                for resource in &resources {
                    key.2.clone_from(resource);
                    if let Some(bucket) = self.buckets.get(&key) {
                        candidates += bucket.size;
                        self.add(&mut satisfied, &bucket.set, request, entities);
                    }
                }
            }
        }
        (satisfied, candidates)
    }

    /// Adds what one set's evaluation says. Cedar names only the policies that determined the
    /// decision: with a satisfied forbid, the satisfied permits are not named, and need not be.
    fn add(&self, satisfied: &mut Satisfied, set: &PolicySet, request: &Request, entities: &Entities) {
        let response = Authorizer::new().is_authorized(request, set, entities);
        for id in response.diagnostics().reason() {
            let text: &str = id.as_ref();
            if let Some(known) = self.known.get(text) {
                let side = match known.effect {
                    Effect::Permit => &mut satisfied.permits,
                    Effect::Forbid => &mut satisfied.forbids,
                };
                side.insert(Arc::clone(&known.id));
            }
        }
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            let text: &str = error.policy_id().as_ref();
            if let Some(known) = self.known.get(text) {
                satisfied.errors.insert(Arc::clone(&known.id), error.inner().to_string());
            }
        }
    }

    /// From satisfied policies to the outcome: `2-architecture`, "Policy is Cedar".
    fn outcome(&self, satisfied: Satisfied, candidates: usize) -> PolicyOutcome {
        let Satisfied { permits, forbids, errors } = satisfied;
        let errors: Vec<(Arc<str>, String)> = errors.into_iter().collect();
        let end = |outcome, code, determining: BTreeSet<Arc<str>>| PolicyOutcome {
            outcome,
            code,
            determining: determining.into_iter().collect(),
            errors: errors.clone(),
            candidates,
        };
        if !forbids.is_empty() {
            return end(PolicyDecision::Deny, "policy.forbid", forbids);
        }
        if !errors.is_empty() {
            return end(PolicyDecision::Deny, "policy.error", BTreeSet::new());
        }
        if permits.is_empty() {
            return end(PolicyDecision::Deny, "policy.no_permit", BTreeSet::new());
        }
        let with = |id: &Arc<str>| self.known.get(&**id).and_then(|k| k.obligation.as_ref());
        let plain: BTreeSet<_> = permits.iter().filter(|id| with(id).is_none()).cloned().collect();
        if !plain.is_empty() {
            return end(PolicyDecision::Allow, "policy.permit", plain);
        }
        // Only permits with obligations: what is missing first, then people, then changes.
        let of = |kind: fn(&Obligation) -> bool| {
            permits.iter().filter(|id| with(id).is_some_and(kind)).cloned().collect::<BTreeSet<_>>()
        };
        let escalates = of(|o| matches!(o, Obligation::Escalate(_)));
        if !escalates.is_empty() {
            let all = escalates.iter().filter_map(with).flat_map(|o| match o {
                Obligation::Escalate(requirements) => requirements.as_slice(),
                _ => &[],
            });
            let requirements = all.cloned().collect::<BTreeSet<_>>().into_iter().collect();
            return end(PolicyDecision::Escalate { requirements }, "policy.escalate", escalates);
        }
        let defers = of(|o| matches!(o, Obligation::Defer(_)));
        if !defers.is_empty() {
            let all = defers.iter().filter_map(with).filter_map(|o| match o {
                Obligation::Defer(what) => Some(what.clone()),
                _ => None,
            });
            let needs = all.collect::<BTreeSet<_>>().into_iter().collect();
            return end(PolicyDecision::Defer { needs }, "policy.defer", defers);
        }
        let modifies = of(|o| matches!(o, Obligation::Modify(_)));
        let all = modifies.iter().filter_map(with).flat_map(|o| match o {
            Obligation::Modify(changes) => changes.as_slice(),
            _ => &[],
        });
        match merge(all) {
            Ok(changes) => end(PolicyDecision::Modify { changes }, "policy.modify", modifies),
            Err(_) => end(PolicyDecision::Deny, "policy.ambiguous", modifies),
        }
    }
}
