//! How an environment comes to another policy: drafts, what was measured of them, who approved, what
//! was deployed, and the way back.
//!
//! The rules are the fold's, so that they hold wherever the ledger is read: a deployment without its
//! quorum, or by an approval of other content, is no entry that the runtime writes and none that the
//! verifier accepts. An approval binds the content's digest; an edit begins a new revision, and with
//! it everything that was submitted or approved is gone. Whoever wrote any revision of a draft is its
//! author and does not approve it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use intended_model::entry::{
    DeployCause, ExpectationResult, GateMeasure, PolicyApproved, PolicyDeployed, PolicyDrafted, PolicyGate,
    PolicyRejected, PolicySource, PolicySourced, PolicySubmitted, PolicyVerified, RollbackRequested, SimulationSummary,
};
use intended_model::{CredentialId, Digest, EnvironmentId, MemberId, Name, Timestamp};

use crate::state::{Environment, FoldError, State, Version};

/// Most drafts of a tenant that are neither deployed nor rejected: what a person can look through.
pub const MAX_OPEN_DRAFTS: usize = 200;

/// Who stands behind a credential: a member, or the credential itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Person {
    Member(MemberId),
    Service(CredentialId),
}

impl std::fmt::Display for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(member) => write!(f, "{member}"),
            Self::Service(credential) => write!(f, "credential {credential}"),
        }
    }
}

/// Where a draft stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DraftStatus {
    Draft,
    Submitted,
    /// Submitted, and with all the approvals that its environment asks for.
    Approved,
    Rejected,
    Deployed,
}

impl DraftStatus {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Submitted => "submitted",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Deployed => "deployed",
        }
    }
}

/// A draft of an environment's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub id: Name,
    pub environment: EnvironmentId,
    pub pack: Name,
    pub title: Box<str>,
    pub digest: Digest,
    pub revision: u32,
    pub source: Option<PolicySource>,
    /// The credentials that wrote a revision of it.
    pub authors: BTreeSet<CredentialId>,
    pub submission: Option<Submission>,
    /// Who approved the content as it is now, each once.
    pub approvals: BTreeMap<MemberId, Approval>,
    pub rejected: Option<(Person, Box<str>)>,
    pub deployed: bool,
    /// Ledger position of the last entry about it: its entity tag.
    pub changed_at: u64,
}

/// One person's approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub by: CredentialId,
    pub reason: Box<str>,
}

/// What was measured when a draft was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub by: Person,
    pub gates: Vec<GateMeasure>,
    pub replaces: Option<Digest>,
    pub simulation: SimulationSummary,
    /// The approvals that the environment asked for then: fewer later are not fewer for this draft.
    pub needed: u32,
}

/// A version that an environment decided by, or decides by now.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its ledger position: it decides from there on.
    pub index: u64,
    pub version: Arc<Version>,
    pub cause: DeployCause,
    pub draft: Option<Name>,
    pub by: Person,
    pub credential: CredentialId,
    /// What was simulated of it.
    pub simulation: Option<SimulationSummary>,
    /// Whether its expected outcomes came out; `None` until they are decided.
    pub verified: Option<bool>,
}

/// A rollback that one person has asked for and another must confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRollback {
    pub by: Person,
    pub credential: CredentialId,
    pub from: Digest,
    pub to: Digest,
    pub reason: Box<str>,
    pub expires_at: Timestamp,
    pub index: u64,
}

/// Longest note of an incident.
pub const MAX_NOTE: usize = 4_000;

/// An open incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    pub environment: Option<EnvironmentId>,
    pub title: Box<str>,
    pub by: Person,
    pub index: u64,
}

/// What an entry about policy cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    #[error("the draft `{0}` does not exist")]
    NoDraft(Name),
    #[error("the draft `{draft}` is {status}")]
    Status { draft: Name, status: &'static str },
    #[error("the draft `{0}` has another revision")]
    Revision(Name),
    #[error("the draft `{0}` belongs to another environment or pack")]
    OtherDraft(Name),
    #[error("the draft `{draft}` has the content {actual}, not {stated}")]
    Content { draft: Name, stated: Digest, actual: Digest },
    #[error("there are {MAX_OPEN_DRAFTS} open drafts")]
    TooMany,
    #[error("the draft `{0}` did not pass its gates")]
    Gates(Name),
    #[error("`{person}` wrote the draft `{draft}` and does not approve it")]
    Author { draft: Name, person: Person },
    #[error("`{0}` is not an active member who may approve here")]
    NotEligible(Person),
    #[error("`{member}` has approved the draft `{draft}` before")]
    Again { draft: Name, member: MemberId },
    #[error("{given} of {needed} approvals are given")]
    Approvals { given: u32, needed: u32 },
    #[error("`{environment}` decides by another version than the one to be replaced")]
    Superseded { environment: EnvironmentId },
    #[error("`{0}` takes approved drafts only")]
    DraftNeeded(EnvironmentId),
    #[error("the version {0} was never deployed in this environment")]
    NeverDeployed(Digest),
    #[error("this environment decides by {0} already")]
    Already(Digest),
    #[error("a rollback here takes {needed} people; {given} have asked for this one")]
    RollbackPeople { given: u32, needed: u32 },
    #[error("only a version whose expected outcomes were others is taken back")]
    NotReverting,
    #[error("deciding the expected outcomes of {0} again gives other results")]
    Results(Digest),
    #[error("the incident `{0}` is open already")]
    IncidentExists(Name),
    #[error("a note has 1 to {MAX_NOTE} bytes")]
    Note,
    #[error("the incident `{0}` is not open")]
    NoIncident(Name),
}

impl State {
    /// Who stands behind a credential.
    #[must_use]
    pub fn person(&self, credential: &CredentialId) -> Person {
        match self.member_behind(credential) {
            Some(member) => Person::Member(member),
            None => Person::Service(credential.clone()),
        }
    }

    /// The member who acts with a credential.
    #[must_use]
    pub fn member_behind(&self, credential: &CredentialId) -> Option<MemberId> {
        credential.member().or_else(|| self.credentials.get(credential).and_then(|c| c.member.clone()))
    }

    /// A credential and all that it comes from: what it was made with, what it got each other key with,
    /// and so on to the first. Of somebody signed in: what their means of signing in were given with.
    fn made_by<'s>(&'s self, credential: &'s CredentialId) -> BTreeSet<&'s CredentialId> {
        let (mut all, mut next) = (BTreeSet::new(), vec![credential]);
        while let Some(credential) = next.pop() {
            if !all.insert(credential) {
                continue;
            }
            if let Some(known) = self.credentials.get(credential) {
                next.push(&known.by);
                next.extend(&known.rotated_by);
            } else if let Some(member) = credential.member().and_then(|m| self.members.get(&m)) {
                next.extend(&member.entrusted_by);
            }
        }
        all
    }

    /// The members who have, or have had, a credential in their hands.
    fn members_behind(&self, credential: &CredentialId) -> BTreeSet<MemberId> {
        self.made_by(credential).into_iter().filter_map(|c| self.member_behind(c)).collect()
    }

    /// Whether a member, under any name, stands behind a credential.
    #[must_use]
    pub fn stands_behind(&self, member: &MemberId, credential: &CredentialId) -> bool {
        self.members_behind(credential).iter().any(|m| self.same_member(m, member))
    }

    /// Whether two credentials can be one person's. They are when one member stands behind both, also
    /// behind what either was made, rotated or let in with, or when one that is nobody's did so to the
    /// other: who can mint or take over a second identity is still one person. For good: what was done
    /// in between with a key or a password that others knew, nobody can tell.
    #[must_use]
    pub fn same_person(&self, a: &CredentialId, b: &CredentialId) -> bool {
        let made = |a: &CredentialId, b| self.member_behind(a).is_none() && self.made_by(b).contains(a);
        if a == b || made(a, b) || made(b, a) {
            return true;
        }
        let (a, b) = (self.members_behind(a), self.members_behind(b));
        a.iter().any(|a| b.iter().any(|b| self.same_member(a, b)))
    }

    /// Whether two members can be one person: the same, or known under one address, now or ever.
    #[must_use]
    pub fn same_member(&self, a: &MemberId, b: &MemberId) -> bool {
        let known = self.members.get(a).zip(self.members.get(b));
        a == b || known.is_some_and(|(a, b)| !a.addresses.is_disjoint(&b.addresses))
    }

    /// How many approvals a draft needs: what the environment asks for, and no less than it asked for
    /// when the draft was submitted.
    #[must_use]
    pub fn approvals_needed(&self, draft: &Draft) -> u32 {
        let now = self.environments.get(&draft.environment).map_or(0, |e| e.settings.policy.approvals);
        draft.submission.as_ref().map_or(now, |s| s.needed.max(now))
    }

    /// Where a draft stands.
    #[must_use]
    pub fn draft_status(&self, draft: &Draft) -> DraftStatus {
        if draft.deployed {
            return DraftStatus::Deployed;
        }
        if draft.rejected.is_some() {
            return DraftStatus::Rejected;
        }
        match &draft.submission {
            None => DraftStatus::Draft,
            Some(_) if self.approvals_given(draft) >= self.approvals_needed(draft) => DraftStatus::Approved,
            Some(_) => DraftStatus::Submitted,
        }
    }

    /// How many of a draft's approvals count now: by people who still may approve.
    #[must_use]
    pub fn approvals_given(&self, draft: &Draft) -> u32 {
        let given = draft.approvals.keys().filter(|m| self.may_approve(&draft.environment, m)).count();
        u32::try_from(given).unwrap_or(u32::MAX)
    }

    /// Whether a member may approve drafts of an environment, authorship aside.
    #[must_use]
    pub fn may_approve(&self, environment: &EnvironmentId, member: &MemberId) -> bool {
        let group = self.environments.get(environment).and_then(|e| e.settings.policy.approvers.as_ref());
        self.members.get(member).is_some_and(|m| m.active && group.is_none_or(|g| m.groups.contains(g)))
    }

    /// Who may approve drafts of an environment.
    pub fn approvers<'s>(&'s self, environment: &'s EnvironmentId) -> impl Iterator<Item = &'s MemberId> {
        self.members.keys().filter(move |m| self.may_approve(environment, m))
    }

    /// Whether an incident that covers the environment is open.
    #[must_use]
    pub fn incident_over(&self, environment: &EnvironmentId) -> Option<&Name> {
        let covers = |i: &Incident| i.environment.as_ref().is_none_or(|e| e == environment);
        self.incidents.iter().find(|(_, i)| covers(i)).map(|(name, _)| name)
    }

    /// Whether a credential is somebody else's than the one that a rollback was asked for with. Both
    /// are people's: where two people are asked for, two services are none.
    #[must_use]
    pub fn is_another(&self, asked: &PendingRollback, credential: &CredentialId) -> bool {
        self.two_people(&asked.credential, credential)
    }

    /// How many people a rollback takes now.
    #[must_use]
    pub fn rollback_people(&self, environment: &Environment) -> u32 {
        match self.incident_over(&environment.id) {
            Some(_) => 1,
            None => environment.settings.policy.rollback_people(environment.tier),
        }
    }

    /// The state as it would be if an environment decided by `version`; `None` if there is no such
    /// environment. For tests and simulation: nothing of it is ever committed.
    #[must_use]
    pub fn trying(&self, environment: &EnvironmentId, version: &Arc<Version>) -> Option<Self> {
        let mut tried = self.clone();
        tried.environments.get_mut(environment)?.deployed = Some(Arc::clone(version));
        tried.refresh_missing();
        Some(tried)
    }

    fn open_draft(&self, id: &Name, digest: Digest) -> Result<&Draft, LifecycleError> {
        let draft = self.drafts.get(id).ok_or_else(|| LifecycleError::NoDraft(id.clone()))?;
        let status = self.draft_status(draft);
        if matches!(status, DraftStatus::Deployed | DraftStatus::Rejected) {
            return Err(LifecycleError::Status { draft: id.clone(), status: status.as_str() });
        }
        if draft.digest != digest {
            return Err(LifecycleError::Content { draft: id.clone(), stated: digest, actual: draft.digest });
        }
        Ok(draft)
    }

    pub(crate) fn drafted(&mut self, index: u64, e: &PolicyDrafted) -> Result<(), FoldError> {
        self.environments.get(&e.environment).ok_or_else(|| FoldError::NoEnvironment(e.environment.clone()))?;
        let version = self.versions.get(&e.digest).ok_or(FoldError::NoVersion(e.digest))?;
        if version.pack != e.pack {
            return Err(LifecycleError::OtherDraft(e.draft.clone()).into());
        }
        let by = e.by.clone();
        let authors = match self.drafts.get(&e.draft) {
            None if e.revision == 1 => {
                let open = |d: &&Draft| !d.deployed && d.rejected.is_none();
                if self.drafts.values().filter(open).count() >= MAX_OPEN_DRAFTS {
                    return Err(LifecycleError::TooMany.into());
                }
                BTreeSet::from([by])
            }
            None => return Err(LifecycleError::NoDraft(e.draft.clone()).into()),
            Some(draft) => {
                if draft.deployed {
                    let draft = e.draft.clone();
                    return Err(LifecycleError::Status { draft, status: DraftStatus::Deployed.as_str() }.into());
                }
                if draft.environment != e.environment || draft.pack != e.pack {
                    return Err(LifecycleError::OtherDraft(e.draft.clone()).into());
                }
                if draft.revision.checked_add(1) != Some(e.revision) {
                    return Err(LifecycleError::Revision(e.draft.clone()).into());
                }
                draft.authors.iter().cloned().chain([by]).collect()
            }
        };
        let draft = Draft {
            id: e.draft.clone(),
            environment: e.environment.clone(),
            pack: e.pack.clone(),
            title: e.title.clone(),
            digest: e.digest,
            revision: e.revision,
            source: e.source.clone(),
            authors,
            submission: None,
            approvals: BTreeMap::new(),
            rejected: None,
            deployed: false,
            changed_at: index,
        };
        Arc::make_mut(&mut self.drafts).insert(e.draft.clone(), draft);
        Ok(())
    }

    fn change_draft(&mut self, id: &Name, index: u64, change: impl FnOnce(&mut Draft)) {
        if let Some(draft) = Arc::make_mut(&mut self.drafts).get_mut(id) {
            change(draft);
            draft.changed_at = index;
        }
    }

    pub(crate) fn submitted(&mut self, index: u64, e: &PolicySubmitted) -> Result<(), FoldError> {
        let needed = self.open_draft(&e.draft, e.digest).map(|d| {
            self.environments.get(&d.environment).map_or(0, |environment| environment.settings.policy.approvals)
        })?;
        let measured = [PolicyGate::Validation, PolicyGate::Tests, PolicyGate::Simulation];
        if e.gates.iter().any(|g| !g.passed) || !e.gates.iter().map(|g| g.gate).eq(measured) {
            return Err(LifecycleError::Gates(e.draft.clone()).into());
        }
        let submission = Submission {
            by: self.person(&e.by),
            gates: e.gates.clone(),
            replaces: e.replaces,
            simulation: e.simulation.clone(),
            needed,
        };
        // What was approved was approved with what was measured then.
        self.change_draft(&e.draft, index, |draft| {
            draft.submission = Some(submission);
            draft.approvals.clear();
        });
        Ok(())
    }

    pub(crate) fn approved(&mut self, index: u64, e: &PolicyApproved) -> Result<(), FoldError> {
        let draft = self.open_draft(&e.draft, e.digest)?;
        let person = self.person(&e.by);
        if draft.submission.is_none() {
            return Err(LifecycleError::Status { draft: e.draft.clone(), status: DraftStatus::Draft.as_str() }.into());
        }
        if draft.authors.iter().any(|author| self.same_person(author, &e.by)) {
            return Err(LifecycleError::Author { draft: e.draft.clone(), person }.into());
        }
        if person != Person::Member(e.approver.clone()) || !self.may_approve(&draft.environment, &e.approver) {
            return Err(LifecycleError::NotEligible(person).into());
        }
        let other = |given: &Approval| self.same_person(&given.by, &e.by);
        if draft.approvals.contains_key(&e.approver) || draft.approvals.values().any(other) {
            return Err(LifecycleError::Again { draft: e.draft.clone(), member: e.approver.clone() }.into());
        }
        self.change_draft(&e.draft, index, |draft| {
            let approval = Approval { by: e.by.clone(), reason: e.reason.clone() };
            draft.approvals.insert(e.approver.clone(), approval);
        });
        Ok(())
    }

    pub(crate) fn rejected(&mut self, index: u64, e: &PolicyRejected) -> Result<(), FoldError> {
        self.open_draft(&e.draft, e.digest)?;
        let by = self.person(&e.by);
        self.change_draft(&e.draft, index, |draft| draft.rejected = Some((by, e.reason.clone())));
        Ok(())
    }

    pub(crate) fn deployed(&mut self, index: u64, e: &PolicyDeployed) -> Result<(), FoldError> {
        let version = self.versions.get(&e.digest).ok_or(FoldError::NoVersion(e.digest))?;
        let version = Arc::clone(version);
        let environment = self.environments.get(&e.environment);
        let environment = environment.ok_or_else(|| FoldError::NoEnvironment(e.environment.clone()))?;
        let current = environment.deployed.as_ref().map(|v| v.digest);
        if e.replaces != current {
            return Err(LifecycleError::Superseded { environment: e.environment.clone() }.into());
        }
        let by = self.person(&e.by);
        let mut source = None;
        match (e.cause, &e.draft) {
            (DeployCause::Deploy, None) => {
                if environment.settings.policy.approvals > 0 {
                    return Err(LifecycleError::DraftNeeded(e.environment.clone()).into());
                }
            }
            (DeployCause::Deploy, Some(id)) => {
                let draft = self.open_draft(id, e.digest)?;
                if draft.environment != e.environment {
                    return Err(LifecycleError::OtherDraft(id.clone()).into());
                }
                if draft.submission.is_none() {
                    let status = DraftStatus::Draft.as_str();
                    return Err(LifecycleError::Status { draft: id.clone(), status }.into());
                }
                let (given, needed) = (self.approvals_given(draft), self.approvals_needed(draft));
                if given < needed {
                    return Err(LifecycleError::Approvals { given, needed }.into());
                }
                source = draft.source.clone();
            }
            (DeployCause::Rollback | DeployCause::Reverted, Some(id)) => {
                return Err(LifecycleError::OtherDraft(id.clone()).into());
            }
            (DeployCause::Rollback, None) => {
                if current == Some(e.digest) {
                    return Err(LifecycleError::Already(e.digest).into());
                }
                if !environment.history.iter().any(|d| d.version.digest == e.digest) {
                    return Err(LifecycleError::NeverDeployed(e.digest).into());
                }
                let needed = self.rollback_people(environment);
                let asked = environment.rollback.as_ref();
                let other =
                    asked.is_some_and(|p| p.to == e.digest && Some(p.from) == current && self.is_another(p, &e.by));
                let given = 1 + u32::from(other);
                if given < needed {
                    return Err(LifecycleError::RollbackPeople { given, needed }.into());
                }
            }
            // Back to the one before, and only when what followed it has failed.
            (DeployCause::Reverted, None) => {
                let [.., before, last] = environment.history.as_slice() else {
                    return Err(LifecycleError::NotReverting.into());
                };
                let failed = last.cause == DeployCause::Deploy && last.verified == Some(false);
                if before.version.digest != e.digest || !failed {
                    return Err(LifecycleError::NotReverting.into());
                }
            }
        }
        let deployment = Deployment {
            index,
            version: Arc::clone(&version),
            cause: e.cause,
            draft: e.draft.clone(),
            by,
            credential: e.by.clone(),
            simulation: e.simulation.clone(),
            verified: None,
        };
        if let Some(id) = &e.draft {
            self.change_draft(id, index, |draft| draft.deployed = true);
        }
        let environment = self.environment_mut(&e.environment)?;
        environment.deployed = Some(version);
        environment.rollback = None;
        if e.cause == DeployCause::Deploy {
            // What was said of the source before was about another version.
            environment.source = source.map(|source| (e.digest, source));
        }
        Arc::make_mut(&mut environment.history).push(deployment);
        self.refresh_missing();
        Ok(())
    }

    pub(crate) fn rollback_requested(&mut self, index: u64, e: &RollbackRequested) -> Result<(), FoldError> {
        let by = self.person(&e.by);
        let environment = self.environment_mut(&e.environment)?;
        if environment.deployed.as_ref().map(|v| v.digest) != Some(e.from) {
            return Err(LifecycleError::Superseded { environment: e.environment.clone() }.into());
        }
        if e.from == e.to {
            return Err(LifecycleError::Already(e.to).into());
        }
        if !environment.history.iter().any(|d| d.version.digest == e.to) {
            return Err(LifecycleError::NeverDeployed(e.to).into());
        }
        environment.rollback = Some(PendingRollback {
            by,
            credential: e.by.clone(),
            from: e.from,
            to: e.to,
            reason: e.reason.clone(),
            expires_at: e.expires_at,
            index,
        });
        Ok(())
    }

    /// The results are decided again: what the entry says of them must be so.
    pub(crate) fn verified(&mut self, e: &PolicyVerified) -> Result<(), FoldError> {
        let environment = self.environments.get(&e.environment);
        let environment = environment.ok_or_else(|| FoldError::NoEnvironment(e.environment.clone()))?;
        let last = environment.history.last().filter(|d| d.version.digest == e.digest && d.verified.is_none());
        if last.is_none() {
            return Err(LifecycleError::Superseded { environment: e.environment.clone() }.into());
        }
        let results = crate::expect::verify_expectations(self, &e.environment, e.at);
        if results != e.results || e.passed != results.iter().all(ExpectationResult::as_expected) {
            return Err(LifecycleError::Results(e.digest).into());
        }
        let environment = self.environment_mut(&e.environment)?;
        if let Some(last) = Arc::make_mut(&mut environment.history).last_mut() {
            last.verified = Some(e.passed);
        }
        Ok(())
    }

    pub(crate) fn sourced(&mut self, e: &PolicySourced) -> Result<(), FoldError> {
        self.environment_mut(&e.environment)?.source = Some((e.digest, e.source.clone()));
        Ok(())
    }
}
