//! Who can approve what, and who can do it alone: from the deployed policies and who is in which group.

use std::collections::{BTreeMap, BTreeSet};

use intended_engine::State;
use intended_model::decision::Quorum;
use intended_model::entry::Scope;
use intended_model::{EnvironmentId, MemberId, Name, Timestamp};
use intended_policy::Requirement;

use super::report::{ApprovalRow, MAX_ALONE};

/// What every policy that is deployed asks of people.
pub(super) fn approvals(state: &State, at: Timestamp) -> Vec<ApprovalRow> {
    let mut rows = Vec::new();
    for environment in state.environments.values() {
        let Some(version) = &environment.deployed else { continue };
        let groups = eligible(state, &environment.id, at);
        for (policy, requirements) in version.compiled.escalations() {
            let steps: Vec<Vec<Quorum>> = requirements.iter().flat_map(steps).collect();
            let alone = alone(&groups, &steps);
            let (impossible, exact) = scarce(&groups, &steps);
            let named = steps.iter().flatten().filter_map(|q| groups.get(&*q.group));
            let people: BTreeSet<&str> = named.flatten().map(|(_, person)| &**person).collect();
            rows.push(ApprovalRow {
                alone_count: u32::try_from(alone.len()).unwrap_or(u32::MAX),
                alone: alone.into_iter().take(MAX_ALONE).collect(),
                environment: environment.id.clone(),
                exact,
                impossible,
                pack: version.pack.clone(),
                people: u32::try_from(people.len()).unwrap_or(u32::MAX),
                policy: policy.into(),
                steps,
            });
        }
    }
    rows
}

/// The steps of a requirement, each met by any of its quorums.
fn steps(requirement: &Requirement) -> Vec<Vec<Quorum>> {
    requirement.steps()
}

/// Members, and the person that each of them is.
type People = BTreeMap<MemberId, Box<str>>;

/// Of each group, who could say something in an environment now.
fn eligible(state: &State, environment: &EnvironmentId, at: Timestamp) -> BTreeMap<Name, People> {
    let mut groups: BTreeMap<Name, People> = BTreeMap::new();
    for (id, member) in state.members.iter().filter(|(_, m)| m.active && !m.groups.is_empty()) {
        if !state.member_access(id, at).is_ok_and(|a| a.may(Scope::ApprovalDecide, Some(environment))) {
            continue;
        }
        let person = super::make::person(id, member.email.as_deref());
        for group in &member.groups {
            groups.entry(group.clone()).or_default().insert(id.clone(), person.clone());
        }
    }
    groups
}

/// Those who can meet every step without anybody else.
fn alone(groups: &BTreeMap<Name, People>, steps: &[Vec<Quorum>]) -> Vec<MemberId> {
    let none = People::new();
    // Of each step, the people of whom one is enough. A person under two names meets a step with either.
    let enough = |step: &Vec<Quorum>| -> BTreeSet<Box<str>> {
        let ones = step.iter().filter(|q| q.count == 1);
        ones.flat_map(|q| groups.get(&*q.group).unwrap_or(&none).values().cloned()).collect()
    };
    let Some(people) = steps.iter().map(enough).reduce(|a, b| a.intersection(&b).cloned().collect()) else {
        return Vec::new();
    };
    let in_steps: BTreeMap<&MemberId, &Box<str>> =
        steps.iter().flatten().filter_map(|q| groups.get(&*q.group)).flatten().collect();
    in_steps.into_iter().filter(|(_, person)| people.contains(*person)).map(|(id, _)| id.clone()).collect()
}

/// `2 of release-managers`; steps stand one after the other, what meets a step beside it.
#[must_use]
pub fn words(steps: &[Vec<Quorum>]) -> String {
    let quorum = |q: &Quorum| format!("{} of {}", q.count, q.group);
    let step = |s: &Vec<Quorum>| s.iter().map(quorum).collect::<Vec<_>>().join(" or ");
    steps.iter().map(step).collect::<Vec<_>>().join(", ")
}

/// Steps that cannot be met, and steps that take everybody there is, as words.
fn scarce(groups: &BTreeMap<Name, People>, steps: &[Vec<Quorum>]) -> (Vec<Box<str>>, Vec<Box<str>>) {
    let people = |q: &Quorum| {
        let people: BTreeSet<&str> = groups.get(&*q.group).into_iter().flatten().map(|(_, p)| &**p).collect();
        u32::try_from(people.len()).unwrap_or(u32::MAX)
    };
    let (mut impossible, mut exact) = (Vec::new(), Vec::new());
    for step in steps {
        let word = || words(std::slice::from_ref(step)).into();
        match step.iter().map(|q| people(q).checked_sub(q.count)).max().flatten() {
            None => impossible.push(word()),
            Some(0) => exact.push(word()),
            Some(_) => {}
        }
    }
    (impossible, exact)
}
