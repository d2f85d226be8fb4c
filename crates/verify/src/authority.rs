//! Who may make which entry: every change of a tenant's state names the credential that made it, and
//! that one must have been able to. The runtime refuses what it may not; this finds what was written
//! past the runtime.
//!
//! Until it expires a credential is good for what it asks; what it asked for is recorded up to
//! [`MAX_LAG_MS`] later.

use intended_engine::access::{OPERATOR, PROVIDER_PREFIX};
use intended_engine::{Access, NoAccess, State};
use intended_model::entry::{AccessReinstated, AccessSuspended, DeployCause, MemberSet, Scope};
use intended_model::{CredentialId, EnvironmentId, Event, Timestamp};

use crate::MAX_LAG_MS;

/// What an entry needs: a scope in some environment, or in the whole tenant.
enum Reach<'e> {
    In(&'e EnvironmentId),
    Each(Vec<&'e EnvironmentId>),
    Whole,
    /// Any environment of the credential's.
    Any,
}

/// Says what is wrong with who made the entry of time `at`; `state` is the one before it.
pub fn refuse(state: &State, event: &Event, at: Timestamp) -> Option<String> {
    use Reach::{Any, Each, In, Whole};
    let (by, scope, reach): (&CredentialId, Scope, Reach<'_>) = match event {
        // The first entry has nobody before it; a closing is made by the runtime; who submitted a
        // decision is checked with it.
        Event::TenantCreated(_) | Event::Decision(_) | Event::EscalationClosed(_) => return None,
        // The runtime's own: the fold decides the results again, and lets nothing be taken back unless
        // they were others.
        Event::PolicyVerified(_) => return None,
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
        Event::SessionStarted(_) => return None,
        // One's own, or anybody's by who gives access.
        Event::SessionEnded(e) if e.by.member().as_ref() == Some(&e.member) => return None,
        Event::SessionEnded(e) => (&e.by, Scope::AccessWrite, Whole),
        // The tenant's by who operates the server, whose key is not in the ledger.
        Event::AccessSuspended(AccessSuspended { by, environment: None, .. })
        | Event::AccessReinstated(AccessReinstated { by, environment: None, .. }) => {
            return (by.as_str() != OPERATOR).then(|| format!("`{by}` does not operate the server"));
        }
        Event::AccessSuspended(AccessSuspended { by, environment: Some(e), .. })
        | Event::AccessReinstated(AccessReinstated { by, environment: Some(e), .. }) => (by, Scope::AccessWrite, In(e)),
        Event::SignInSet(e) if e.by.member().as_ref() == Some(&e.member) => return None,
        Event::SignInSet(e) => (&e.by, Scope::AccessWrite, Whole),
        Event::LinkIssued(e) => (&e.by, Scope::AccessWrite, Whole),
        Event::IdentityProviderSet(e) => (&e.by, Scope::AccessWrite, Whole),
        Event::ReviewMade(e) => (&e.by, Scope::ReviewSign, Whole),
        Event::ReviewSigned(e) => (&e.by, Scope::ReviewSign, Whole),
        Event::WebhookSet(e) => (&e.by, Scope::AccessWrite, e.environment.as_ref().map_or(Whole, In)),
        Event::CredentialRotated(e) => {
            let known = state.credentials.get(&e.credential);
            let reach = known.map_or(Any, |c| if c.whole { Whole } else { Each(c.environments.iter().collect()) });
            (&e.by, Scope::AccessWrite, reach)
        }
        // Groups of an identity provider, as it says them when somebody signs in.
        Event::MemberSet(e) if is_provider(state, &e.by) => return from_provider(state, e),
        Event::MemberSet(e) => (&e.by, Scope::AccessWrite, Whole),
        Event::BreakerReleased(e) => {
            let held = state.breakers.get(&e.breaker);
            (&e.by, Scope::EmergencyWrite, held.map_or(Whole, |b| In(&b.environment)))
        }
        Event::EnvironmentSet(e) => match state.environments.get(&e.environment) {
            // What a change of policy takes is the whole tenant's to say.
            Some(known) if known.tier == e.tier && known.settings.policy == e.settings.policy => {
                (&e.by, Scope::AccessWrite, In(&e.environment))
            }
            _ => (&e.by, Scope::AccessWrite, Whole),
        },
        Event::CredentialCreated(e) => {
            (&e.by, Scope::AccessWrite, if e.whole || e.member.is_some() { Whole } else { Any })
        }
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
        Event::HaltThrown(e) => (&e.by, Scope::EmergencyWrite, e.environment.as_ref().map_or(Whole, In)),
        Event::HaltResumed(e) => {
            let environment = state.halts.get(&e.halt).and_then(|h| h.environment.as_ref());
            (&e.by, Scope::EmergencyWrite, environment.map_or(Whole, In))
        }
        Event::BreakerHeld(e) => (&e.by, Scope::EmergencyWrite, In(&e.environment)),
        // A new environment's first key comes with it.
        Event::KeyAdded(e) if state.environments.get(&e.environment).is_some_and(|x| x.keys.is_empty()) => {
            (&e.by, Scope::AccessWrite, In(&e.environment))
        }
        Event::KeyAdded(e) => (&e.by, Scope::KeyWrite, In(&e.environment)),
        Event::KeyRetired(e) => (&e.by, Scope::KeyWrite, In(&e.environment)),
        Event::TokenConsumed(e) => (&e.by, Scope::TokenVerify, In(&e.environment)),
        Event::TokenRevoked(e) => (&e.by, Scope::TokenRevoke, In(&e.environment)),
    };
    // Until there is a credential the tenant is being set up.
    if state.credentials.is_empty() && by.as_str() == "bootstrap" {
        return None;
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
    wider(&access, event).then(|| format!("`{by}` gave more than it has"))
}

/// Why somebody could do nothing.
fn nothing(by: &CredentialId, why: NoAccess) -> String {
    match why {
        NoAccess::Unknown => format!("`{by}` is not a credential"),
        NoAccess::Revoked => format!("`{by}` was revoked before"),
        NoAccess::Expired => format!("`{by}` had expired"),
        NoAccess::MemberInactive => format!("the person behind `{by}` was not an active member"),
    }
}

/// Nobody gives more than they have, or for longer.
fn wider(access: &Access, event: &Event) -> bool {
    match event {
        Event::CredentialCreated(made) => {
            let given = |scope: &Scope| {
                (!made.whole || access.whole_until(*scope, made.expires_at))
                    && made.environments.iter().all(|e| access.may_until(*scope, Some(e), made.expires_at))
            };
            !made.scopes.iter().all(given)
        }
        Event::MemberSet(set) => !set.grants.iter().all(|g| access.covers(g)),
        Event::IdentityProviderSet(set) => !set.mappings.values().flat_map(|m| &m.grants).all(|g| access.covers(g)),
        _ => false,
    }
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
    let good = set.grants.iter().all(mapped) && set.groups.iter().all(group);
    (!good).then(|| format!("`{}` gave `{}` what its groups are not mapped to", set.by, set.member))
}
