//! The part of the fold that is about people: members and their roles, keys, means of signing in,
//! reviews of it all, and what people say of escalated actions.

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_model::entry::{
    ApprovalGranted, ApprovalWithdrawn, CredentialCreated, LinkIssued, MemberSet, ReviewMade, ReviewSigned,
    SignInMethod, SignInSet,
};
use intended_model::{Digest, EnvironmentId, MemberId};
use ipnet::IpNet;

use crate::access::{OPERATOR, PROVIDER_PREFIX, is_pattern};
use crate::lifecycle::Person;
use crate::state::{Credential, FoldError, Linked, Member, Review, State, check_grants};

/// Ids that no key of its own has.
pub(crate) fn check_credential_id(id: &intended_model::CredentialId) -> Result<(), FoldError> {
    let kept = id.member().is_some() || id.as_str() == OPERATOR || id.as_str().starts_with(PROVIDER_PREFIX);
    if kept { Err(FoldError::Reserved(id.clone())) } else { Ok(()) }
}

impl State {
    pub(crate) fn member_set(&mut self, index: u64, set: &MemberSet) -> Result<(), FoldError> {
        check_grants(&set.grants)?;
        let before = self.members.get(&set.member);
        // A link was given to who the member was then: it is not a way into what is given later.
        let same = |m: &&Arc<Member>| m.active && set.active && m.grants == set.grants && m.groups == set.groups;
        let mut addresses = before.map(|m| m.addresses.clone()).unwrap_or_default();
        addresses.extend(set.email.as_ref().map(|e| Box::from(e.to_ascii_lowercase())));
        // Who is not bound yet is known by their address, and this is another one.
        let stays = |m: &&Arc<Member>| m.email == set.email || m.oidc.as_ref().is_none_or(|l| l.subject.is_some());
        let mut sign_in = before.map(|m| m.sign_in.clone()).unwrap_or_default();
        if before.is_some_and(|m| !stays(&m)) {
            sign_in.remove(&SignInMethod::Oidc);
        }
        let member = Member {
            active: set.active,
            addresses,
            by: set.by.clone(),
            decides: Member::say(before.map(Arc::as_ref), &set.grants, index),
            email: set.email.clone(),
            entrusted_at: before.and_then(|m| m.entrusted_at),
            entrusted_by: before.map(|m| m.entrusted_by.clone()).unwrap_or_default(),
            grants: set.grants.clone(),
            groups: set.groups.clone(),
            left: Member::parted(before.map(Arc::as_ref), &set.groups, index),
            link: before.filter(same).and_then(|m| m.link),
            name: set.name.clone(),
            oidc: before.filter(stays).and_then(|m| m.oidc.clone()),
            out: if set.active { before.map_or(0, |m| m.out) } else { self.control + 1 },
            sign_in,
            since: Member::joined(before.map(Arc::as_ref), &set.groups, index),
        };
        Arc::make_mut(&mut self.members).insert(set.member.clone(), Arc::new(member));
        Ok(())
    }

    pub(crate) fn credential_created(&mut self, index: u64, new: &CredentialCreated) -> Result<(), FoldError> {
        if self.credentials.contains_key(&new.credential) {
            return Err(FoldError::CredentialExists(new.credential.clone()));
        }
        check_credential_id(&new.credential)?;
        if let Some(member) = new.member.as_ref().filter(|m| !self.members.contains_key(*m)) {
            return Err(FoldError::NoMember(member.clone()));
        }
        if let Some(pattern) = new.actions.iter().chain(&new.agents).find(|p| !is_pattern(p)) {
            return Err(FoldError::Pattern(pattern.clone()));
        }
        let network = |text: &str| text.parse::<IpNet>().map_err(|_| FoldError::Network(text.into()));
        let credential = Credential {
            id: new.credential.clone(),
            actions: new.actions.clone(),
            agents: new.agents.clone(),
            by: new.by.clone(),
            created_at: index,
            environments: new.environments.clone(),
            expires_at: new.expires_at,
            glass: None,
            hash: new.hash,
            member: new.member.clone(),
            networks: new.networks.iter().map(|n| network(n)).collect::<Result<_, _>>()?,
            previous: None,
            revoked: false,
            rotated_at: None,
            rotated_by: std::collections::BTreeSet::new(),
            scopes: new.scopes.clone(),
            test: new.test,
            whole: new.whole,
        };
        Arc::make_mut(&mut self.credentials).insert(new.credential.clone(), Arc::new(credential));
        Ok(())
    }

    /// Suspends for a reason, or reinstates for none.
    pub(crate) fn suspend(
        &mut self,
        environment: Option<&EnvironmentId>,
        reason: Option<&str>,
    ) -> Result<(), FoldError> {
        let name: Box<str> = environment.map_or_else(|| self.tenant.as_str().into(), |e| e.as_str().into());
        let suspended = match environment {
            Some(environment) => &mut self.environment_mut(environment)?.suspended,
            None => &mut self.suspended,
        };
        match (suspended.is_some(), reason) {
            (true, Some(_)) => return Err(FoldError::Suspended(name)),
            (false, None) => return Err(FoldError::NotSuspended(name)),
            (_, reason) => *suspended = reason.map(Into::into),
        }
        Ok(())
    }

    fn member_mut(&mut self, id: &MemberId) -> Result<&mut Member, FoldError> {
        let member = Arc::make_mut(&mut self.members).get_mut(id);
        Ok(Arc::make_mut(member.ok_or_else(|| FoldError::NoMember(id.clone()))?))
    }

    pub(crate) fn sign_in_set(&mut self, index: u64, set: &SignInSet) -> Result<(), FoldError> {
        // A link is given, not set.
        if set.method == SignInMethod::Link {
            return Err(FoldError::SignInMethod(set.method.as_str()));
        }
        let linked = self.linked(set)?;
        let own = self.member_behind(&set.by).as_ref() == Some(&set.member);
        let member = self.member_mut(&set.member)?;
        if set.method == SignInMethod::Oidc {
            member.oidc = linked;
        }
        if set.active {
            member.sign_in.insert(set.method);
        } else {
            member.sign_in.remove(&set.method);
        }
        // A factor less is a way in that somebody else made, as much as one more is.
        if !own {
            member.entrusted_at = Some(index);
        }
        // A key of the member's may be in others' hands too: it says so itself.
        if set.by.member().as_ref() != Some(&set.member) {
            member.entrusted_by.insert(set.by.clone());
        }
        Ok(())
    }

    /// The provider that an entry links a member to. What a provider calls somebody is one member's.
    fn linked(&self, set: &SignInSet) -> Result<Option<Linked>, FoldError> {
        let wanted = set.method == SignInMethod::Oidc && set.active;
        let Some(provider) = set.provider.as_ref().filter(|_| wanted) else {
            let nothing = !wanted && set.provider.is_none() && set.subject.is_none();
            return if nothing { Ok(None) } else { Err(FoldError::Linked) };
        };
        let issuer = self.providers.get(provider).ok_or(FoldError::Linked)?.issuer.clone();
        if let Some(subject) = set.subject
            && let Some((other, _)) = self.bound_to(subject).filter(|(id, _)| **id != set.member)
        {
            return Err(FoldError::Subject(other.clone()));
        }
        Ok(Some(Linked { provider: provider.clone(), issuer, subject: set.subject }))
    }

    /// Who somebody is whom a provider knows as that.
    #[must_use]
    pub fn bound_to(&self, subject: Digest) -> Option<(&MemberId, &Member)> {
        let is = |m: &Member| m.oidc.as_ref().is_some_and(|l| l.subject == Some(subject));
        self.members.iter().map(|(id, m)| (id, &**m)).find(|(_, m)| is(m))
    }

    pub(crate) fn link_issued(&mut self, index: u64, issued: &LinkIssued) -> Result<(), FoldError> {
        let member = self.member_mut(&issued.member)?;
        if !member.active {
            return Err(FoldError::NoMember(issued.member.clone()));
        }
        member.link = Some((issued.link, issued.expires_at));
        // Also of one's own: a link goes through other hands.
        member.entrusted_at = Some(index);
        member.entrusted_by.insert(issued.by.clone());
        member.sign_in.insert(SignInMethod::Link);
        Ok(())
    }

    pub(crate) fn review_made(&mut self, index: u64, made: &ReviewMade) -> Result<(), FoldError> {
        if self.reviews.iter().any(|r| r.id == made.review) {
            return Err(FoldError::ReviewExists(made.review.clone()));
        }
        let review = Review {
            id: made.review.clone(),
            digest: made.digest,
            by: made.by.clone(),
            index,
            signed: BTreeMap::new(),
        };
        Arc::make_mut(&mut self.reviews).push(review);
        Ok(())
    }

    /// Two people sign a review, and they are two.
    pub(crate) fn review_signed(&mut self, signed: &ReviewSigned) -> Result<(), FoldError> {
        if self.person(&signed.by) != Person::Member(signed.member.clone())
            || !self.members.get(&signed.member).is_some_and(|m| m.active)
        {
            return Err(FoldError::NoMember(signed.member.clone()));
        }
        let last = self.reviews.last().filter(|r| r.id == signed.review && r.digest == signed.digest);
        let last = last.ok_or_else(|| FoldError::NoReview(signed.review.clone()))?;
        let same = |(member, by): (&MemberId, &_)| {
            self.same_member(member, &signed.member) || self.same_person(by, &signed.by)
        };
        if last.signed.iter().any(same) {
            return Err(FoldError::ReviewAgain { review: signed.review.clone(), member: signed.member.clone() });
        }
        if let Some(last) = Arc::make_mut(&mut self.reviews).last_mut() {
            last.signed.insert(signed.member.clone(), signed.by.clone());
        }
        Ok(())
    }

    /// Whether somebody, acting with `by`, can say anything about what was asked for at ledger position
    /// `request`: with means of their own that are older. Who gets a key, a password or a group after
    /// something was asked for does not approve it, whoever gave it to them and why.
    #[must_use]
    pub fn spoke_before(&self, by: &intended_model::CredentialId, approver: &MemberId, request: u64) -> bool {
        let Some(member) = self.members.get(approver).filter(|m| m.active) else { return false };
        if self.member_behind(by).as_ref() != Some(approver) {
            return false;
        }
        match self.credentials.get(by) {
            Some(key) => !key.revoked && key.rotated_at.unwrap_or(0).max(key.created_at) < request,
            None => member.entrusted_at.is_none_or(|at| at < request),
        }
    }

    pub(crate) fn approval_granted(&mut self, index: u64, granted: &ApprovalGranted) -> Result<(), FoldError> {
        if !self.members.get(&granted.approver).is_some_and(|m| m.active) {
            return Err(FoldError::NoMember(granted.approver.clone()));
        }
        if let Some(request) = granted.request {
            if request >= index || !self.spoke_before(&granted.by, &granted.approver, request) {
                return Err(FoldError::NotEligible);
            }
            let given = self.approvals.get(&granted.intent).map_or(&[][..], Vec::as_slice);
            let same = |g: &ApprovalGranted| {
                self.same_member(&g.approver, &granted.approver) || self.same_person(&g.by, &granted.by)
            };
            if given.iter().any(|(_, g)| same(g)) {
                return Err(FoldError::ApprovedAgain(granted.approver.clone()));
            }
        }
        Arc::make_mut(&mut self.approvals).entry(granted.intent).or_default().push((index, granted.clone()));
        Ok(())
    }

    pub(crate) fn approval_withdrawn(&mut self, gone: &ApprovalWithdrawn) -> Result<(), FoldError> {
        let none = || FoldError::NoApproval(gone.approver.clone());
        if self.member_behind(&gone.by).as_ref() != Some(&gone.approver) {
            return Err(none());
        }
        let given = Arc::make_mut(&mut self.approvals).get_mut(&gone.intent).ok_or_else(none)?;
        let before = given.len();
        given.retain(|(_, g)| g.approver != gone.approver);
        if given.len() == before { Err(none()) } else { Ok(()) }
    }
}
