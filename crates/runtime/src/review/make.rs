//! A report of a state at a time: a function, so that it can be made again and comes out the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use intended_engine::{Access, Credential, Member, NoAccess, State};
use intended_model::entry::{Role, Scope, Scopes};
use intended_model::{CredentialId, EnvironmentId, MemberId, Name, Timestamp};

use super::approvers::approvals;
use super::findings::findings;
use super::report::{
    AgentRow, Counts, CredentialRow, CredentialState, Effective, EnvironmentRow, GrantRow, GroupRow, May, MemberRow,
    Report, RoleRow, SOON_DAYS, Severity, UNUSED_DAYS, VERSION, When,
};
use crate::activity::{Activities, Places};

pub(super) const DAY_MS: i64 = 86_400_000;

/// What is known of a credential's use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    pub last_used: Option<Timestamp>,
    pub scopes: Scopes,
}

impl Used {
    fn and(self, other: Self) -> Self {
        Self { last_used: self.last_used.max(other.last_used), scopes: self.scopes.or(other.scopes) }
    }
}

/// What a report is made of.
pub struct Sources<'a> {
    pub state: &'a State,
    pub activities: &'a Activities,
    /// Of each credential, and of each member who signs in, by the id that they act under.
    pub used: &'a HashMap<CredentialId, Used>,
    pub at: Timestamp,
    pub by: &'a CredentialId,
    pub review: &'a Name,
}

/// The report.
#[must_use]
pub fn report(from: &Sources<'_>) -> Report {
    let Sources { state, activities, at, .. } = *from;
    let members: Vec<MemberRow> = members(from);
    let credentials: Vec<CredentialRow> = state.credentials.values().map(|c| credential(from, c)).collect();
    let agents = agents(state, activities, at);
    let approvals = approvals(state, at);
    let mut report = Report {
        agents,
        at: When(at),
        by: from.by.clone(),
        control: state.control,
        counts: Counts::default(),
        credentials,
        environments: state
            .environments
            .values()
            .map(|e| EnvironmentRow { environment: e.id.clone(), suspended: e.suspended.is_some(), tier: e.tier })
            .collect(),
        findings: Vec::new(),
        groups: groups(state),
        members,
        noted_since: activities.since.map(When),
        previous: state.reviews.last().map(|r| r.id.clone()),
        review: from.review.clone(),
        roles: Role::ALL.iter().map(|r| RoleRow { role: *r, scopes: r.scopes().iter().collect() }).collect(),
        soon_days: SOON_DAYS,
        tenant: state.tenant.clone(),
        unused_days: UNUSED_DAYS,
        approvals,
        v: VERSION,
    };
    report.findings = findings(&report);
    report.counts = counts(&report);
    report
}

fn counts(report: &Report) -> Counts {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let of = |severity| count(report.findings.iter().filter(|f| f.severity == severity).count());
    Counts {
        agents: count(report.agents.len()),
        credentials: count(report.credentials.len()),
        credentials_active: count(report.credentials.iter().filter(|c| c.state == CredentialState::Active).count()),
        grants: count(report.members.iter().map(|m| m.grants.len()).sum()),
        high: of(Severity::High),
        low: of(Severity::Low),
        medium: of(Severity::Medium),
        members: count(report.members.len()),
        members_active: count(report.members.iter().filter(|m| m.active).count()),
    }
}

/// Whether a time is too long ago to count.
pub(super) fn long_ago(last: Option<When>, at: When) -> bool {
    last.is_none_or(|last| at.0.millis_since(last.0) > UNUSED_DAYS * DAY_MS)
}

fn used_in(places: Option<&Places>, at: Timestamp) -> BTreeSet<EnvironmentId> {
    let recent = |(_, last): &(&EnvironmentId, &Timestamp)| at.millis_since(**last) <= UNUSED_DAYS * DAY_MS;
    places.into_iter().flatten().filter(recent).map(|(e, _)| e.clone()).collect()
}

/// What somebody may do, environment by environment.
fn effective(access: &Result<Access, NoAccess>) -> Effective {
    let Ok(access) = access else { return Effective::default() };
    let mut together: BTreeMap<Vec<Scope>, Vec<EnvironmentId>> = BTreeMap::new();
    for environment in access.environments() {
        let scopes: Vec<Scope> = Scope::ALL.iter().copied().filter(|s| access.may(*s, Some(environment))).collect();
        if !scopes.is_empty() {
            together.entry(scopes).or_default().push(environment.clone());
        }
    }
    let mut environments: Vec<May> =
        together.into_iter().map(|(scopes, environments)| May { environments, scopes }).collect();
    environments.sort_by(|a, b| a.environments.cmp(&b.environments));
    let tenant = Scope::ALL.iter().copied().filter(|s| access.whole(*s)).collect();
    Effective { environments, tenant }
}

impl Effective {
    /// Every scope in it.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.environments.iter().flat_map(|m| &m.scopes).chain(&self.tenant).copied().collect()
    }
}

fn unused(may: &Effective, used: Used) -> Vec<Scope> {
    may.scopes().iter().filter(|s| !used.scopes.contains(*s)).collect()
}

fn members(from: &Sources<'_>) -> Vec<MemberRow> {
    let Sources { state, activities, at, .. } = *from;
    let mut keys: HashMap<&MemberId, Vec<&CredentialId>> = HashMap::new();
    for credential in state.credentials.values() {
        if let Some(member) = &credential.member {
            keys.entry(member).or_default().push(&credential.id);
        }
    }
    let row = |(id, member): (&MemberId, &Arc<Member>)| {
        let session = CredentialId::of_member(id);
        let all = session.iter().chain(keys.get(id).into_iter().flatten().copied());
        let (mut used, mut places) = (Used::default(), BTreeSet::new());
        for credential in all {
            used = used.and(from.used.get(credential).copied().unwrap_or_default());
            places.extend(used_in(activities.callers.get(credential), at));
        }
        let may = effective(&state.member_access(id, at));
        MemberRow {
            active: member.active,
            email: member.email.clone(),
            grants: member
                .grants
                .iter()
                .map(|g| GrantRow {
                    environments: g.environments.clone(),
                    expired: g.expires_at.is_some_and(|end| end <= at),
                    expires_at: g.expires_at.map(When),
                    role: g.role,
                    whole: g.whole,
                })
                .collect(),
            groups: member.groups.clone(),
            last_used: used.last_used.map(When),
            unused: unused(&may, used),
            may,
            member: id.clone(),
            name: member.name.clone(),
            sign_in: member.sign_in.iter().copied().collect(),
            used_in: places.into_iter().collect(),
        }
    };
    state.members.iter().map(row).collect()
}

fn credential(from: &Sources<'_>, c: &Credential) -> CredentialRow {
    let Sources { state, activities, at, .. } = *from;
    let access = state.access(&c.id, at);
    let may = effective(&access);
    let used = from.used.get(&c.id).copied().unwrap_or_default();
    CredentialRow {
        actions: c.actions.clone(),
        agents: c.agents.clone(),
        by: c.by.clone(),
        credential: c.id.clone(),
        environments: c.environments.clone(),
        expires_at: c.expires_at.map(When),
        last_used: used.last_used.map(When),
        unused: unused(&may, used),
        may,
        member: c.member.clone(),
        networks: c.networks.iter().map(|n| n.to_string().into()).collect(),
        scopes: c.scopes.clone(),
        state: match access {
            Ok(_) => CredentialState::Active,
            Err(NoAccess::Expired) => CredentialState::Expired,
            Err(NoAccess::MemberInactive) => CredentialState::MemberInactive,
            Err(NoAccess::Spent) => CredentialState::Spent,
            Err(NoAccess::Revoked | NoAccess::Unknown) => CredentialState::Revoked,
        },
        test: c.test,
        used_in: used_in(activities.callers.get(&c.id), at).into_iter().collect(),
        whole: c.whole,
    }
}

fn agents(state: &State, activities: &Activities, at: Timestamp) -> Vec<AgentRow> {
    let mut agents: Vec<AgentRow> = state
        .agents
        .iter()
        .map(|(name, a)| {
            let places = activities.agents.get(name);
            AgentRow {
                agent: name.clone(),
                categories: a.categories.clone(),
                environments: a.environments.clone(),
                kind: a.kind.clone(),
                last_used: places.and_then(|p| p.values().max()).copied().map(When),
                owner: a.owner.clone(),
                purpose: a.purpose.clone(),
                state: a.state,
                teams: a.teams.clone(),
                tools: a.tools.clone(),
                trust: a.trust,
                used_in: used_in(places, at).into_iter().collect(),
                workflow: u32::try_from(a.workflow.len()).unwrap_or(u32::MAX),
            }
        })
        .collect();
    agents.sort_by(|a, b| a.agent.cmp(&b.agent));
    agents
}

fn groups(state: &State) -> Vec<GroupRow> {
    let mut groups: BTreeMap<Name, (u32, u32, BTreeSet<EnvironmentId>)> = BTreeMap::new();
    for member in state.members.values() {
        for group in &member.groups {
            let row = groups.entry(group.clone()).or_default();
            let count = if member.active { &mut row.0 } else { &mut row.1 };
            *count += 1;
        }
    }
    for environment in state.environments.values() {
        let deployed = environment.deployed.iter().flat_map(|v| v.compiled.groups()).filter_map(|g| Name::new(g).ok());
        let rules = &environment.settings.policy;
        let asked = rules.approvers.iter().filter(|_| rules.approvals > 0).cloned();
        for group in deployed.chain(asked) {
            groups.entry(group).or_default().2.insert(environment.id.clone());
        }
    }
    let row = |(group, (active, inactive, named))| {
        let named: BTreeSet<EnvironmentId> = named;
        GroupRow { active, group, inactive, named_in: named.into_iter().collect() }
    };
    groups.into_iter().map(row).collect()
}

/// Whether a role lasts at least until it is looked at again.
pub(super) fn ends_soon(grant: &GrantRow, at: When) -> bool {
    !grant.expired && grant.expires_at.is_some_and(|end| end.0.millis_since(at.0) <= SOON_DAYS * DAY_MS)
}

/// Who a member is: two with one address are one person.
pub(super) fn person(id: &MemberId, email: Option<&str>) -> Box<str> {
    email.map_or_else(|| id.as_str().into(), |email| email.to_ascii_lowercase().into())
}
