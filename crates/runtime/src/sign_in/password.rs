//! Passwords. Hashed and verified on threads that may block, a few at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use intended_keyring::PasswordHash;
use intended_keyring::password::weakness;
use intended_model::entry::{BODY_VERSION, SignInMethod, SignInSet};
use intended_model::{Code, Digest, Event, MemberId};
use serde::{Deserialize, Serialize};

use super::attempts::Ended;
use super::{MAX_ATTEMPTS, MAX_HASHING, Record, Secret, failed, put, version};
use crate::{Principal, Runtime, RuntimeError, Tenant};

const PURPOSE: &str = "password";
/// Attempts that wait for their turn; beyond, the server says that it has enough to do.
const MAX_WAITING: usize = 64;

/// A password as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub hash: PasswordHash,
    /// The session by a link that it was set in: a link sets one password, and no second.
    session: Option<Digest>,
}

pub(crate) fn fact(member: &MemberId) -> String {
    format!("pw/{member}")
}

impl Runtime {
    pub(crate) fn password_of(&self, tenant: &Tenant, member: &MemberId) -> Result<Option<(Kept, u64)>, RuntimeError> {
        let Some(fact) = self.fact(tenant, &fact(member))? else { return Ok(None) };
        Ok(Some((self.unseal(tenant, PURPOSE, member.as_str(), &fact)?, fact.version)))
    }

    /// Runs something that takes a core and much memory.
    pub(crate) async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RuntimeError> {
        struct Waiting<'a>(&'a std::sync::atomic::AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        let before = self.desk.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.desk.waiting);
        if before >= MAX_WAITING + MAX_HASHING {
            return Err(Code::Overloaded.into());
        }
        let place = Arc::clone(&self.desk.hashing).acquire_owned().await.map_err(RuntimeError::internal)?;
        let work = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(RuntimeError::internal)
    }

    /// Whether a password is the one. Of nobody it never is, after the same work.
    pub(crate) async fn verify_password(
        &self,
        hash: Option<PasswordHash>,
        given: Secret,
    ) -> Result<bool, RuntimeError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(PasswordHash::of_nobody);
        // More than any password has is not hashed at all: that is not a matter of whose it is.
        if given.expose().len() > 4 * intended_keyring::password::MAX {
            return Ok(false);
        }
        Ok(self.hashing(move || hash.verify(given.expose())).await? && known)
    }

    /// Sets one's own password: with the old one, or in a session that began by a link and has set none.
    /// The member's other sessions end.
    pub async fn set_password(
        &self,
        by: &Principal,
        from: Option<IpAddr>,
        member: &MemberId,
        old: Option<Secret>,
        new: Secret,
    ) -> Result<u64, RuntimeError> {
        if !by.is(member) {
            let detail = "a password is set by its member, who is signed in; others give a link";
            return Err(RuntimeError::new(Code::SessionNeeded, detail));
        }
        let session = by.session.ok_or(Code::SessionNeeded)?;
        if let Some(why) = weakness(new.expose(), member.as_str()) {
            return Err(RuntimeError::at(Code::SignInWeak, "/password", why));
        }
        let tenant = &by.tenant;
        let kept = self.password_of(tenant, member)?;
        let at = kept.as_ref().map_or(0, |(_, version)| *version);
        let by_link = session.method == SignInMethod::Link
            && kept.as_ref().is_none_or(|(kept, _)| kept.session != Some(session.id));
        if !by_link {
            let attempt = self.attempt_at(tenant, member.as_str(), from).await?;
            let hash = kept.map(|(kept, _)| kept.hash);
            if !self.verify_password(hash, old.unwrap_or_default()).await? {
                return Err(failed());
            }
            self.settle_attempt(attempt, Ended::Well).await?;
        }
        let hash = self.hashing(move || PasswordHash::new(new.expose(), &intended_keyring::SystemRng::default()));
        let hash = hash.await?.map_err(RuntimeError::internal)?;
        let kept = Kept { hash, session: (session.method == SignInMethod::Link).then_some(session.id) };
        for _ in 0..MAX_ATTEMPTS {
            let (folded, now) = (tenant.folded(), self.now());
            let by = self.current(by, &folded.state, now)?;
            // Somebody else has set it meanwhile.
            if version(self.fact(tenant, &fact(member))?.as_ref()) != at {
                return Err(Code::Conflict.into());
            }
            let set = SignInSet {
                active: true,
                by: by.credential.clone(),
                member: member.clone(),
                method: SignInMethod::Password,
                provider: None,
                subject: None,
                v: BODY_VERSION,
            };
            let mut record = Record { events: vec![Event::SignInSet(set)], ..Record::default() };
            record.reads.push((fact(member).into(), at));
            // The session that asks for it has not ended.
            let own = intended_engine::keys::sign_in(session.id);
            let stands = self.fact(tenant, &own)?.ok_or(Code::CredentialUnknown)?;
            record.reads.push((own.into(), stands.version));
            record.writes.push(put(fact(member), self.seal(tenant, PURPOSE, member.as_str(), &kept)?, None));
            self.end_others(&mut record, &by, member).await?;
            if let Some(index) = self.try_record(tenant, &folded, now, record).await? {
                return Ok(index);
            }
        }
        Err(Code::ConflictExhausted.into())
    }
}
