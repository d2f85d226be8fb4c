//! People, their keys and the agents: who they are and what they may do. Nobody gives more than they
//! have, or for longer, and nobody changes what they may do themselves.

use intended_engine::State;
use intended_keyring::{ApiKey, KeyKind};
use intended_model::entry::{BODY_VERSION, CredentialCreated, CredentialRevoked, MemberSet, RoleGrant, Scope};
use intended_model::{Code, CredentialId, EnvironmentId, Event, MemberId, Name, Timestamp};
use ipnet::IpNet;
use serde::Serialize;

use crate::admin::{Change, NewKey};
use crate::{Principal, Runtime, RuntimeError};

/// A credential to create.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialSpec {
    /// Patterns of the tools that it may submit intents for; none: any.
    pub actions: Vec<Box<str>>,
    /// Patterns of the agents that it may submit intents for; none: any.
    pub agents: Vec<Box<str>>,
    pub credential: CredentialId,
    pub environments: Vec<EnvironmentId>,
    pub scopes: Vec<Scope>,
    pub expires_at: Option<Timestamp>,
    pub live: bool,
    /// The person it belongs to, if it is one's.
    pub member: Option<MemberId>,
    /// Networks that it may be used from; none: any.
    pub networks: Vec<Box<str>>,
    /// Good for the whole tenant, whatever environments it gets.
    pub whole: bool,
}

impl From<&intended_engine::Credential> for CredentialSpec {
    fn from(known: &intended_engine::Credential) -> Self {
        Self {
            actions: known.actions.clone(),
            agents: known.agents.clone(),
            credential: known.id.clone(),
            environments: known.environments.clone(),
            scopes: known.scopes.clone(),
            expires_at: known.expires_at,
            live: !known.test,
            member: known.member.clone(),
            networks: known.networks.iter().map(|n| n.to_string().into()).collect(),
            whole: known.whole,
        }
    }
}

/// What a member is to be. All of it is new: what is left out is gone.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MemberSpec {
    pub active: bool,
    pub email: Option<Box<str>>,
    pub grants: Vec<RoleGrant>,
    pub groups: Vec<Name>,
    pub name: Option<Box<str>>,
}

impl Runtime {
    /// Creates a credential. None can be wider than the one that creates it.
    pub async fn create_credential(&self, by: &Principal, spec: CredentialSpec) -> Result<NewKey, RuntimeError> {
        let kind = if spec.live { KeyKind::Live } else { KeyKind::Test };
        let key = ApiKey::generate(self.rng(), kind).map_err(RuntimeError::internal)?;
        let changed = self.change(by, ("credential", &spec), |by, state| {
            may_create(by, state, &spec)?;
            let event = Event::CredentialCreated(CredentialCreated {
                by: by.credential.clone(),
                credential: spec.credential.clone(),
                environments: spec.environments.clone(),
                expires_at: spec.expires_at,
                hash: key.hash(),
                member: spec.member.clone(),
                scopes: spec.scopes.clone(),
                whole: spec.whole,
                actions: spec.actions.clone(),
                agents: spec.agents.clone(),
                networks: spec.networks.clone(),
                test: !spec.live,
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        let changed = changed.await?;
        if changed.repeated {
            let detail = format!(
                "this request created `{}` before; its key was in the first answer and is kept nowhere: \
                 revoke the credential and create another",
                spec.credential
            );
            return Err(RuntimeError::new(Code::Conflict, detail));
        }
        Ok(NewKey { credential: spec.credential, key: key.expose().to_owned(), index: changed.index })
    }

    /// Makes someone a member, or changes what they are; who is not active does not count anywhere.
    pub async fn set_member(&self, by: &Principal, member: MemberId, spec: MemberSpec) -> Result<u64, RuntimeError> {
        crate::sign_in::plain("/name", spec.name.as_deref())?;
        crate::sign_in::plain("/email", spec.email.as_deref())?;
        let changed = self.change(by, ("member", &member, &spec), |by, state| {
            by.require_whole(Scope::AccessWrite)?;
            let known = state.members.get(&member);
            if by.member().is_some_and(|own| state.same_member(own, &member))
                && known.is_some_and(|m| m.grants != spec.grants || m.groups != spec.groups || m.email != spec.email)
            {
                return Err(RuntimeError::new(Code::AccessOwn, format!("`{member}`")));
            }
            // What the member has already is nobody's gift, but is nobody's to take who has it not.
            let had = known.map(|m| m.grants.as_slice()).unwrap_or_default();
            let changed =
                spec.grants.iter().filter(|g| !had.contains(g)).chain(had.iter().filter(|g| !spec.grants.contains(g)));
            for grant in changed {
                if !by.access.covers(grant) {
                    let detail = format!("the role `{}`, as it is granted, is more than you have", grant.role.as_str());
                    return Err(RuntimeError::at(Code::AccessWider, "/grants", detail));
                }
            }
            let event = Event::MemberSet(MemberSet {
                active: spec.active,
                by: by.credential.clone(),
                email: spec.email.clone(),
                grants: spec.grants.clone(),
                groups: spec.groups.clone(),
                member: member.clone(),
                name: spec.name.clone(),
                v: BODY_VERSION,
            });
            keeps_an_owner(state, &event, self.now())?;
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }

    pub async fn revoke_credential(
        &self,
        by: &Principal,
        credential: CredentialId,
        reason: &str,
    ) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("credential.revoke", &credential, reason), |by, state| {
            by.require(Scope::AccessWrite, None)?;
            // Nobody takes away what reaches further than their own.
            if let Some(known) = state.credentials.get(&credential) {
                if known.whole {
                    by.require_whole(Scope::AccessWrite)?;
                }
                known.environments.iter().try_for_each(|e| by.require(Scope::AccessWrite, Some(e)))?;
            }
            let event = Event::CredentialRevoked(CredentialRevoked {
                by: by.credential.clone(),
                credential: credential.clone(),
                reason: reason.into(),
                v: BODY_VERSION,
            });
            keeps_an_owner(state, &event, self.now())?;
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }
}

/// Nobody takes away the last one who could give it back.
pub(crate) fn keeps_an_owner(state: &State, event: &Event, now: Timestamp) -> Result<(), RuntimeError> {
    if state.keeps_an_owner(event, now) { Ok(()) } else { Err(Code::AccessLastOwner.into()) }
}

/// Nobody makes a credential that is wider than their own, or outlives it.
pub(crate) fn may_create(by: &Principal, state: &State, spec: &CredentialSpec) -> Result<(), RuntimeError> {
    by.require(Scope::AccessWrite, None)?;
    if spec.scopes.is_empty() || spec.environments.is_empty() != spec.whole {
        let detail = "a credential needs a scope, and either environments or `\"whole\": true`";
        return Err(RuntimeError::at(Code::RequestInvalid, "/environments", detail));
    }
    // Who a person is, is the whole tenant's concern; a key of one's own is one's own.
    if spec.whole || (spec.member.is_some() && spec.member.as_ref() != by.member()) {
        by.require_whole(Scope::AccessWrite)?;
    }
    if let Some(scope) = spec.scopes.iter().find(|s| !by.access.may(**s, None)) {
        let detail = format!("`{}` is not yours to give", scope.as_str());
        return Err(RuntimeError::at(Code::ScopeMissing, "/scopes", detail));
    }
    for scope in &spec.scopes {
        if let Some(environment) = spec.environments.iter().find(|e| !by.access.may(*scope, Some(e))) {
            let detail = format!("`{}` in `{environment}` is not yours to give", scope.as_str());
            return Err(RuntimeError::at(Code::EnvironmentForbidden, "/environments", detail));
        }
        if spec.whole && !by.access.whole(*scope) {
            let detail = format!("`{}` for the whole tenant is not yours to give", scope.as_str());
            return Err(RuntimeError::at(Code::EnvironmentForbidden, "/whole", detail));
        }
        let outlives = if spec.whole {
            !by.access.whole_until(*scope, spec.expires_at)
        } else {
            spec.environments.iter().any(|e| !by.access.may_until(*scope, Some(e), spec.expires_at))
        };
        if outlives {
            let detail = "it would outlive what it is made with";
            return Err(RuntimeError::at(Code::ScopeMissing, "/expires_at", detail));
        }
    }
    if !by.access.narrows_actions(&spec.actions) {
        return Err(RuntimeError::at(Code::AccessWider, "/actions", "these actions are not yours to give"));
    }
    if !by.access.narrows_agents(&spec.agents) {
        return Err(RuntimeError::at(Code::AccessWider, "/agents", "these agents are not yours to give"));
    }
    let network = |text: &str| {
        let wrong = |_| RuntimeError::at(Code::RequestInvalid, "/networks", format!("`{text}` is not a network"));
        text.parse::<IpNet>().map_err(wrong)
    };
    let networks: Vec<IpNet> = spec.networks.iter().map(|n| network(n)).collect::<Result<_, _>>()?;
    if !by.access.narrows_networks(&networks) {
        return Err(RuntimeError::at(Code::AccessWider, "/networks", "these networks are not yours to give"));
    }
    if by.access.test && spec.live {
        return Err(RuntimeError::at(Code::CredentialKind, "/test", "a test credential makes test credentials only"));
    }
    if let Some(member) = &spec.member
        && !state.members.get(member).is_some_and(|m| m.active)
    {
        return Err(RuntimeError::at(Code::NotFound, "/member", format!("`{member}` is not an active member")));
    }
    Ok(())
}
