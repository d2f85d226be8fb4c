//! A second factor: codes by time. The secret is shown once, counts when a code of it was given back,
//! and each code is good once, at all nodes and after a restart.

use std::net::IpAddr;
use std::sync::Arc;

use intended_keyring::totp::TotpSecret;
use intended_model::entry::{BODY_VERSION, Scope, SignInMethod, SignInSet};
use intended_model::{Code, Event, MemberId, Timestamp};
use zeroize::Zeroizing;

use super::attempts::{Ended, of_code, of_place};
use super::session::has;
use super::{MAX_ATTEMPTS, Record, Secret, delete, failed, put, version};
use crate::admin::Change;
use crate::{Principal, Runtime, RuntimeError, Tenant};

const PURPOSE: &str = "totp";
const PENDING: &str = "totp-pending";
/// How long an enrolment waits for its code.
const PENDING_MS: i64 = 10 * 60_000;

/// A secret that is to be shown once.
#[derive(Debug)]
pub struct Enrolment {
    pub secret: Secret,
    pub uri: Secret,
}

fn active(member: &MemberId) -> String {
    format!("po/{member}")
}
fn pending(member: &MemberId) -> String {
    format!("pq/{member}")
}
/// The step of the last code that was used.
fn last(member: &MemberId) -> String {
    format!("pn/{member}")
}

impl Runtime {
    fn totp_secret(&self, tenant: &Tenant, member: &MemberId) -> Result<Option<(TotpSecret, u64)>, RuntimeError> {
        let Some(fact) = self.fact(tenant, &active(member))? else { return Ok(None) };
        let bytes: Vec<u8> = self.unseal(tenant, PURPOSE, member.as_str(), &fact)?;
        Ok(Some((TotpSecret::from_bytes(Zeroizing::new(bytes)), fact.version)))
    }

    /// Uses a code up. `false`: it is not one of now, or was used.
    pub(crate) async fn use_code(
        &self,
        tenant: &Arc<Tenant>,
        member: &MemberId,
        code: &Secret,
    ) -> Result<bool, RuntimeError> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            let Some((secret, at)) = self.totp_secret(tenant, member)? else { return Ok(false) };
            let used = self.fact(tenant, &last(member))?;
            let before = used.as_ref().and_then(|f| String::from_utf8_lossy(&f.value).parse().ok());
            let Some(step) = secret.verify(code.expose(), now, before) else { return Ok(false) };
            let record = Record {
                reads: vec![(active(member).into(), at), (last(member).into(), version(used.as_ref()))],
                writes: vec![put(last(member), step.to_string(), None)],
                events: Vec::new(),
            };
            if self.try_record(tenant, &tenant.folded(), now, record).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// [`Self::use_code`], counted: by whoever was right in all that comes before the code.
    pub(crate) async fn guess_code(
        &self,
        tenant: &Arc<Tenant>,
        member: &MemberId,
        code: &Secret,
    ) -> Result<(), RuntimeError> {
        let attempt = self.attempt(tenant, vec![of_code(member)]).await?;
        if !self.use_code(tenant, member, code).await? {
            return Err(failed());
        }
        self.settle_attempt(attempt, Ended::Well).await
    }

    /// Makes a secret for one's own authenticator. It counts from [`Self::confirm_totp`] on.
    pub async fn enrol_totp(&self, by: &Principal, member: &MemberId) -> Result<Enrolment, RuntimeError> {
        if !by.is(member) {
            return Err(RuntimeError::new(Code::SessionNeeded, "an authenticator is enrolled by its member"));
        }
        let tenant = &by.tenant;
        if has(&tenant.state(), member, SignInMethod::Totp) {
            return Err(RuntimeError::new(Code::Conflict, "remove the authenticator that there is first"));
        }
        let secret = TotpSecret::generate(self.rng()).map_err(RuntimeError::internal)?;
        let now = self.now();
        let until = now.plus_millis(PENDING_MS);
        let sealed = self.seal(tenant, PENDING, member.as_str(), &(secret.as_bytes(), until))?;
        let record = Record { writes: vec![put(pending(member), sealed, Some(until))], ..Record::default() };
        self.try_record(tenant, &tenant.folded(), now, record).await?.ok_or(Code::Conflict)?;
        let uri = secret.uri(tenant.id.as_str(), member.as_str());
        Ok(Enrolment { secret: Secret::new(secret.base32().as_str()), uri: Secret::new(uri.as_str()) })
    }

    /// A code of the secret was given back: from here on signing in takes one.
    pub async fn confirm_totp(
        &self,
        by: &Principal,
        from: Option<IpAddr>,
        member: &MemberId,
        code: &Secret,
    ) -> Result<u64, RuntimeError> {
        if !by.is(member) {
            return Err(RuntimeError::new(Code::SessionNeeded, "an authenticator is enrolled by its member"));
        }
        let tenant = &by.tenant;
        let attempt = self.attempt(tenant, vec![of_code(member), of_place(from)]).await?;
        let none = || RuntimeError::new(Code::NotFound, "no enrolment waits for a code");
        let fact = self.fact(tenant, &pending(member))?.ok_or_else(none)?;
        let (bytes, until): (Vec<u8>, Timestamp) = self.unseal(tenant, PENDING, member.as_str(), &fact)?;
        // The store has what has expired for a while yet.
        if self.now() >= until {
            return Err(none());
        }
        let secret = TotpSecret::from_bytes(Zeroizing::new(bytes));
        let Some(step) = secret.verify(code.expose(), self.now(), None) else { return Err(failed()) };
        let sealed = self.seal(tenant, PURPOSE, member.as_str(), &secret.as_bytes())?;
        let changed = self.change(by, ("totp.confirm", member), |by, state| {
            if has(state, member, SignInMethod::Totp) {
                return Err(Code::Conflict.into());
            }
            let mut change = Change::new(set(by, member, true), ());
            change.writes.push(put(active(member), sealed.clone(), None));
            change.writes.push(put(last(member), step.to_string(), None));
            change.writes.push(delete(pending(member)));
            Ok(change)
        });
        let index = changed.await?.index;
        self.settle_attempt(attempt, Ended::Well).await?;
        Ok(index)
    }

    /// Removes an authenticator: one's own with a code of it; a lost one by who gives access, if the
    /// member may do no more than they may.
    pub async fn remove_totp(
        &self,
        by: &Principal,
        from: Option<IpAddr>,
        member: &MemberId,
        code: Option<&Secret>,
    ) -> Result<u64, RuntimeError> {
        let tenant = &by.tenant;
        let own = by.is(member);
        if own {
            let attempt = self.attempt(tenant, vec![of_place(from)]).await?;
            self.guess_code(tenant, member, code.unwrap_or(&Secret::default())).await?;
            self.settle_attempt(attempt, Ended::Well).await?;
        }
        let changed = self.change(by, ("totp.remove", member), |by, state| {
            let known = state.members.get(member);
            if !own {
                by.require_whole(Scope::AccessWrite)?;
                let known = known.ok_or(Code::NotFound)?;
                if by.member() == Some(member) {
                    return Err(RuntimeError::new(Code::AccessOwn, "one's own is removed in a session, with a code"));
                }
                if !by.access.covers_member(known, self.now()) {
                    return Err(RuntimeError::new(Code::AccessWider, format!("`{member}` may do more than you may")));
                }
            }
            if !known.is_some_and(|m| m.sign_in.contains(&SignInMethod::Totp)) {
                return Err(RuntimeError::new(Code::NotFound, "there is no authenticator"));
            }
            let mut change = Change::new(set(by, member, false), ());
            change.writes.push(delete(active(member)));
            Ok(change)
        });
        Ok(changed.await?.index)
    }
}

fn set(by: &Principal, member: &MemberId, active: bool) -> Event {
    Event::SignInSet(SignInSet {
        active,
        by: by.credential.clone(),
        member: member.clone(),
        method: SignInMethod::Totp,
        provider: None,
        subject: None,
        v: BODY_VERSION,
    })
}
