//! A policy version made ready, and its evaluation.
//!
//! Cedar evaluates every policy of a set, so its cost grows with the set. Here policies stand by their
//! scope ([`crate::index`]). Those of a request are exactly the policies whose scope matches, so only
//! what they say besides their scope is evaluated, by Cedar's own evaluator; policies that say the same
//! share it. That is sound because a policy whose scope does not match cannot be satisfied and cannot
//! fail: Cedar evaluates the scope before the condition. Property tests hold the result against Cedar's
//! authorizer over the full set.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::{Authorizer, Effect, PolicySet};
use cedar_policy_core::ast::{Expr, Literal, Request, ValueKind};
use cedar_policy_core::entities::Entities;
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;
use intended_model::Digest;

use crate::index::{Scope, ScopeIndex};
use crate::missing::{Missing, Named, named, principal_and_action_match};
use crate::obligation::{Change, Obligation, Requirement, merge};
use crate::pack::Pack;
use crate::request::{EvalError, EvalRequest, Types, Wanted, build};

/// What an expression of [`crate::pack::MAX_DEPTH`] needs at most, many times over: evaluation never
/// meets the end of a stack, on whatever thread it runs.
const ENOUGH_STACK: usize = 4 << 20;

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
    /// Ids of the policies that determined it, sorted; of stale ones those that forbid come first.
    pub determining: Vec<Arc<str>>,
    /// Policies that failed, with Cedar's message, sorted.
    pub errors: Vec<(Arc<str>, String)>,
    /// How many policies were evaluated.
    pub candidates: usize,
}

/// What one policy said of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyTrace {
    pub id: Arc<str>,
    pub effect: Effect,
    /// How `@escalate`, `@defer` or `@modify` reads, where there is one.
    pub obligation: Option<Obligation>,
    pub said: Said,
}

/// Whether a policy whose scope could match was satisfied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Satisfied,
    /// With the first part of its condition that does not hold, as Cedar text; absent where the
    /// scope itself does not match.
    Not {
        part: Option<String>,
    },
    Failed {
        message: String,
    },
    /// It names a team, a capability or an action that is not there.
    Stale,
}

/// What is looked at first of every policy whose scope matches.
#[derive(Debug, Clone, Copy)]
struct Rule {
    effect: Effect,
    /// Whether it has no obligation.
    plain: bool,
    /// Where its condition stands, if it has one besides its scope.
    condition: Option<u32>,
}

/// What policies say besides their scope.
#[derive(Debug)]
struct Condition {
    expr: Expr,
    wanted: Wanted,
}

#[derive(Debug)]
struct Known {
    effect: Effect,
    obligation: Option<Obligation>,
    policy: cedar_policy::Policy,
    /// Scope and condition as one expression.
    condition: Expr,
}

/// A version that can be evaluated.
#[derive(Debug)]
pub struct PolicySetVersion {
    digest: Digest,
    types: Types,
    /// Sorted. A policy's position is that of its id. They are made anew, one beside the other: those of
    /// the pack lie as far apart in memory as its policies.
    ids: Vec<Arc<str>>,
    known: Vec<Known>,
    /// Each one once.
    conditions: Vec<Condition>,
    /// What of the tenant's they name, and which of them do: many policies name the same few things.
    named: BTreeMap<Named, Vec<u32>>,
    index: ScopeIndex<Rule>,
}

/// Policies that were satisfied, and that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Satisfied {
    /// Permits without an obligation.
    plain: Vec<u32>,
    /// Permits with one.
    permits: Vec<u32>,
    forbids: Vec<u32>,
    errors: Vec<(Arc<str>, String)>,
    /// Policies that name what is missing and would have had a say.
    stale: Vec<u32>,
    /// A permit that is none of the version's, and holds.
    own: Option<&'static str>,
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
            ids: Vec::new(),
            known: Vec::new(),
            conditions: Vec::new(),
            named: BTreeMap::new(),
            index: ScopeIndex::of(std::iter::empty()),
        };
        let mut policies: Vec<_> = pack.policies().iter().collect();
        policies.sort_by(|a, b| a.id.cmp(&b.id));
        version.ids.extend(policies.iter().map(|entry| Arc::from(&*entry.id)));
        version.known.extend(policies.into_iter().map(|entry| {
            let ast: &cedar_policy_core::ast::Policy = entry.policy.as_ref();
            Known {
                effect: entry.policy.effect(),
                obligation: entry.obligation.clone(),
                condition: ast.condition(),
                policy: entry.policy.clone(),
            }
        }));
        let rules = stacker::maybe_grow(ENOUGH_STACK, 2 * ENOUGH_STACK, || version.share());
        version.index = ScopeIndex::of(version.known.iter().map(|k| &k.policy).zip(rules));
        Ok(version)
    }

    /// Takes what policies say besides their scope, and what of the tenant's they name.
    fn share(&mut self) -> Vec<Rule> {
        let mut rules = Vec::with_capacity(self.known.len());
        // By their text: Cedar's own hash of an expression tells few apart that differ only in operators.
        let mut shared: HashMap<String, u32> = HashMap::new();
        for (position, known) in (0_u32..).zip(&self.known) {
            for name in named(&known.condition) {
                self.named.entry(name).or_default().push(position);
            }
            let ast: &cedar_policy_core::ast::Policy = known.policy.as_ref();
            let condition = ast.non_scope_constraints().map(|expr| {
                let text = expr.to_string();
                let same = |at: &u32| self.conditions.get(*at as usize).is_some_and(|c| c.expr.eq_shape(expr));
                if let Some(at) = shared.get(&text).copied().filter(same) {
                    return at;
                }
                let at = u32::try_from(self.conditions.len()).unwrap_or(u32::MAX);
                self.conditions.push(Condition { expr: expr.clone(), wanted: Wanted::by(expr) });
                shared.insert(text, at);
                at
            });
            rules.push(Rule { effect: known.effect, plain: known.obligation.is_none(), condition });
        }
        rules
    }

    /// The pack's content digest.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
    #[must_use]
    pub const fn len(&self) -> usize {
        self.known.len()
    }
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn id(&self, position: u32) -> Arc<str> {
        self.ids.get(position as usize).cloned().unwrap_or_default()
    }

    fn obligation(&self, position: u32) -> Option<&Obligation> {
        self.known.get(position as usize)?.obligation.as_ref()
    }

    /// Ids of its policies, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.ids.iter()
    }

    /// The groups that its escalations ask, sorted.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let all = self.known.iter().flat_map(|k| match &k.obligation {
            Some(Obligation::Escalate(requirements)) => requirements.as_slice(),
            _ => &[],
        });
        all.flat_map(Requirement::groups).collect::<BTreeSet<_>>().into_iter()
    }

    /// What its escalations ask for, policy by policy in the order of their ids.
    pub fn escalations(&self) -> impl Iterator<Item = (&str, &[Requirement])> {
        self.ids.iter().zip(&self.known).filter_map(|(id, k)| match &k.obligation {
            Some(Obligation::Escalate(requirements)) => Some((&**id, requirements.as_slice())),
            _ => None,
        })
    }

    /// What it names and the tenant has not.
    #[must_use]
    pub fn missing(&self, exists: impl Fn(&Named) -> bool) -> Missing {
        let mut missing = Missing::default();
        for (name, positions) in self.named.iter().filter(|(n, _)| !exists(n)) {
            missing.names.extend(positions.iter().map(|at| (name.clone(), self.id(*at))));
            if name.kind.breaks() {
                missing.broken.extend_from_slice(positions);
                missing.gone.push(name.clone());
            }
        }
        missing.broken.sort_unstable();
        missing.broken.dedup();
        missing
    }

    /// Evaluates the policies whose scope matches, on a tenant that has all that they name.
    pub fn evaluate(&self, r: &EvalRequest<'_>) -> Result<PolicyOutcome, EvalError> {
        self.evaluate_without(r, &Missing::default())
    }

    /// Evaluates the policies whose scope matches; those that name what is missing help nothing
    /// through: see [`crate::missing`].
    pub fn evaluate_without(&self, r: &EvalRequest<'_>, missing: &Missing) -> Result<PolicyOutcome, EvalError> {
        self.evaluate_with(r, missing, None)
    }

    /// The same with a permit more, by its name, that holds and has no obligation. A `forbid` and a
    /// policy that fails deny as ever.
    pub fn evaluate_with(
        &self,
        r: &EvalRequest<'_>,
        missing: &Missing,
        own: Option<&'static str>,
    ) -> Result<PolicyOutcome, EvalError> {
        stacker::maybe_grow(ENOUGH_STACK, 2 * ENOUGH_STACK, || self.evaluate_here(r, missing, own))
    }

    fn evaluate_here(
        &self,
        r: &EvalRequest<'_>,
        missing: &Missing,
        own: Option<&'static str>,
    ) -> Result<PolicyOutcome, EvalError> {
        let candidates = self.index.find(r, Scope::Matches);
        let conditions = candidates.iter().filter_map(|(_, rule)| self.condition(*rule));
        let wanted = match missing.broken.as_slice() {
            [] => conditions.fold(Wanted::NOTHING, |all, condition| all | condition.wanted),
            _ => Wanted::ALL,
        };
        let (request, entities) = build(&self.types, r, wanted)?;
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        let whole = Whole { types: &self.types, request: r, made: OnceCell::new() };
        let mut satisfied = Satisfied { own, ..Satisfied::default() };
        self.stale(r, missing, &evaluator, &mut satisfied);
        for (position, rule) in &candidates {
            let Some(known) = self.known.get(*position as usize) else { continue };
            if rule.effect == Effect::Forbid && missing.breaks(*position) {
                continue;
            }
            let holds = match self.holds(&evaluator, *rule, known, &whole) {
                Ok(holds) => holds,
                Err(error) => {
                    satisfied.errors.push((self.id(*position), error));
                    continue;
                }
            };
            match rule.effect {
                _ if !holds => {}
                Effect::Permit if missing.breaks(*position) => satisfied.stale.push(*position),
                Effect::Permit if rule.plain => satisfied.plain.push(*position),
                Effect::Permit => satisfied.permits.push(*position),
                Effect::Forbid => satisfied.forbids.push(*position),
            }
        }
        Ok(self.outcome(satisfied, candidates.len()))
    }

    fn condition(&self, rule: Rule) -> Option<&Condition> {
        self.conditions.get(rule.condition? as usize)
    }

    /// Whether a policy whose scope matches is satisfied. The evaluator may have no more than its condition wants.
    fn holds(&self, evaluator: &Evaluator<'_>, rule: Rule, known: &Known, whole: &Whole<'_>) -> Result<bool, String> {
        if rule.condition.is_none() {
            return Ok(true);
        }
        match self.condition(rule).map(|condition| truth(evaluator, &condition.expr)) {
            Some(Ok(holds)) => Ok(holds),
            // What is wrong with it is said by the whole of it, as Cedar evaluates it. On everything: its
            // scope is evaluated too, and would not match a principal that was left out.
            Some(Err(_)) | None => whole.truth(&known.condition),
        }
    }

    /// What each policy whose scope could match says.
    pub fn trace(&self, r: &EvalRequest<'_>, missing: &Missing) -> Result<Vec<PolicyTrace>, EvalError> {
        stacker::maybe_grow(ENOUGH_STACK, 2 * ENOUGH_STACK, || {
            let (request, entities) = build(&self.types, r, Wanted::ALL)?;
            let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
            let mut stale = Satisfied::default();
            self.stale(r, missing, &evaluator, &mut stale);
            let near = self.index.find(r, Scope::Near);
            let mut positions: Vec<u32> = near.into_iter().map(|(position, _)| position).collect();
            positions.extend(&stale.stale);
            positions.sort_unstable();
            positions.dedup();
            let one = |position: &u32| {
                let known = self.known.get(*position as usize)?;
                let said = match truth(&evaluator, &known.condition) {
                    _ if stale.stale.contains(position) => Said::Stale,
                    Ok(true) if missing.breaks(*position) => Said::Stale,
                    Ok(true) => Said::Satisfied,
                    Ok(false) => {
                        let ast: &cedar_policy_core::ast::Policy = known.policy.as_ref();
                        let part = ast.non_scope_constraints().and_then(|c| first_that_fails(&evaluator, c));
                        Said::Not { part }
                    }
                    Err(message) => Said::Failed { message },
                };
                let (id, obligation) = (self.id(*position), known.obligation.clone());
                Some(PolicyTrace { id, effect: known.effect, obligation, said })
            };
            Ok(positions.iter().filter_map(one).collect())
        })
    }

    /// Notes the forbids that name what is missing and could have matched.
    fn stale(&self, r: &EvalRequest<'_>, missing: &Missing, evaluator: &Evaluator<'_>, satisfied: &mut Satisfied) {
        let slots = std::collections::HashMap::new();
        for position in &missing.broken {
            let Some(known) = self.known.get(*position as usize) else { continue };
            if known.effect == Effect::Permit || !principal_and_action_match(&known.policy, r, missing) {
                continue;
            }
            let ast: &cedar_policy_core::ast::Policy = known.policy.as_ref();
            let applies = match ast.non_scope_constraints() {
                None => true,
                Some(condition) => {
                    named(condition).iter().any(|n| missing.lacks(n))
                        || !matches!(
                            evaluator.interpret(condition, &slots).map(|v| v.value),
                            Ok(ValueKind::Lit(Literal::Bool(false)))
                        )
                }
            };
            if applies {
                satisfied.stale.push(*position);
            }
        }
    }

    /// Evaluates every policy with Cedar's authorizer, on entities whose ancestors Cedar closes
    /// itself: the oracle of the tests and the comparison of the benchmark.
    pub fn evaluate_full(&self, r: &EvalRequest<'_>) -> Result<PolicyOutcome, EvalError> {
        let broken = |_| EvalError::Unrepresentable("entities".to_owned());
        self.full().map_err(broken)?.evaluate(self, r)
    }

    /// All policies as one Cedar set, for [`Full::evaluate`] many times.
    pub fn full(&self) -> Result<Full, CompileError> {
        let mut set = PolicySet::new();
        for known in &self.known {
            set.add(known.policy.clone()).map_err(|e| CompileError(e.to_string()))?;
        }
        Ok(Full { set })
    }

    /// From satisfied policies to the outcome: `2-architecture`, "Policy is Cedar".
    fn outcome(&self, satisfied: Satisfied, candidates: usize) -> PolicyOutcome {
        let Satisfied { plain, permits, forbids, errors, mut stale, own } = satisfied;
        let failed = !errors.is_empty();
        // Where one permits without an obligation, no other permit has a say.
        if !plain.is_empty() || own.is_some() {
            stale.retain(|at| self.known.get(*at as usize).is_none_or(|k| k.effect == Effect::Forbid));
        }
        let end = |outcome, code, determining: &[u32]| PolicyOutcome {
            outcome,
            code,
            determining: determining.iter().map(|at| self.id(*at)).collect(),
            errors,
            candidates,
        };
        if !forbids.is_empty() {
            return end(PolicyDecision::Deny, "policy.forbid", &forbids);
        }
        if failed {
            return end(PolicyDecision::Deny, "policy.error", &[]);
        }
        if !stale.is_empty() {
            return end(PolicyDecision::Deny, "policy.stale", &stale);
        }
        if let Some(own) = own {
            let mut allowed = end(PolicyDecision::Allow, "policy.permit", &plain);
            allowed.determining.push(own.into());
            allowed.determining.sort();
            return allowed;
        }
        if !plain.is_empty() {
            return end(PolicyDecision::Allow, "policy.permit", &plain);
        }
        if permits.is_empty() {
            return end(PolicyDecision::Deny, "policy.no_permit", &[]);
        }
        let of = |kind: fn(Option<&Obligation>) -> bool| {
            permits.iter().copied().filter(|at| kind(self.obligation(*at))).collect::<Vec<_>>()
        };
        // Only permits with obligations: what is missing first, then people, then changes.
        let escalates = of(|o| matches!(o, Some(Obligation::Escalate(_))));
        if !escalates.is_empty() {
            let all = escalates.iter().flat_map(|at| match self.obligation(*at) {
                Some(Obligation::Escalate(requirements)) => requirements.as_slice(),
                _ => &[],
            });
            let requirements = all.cloned().collect::<BTreeSet<_>>().into_iter().collect();
            return end(PolicyDecision::Escalate { requirements }, "policy.escalate", &escalates);
        }
        let defers = of(|o| matches!(o, Some(Obligation::Defer(_))));
        if !defers.is_empty() {
            let all = defers.iter().filter_map(|at| match self.obligation(*at) {
                Some(Obligation::Defer(what)) => Some(what.clone()),
                _ => None,
            });
            let needs = all.collect::<BTreeSet<_>>().into_iter().collect();
            return end(PolicyDecision::Defer { needs }, "policy.defer", &defers);
        }
        let modifies = of(|o| matches!(o, Some(Obligation::Modify(_))));
        let all = modifies.iter().flat_map(|at| match self.obligation(*at) {
            Some(Obligation::Modify(changes)) => changes.as_slice(),
            _ => &[],
        });
        // Whatever has no obligation is none of these; a permit without one was looked at above.
        if modifies.is_empty() {
            return end(PolicyDecision::Deny, "policy.ambiguous", &permits);
        }
        match merge(all) {
            Ok(changes) => end(PolicyDecision::Modify { changes }, "policy.modify", &modifies),
            Err(_) => end(PolicyDecision::Deny, "policy.ambiguous", &modifies),
        }
    }
}

/// A request with everything that there is, made when a condition first fails, once for all of them.
struct Whole<'r> {
    types: &'r Types,
    request: &'r EvalRequest<'r>,
    made: OnceCell<Result<(Request, Entities), EvalError>>,
}

impl Whole<'_> {
    fn truth(&self, expr: &Expr) -> Result<bool, String> {
        match self.made.get_or_init(|| build(self.types, self.request, Wanted::ALL)) {
            Ok((request, entities)) => {
                truth(&Evaluator::new(request.clone(), entities, Extensions::all_available()), expr)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether it holds, or what is wrong with it.
fn truth(evaluator: &Evaluator<'_>, expr: &Expr) -> Result<bool, String> {
    match evaluator.interpret(expr, &std::collections::HashMap::new()).map(|v| v.value) {
        Ok(ValueKind::Lit(Literal::Bool(holds))) => Ok(holds),
        Ok(_) => Err("the condition is not a Boolean".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The first part of a conjunction that does not hold.
fn first_that_fails(evaluator: &Evaluator<'_>, condition: &Expr) -> Option<String> {
    let mut parts = vec![condition];
    while let Some(part) = parts.pop() {
        if let cedar_policy_core::ast::ExprKind::And { left, right } = part.expr_kind() {
            parts.extend([&**right, &**left]);
        } else if truth(evaluator, part) != Ok(true) {
            return Some(part.to_string());
        }
    }
    None
}

/// All policies of a version as one Cedar set.
#[derive(Debug)]
pub struct Full {
    set: PolicySet,
}

impl Full {
    /// Evaluates every policy of the version that this was made from.
    pub fn evaluate(&self, version: &PolicySetVersion, r: &EvalRequest<'_>) -> Result<PolicyOutcome, EvalError> {
        let (request, entities) = build(&version.types, r, Wanted::ALL)?;
        let request = cedar_policy::Request::from(request);
        let entities = cedar_policy::Entities::from(entities);
        let entities = cedar_policy::Entities::from_entities(entities.iter().cloned(), None)
            .map_err(|_| EvalError::Unrepresentable("entities".to_owned()))?;
        let response = Authorizer::new().is_authorized(&request, &self.set, &entities);
        let position = |id: &str| version.ids.binary_search_by(|known| (**known).cmp(id)).ok();
        let mut satisfied = Satisfied::default();
        // Cedar names only the policies that determined its decision: with a satisfied forbid, the
        // satisfied permits are not named, and need not be.
        for position in response.diagnostics().reason().filter_map(|id| position(id.as_ref())) {
            let Some(known) = version.known.get(position) else { continue };
            let side = match known.effect {
                Effect::Permit if known.obligation.is_none() => &mut satisfied.plain,
                Effect::Permit => &mut satisfied.permits,
                Effect::Forbid => &mut satisfied.forbids,
            };
            side.extend(u32::try_from(position));
        }
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            let id: &str = error.policy_id().as_ref();
            let known = position(id).and_then(|p| version.ids.get(p));
            satisfied.errors.extend(known.map(|id| (Arc::clone(id), error.inner().to_string())));
        }
        satisfied.plain.sort_unstable();
        satisfied.permits.sort_unstable();
        satisfied.forbids.sort_unstable();
        satisfied.errors.sort();
        Ok(version.outcome(satisfied, version.known.len()))
    }
}
