//! Policies by their scope: what they say of principal, action and resource.
//!
//! What scopes ask of one side is a number, and a request meets a few numbers on each side. Policies of
//! one principal stand together, so most of a large set is never looked at: where a principal has few
//! scopes, they are compared one by one, side by side in memory; where it has many (above all the one
//! that is anybody), each combination of what is done and on what is looked up.

use std::collections::HashMap;
use std::num::NonZeroU32;

use cedar_policy::{ActionConstraint, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use rustc_hash::FxBuildHasher;
use smol_str::SmolStr;

use crate::request::{EvalRequest, operation_id, resource_id};

/// What one side of a scope asks for, as a number.
type Key = NonZeroU32;
/// Anything.
const ANY: Key = NonZeroU32::MIN;
/// An entity of a type that no request has there.
const NONE: Key = ANY.saturating_add(1);

/// The types of what acts and what is acted on.
const AGENT: &str = "Agent";
const RESOURCE: &str = "Resource";

/// So many scopes of one principal are compared one by one.
const FEW: usize = 12;

/// Names are what the author of a policy makes them, so their hash has a seed that nobody knows: whoever
/// could choose names that share one would make each look-up a search.
type Seeded = foldhash::quality::RandomState;

/// What the scopes of one side ask for, by an entity's type and id.
#[derive(Debug)]
struct Names {
    known: HashMap<Box<str>, HashMap<SmolStr, Asked, Seeded>, Seeded>,
    last: Key,
}

impl Default for Names {
    fn default() -> Self {
        Self { known: HashMap::default(), last: NONE }
    }
}

/// The numbers of what scopes ask of one entity.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    /// To be it.
    exactly: Option<Key>,
    /// To be it, or in it.
    within: Option<Key>,
}

impl Names {
    fn next(&mut self) -> Key {
        self.last = self.last.saturating_add(1);
        self.last
    }

    fn asked(&mut self, entity: &EntityUid) -> &mut Asked {
        let ids = self.known.entry(entity.type_name().to_string().into()).or_default();
        ids.entry(AsRef::<str>::as_ref(entity.id()).into()).or_default()
    }

    /// The number of being an entity.
    fn exactly(&mut self, entity: &EntityUid) -> Key {
        let next = self.next();
        *self.asked(entity).exactly.get_or_insert(next)
    }

    /// The number of being an entity or in it.
    fn within(&mut self, entity: &EntityUid) -> Key {
        let next = self.next();
        *self.asked(entity).within.get_or_insert(next)
    }

    fn get(&self, kind: &str, id: &str) -> Asked {
        self.known.get(kind).and_then(|ids| ids.get(id)).copied().unwrap_or_default()
    }

    /// Adds what an entity of the request meets.
    fn itself(&self, kind: &str, id: &str, found: &mut Vec<Key>) {
        let asked = self.get(kind, id);
        found.extend([asked.exactly, asked.within].into_iter().flatten());
    }

    /// Adds what it meets for being in these.
    fn inside<'i>(&self, kind: &str, ids: impl IntoIterator<Item = &'i str>, found: &mut Vec<Key>) {
        if let Some(known) = self.known.get(kind) {
            found.extend(ids.into_iter().filter_map(|id| known.get(id)?.within));
        }
    }
}

/// Which policies are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those whose scope matches.
    Matches,
    /// Also those whose author may have meant it to: it names what the request is in, and asks to be it.
    Near,
}

/// A policy where its scope has it.
#[derive(Debug, Clone, Copy)]
struct Placed<T> {
    action: Key,
    resource: Key,
    position: u32,
    first: T,
}

/// Finds policies by their scope, each with what is looked at first: of many policies each one that is
/// found is otherwise somewhere else in memory.
#[derive(Debug)]
pub(crate) struct ScopeIndex<T> {
    principals: Names,
    actions: Names,
    resources: Names,
    /// By principal, action and resource. A policy for several actions is there for each of them.
    placed: Vec<Placed<T>>,
    /// Where those of a principal begin, by its number; those of the last go on to the end.
    begins: Vec<u32>,
    /// Where those of a scope begin among those of its principal, for principals that have many.
    many: HashMap<(Key, Key, Key), u32, FxBuildHasher>,
}

/// Where the next one of a list will stand. A set that does not fit is refused long before.
fn end<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

impl<T: Copy> ScopeIndex<T> {
    /// Places policies, whose positions are those of their order.
    pub(crate) fn of<'p>(policies: impl Iterator<Item = (&'p Policy, T)>) -> Self {
        let (mut principals, mut actions, mut resources) = (Names::default(), Names::default(), Names::default());
        let mut scopes = Vec::new();
        for (position, (policy, first)) in (0_u32..).zip(policies) {
            let principal = match policy.principal_constraint() {
                PrincipalConstraint::Any => ANY,
                PrincipalConstraint::Is(kind) if kind.to_string() == AGENT => ANY,
                PrincipalConstraint::IsIn(kind, e) if kind.to_string() == AGENT => principals.within(&e),
                PrincipalConstraint::Is(_) | PrincipalConstraint::IsIn(..) => NONE,
                PrincipalConstraint::In(e) => principals.within(&e),
                PrincipalConstraint::Eq(e) => principals.exactly(&e),
            };
            let resource = match policy.resource_constraint() {
                ResourceConstraint::Any => ANY,
                ResourceConstraint::Is(kind) if kind.to_string() == RESOURCE => ANY,
                ResourceConstraint::IsIn(kind, e) if kind.to_string() == RESOURCE => resources.within(&e),
                ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => NONE,
                ResourceConstraint::In(e) => resources.within(&e),
                ResourceConstraint::Eq(e) => resources.exactly(&e),
            };
            let mut place = |action| scopes.push((principal, Placed { action, resource, position, first }));
            match policy.action_constraint() {
                ActionConstraint::Any => place(ANY),
                ActionConstraint::Eq(e) => place(actions.exactly(&e)),
                ActionConstraint::In(many) => many.iter().for_each(|e| place(actions.within(e))),
            }
        }
        scopes.sort_by_key(|(principal, placed)| (*principal, placed.action, placed.resource, placed.position));
        let (mut placed, mut begins, mut many) = (Vec::with_capacity(scopes.len()), Vec::new(), HashMap::default());
        for of_one in scopes.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((principal, _)) = of_one.first() else { continue };
            // Those of numbers between, which no policy has as its principal, are none.
            begins.resize((principal.get() as usize).saturating_add(1), end(&placed));
            if of_one.len() > FEW {
                for ((_, one), at) in of_one.iter().zip(0..) {
                    many.entry((*principal, one.action, one.resource)).or_insert(at);
                }
            }
            placed.extend(of_one.iter().map(|(_, one)| one));
        }
        Self { principals, actions, resources, placed, begins, many }
    }

    /// Those of a principal.
    fn of_principal(&self, principal: Key) -> &[Placed<T>] {
        let at = principal.get() as usize;
        let Some(from) = self.begins.get(at) else { return &[] };
        let to = self.begins.get(at.saturating_add(1)).map_or(self.placed.len(), |to| *to as usize);
        self.placed.get(*from as usize..to).unwrap_or_default()
    }

    /// The policies whose scope matches, each once, in their order.
    pub(crate) fn find(&self, r: &EvalRequest<'_>, scope: Scope) -> Vec<(u32, T)> {
        let (mut principals, mut actions, mut resources) = (vec![ANY], vec![ANY], vec![ANY]);
        let operation = operation_id(r.operation);
        let above = [r.category, r.domain, &operation];
        self.principals.itself(AGENT, r.agent, &mut principals);
        self.actions.itself("Action", r.tool, &mut actions);
        self.resources.itself(RESOURCE, &resource_id(r.resource_kind, r.resource_id), &mut resources);
        self.principals.inside("Team", r.teams.iter().copied(), &mut principals);
        self.actions.inside("Action", above, &mut actions);
        self.resources.inside("Capability", r.capability, &mut resources);
        if scope == Scope::Near {
            let exactly = |names: &Names, kind: &str, id: &str| names.get(kind, id).exactly;
            principals.extend(r.teams.iter().filter_map(|team| exactly(&self.principals, "Team", team)));
            actions.extend(above.iter().filter_map(|action| exactly(&self.actions, "Action", action)));
            resources.extend(r.capability.and_then(|c| exactly(&self.resources, "Capability", c)));
            principals.push(NONE);
            resources.push(NONE);
        }
        let mut found = Vec::new();
        for principal in principals {
            let all = self.of_principal(principal);
            if all.len() <= FEW {
                let meets = |one: &&Placed<T>| actions.contains(&one.action) && resources.contains(&one.resource);
                found.extend(all.iter().filter(meets).map(|one| (one.position, one.first)));
                continue;
            }
            for action in &actions {
                for resource in &resources {
                    let Some(at) = self.many.get(&(principal, *action, *resource)) else { continue };
                    let on = all.get(*at as usize..).unwrap_or_default();
                    let same = |one: &&Placed<T>| (one.action, one.resource) == (*action, *resource);
                    found.extend(on.iter().take_while(same).map(|one| (one.position, one.first)));
                }
            }
        }
        found.sort_unstable_by_key(|(position, _)| *position);
        found.dedup_by_key(|(position, _)| *position);
        found
    }
}
