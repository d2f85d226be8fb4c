//! Who may make which entry: every change of a tenant's state names the credential that made it, and
//! that one must have been able to. The runtime refuses what it may not; this finds what was written
//! past the runtime.
//!
//! Until it expires a credential is good for what it asks; what it asked for is recorded up to
//! [`MAX_LAG_MS`] later.

use intended_engine::access::{MAX_OVERLAP_SECS, OPERATOR, PROVIDER_PREFIX};
use intended_engine::{Access, Linked, Member, NoAccess, State};
use intended_model::entry::{
    AccessReinstated, AccessSuspended, BreakerDefaults, DeployCause, EnvironmentSet, MemberSet, Scope, SignInMethod,
    SignInSet,
};
use intended_model::{Code, CredentialId, EnvironmentId, Event, MemberId, Timestamp};
use ipnet::IpNet;

use crate::MAX_LAG_MS;

/// What an entry needs: a scope in some environment, or in the whole tenant.
enum Reach<'e> {
    In(&'e EnvironmentId),
    Each(Vec<&'e EnvironmentId>),
    Whole,
    /// Any environment of the credential's.
    Any,
}

/// The decision procedure from which on only people release holds, and breakers are taken away by who
/// may stop and let go: a ledger of before holds by what held then.
const SINCE: u32 = 3;

/// Says what is wrong with who made the entry of time `at`; `state` is the one before it, `procedure` the
/// newest that decided in it.
pub fn refuse(state: &State, procedure: u32, event: &Event, at: Timestamp) -> Option<String> {
    use Reach::{Any, Each, In, Whole};
    // Nobody of a suspended tenant signs in or out, or is told who they are by a provider: what is here is
    // returned from before the look at what everybody else needs.
    let person = matches!(
        event,
        Event::SessionStarted(_)
            | Event::SessionEnded(_)
            | Event::SignInSet(_)
            | Event::MemberSet(_)
            | Event::ApprovalGranted(_)
    );
    if person && state.suspended.is_some() {
        return Some("the tenant was suspended".to_owned());
    }
    let (by, scope, reach): (&CredentialId, Scope, Reach<'_>) = match event {
        // The first entry has nobody before it; a closing without anybody is made by the runtime; who submitted a
        // decision is checked with it.
        Event::TenantCreated(_) | Event::Decision(_) => return None,
        Event::EscalationClosed(e) => match &e.by {
            None => return None,
            // Whoever asked for it wants it no more.
            Some(by) if e.reason == Code::EscalationCancelled => (by, Scope::IntentSubmit, In(&e.environment)),
            Some(by) => (by, Scope::ApprovalDecide, In(&e.environment)),
        },
        // The runtime's own: the fold decides the results again, and lets nothing be taken back unless
        // they were others.
        Event::PolicyVerified(_) => return None,
        // And these: the fold takes what is lawful only.
        Event::BreakerOpened(_) | Event::BreakerProbing(_) | Event::BreakerClosed(_) => return None,
        Event::PolicyDeployed(e) if e.cause == DeployCause::Reverted => return None,
        // An approval is a person's, whatever their credential is otherwise good for: whose it is is
        // checked with the approval (I5).
        Event::ApprovalGranted(e) if e.request.is_none() => {
            let access = access(state, &e.by, at);
            let stands = access.map(|a| a.environments().contains(&e.environment));
            return match stands {
                Ok(true) => None,
                Ok(false) => Some(format!("`{}` was not good for what it changes", e.by)),
                Err(why) => Some(nothing(&e.by, why)),
            };
        }
        Event::ApprovalGranted(e) => (&e.by, Scope::ApprovalDecide, In(&e.environment)),
        Event::ApprovalWithdrawn(e) => (&e.by, Scope::ApprovalDecide, In(&e.environment)),
        // Asked by who may decide, answered by who asked for it.
        Event::ApprovalNote(e) if e.answer => (&e.by, Scope::IntentSubmit, In(&e.environment)),
        Event::ApprovalNote(e) => (&e.by, Scope::ApprovalDecide, In(&e.environment)),
        // Whose, by what and until when is checked with the sessions.
        Event::SessionStarted(_) => return None,
        // One's own, or anybody's by who gives access.
        Event::SessionEnded(e) if e.by.member().as_ref() == Some(&e.member) => return inactive(state, &e.member),
        Event::SessionEnded(e) => (&e.by, Scope::AccessWrite, Whole),
        // The tenant's by who operates the server, whose key is not in the ledger.
        Event::AccessSuspended(AccessSuspended { by, environment: None, .. })
        | Event::AccessReinstated(AccessReinstated { by, environment: None, .. }) => {
            return (by.as_str() != OPERATOR).then(|| format!("`{by}` does not operate the server"));
        }
        Event::LedgerRestored(e) => {
            return (e.by.as_str() != OPERATOR).then(|| format!("`{}` does not operate the server", e.by));
        }
        Event::AccessSuspended(AccessSuspended { by, environment: Some(_), .. })
        | Event::AccessReinstated(AccessReinstated { by, environment: Some(_), .. }) => (by, Scope::AccessWrite, Whole),
        Event::SignInSet(e) if e.by.member().as_ref() == Some(&e.member) => {
            let linked = || format!("`{}` let a provider speak of themselves", e.member);
            let own = inactive(state, &e.member).or_else(|| (e.method == SignInMethod::Oidc).then(linked));
            return own.or_else(|| ownerless(state, event, at));
        }
        // Whom a provider made a member of signs in by it.
        Event::SignInSet(e) if is_provider(state, &e.by) => {
            return by_provider(state, e).or_else(|| ownerless(state, event, at));
        }
        Event::SignInSet(e) if e.subject.is_some() => {
            return Some(format!("who `{}` is to a provider is not for `{}` to say", e.member, e.by));
        }
        Event::SignInSet(e) => (&e.by, Scope::AccessWrite, Whole),
        Event::LinkIssued(e) => (&e.by, Scope::AccessWrite, Whole),
        Event::IdentityProviderSet(e) => (&e.by, Scope::AccessWrite, Whole),
        Event::ReviewMade(e) => (&e.by, Scope::ReviewSign, Whole),
        Event::ReviewSigned(e) => (&e.by, Scope::ReviewSign, Whole),
        Event::WebhookSet(e) => (&e.by, Scope::AccessWrite, e.environment.as_ref().map_or(Whole, In)),
        Event::CredentialRotated(e) => {
            let known = state.credentials.get(&e.credential);
            // As if it were made again: a key is what it is good for.
            let whole = known.is_some_and(|c| c.whole || of_another(state, &e.by, c.member.as_ref()));
            (&e.by, Scope::AccessWrite, if whole { Whole } else { Any })
        }
        // Groups of an identity provider, as it says them when somebody signs in.
        Event::MemberSet(e) if is_provider(state, &e.by) => {
            return from_provider(state, e).or_else(|| ownerless(state, event, at));
        }
        Event::MemberSet(e) => (&e.by, Scope::AccessWrite, Whole),
        Event::BreakerReleased(e) => {
            let held = state.breakers.held.get(&e.breaker);
            (&e.by, Scope::EmergencyWrite, held.map_or(Whole, |b| In(&b.environment)))
        }
        // Without its breakers, what has gone wrong there goes on.
        Event::EnvironmentSet(e)
            if procedure >= SINCE && unwatched(state, &e.environment, e.settings.breakers) && !opens(state, e, at) =>
        {
            return Some(format!("`{}` took away the breakers of `{}` without `emergency:write`", e.by, e.environment));
        }
        Event::EnvironmentSet(e) => match state.environments.get(&e.environment) {
            // What a change of policy, an approval and lifting a halt take is the whole tenant's to say.
            Some(known)
                if known.tier == e.tier
                    && known.settings.policy == e.settings.policy
                    && known.settings.approvals == e.settings.approvals
                    && known.settings.emergency == e.settings.emergency =>
            {
                (&e.by, Scope::AccessWrite, In(&e.environment))
            }
            _ => (&e.by, Scope::AccessWrite, Whole),
        },
        Event::CredentialCreated(e) => (
            &e.by,
            Scope::AccessWrite,
            if e.whole || of_another(state, &e.by, e.member.as_ref()) { Whole } else { Any },
        ),
        Event::CredentialRevoked(e) => {
            let known = state.credentials.get(&e.credential);
            let reach = known.map_or(Any, |c| if c.whole { Whole } else { Each(c.environments.iter().collect()) });
            (&e.by, Scope::AccessWrite, reach)
        }
        Event::AgentSet(e) => {
            // Where it could act, and where it can from here on.
            let known = state.agents.get(&e.agent).map(|a| a.environments.as_slice()).unwrap_or_default();
            (&e.by, Scope::AccessWrite, Each(known.iter().chain(&e.environments).collect()))
        }
        Event::CapabilitySet(e) => {
            let known = state.capabilities.iter().find(|c| c.id == e.capability).map(|c| c.environment.as_ref());
            let reach = match (known, e.environment.as_ref()) {
                (Some(None), _) | (_, None) => Whole,
                (Some(Some(before)), Some(now)) => Each(vec![before, now]),
                (None, Some(now)) => In(now),
            };
            (&e.by, Scope::AccessWrite, reach)
        }
        Event::CatalogueSet(e) => (&e.by, Scope::PolicyWrite, Whole),
        Event::PolicyPublished(e) => (&e.by, Scope::PolicyWrite, Any),
        Event::PolicyDeployed(e) => (&e.by, Scope::PolicyWrite, In(&e.environment)),
        Event::PolicyDrafted(e) => (&e.by, Scope::PolicyWrite, In(&e.environment)),
        Event::PolicySubmitted(e) => (&e.by, Scope::PolicyWrite, In(&state.drafts.get(&e.draft)?.environment)),
        Event::PolicyApproved(e) => (&e.by, Scope::PolicyApprove, In(&state.drafts.get(&e.draft)?.environment)),
        Event::PolicyRejected(e) => (&e.by, Scope::PolicyApprove, In(&state.drafts.get(&e.draft)?.environment)),
        Event::RollbackRequested(e) => (&e.by, Scope::PolicyWrite, In(&e.environment)),
        Event::PolicySourced(e) => (&e.by, Scope::PolicyWrite, In(&e.environment)),
        Event::IncidentOpened(e) => (&e.by, Scope::EmergencyWrite, e.environment.as_ref().map_or(Whole, In)),
        Event::IncidentNoted(intended_model::entry::IncidentNoted { by, incident, .. })
        | Event::IncidentClosed(intended_model::entry::IncidentClosed { by, incident, .. }) => {
            let environment = state.incidents.get(incident).and_then(|i| i.environment.as_ref());
            (by, Scope::EmergencyWrite, environment.map_or(Whole, In))
        }
        Event::HaltThrown(e) => (&e.by, throws(state, &e.by, at), e.environment.as_ref().map_or(Whole, In)),
        Event::HaltResumeAsked(e) => {
            let environment = state.halts.get(&e.halt).and_then(|h| h.environment.as_ref());
            (&e.by, Scope::EmergencyWrite, environment.map_or(Whole, In))
        }
        Event::HaltResumed(e) => {
            let environment = state.halts.get(&e.halt).and_then(|h| h.environment.as_ref());
            (&e.by, Scope::EmergencyWrite, environment.map_or(Whole, In))
        }
        Event::BreakerHeld(e) => (&e.by, Scope::EmergencyWrite, In(&e.environment)),
        Event::BreakerSet(e) => (&e.by, Scope::EmergencyWrite, In(&e.environment)),
        Event::IntentOutcome(e) => (&e.by, Scope::TokenVerify, In(&e.environment)),
        // A new environment's first key comes with it.
        Event::KeyAdded(e) if state.environments.get(&e.environment).is_some_and(|x| x.keys.is_empty()) => {
            (&e.by, Scope::AccessWrite, In(&e.environment))
        }
        Event::KeyAdded(e) => (&e.by, Scope::KeyWrite, In(&e.environment)),
        Event::KeyRetired(e) => (&e.by, Scope::KeyWrite, In(&e.environment)),
        // A self-test's token is used up by who tests, and by nobody else.
        Event::TokenConsumed(e) if e.class.is_synthetic() => (&e.by, Scope::TokenTest, In(&e.environment)),
        Event::TokenConsumed(e) => (&e.by, Scope::TokenVerify, In(&e.environment)),
        Event::TokensRevoked(e) => (&e.by, Scope::TokenRevoke, e.selector.environment.as_ref().map_or(Whole, In)),
        Event::BreakGlassPrepared(e) => (&e.by, Scope::AccessWrite, e.environment.as_ref().map_or(Whole, In)),
        Event::DrillRecorded(e) => (&e.by, Scope::EmergencyWrite, In(&e.environment)),
        Event::TokenRevoked(e) => (&e.by, Scope::TokenRevoke, In(&e.environment)),
    };
    // Until there is a credential the tenant is being set up.
    if state.credentials.is_empty() && by.as_str() == "bootstrap" {
        return None;
    }
    if state.suspended.is_some() {
        return Some(format!("`{by}` is of a tenant that was suspended"));
    }
    let access = match access(state, by, at) {
        Ok(access) => access,
        Err(why) => return Some(nothing(by, why)),
    };
    let reaches = match &reach {
        In(environment) => access.may(scope, Some(environment)),
        Each(environments) => environments.iter().all(|e| access.may(scope, Some(e))),
        Whole => access.whole(scope),
        Any => true,
    };
    if !access.may(scope, None) {
        return Some(format!("`{by}` had not the scope `{}`", scope.as_str()));
    }
    if !reaches {
        return Some(format!("`{by}` was not good for what it changes"));
    }
    if wider(state, &access, event, at) {
        return Some(format!("`{by}` gave more than it has"));
    }
    own(state, procedure, &access, event, at)
        .map(|what| format!("`{by}`: {what}"))
        .or_else(|| ownerless(state, event, at))
}

/// Nobody takes away the last one who could give access.
fn ownerless(state: &State, event: &Event, at: Timestamp) -> Option<String> {
    let takes = matches!(
        event,
        Event::MemberSet(_) | Event::SignInSet(_) | Event::IdentityProviderSet(_) | Event::CredentialRevoked(_)
    );
    (takes && !state.keeps_an_owner(event, at.plus_millis(-MAX_LAG_MS)))
        .then(|| "nobody would be left who could give access".to_owned())
}

/// Whether a key of a person is made by somebody else: who a person is is the whole tenant's concern.
fn of_another(state: &State, by: &CredentialId, member: Option<&MemberId>) -> bool {
    let behind = by.member().or_else(|| state.credentials.get(by).and_then(|c| c.member.clone()));
    member.is_some() && member != behind.as_ref()
}

/// What nobody does, whatever they have.
fn own(state: &State, procedure: u32, access: &Access, event: &Event, at: Timestamp) -> Option<&'static str> {
    match event {
        Event::MemberSet(set)
            if access.member.as_ref().is_some_and(|own| state.same_member(own, &set.member))
                && state
                    .members
                    .get(&set.member)
                    .is_some_and(|m| m.grants != set.grants || m.groups != set.groups || m.email != set.email) =>
        {
            Some("nobody changes what they may do themselves")
        }
        Event::BreakerReleased(_) if procedure >= SINCE && access.member.is_none() => {
            Some("only a person releases what is held")
        }
        Event::CredentialRotated(e) if e.previous_until > at.plus_millis(i64::from(MAX_OVERLAP_SECS) * 1_000) => {
            Some("the key before stays good for too long")
        }
        Event::CredentialRotated(e) if state.credentials.get(&e.credential).is_some_and(|c| c.revoked) => {
            Some("what was revoked gets no new key")
        }
        _ => None,
    }
}

/// Whether an environment is set to have other breakers of itself than it has; a new one to have none.
fn unwatched(state: &State, environment: &EnvironmentId, breakers: BreakerDefaults) -> bool {
    let known = state.environments.get(environment).map(|e| e.settings.breakers).unwrap_or_default();
    !state.credentials.is_empty() && known != breakers
}

/// Whether who sets an environment may open and close breakers there.
fn opens(state: &State, set: &EnvironmentSet, at: Timestamp) -> bool {
    access(state, &set.by, at).is_ok_and(|access| access.may(Scope::EmergencyWrite, Some(&set.environment)))
}

/// What lets somebody throw a halt: a scope for that alone, or one for all of an emergency.
fn throws(state: &State, by: &CredentialId, at: Timestamp) -> Scope {
    let only = access(state, by, at).is_ok_and(|a| !a.may(Scope::EmergencyWrite, None));
    if only { Scope::EmergencyHalt } else { Scope::EmergencyWrite }
}

/// Why somebody could do nothing.
fn nothing(by: &CredentialId, why: NoAccess) -> String {
    match why {
        NoAccess::Unknown => format!("`{by}` is not a credential"),
        NoAccess::Revoked => format!("`{by}` was revoked before"),
        NoAccess::Spent => format!("`{by}` was good for one halt, and had thrown it"),
        NoAccess::Expired => format!("`{by}` had expired"),
        NoAccess::MemberInactive => format!("the person behind `{by}` was not an active member"),
    }
}

/// Nobody gives more than they have, or for longer.
fn wider(state: &State, access: &Access, event: &Event, at: Timestamp) -> bool {
    match event {
        Event::CredentialCreated(made) => {
            let networks: Result<Vec<IpNet>, _> = made.networks.iter().map(|n| n.parse()).collect();
            !networks.is_ok_and(|networks| {
                gives(access, &made.scopes, &made.environments, made.whole, made.expires_at)
                    && access.narrows(&made.actions, &made.agents, &networks, made.test)
            })
        }
        // Its new key is good for all that it is.
        Event::CredentialRotated(rotated) => !state.credentials.get(&rotated.credential).is_some_and(|c| {
            gives(access, &c.scopes, &c.environments, c.whole, c.expires_at)
                && access.narrows(&c.actions, &c.agents, &c.networks, c.test)
        }),
        // What a member has already is nobody's gift, but is nobody's to take who has it not.
        Event::MemberSet(set) => {
            let had = state.members.get(&set.member).map(|m| m.grants.as_slice()).unwrap_or_default();
            let added = set.grants.iter().filter(|g| !had.contains(g));
            let taken = had.iter().filter(|g| !set.grants.contains(g));
            !added.chain(taken).all(|g| access.covers(g))
        }
        // Nobody gives a way of acting as somebody who may do more, or as themselves.
        Event::LinkIssued(issued) => {
            access.member.as_ref().is_some_and(|own| state.same_member(own, &issued.member))
                || !covers_member(state, access, &issued.member, at)
        }
        Event::SignInSet(set) => !covers_member(state, access, &set.member, at),
        Event::BreakGlassPrepared(e) => {
            let until = Some(e.expires_at);
            !e.environment.as_ref().map_or_else(
                || access.whole_until(Scope::EmergencyWrite, until),
                |environment| access.may_until(Scope::EmergencyWrite, Some(environment), until),
            )
        }
        Event::IdentityProviderSet(set) => !set.mappings.values().flat_map(|m| &m.grants).all(|g| access.covers(g)),
        _ => false,
    }
}

fn gives(
    access: &Access,
    scopes: &[Scope],
    environments: &[EnvironmentId],
    whole: bool,
    until: Option<Timestamp>,
) -> bool {
    scopes.iter().all(|scope| {
        (!whole || access.whole_until(*scope, until))
            && environments.iter().all(|e| access.may_until(*scope, Some(e), until))
    })
}

/// What somebody could do at a time, with what asking for it a little earlier takes.
pub fn access(state: &State, by: &CredentialId, at: Timestamp) -> Result<Access, NoAccess> {
    state.access(by, at.plus_millis(-MAX_LAG_MS))
}

fn is_provider(state: &State, by: &CredentialId) -> bool {
    by.as_str().strip_prefix(PROVIDER_PREFIX).is_some_and(|p| state.providers.contains_key(p))
}

/// A provider gives what its groups are mapped to, and nothing else.
fn from_provider(state: &State, set: &MemberSet) -> Option<String> {
    let provider = set.by.as_str().strip_prefix(PROVIDER_PREFIX).and_then(|p| state.providers.get(p))?;
    let mapped = |grant| provider.mappings.values().any(|m| m.grants.contains(grant));
    let group = |group| provider.mappings.values().any(|m| m.groups.contains(group));
    let known = state.members.get(&set.member);
    // Nobody is taken over, and nobody who was taken out comes back, on a provider's word.
    let its = |m: &Member| {
        let linked = m.oidc.as_ref().filter(|_| m.active && m.sign_in.contains(&SignInMethod::Oidc));
        linked.is_some_and(|l| l.provider == provider.provider && l.subject.is_some())
    };
    if known.is_some_and(|m| !its(m)) || !set.active {
        return Some(format!("`{}` is not for `{}` to change", set.member, set.by));
    }
    let good = set.grants.iter().all(mapped) && set.groups.iter().all(group);
    (!good).then(|| format!("`{}` gave `{}` what its groups are not mapped to", set.by, set.member))
}

/// Whether somebody has all that a member has at a time.
fn covers_member(state: &State, access: &Access, member: &MemberId, at: Timestamp) -> bool {
    state.members.get(member).is_some_and(|m| access.covers_member(m, at))
}

/// A provider lets those sign in whom it made a member, and says who those are that somebody linked to it:
/// once, and of nobody else.
fn by_provider(state: &State, set: &SignInSet) -> Option<String> {
    let provider = set.by.as_str().strip_prefix(PROVIDER_PREFIX).and_then(|p| state.providers.get(p))?;
    let known = state.members.get(&set.member).filter(|m| m.active);
    let made = |m: &Member| m.by == set.by && m.sign_in.is_empty();
    let linked = |m: &Member| {
        let of = |l: &Linked| l.provider == provider.provider && l.issuer == provider.issuer && l.subject.is_none();
        m.sign_in.contains(&SignInMethod::Oidc) && m.oidc.as_ref().is_some_and(of)
    };
    let good = known.is_some_and(|m| made(m) || linked(m))
        && (set.active, set.method) == (true, SignInMethod::Oidc)
        && set.provider.as_ref() == Some(&provider.provider)
        && set.subject.is_some();
    (!good).then(|| format!("how `{}` signs in is not for `{}` to say", set.member, set.by))
}

/// Who is not a member does nothing as themselves.
fn inactive(state: &State, member: &MemberId) -> Option<String> {
    (!state.members.get(member).is_some_and(|m| m.active)).then(|| format!("`{member}` was not an active member"))
}
