//! Which member somebody is whom a provider speaks of. By the provider's own subject, once that is known;
//! until then by name, and a name takes nobody over.

use std::sync::Arc;

use intended_engine::access::PROVIDER_PREFIX;
use intended_model::entry::{BODY_VERSION, IdentityProviderSet, MemberSet, SignInMethod, SignInSet};
use intended_model::{CredentialId, Digest, Event, MemberId};

use super::http::refused;
use super::id_token::Claims;
use crate::access::keeps_an_owner;
use crate::sign_in::session::{Basis, has};
use crate::sign_in::{MAX_ATTEMPTS, Record};
use crate::{Runtime, RuntimeError, Tenant, not_suspended};

/// Who a subject of an issuer is: under a name change it is the same person.
fn subject(issuer: &str, subject: &str) -> Digest {
    Digest::of(format!("{issuer}\n{subject}").as_bytes())
}

impl Runtime {
    /// The member, and what makes them what their groups say; `Err` when the provider's word is not
    /// enough. Groups that are gone are gone, also when nothing is left to sign in with.
    pub(super) async fn member_of(
        &self,
        tenant: &Arc<Tenant>,
        provider: &IdentityProviderSet,
        claims: &Claims,
    ) -> Result<(MemberId, Basis), RuntimeError> {
        let by = CredentialId::new(&format!("{PROVIDER_PREFIX}{}", provider.provider));
        let by = by.map_err(|_| refused("its name is too long"))?;
        let subject = subject(&provider.issuer, &claims.subject);
        for _ in 0..MAX_ATTEMPTS {
            let folded = tenant.folded();
            let state = &folded.state;
            not_suspended(state)?;
            let mut record = Record::default();
            let member = match state.bound_to(subject) {
                Some((member, _)) => member.clone(),
                None => named(provider, claims)?,
            };
            let before = state.members.get(&member);
            let linked = before.filter(|_| has(state, &member, SignInMethod::Oidc)).and_then(|m| m.oidc.as_ref());
            let linked = linked.filter(|l| l.provider == provider.provider);
            let stranger = || refused(format!("`{member}` is a member already, and is not linked to this provider"));
            match (before, linked) {
                // A new one, and one that this provider is known to speak of.
                (None, _) => {}
                (Some(_), Some(l)) if l.subject == Some(subject) => {}
                // Somebody made the member, and said that the provider may speak of them.
                (Some(m), Some(l)) if l.subject.is_none() && l.issuer == provider.issuer => {
                    let equal =
                        m.email.as_deref().zip(claims.email.as_deref()).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
                    if !equal {
                        return Err(stranger());
                    }
                }
                _ => return Err(stranger()),
            }
            // From here on it is the subject that counts, and it is in the ledger who that is.
            let binds = linked.is_none_or(|l| l.subject.is_none());
            let binding = Event::SignInSet(SignInSet {
                active: true,
                by: by.clone(),
                member: member.clone(),
                method: SignInMethod::Oidc,
                provider: Some(provider.provider.clone()),
                subject: Some(subject),
                v: BODY_VERSION,
            });
            if binds && before.is_some() {
                record.events.push(binding.clone());
            }
            let mapped: Vec<_> = claims.groups.iter().filter_map(|g| provider.mappings.get(g.as_str())).collect();
            let (mut grants, mut groups) = (Vec::new(), Vec::new());
            for group in &mapped {
                grants.extend(group.grants.iter().cloned());
                groups.extend(group.groups.iter().cloned());
            }
            grants.sort();
            grants.dedup();
            groups.sort();
            groups.dedup();
            if before.is_none() && mapped.is_empty() {
                return Err(refused("none of this person's groups means anything here"));
            }
            let set = MemberSet {
                active: true,
                by: by.clone(),
                email: claims.email.as_deref().map(Into::into).or_else(|| before.and_then(|m| m.email.clone())),
                grants,
                groups,
                member: member.clone(),
                name: claims.name.as_deref().map(Into::into).or_else(|| before.and_then(|m| m.name.clone())),
                v: BODY_VERSION,
            };
            let as_it_is = before.is_some_and(|m| {
                m.email == set.email && m.grants == set.grants && m.groups == set.groups && m.name == set.name
            });
            if !as_it_is {
                record.events.push(Event::MemberSet(set));
            }
            if before.is_none() {
                record.events.push(binding);
            }
            for event in &record.events {
                keeps_an_owner(state, event, self.now())?;
            }
            // Before the session, and whether there is one or not.
            if !record.events.is_empty() && self.try_record(tenant, &folded, self.now(), record).await?.is_none() {
                continue;
            }
            if mapped.is_empty() {
                return Err(refused("none of this person's groups means anything here"));
            }
            return Ok((member, Basis::default()));
        }
        Err(intended_model::Code::ConflictExhausted.into())
    }
}

/// The member that a provider's claims name. What is not a name is not made one.
fn named(provider: &IdentityProviderSet, claims: &Claims) -> Result<MemberId, RuntimeError> {
    let text = match provider.member_claim.as_deref() {
        Some("email") => claims.email.as_deref().and_then(|e| e.split_once('@')).map(|(local, _)| local),
        _ => claims.username.as_deref(),
    };
    let text = text.ok_or_else(|| refused("it does not say who this is, or has not verified the address"))?;
    let lower = text.to_ascii_lowercase();
    let member = MemberId::new(&lower).ok().filter(|m| CredentialId::of_member(m).is_some());
    member.ok_or_else(|| refused("what it calls this person is not a member's name"))
}
