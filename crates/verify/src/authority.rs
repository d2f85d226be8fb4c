//! Who may make which entry: every change of a tenant's state names the credential that made it, and
//! that one must have been able to. The runtime refuses what it may not; this finds what was written
//! past the runtime.
//!
//! Until it expires a credential is good for what it asks; what it asked for is recorded up to
//! [`MAX_LAG_MS`] later.

use intended_engine::{Credential, State};
use intended_model::entry::{DeployCause, Scope};
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
        Event::ApprovalGranted(e) => return stands(state, &e.by, at, &In(&e.environment)).err(),
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
        Event::IncidentClosed(e) => {
            let environment = state.incidents.get(&e.incident).and_then(|i| i.environment.as_ref());
            (&e.by, Scope::EmergencyWrite, environment.map_or(Whole, In))
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
    let credential = match stands(state, by, at, &reach) {
        Ok(credential) => credential,
        Err(what) => return Some(what),
    };
    if !credential.scopes.contains(&scope) {
        return Some(format!("`{by}` had not the scope `{}`", scope.as_str()));
    }
    // Nobody makes a credential that is wider than their own.
    if let Event::CredentialCreated(made) = event {
        let wider = made.scopes.iter().any(|s| !credential.scopes.contains(s))
            || made.environments.iter().any(|e| !credential.covers(e))
            || credential.expires_at.is_some_and(|end| made.expires_at.is_none_or(|e| e > end));
        return wider.then(|| format!("`{by}` made a credential wider than its own"));
    }
    None
}

/// The credential, if it existed, was in force and reached as far.
fn stands<'s>(state: &'s State, by: &CredentialId, at: Timestamp, reach: &Reach<'_>) -> Result<&'s Credential, String> {
    let credential = state.credentials.get(by).ok_or_else(|| format!("`{by}` is not a credential"))?;
    if credential.revoked {
        return Err(format!("`{by}` was revoked before"));
    }
    if credential.expires_at.is_some_and(|end| at >= end.plus_millis(MAX_LAG_MS)) {
        return Err(format!("`{by}` had expired"));
    }
    let reaches = match reach {
        Reach::In(environment) => credential.covers(environment),
        Reach::Each(environments) => environments.iter().all(|e| credential.covers(e)),
        Reach::Whole => credential.whole,
        Reach::Any => true,
    };
    if reaches { Ok(credential) } else { Err(format!("`{by}` was not good for what it changes")) }
}
