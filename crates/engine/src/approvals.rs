//! Who may approve what, and how far the approvals of it reach (I5).
//!
//! An approval counts for exactly one intent, policy version and time, from people who are somebody
//! else: not who asks, with whatever key, nor whom the agent acts for, nor its owner unless the
//! environment says so. And who could say so when it was asked for, and still can.

use std::collections::BTreeMap;

use intended_model::decision::{ApprovalRef, DecisionRecord, Input, Quorum, Requirement};
use intended_model::entry::{ApprovalGranted, Scope};
use intended_model::{Code, CredentialId, Digest, EnvironmentId, Intent, IntentId, MemberId, Timestamp, Value};

use crate::decide::delegation;
use crate::state::State;

/// How far the approvals of one requirement reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequirementProgress {
    pub requirement: Requirement,
    pub steps: Vec<StepProgress>,
    /// The step that is asked now; as many as there are when all are met.
    pub current: usize,
}

/// One step: it is met when one of its quorums is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepProgress {
    pub quorums: Vec<QuorumProgress>,
    /// Who counts for it, in ledger order.
    pub by: Vec<MemberId>,
    pub met: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumProgress {
    pub count: u32,
    pub group: Box<str>,
    pub given: u32,
}

impl RequirementProgress {
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.current >= self.steps.len()
    }
}

/// Why somebody does not approve something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ineligible {
    /// Who asks is the same person.
    Requester,
    /// The agent acts for them.
    ActsFor,
    /// They own the agent, and owners do not count here.
    Owner,
    /// They have approved it, or somebody who is the same person.
    Again,
    /// They have not the scope here, had it not before the request, or are not active.
    Scope,
    /// Their key, or their means of signing in, are younger than the request.
    Means,
    /// They were in none of the groups before the request.
    Group,
    /// A step that is not theirs comes first.
    Later,
    /// It was asked before the ledger was restored: nobody knows what became of it.
    Restored,
}

impl Ineligible {
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Requester | Self::ActsFor | Self::Owner => Code::ApprovalOwn,
            Self::Again => Code::ApprovalAgain,
            Self::Scope | Self::Means | Self::Group | Self::Later | Self::Restored => Code::ApprovalIneligible,
        }
    }
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Requester => "it was asked for by the same person, with this key or another one",
            Self::ActsFor => "the agent acts for this person",
            Self::Owner => "this person owns the agent, or one that it acts for, and owners do not count here",
            Self::Again => "this person has approved it",
            Self::Scope => {
                "this person is not an active member with `approval:decide` here since before it was asked for"
            }
            Self::Means => "the key, or the means of signing in, were given after it was asked for",
            Self::Group => "this person was in none of the groups before it was asked for",
            Self::Later => "another step comes first",
            Self::Restored => {
                "it was asked for before the ledger was restored from a copy, and what became of it then is unknown: \
                 submit the intent again"
            }
        }
    }
}

/// What is asked of people: an intent, by whom it was asked for, and where that stands in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    pub id: IntentId,
    pub intent: &'r Intent,
    pub intent_hash: Digest,
    pub credential: &'r CredentialId,
    pub policy: Option<Digest>,
    pub requirements: &'r [Requirement],
    /// Ledger position of the decision that first asked for it.
    pub index: u64,
}

impl<'r> Request<'r> {
    /// What `record` asks, first asked for at ledger position `index`.
    #[must_use]
    pub fn of(record: &'r DecisionRecord, index: u64) -> Self {
        Self {
            id: record.input.id,
            intent: &record.input.intent,
            intent_hash: record.input.intent_hash,
            credential: &record.input.credential,
            policy: record.decision.policy.as_ref().map(|p| p.digest),
            requirements: &record.decision.obligations.approvals,
            index,
        }
    }
}

/// Where an escalated intent was first asked for: its decisions in ledger order, with their positions.
/// Deciding it again does not make it younger; another context does, as that is another intent.
pub fn requested_at<'r>(decisions: impl IntoIterator<Item = (u64, &'r DecisionRecord)>) -> Option<u64> {
    let escalates = |r: &DecisionRecord| r.decision.decision == intended_model::Outcome::Escalate;
    let mut asked: Option<(u64, &DecisionRecord)> = None;
    for (index, record) in decisions {
        asked = match asked {
            _ if !escalates(record) => None,
            Some((first, before)) if before.input.intent_hash == record.input.intent_hash => Some((first, before)),
            _ => Some((index, record)),
        };
    }
    asked.map(|(index, _)| index)
}

/// References to all that is recorded for an intent, in ledger order.
#[must_use]
pub fn references(state: &State, id: &IntentId) -> Vec<ApprovalRef> {
    let recorded = state.approvals.get(id).map_or(&[][..], Vec::as_slice);
    let reference = |(entry, given): &(u64, ApprovalGranted)| ApprovalRef {
        approver: given.approver.clone(),
        entry: *entry,
        expires_at: given.expires_at,
        intent_hash: given.intent_hash,
        policy: given.policy,
    };
    recorded.iter().map(reference).collect()
}

/// An approval that counts.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'s> {
    pub entry: u64,
    pub given: &'s ApprovalGranted,
    /// Ledger position of what it was given for.
    request: u64,
    /// By who owns the agent.
    owner: bool,
}

/// The approvals that count for a decision, in ledger order, each person's once.
#[must_use]
pub fn counted<'s>(state: &'s State, input: &Input) -> Vec<Counted<'s>> {
    let Some(environment) = state.environments.get(&input.intent.environment) else { return Vec::new() };
    let Some(digest) = environment.deployed.as_ref().map(|v| v.digest) else { return Vec::new() };
    let recorded = state.approvals.get(&input.id).map_or(&[][..], Vec::as_slice);
    let referred = |entry: u64, given: &ApprovalGranted| {
        input.approvals.iter().any(|a| {
            a.entry == entry
                && a.approver == given.approver
                && a.expires_at == given.expires_at
                && a.intent_hash == given.intent_hash
                && a.policy == given.policy
        })
    };
    let mut out: Vec<Counted<'s>> = Vec::new();
    for (entry, given) in recorded {
        // One that does not say what it was given for is of a procedure that did not ask.
        let Some(request) = given.request else { continue };
        let good = given.environment == environment.id
            // What waited when the ledger was copied may have been decided since.
            && !state.from_before_a_copy(request)
            && given.intent_hash == input.intent_hash
            && given.policy == digest
            && given.expires_at > input.at
            && referred(*entry, given);
        if !good || own(state, &input.intent, &input.credential, &given.by, &given.approver).is_some() {
            continue;
        }
        let owner = owns(state, &input.intent, &given.approver, request);
        let again = out.iter().any(|c| same(state, c.given, &given.by, &given.approver));
        let owner_may = environment.owners_since.is_some_and(|since| since < request);
        if (owner && !owner_may) || again || !decides(state, &environment.id, &given.approver, request, input.at) {
            continue;
        }
        // A key that was taken away speaks for nobody, also not about yesterday.
        if state.credentials.get(&given.by).is_some_and(|key| key.revoked) {
            continue;
        }
        out.push(Counted { entry: *entry, given, request, owner });
    }
    out
}

/// How far the counted approvals reach in one requirement: walked in ledger order, each is taken by the
/// current step if it asks a group of the approver's, or not at all.
fn walk(state: &State, requirement: &Requirement, counted: &[Counted<'_>]) -> RequirementProgress {
    let progress = |q: Quorum| QuorumProgress { count: q.count, group: q.group, given: 0 };
    let step = |quorums: Vec<Quorum>| StepProgress {
        quorums: quorums.into_iter().map(progress).collect(),
        by: Vec::new(),
        met: false,
    };
    let mut steps: Vec<StepProgress> = requirement.steps().into_iter().map(step).collect();
    let mut current = 0;
    for approval in counted {
        let Some(step) = steps.get_mut(current) else { break };
        if approval.owner && requirement.except_owner {
            continue;
        }
        let Some(member) = state.members.get(&approval.given.approver) else { continue };
        let mut taken = false;
        for quorum in step.quorums.iter_mut().filter(|q| member.was_in(&q.group, approval.request)) {
            quorum.given += 1;
            taken = true;
        }
        if taken {
            step.by.push(approval.given.approver.clone());
            step.met = step.quorums.iter().any(|q| q.given >= q.count);
            current += usize::from(step.met);
        }
    }
    RequirementProgress { requirement: requirement.clone(), steps, current }
}

/// What is missing, for the gate: of each requirement that is not met, its present step.
#[must_use]
pub(crate) fn missing(state: &State, input: &Input, requirements: &[Requirement]) -> Vec<String> {
    let counted = counted(state, input);
    let missing = |r: &Requirement| {
        let progress = walk(state, r, &counted);
        let step = progress.steps.get(progress.current)?;
        let quorums: Vec<String> = step.quorums.iter().map(|q| format!("{} of {}", q.count, q.group)).collect();
        Some(quorums.join(" or "))
    };
    requirements.iter().filter_map(missing).collect()
}

/// How far each requirement of what `record` asks is met at a time, by what is recorded.
#[must_use]
pub fn progress(state: &State, record: &DecisionRecord, at: Timestamp) -> Vec<RequirementProgress> {
    let mut input = record.input.clone();
    input.approvals = references(state, &input.id);
    input.at = at;
    let counted = counted(state, &input);
    record.decision.obligations.approvals.iter().map(|r| walk(state, r, &counted)).collect()
}

/// The references to the approvals that count at a time: what a decision is made with.
#[must_use]
pub fn counting_references(state: &State, input: &Input) -> Vec<ApprovalRef> {
    let all = references(state, &input.id);
    let with = Input { approvals: all.clone(), ..input.clone() };
    let counted = counted(state, &with);
    all.into_iter().filter(|a| counted.iter().any(|c| c.entry == a.entry)).collect()
}

/// Whether somebody, with a credential, may approve what is asked, now: for one of the steps that are
/// next. `progress` is that of the request.
pub fn may_approve(
    state: &State,
    request: &Request<'_>,
    progress: &[RequirementProgress],
    by: &CredentialId,
    approver: &MemberId,
    at: Timestamp,
) -> Result<(), Ineligible> {
    may_decide(state, request, by, approver, at)?;
    if state.from_before_a_copy(request.index) {
        return Err(Ineligible::Restored);
    }
    let given = state.approvals.get(&request.id).map_or(&[][..], Vec::as_slice);
    if given.iter().any(|(_, g)| same(state, g, by, approver)) {
        return Err(Ineligible::Again);
    }
    let Some(member) = state.members.get(approver) else { return Err(Ineligible::Scope) };
    let owner = owns(state, request.intent, approver, request.index);
    let next =
        progress.iter().filter(|p| !(owner && p.requirement.except_owner)).filter_map(|p| p.steps.get(p.current));
    let asked = next.flat_map(|s| &s.quorums).any(|q| member.was_in(&q.group, request.index));
    if asked { Ok(()) } else { Err(Ineligible::Later) }
}

/// Whether somebody, with a credential, has a say in what is asked: in any step of it. Who has may also
/// deny it, at any time.
pub fn may_decide(
    state: &State,
    request: &Request<'_>,
    by: &CredentialId,
    approver: &MemberId,
    at: Timestamp,
) -> Result<(), Ineligible> {
    let environment = &request.intent.environment;
    if !decides(state, environment, approver, request.index, at) {
        return Err(Ineligible::Scope);
    }
    if let Some(why) = own(state, request.intent, request.credential, by, approver) {
        return Err(why);
    }
    if !state.spoke_before(by, approver, request.index) {
        return Err(Ineligible::Means);
    }
    let member = state.members.get(approver).ok_or(Ineligible::Scope)?;
    let owner = owns(state, request.intent, approver, request.index);
    let owner_may = state.environments.get(environment).and_then(|e| e.owners_since).is_some_and(|s| s < request.index);
    if owner && !owner_may {
        return Err(Ineligible::Owner);
    }
    let of = |r: &Requirement| r.groups().any(|g| member.was_in(g, request.index));
    let mut mine = request.requirements.iter().filter(|r| of(r)).peekable();
    if mine.peek().is_none() {
        return Err(Ineligible::Group);
    }
    if owner && mine.all(|r| r.except_owner) {
        return Err(Ineligible::Owner);
    }
    Ok(())
}

/// Who may approve what is asked, now, with some means that they have.
#[must_use]
pub fn eligible(
    state: &State,
    request: &Request<'_>,
    progress: &[RequirementProgress],
    at: Timestamp,
) -> Vec<MemberId> {
    let next: Vec<&str> = progress
        .iter()
        .filter_map(|p| p.steps.get(p.current))
        .flat_map(|s| s.quorums.iter().map(|q| &*q.group))
        .collect();
    let asked = state.members.iter().filter(|(_, m)| next.iter().any(|g| m.was_in(g, request.index)));
    // Of each, what they could say it with. The keys are gone through once, not once for each.
    let mut means: BTreeMap<&MemberId, Vec<CredentialId>> = asked
        .map(|(id, m)| (id, CredentialId::of_member(id).filter(|_| !m.sign_in.is_empty()).into_iter().collect()))
        .collect();
    for key in state.credentials.values().filter(|key| !key.revoked) {
        if let Some(of_member) = key.member.as_ref().and_then(|m| means.get_mut(m)) {
            of_member.push(key.id.clone());
        }
    }
    let may = |(id, means): &(&MemberId, Vec<CredentialId>)| {
        means.iter().any(|by| may_approve(state, request, progress, by, id, at).is_ok())
    };
    means.into_iter().filter(may).map(|(id, _)| id.clone()).collect()
}

/// Whether the role of an active member lets them decide here, and has since before what they decide
/// was asked for, at ledger position `request`. Of the person, not of a key: what was said with a key
/// that has expired since was said.
fn decides(state: &State, environment: &EnvironmentId, approver: &MemberId, request: u64, at: Timestamp) -> bool {
    state.members.get(approver).is_some_and(|m| m.decided_in(environment, request, at))
        && state.member_access(approver, at).is_ok_and(|a| a.may(Scope::ApprovalDecide, Some(environment)))
}

/// Whether an approval would be somebody's own: of what they asked for, or of what is done for them.
fn own(
    state: &State,
    intent: &Intent,
    requester: &CredentialId,
    by: &CredentialId,
    approver: &MemberId,
) -> Option<Ineligible> {
    if state.same_person(by, requester) || state.stands_behind(approver, requester) {
        return Some(Ineligible::Requester);
    }
    let named = |value: &&Value, kind: &str| value.get("type").and_then(Value::as_str) == Some(kind);
    let people = delegation(intent).into_iter().filter(|v| named(v, "member"));
    let mut people = people.filter_map(|v| MemberId::new(v.get("id").and_then(Value::as_str)?).ok());
    people.any(|m| state.same_member(&m, approver)).then_some(Ineligible::ActsFor)
}

/// Whether a member owns the agent or one that it acts for, or did when it was asked for or since: by
/// their name, an address, or a group of theirs that the registration names or named. Nobody steps
/// aside after asking.
fn owns(state: &State, intent: &Intent, approver: &MemberId, request: u64) -> bool {
    let chain = delegation(intent);
    let agents = chain.iter().filter_map(|v| v.get("id").and_then(Value::as_str));
    let agents = std::iter::once(&*intent.subject.id).chain(agents);
    let Some(member) = state.members.get(approver) else { return false };
    let is_owner = |owner: &str| {
        approver.as_str().eq_ignore_ascii_case(owner)
            || member.addresses.contains(owner.to_ascii_lowercase().as_str())
            || member.in_since(owner, request)
            || MemberId::new(owner).is_ok_and(|m| state.same_member(&m, approver))
    };
    agents.filter_map(|id| state.agents.get(id)).any(|agent| {
        let before = agent.owned_until.iter().filter(|(_, until)| **until > request).map(|(owner, _)| owner);
        before.chain([&agent.owner]).any(|owner| is_owner(owner))
    })
}

/// Whether an approval is by the same person as another one would be.
fn same(state: &State, given: &ApprovalGranted, by: &CredentialId, approver: &MemberId) -> bool {
    state.same_member(&given.approver, approver) || state.same_person(&given.by, by)
}

/// Whether `with` is `before` with members added to its context, and nothing else.
#[must_use]
pub fn only_adds_context(before: &Intent, with: &Intent) -> bool {
    let (Some(had), Some(has)) = (before.context.as_object(), with.context.as_object()) else { return false };
    let kept = had.iter().all(|(name, value)| has.get(name) == Some(value));
    kept && has.iter().count() > had.iter().count()
        && *with == Intent { context: with.context.clone(), ..before.clone() }
}
