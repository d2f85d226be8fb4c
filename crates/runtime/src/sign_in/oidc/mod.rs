//! Identity providers: OpenID Connect Core 1.0, authorization code with PKCE (RFC 7636, S256).
//!
//! * [`http`]: the requests, bounded in time and size
//! * [`id_token`]: what a provider says of who somebody is
//! * [`flow`]: how a sign-in begins and ends
//! * [`people`]: which member that is
//!
//! What a provider says counts as far as its groups are mapped, and no member that it did not make is
//! taken over on its word.

use std::collections::BTreeMap;

use intended_model::entry::{BODY_VERSION, IdentityProviderSet, ProviderGroup, Scope, SignInMethod, SignInSet};
use intended_model::{Code, Event, MemberId, Name};
use serde::Serialize;

use super::{Secret, delete, put, unsafe_in_text};
use crate::access::keeps_an_owner;
use crate::admin::Change;
use crate::webhooks::Reach;
use crate::{Principal, Runtime, RuntimeError, Tenant};

pub mod flow;
pub mod http;
pub mod id_token;
pub mod people;

pub use flow::Begun;
pub(crate) use http::Http;

const PURPOSE: &str = "oidc-client";

/// A provider as it is to be. All of it is new: what is left out is gone, but the secret.
#[derive(Debug, Clone, Serialize)]
pub struct ProviderSpec {
    pub active: bool,
    pub client_id: Box<str>,
    /// Absent: it stays, unless issuer or client are others.
    #[serde(skip)]
    pub client_secret: Option<Secret>,
    pub groups_claim: Box<str>,
    pub issuer: Box<str>,
    pub mappings: BTreeMap<Box<str>, ProviderGroup>,
    pub member_claim: Option<Box<str>>,
    pub provider: Name,
}

/// A client's secret.
fn secret(provider: &Name) -> String {
    format!("pi/{provider}")
}
/// What it is bound to: a secret goes to the issuer that it was given for, and to no other.
fn owner(provider: &IdentityProviderSet) -> String {
    format!("{}/{}/{}", provider.provider, provider.client_id, provider.issuer)
}

impl Runtime {
    /// Which addresses providers may have, besides public ones: said once, before any is asked.
    pub fn reach_providers(&self, reach: Reach) {
        self.desk.http.reaches(reach);
    }

    /// Sets an identity provider up, changes or removes it.
    pub async fn set_provider(&self, by: &Principal, spec: ProviderSpec) -> Result<u64, RuntimeError> {
        // Who removes one need not have one that may still be asked.
        check(&spec, self.desk.http.reach(), spec.active)?;
        let changed = self.change(by, ("provider", &spec), |by, state| {
            by.require_whole(Scope::AccessWrite)?;
            let set = IdentityProviderSet {
                active: spec.active,
                by: by.credential.clone(),
                client_id: spec.client_id.clone(),
                groups_claim: spec.groups_claim.clone(),
                issuer: spec.issuer.clone(),
                mappings: spec.mappings.clone(),
                member_claim: spec.member_claim.clone(),
                provider: spec.provider.clone(),
                v: BODY_VERSION,
            };
            let wide = spec.mappings.iter().find(|(_, m)| !m.grants.iter().all(|g| by.access.covers(g)));
            if let Some((group, _)) = wide {
                let pointer = format!("/mappings{}", crate::pointer_step(group));
                return Err(RuntimeError::at(Code::AccessWider, pointer, "this is more than you have"));
            }
            let known = state.providers.get(&spec.provider);
            if !spec.active && known.is_none() {
                return Err(Code::NotFound.into());
            }
            let kept = known.is_some_and(|k| owner(k) == owner(&set));
            let event = Event::IdentityProviderSet(set.clone());
            keeps_an_owner(state, &event, self.now())?;
            let mut change = Change::new(event, ());
            match &spec.client_secret {
                Some(text) if spec.active => {
                    let sealed = self.seal(&by.tenant, PURPOSE, &owner(&set), &text.expose())?;
                    change.writes.push(put(secret(&spec.provider), sealed, None));
                }
                None if spec.active && kept => {}
                _ => change.writes.push(delete(secret(&spec.provider))),
            }
            Ok(change)
        });
        Ok(changed.await?.index)
    }

    fn client_secret(&self, tenant: &Tenant, provider: &IdentityProviderSet) -> Result<Option<Secret>, RuntimeError> {
        let Some(fact) = self.fact(tenant, &secret(&provider.provider))? else { return Ok(None) };
        Ok(Some(self.unseal(tenant, PURPOSE, &owner(provider), &fact)?))
    }

    /// Lets a member that somebody made sign in with a provider that knows them by name and address,
    /// or with none. Nobody gives a way of acting as somebody who may do more, or as themselves.
    pub async fn link_provider(
        &self,
        by: &Principal,
        member: &MemberId,
        provider: Option<&Name>,
    ) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("oidc", member, provider), |by, state| {
            by.require_whole(Scope::AccessWrite)?;
            let known = state.members.get(member).filter(|m| m.active).ok_or(Code::NotFound)?;
            if by.member() == Some(member) {
                return Err(RuntimeError::new(Code::AccessOwn, format!("`{member}`")));
            }
            if !by.access.covers_member(known, self.now()) {
                return Err(RuntimeError::new(Code::AccessWider, format!("`{member}` may do more than you may")));
            }
            if provider.is_some_and(|p| !state.providers.contains_key(p)) {
                return Err(RuntimeError::at(Code::NotFound, "/provider", "there is no such identity provider"));
            }
            if provider.is_some() && known.email.is_none() {
                let detail = "a member is linked by their address, and this one has none";
                return Err(RuntimeError::new(Code::RequestInvalid, detail));
            }
            let set = SignInSet {
                active: provider.is_some(),
                by: by.credential.clone(),
                member: member.clone(),
                method: SignInMethod::Oidc,
                provider: provider.cloned(),
                subject: None,
                v: BODY_VERSION,
            };
            let event = Event::SignInSet(set);
            keeps_an_owner(state, &event, self.now())?;
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }
}

fn check(spec: &ProviderSpec, reach: &Reach, asked: bool) -> Result<(), RuntimeError> {
    let text = |at: &str, text: &str, most: usize| {
        let good = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic());
        let wrong = || RuntimeError::at(Code::TextUnsafe, at, format!("1 to {most} printable ASCII characters"));
        if good { Ok(()) } else { Err(wrong()) }
    };
    text("/issuer", &spec.issuer, 256)?;
    text("/client_id", &spec.client_id, 256)?;
    text("/groups_claim", &spec.groups_claim, 64)?;
    if let Some(secret) = &spec.client_secret {
        text("/client_secret", secret.expose(), 512)?;
    }
    let good = |url: reqwest::Url| url.query().is_none() && url.fragment().is_none();
    if asked && !http::address(&spec.issuer, reach).is_some_and(good) {
        let detail =
            "an issuer is an https:// address without a query, and public unless the operator allows its network";
        return Err(RuntimeError::at(Code::RequestInvalid, "/issuer", detail));
    }
    if !matches!(spec.member_claim.as_deref(), None | Some("preferred_username" | "email")) {
        let detail = "a member is named by `preferred_username` or `email`";
        return Err(RuntimeError::at(Code::RequestInvalid, "/member_claim", detail));
    }
    for group in spec.mappings.keys() {
        let good = !group.is_empty() && group.len() <= 256 && !group.chars().any(unsafe_in_text);
        if !good {
            let pointer = format!("/mappings{}", crate::pointer_step(group));
            return Err(RuntimeError::at(Code::TextUnsafe, pointer, "1 to 256 bytes, nothing invisible"));
        }
    }
    Ok(())
}
