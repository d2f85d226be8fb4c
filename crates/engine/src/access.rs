//! Who may do what, where: what a credential or a signed-in member comes to in a state, at a time.
//!
//! A credential of its own has its scopes in its environments. A member's has what it names of what
//! the member's roles give, and a member who is signed in has all of that. Whatever is revoked,
//! expired or of somebody who is not active gives nothing; a test key gives nothing in production.

use std::collections::BTreeSet;

use ipnet::IpNet;

use intended_model::entry::{RoleGrant, Scope, Scopes, SignInMethod, Tier};
use intended_model::{CredentialId, Digest, EnvironmentId, Event, MemberId, Name, Timestamp};

use crate::state::{Credential, Decides, Member, State};

/// Who operates the server: whose key is in its configuration, and in no ledger.
pub const OPERATOR: &str = "operator";
/// What an identity provider's word is recorded under, before its name. No credential is named so.
pub const PROVIDER_PREFIX: &str = "provider.";

/// Longest that a key stays good after its credential got another: 7 days.
pub const MAX_OVERLAP_SECS: u32 = 604_800;

/// Why somebody may do nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAccess {
    #[error("there is no such credential")]
    Unknown,
    #[error("it was revoked")]
    Revoked,
    #[error("it has expired")]
    Expired,
    #[error("it was good for one halt, and threw it")]
    Spent,
    #[error("the person behind it is not an active member")]
    MemberInactive,
}

/// Some scopes in some environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub scopes: Scopes,
    /// Those that there are now, sorted.
    pub environments: Vec<EnvironmentId>,
    /// Exclusive.
    pub expires_at: Option<Timestamp>,
    /// For what is the whole tenant's as well.
    pub whole: bool,
}

/// What somebody may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    held: Vec<Held>,
    /// Patterns of the tools that intents may be submitted for; none: any.
    pub actions: Vec<Box<str>>,
    /// Patterns of the agents that intents may be submitted for; none: any.
    pub agents: Vec<Box<str>>,
    /// Where requests may come from; none: from anywhere.
    pub networks: Vec<IpNet>,
    /// The person.
    pub member: Option<MemberId>,
    /// A key that is never good for production.
    pub test: bool,
    /// From then on it is to be looked at again.
    pub valid_until: Option<Timestamp>,
    /// Every environment of `held`, sorted.
    environments: Vec<EnvironmentId>,
}

/// Whether each of some patterns lies within one of others, of which none means any.
fn narrower(patterns: &[Box<str>], than: &[Box<str>]) -> bool {
    let inside = |pattern: &str| than.iter().any(|own| within(pattern, own));
    than.is_empty() || (!patterns.is_empty() && patterns.iter().all(|p| inside(p)))
}

impl Access {
    fn new(mut held: Vec<Held>) -> Self {
        // Who answers for the signing keys tests them. Keys and roles from before there was that scope
        // are good for it too, and so can give it.
        let tests = |h: &Held| h.scopes.contains(Scope::KeyWrite);
        held.iter_mut().filter(|h| tests(h)).for_each(|h| h.scopes = h.scopes.or(Scopes::of(&[Scope::TokenTest])));
        let environments: BTreeSet<_> = held.iter().flat_map(|h| &h.environments).cloned().collect();
        let valid_until = held.iter().filter_map(|h| h.expires_at).min();
        Self { held, environments: environments.into_iter().collect(), valid_until, ..Self::default() }
    }

    /// Whether it has a scope: in an environment, or somewhere.
    #[must_use]
    pub fn may(&self, scope: Scope, environment: Option<&EnvironmentId>) -> bool {
        self.may_until(scope, environment, Some(Timestamp::from_millis(i64::MIN)))
    }

    /// Whether it has a scope in an environment (or somewhere), and at least until then; `None` is
    /// for good. What is given to others lasts no longer than what one has.
    #[must_use]
    pub fn may_until(&self, scope: Scope, environment: Option<&EnvironmentId>, until: Option<Timestamp>) -> bool {
        self.held.iter().any(|h| {
            h.scopes.contains(scope) && lasts(h, until) && environment.is_none_or(|e| h.environments.contains(e))
        })
    }

    /// Whether it has a scope for what is the whole tenant's.
    #[must_use]
    pub fn whole(&self, scope: Scope) -> bool {
        self.whole_until(scope, Some(Timestamp::from_millis(i64::MIN)))
    }
    /// Whether it has a scope in an environment, or with none for what is the whole tenant's.
    #[must_use]
    pub fn may_in(&self, scope: Scope, environment: Option<&EnvironmentId>) -> bool {
        environment.map_or_else(|| self.whole(scope), |environment| self.may(scope, Some(environment)))
    }
    #[must_use]
    pub fn whole_until(&self, scope: Scope, until: Option<Timestamp>) -> bool {
        self.held.iter().any(|h| h.whole && h.scopes.contains(scope) && lasts(h, until))
    }

    /// The environments where it may do anything, sorted.
    #[must_use]
    pub fn environments(&self) -> &[EnvironmentId] {
        &self.environments
    }
    /// The environments where it has a scope.
    pub fn environments_with(&self, scope: Scope) -> impl Iterator<Item = &EnvironmentId> {
        self.environments.iter().filter(move |e| self.may(scope, Some(e)))
    }
    /// Whether requests may come from an address. One that is not known is in no network.
    #[must_use]
    pub fn reachable_from(&self, address: Option<core::net::IpAddr>) -> bool {
        self.networks.is_empty() || address.is_some_and(|a| self.networks.iter().any(|n| n.contains(&a.to_canonical())))
    }
    /// Every scope that it has somewhere.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.held.iter().fold(Scopes::NONE, |all, h| all.or(h.scopes))
    }
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Only what has a scope: to say what of many things somebody sees.
    #[must_use]
    pub fn only(&self, scope: Scope) -> Self {
        let held = self.held.iter().filter(|h| h.scopes.contains(scope)).cloned().collect();
        let new = Self::new(held);
        Self { held: new.held, environments: new.environments, ..self.clone() }
    }
    /// Whether any of it is for the whole tenant.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.held.iter().any(|h| h.whole)
    }

    /// Whether intents for a tool may be submitted with it.
    #[must_use]
    pub fn acts(&self, tool: &str) -> bool {
        self.actions.is_empty() || self.actions.iter().any(|p| matches(p, tool))
    }

    /// Whether a credential with these patterns and networks, and for tests or not, is no wider than
    /// this. An action, an agent or a network is narrower where it lies within one that is here.
    #[must_use]
    pub fn narrows(&self, actions: &[Box<str>], agents: &[Box<str>], networks: &[IpNet], test: bool) -> bool {
        self.narrows_actions(actions)
            && self.narrows_agents(agents)
            && self.narrows_networks(networks)
            && (test || !self.test)
    }
    #[must_use]
    pub fn narrows_actions(&self, actions: &[Box<str>]) -> bool {
        narrower(actions, &self.actions)
    }
    #[must_use]
    pub fn narrows_agents(&self, agents: &[Box<str>]) -> bool {
        narrower(agents, &self.agents)
    }
    #[must_use]
    pub fn narrows_networks(&self, networks: &[IpNet]) -> bool {
        let inside = |network: &IpNet| self.networks.iter().any(|own| own.contains(network));
        self.networks.is_empty() || (!networks.is_empty() && networks.iter().all(inside))
    }

    /// Whether a role, as it would be granted, is within this. A role has none of the bounds that a key
    /// can have: who is bound to tests, some tools or some networks gives none.
    #[must_use]
    pub fn covers(&self, grant: &RoleGrant) -> bool {
        let bound = self.test || !self.actions.is_empty() || !self.agents.is_empty() || !self.networks.is_empty();
        !bound
            && grant.role.scopes().iter().all(|scope| {
                (!grant.whole || self.whole_until(scope, grant.expires_at))
                    && grant.environments.iter().all(|e| self.may_until(scope, Some(e), grant.expires_at))
            })
    }

    /// Whether all that a member may do at a time is within this: who has less does not get to act as
    /// them. What has expired counts for nothing.
    #[must_use]
    pub fn covers_member(&self, member: &Member, at: Timestamp) -> bool {
        member.grants.iter().filter(|g| g.expires_at.is_none_or(|end| end > at)).all(|g| self.covers(g))
    }
}

fn lasts(held: &Held, until: Option<Timestamp>) -> bool {
    lasts_until(held.expires_at, until)
}
fn lasts_until(end: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    end.is_none_or(|end| until.is_some_and(|until| until <= end))
}

/// Whether a text is what a pattern says: exactly, or up to its `*`.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == text, |prefix| text.starts_with(prefix))
}

/// Whether all that `inner` matches is matched by `outer`.
#[must_use]
pub fn within(inner: &str, outer: &str) -> bool {
    match (inner.strip_suffix('*'), outer.strip_suffix('*')) {
        (_, None) => inner == outer,
        (Some(inner), Some(outer)) => inner.starts_with(outer),
        (None, Some(outer)) => inner.starts_with(outer),
    }
}

/// Whether a text is a pattern: 1 to 128 printable ASCII characters, with a `*` at its end only.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    let body = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty() && text.len() <= 128 && body.bytes().all(|b| b.is_ascii_graphic() && b != b'*')
}

impl State {
    /// What somebody may do at a time: a credential, or a member who is signed in.
    pub fn access(&self, by: &CredentialId, at: Timestamp) -> Result<Access, NoAccess> {
        match by.member() {
            Some(member) => self.member_access(&member, at),
            None => self.credential_access(self.credentials.get(by).ok_or(NoAccess::Unknown)?, at),
        }
    }

    /// What a member's roles come to.
    pub fn member_access(&self, id: &MemberId, at: Timestamp) -> Result<Access, NoAccess> {
        let member = self.members.get(id).filter(|m| m.active).ok_or(NoAccess::MemberInactive)?;
        let mut access = Access::new(self.roles(member, at));
        access.member = Some(id.clone());
        Ok(access)
    }

    fn credential_access(&self, credential: &Credential, at: Timestamp) -> Result<Access, NoAccess> {
        if credential.revoked {
            return Err(NoAccess::Revoked);
        }
        if credential.glass.as_ref().is_some_and(|g| g.spent.is_some()) {
            return Err(NoAccess::Spent);
        }
        if credential.expires_at.is_some_and(|end| end <= at) {
            return Err(NoAccess::Expired);
        }
        let own = Held {
            scopes: credential.scopes.iter().copied().collect(),
            environments: self.environments_in(credential.whole, &credential.environments, credential.test),
            expires_at: credential.expires_at,
            // What is the whole tenant's is production's too.
            whole: credential.whole && !credential.test,
        };
        let held = match &credential.member {
            None => vec![own],
            Some(id) => {
                let member = self.members.get(id).filter(|m| m.active).ok_or(NoAccess::MemberInactive)?;
                self.roles(member, at).iter().map(|role| both(role, &own)).filter(|h| !h.scopes.is_empty()).collect()
            }
        };
        let mut access = Access::new(held);
        access.valid_until = access.valid_until.into_iter().chain(credential.expires_at).min();
        access.actions.clone_from(&credential.actions);
        access.agents.clone_from(&credential.agents);
        access.networks.clone_from(&credential.networks);
        access.member.clone_from(&credential.member);
        access.test = credential.test;
        Ok(access)
    }

    /// Whether after an entry there is still somebody who gives access in the whole tenant, and, where
    /// there was one, somebody who does so until it is taken away. Otherwise nobody could ever again.
    #[must_use]
    pub fn keeps_an_owner(&self, event: &Event, at: Timestamp) -> bool {
        let mut after = self.clone();
        if after.apply(u64::MAX, event).is_err() {
            // It is refused for what it is.
            return true;
        }
        let kept = |lasting: bool| !self.has_owner(at, lasting) || after.has_owner(at, lasting);
        kept(true) && kept(false)
    }

    /// Whether somebody can come in and give access in the whole tenant; `lasting`: without an end.
    fn has_owner(&self, at: Timestamp, lasting: bool) -> bool {
        let until = if lasting { None } else { Some(at) };
        // A key for tests makes none that is good for production.
        let gives = |access: Access| {
            access.networks.is_empty() && !access.test && access.whole_until(Scope::AccessWrite, until)
        };
        // Most have nothing to do with it: they are passed over without working out what they may do.
        let could = |c: &Credential| c.whole && !c.revoked && c.scopes.contains(&Scope::AccessWrite);
        let granted = |m: &Member| m.grants.iter().any(|g| g.whole && g.role.scopes().contains(Scope::AccessWrite));
        // Who has no way to sign in gives nothing. A link is good once, and a provider takes away at the
        // next sign-in what it does not give itself.
        let gives_as_much = |g: &RoleGrant| g.whole && g.role.scopes().contains(Scope::AccessWrite);
        let by_provider = |m: &Member| {
            m.oidc.as_ref().is_some_and(|l| {
                let provider = self.providers.get(&l.provider).filter(|p| p.issuer == l.issuer);
                provider.is_some_and(|p| p.mappings.values().any(|m| m.grants.iter().any(gives_as_much)))
            })
        };
        let signs_in = |m: &Member| m.active && (m.sign_in.contains(&SignInMethod::Password) || by_provider(m));
        self.credentials.values().any(|c| could(c) && self.credential_access(c, at).is_ok_and(gives))
            || self
                .members
                .iter()
                .any(|(id, m)| signs_in(m) && granted(m) && self.member_access(id, at).is_ok_and(gives))
    }

    fn roles(&self, member: &Member, at: Timestamp) -> Vec<Held> {
        let good = |g: &&RoleGrant| g.expires_at.is_none_or(|end| end > at);
        let held = |g: &RoleGrant| Held {
            scopes: g.role.scopes(),
            environments: self.environments_in(g.whole, &g.environments, false),
            expires_at: g.expires_at,
            whole: g.whole,
        };
        member.grants.iter().filter(good).map(held).collect()
    }

    /// Those that there are, sorted.
    fn environments_in(&self, whole: bool, named: &[EnvironmentId], test: bool) -> Vec<EnvironmentId> {
        let good =
            |e: &&crate::state::Environment| (whole || named.contains(&e.id)) && !(test && e.tier == Tier::Production);
        self.environments.values().filter(good).map(|e| e.id.clone()).collect()
    }

    /// Whether a credential is good for an environment, whatever its scopes.
    #[must_use]
    pub fn reaches(&self, credential: &Credential, environment: &EnvironmentId) -> bool {
        let production = self.environments.get(environment).is_some_and(|e| e.tier == Tier::Production);
        (credential.whole || credential.environments.contains(environment)) && !(credential.test && production)
    }
}

/// What both give.
fn both(a: &Held, b: &Held) -> Held {
    Held {
        scopes: a.scopes.and(b.scopes),
        environments: a.environments.iter().filter(|e| b.environments.contains(e)).cloned().collect(),
        expires_at: a.expires_at.into_iter().chain(b.expires_at).min(),
        whole: a.whole && b.whole,
    }
}

impl Decides {
    /// Whether all that `other` gives is given by this one, since as early.
    fn includes(&self, other: &Self) -> bool {
        (self.environment.is_none() || self.environment == other.environment)
            && self.since <= other.since
            && lasts_until(self.expires_at, other.expires_at)
    }
}

impl Member {
    /// Whether the member was in a group before a ledger position.
    #[must_use]
    pub fn was_in(&self, group: &str, before: u64) -> bool {
        self.since.get(group).is_some_and(|since| *since < before)
    }

    /// Whether a link is the last one that was given to the member, and not too old.
    #[must_use]
    pub fn has_link(&self, link: Digest, at: Timestamp) -> bool {
        self.link.is_some_and(|(known, until)| known == link && at < until)
    }

    /// The groups after a change at `index`: who stays is in since before.
    pub(crate) fn joined(before: Option<&Self>, groups: &[Name], index: u64) -> std::collections::BTreeMap<Name, u64> {
        let since = |g: &Name| before.filter(|m| m.active).and_then(|m| m.since.get(g)).copied().unwrap_or(index);
        groups.iter().map(|g| (g.clone(), since(g))).collect()
    }

    /// The groups that the member has left by a change at `index`, or before.
    pub(crate) fn parted(before: Option<&Self>, groups: &[Name], index: u64) -> std::collections::BTreeMap<Name, u64> {
        let mut left = before.map(|m| m.left.clone()).unwrap_or_default();
        let gone = before.into_iter().flat_map(|m| &m.groups).filter(|g| !groups.contains(g));
        left.extend(gone.map(|g| (g.clone(), index)));
        left
    }

    /// Whether the member is in a group, or was at or after a ledger position.
    #[must_use]
    pub fn in_since(&self, group: &str, position: u64) -> bool {
        self.groups.iter().any(|g| g.as_str() == group) || self.left.get(group).is_some_and(|until| *until > position)
    }

    /// Whether the member has had a say in an environment since before a ledger position, and has it.
    #[must_use]
    pub fn decided_in(&self, environment: &EnvironmentId, before: u64, at: Timestamp) -> bool {
        self.decides.iter().any(|d| {
            d.environment.as_ref().is_none_or(|e| e == environment)
                && d.since < before
                && d.expires_at.is_none_or(|end| end > at)
        })
    }

    /// Where roles give a say after a change at `index`: what was had before, for as long as it was had
    /// for, is had since before, whatever else the roles are.
    pub(crate) fn say(before: Option<&Self>, grants: &[RoleGrant], index: u64) -> Vec<Decides> {
        let before = before.filter(|m| m.active);
        // As when a provider says again what it said.
        if let Some(same) = before.filter(|m| m.grants == grants) {
            return same.decides.clone();
        }
        let had = before.map(|m| m.decides.as_slice()).unwrap_or_default();
        let mut all: Vec<Decides> = Vec::new();
        for grant in grants.iter().filter(|g| g.role.scopes().contains(Scope::ApprovalDecide)) {
            let everywhere = grant.whole.then_some(None);
            for environment in grant.environments.iter().cloned().map(Some).chain(everywhere) {
                let kept = had.iter().filter_map(|had| {
                    let both = match (&had.environment, &environment) {
                        (Some(a), Some(b)) if a != b => return None,
                        (a, b) => a.as_ref().or(b.as_ref()).cloned(),
                    };
                    let expires_at = had.expires_at.into_iter().chain(grant.expires_at).min();
                    Some(Decides { environment: both, expires_at, since: had.since })
                });
                let new = Decides { environment: environment.clone(), expires_at: grant.expires_at, since: index };
                for one in kept.chain([new]) {
                    if !all.iter().any(|known| known.includes(&one)) {
                        all.retain(|known| !one.includes(known));
                        all.push(one);
                    }
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_lies_within_another_when_it_can_match_nothing_else() {
        for (inner, outer, holds) in [
            ("github.create", "github.create", true),
            ("github.create", "github.*", true),
            ("github.*", "github.*", true),
            ("github.pr.*", "github.*", true),
            ("github.*", "github.pr.*", false),
            ("github.*", "github.create", false),
            ("*", "github.*", false),
            ("anything", "*", true),
        ] {
            assert_eq!(within(inner, outer), holds, "{inner} in {outer}");
        }
    }

    #[test]
    fn a_pattern_has_its_star_at_the_end() {
        for good in ["a", "*", "github.*", "x/y"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "a*b", "**", "a b", "é", "\u{7f}"] {
            assert!(!is_pattern(bad), "{bad}");
        }
    }
}
