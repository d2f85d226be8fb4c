//! Sessions: how one begins, is used, and ends. A session's fact stands under the SHA-256 of its key and
//! is looked at on each request, as is the state: what is ended or taken away is gone at once.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use intended_engine::{KeptSignIn, State, keys};
use intended_keyring::SessionKey;
use intended_model::entry::{BODY_VERSION, Scope, SessionEnded, SessionStarted, SignInMethod};
use intended_model::{Code, CredentialId, Digest, Event, MemberId, Timestamp};

use super::attempts::{Ended, of_place};
use super::{MAX_ATTEMPTS, Record, Secret, Session, delete, failed, named, put, version};
use crate::{Principal, Runtime, RuntimeError, Tenant, no_access, not_suspended};

/// Most sessions of one member; a new one ends the oldest.
pub const MAX_SESSIONS: usize = 20;
/// Use that is this recent is not written down again.
const TOUCH_MS: i64 = 60_000;
/// Sessions that a node remembers to have seen.
const MAX_SEEN: usize = 10_000;

/// A session as this node saw it.
#[derive(Clone)]
pub(crate) struct Seen {
    last: Timestamp,
    written: Timestamp,
}

/// How somebody says who they are.
#[derive(Debug)]
pub enum Proof {
    Password { member: String, password: Secret, code: Option<Secret> },
    Link { link: Secret, code: Option<Secret> },
}

/// A session that has begun. Its key is shown this once.
#[derive(Debug)]
pub struct NewSession {
    pub key: SessionKey,
    pub member: MemberId,
    pub expires_at: Timestamp,
    pub index: u64,
}

/// A session as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub session: Digest,
    pub method: SignInMethod,
    pub started: Timestamp,
    pub expires_at: Timestamp,
}

/// What a session rests on besides the state.
#[derive(Clone, Default)]
pub(crate) struct Basis {
    pub link: Option<Digest>,
    /// Goes down with it, before it.
    pub record: Record,
}

/// When a session was last used.
fn touched(session: Digest) -> String {
    format!("pt/{}", session.to_hex())
}
/// Moves with every session that a member begins or loses: two that race are one after the other.
fn turn(member: &MemberId) -> String {
    format!("pc/{member}")
}

fn ended(by: &CredentialId, member: &MemberId, session: Digest, reason: &str) -> Event {
    Event::SessionEnded(SessionEnded {
        by: by.clone(),
        member: member.clone(),
        reason: reason.into(),
        session,
        v: BODY_VERSION,
    })
}

fn acting(member: &MemberId) -> Result<CredentialId, RuntimeError> {
    let long = || RuntimeError::new(Code::RequestInvalid, "a member who signs in has a name of at most 57 characters");
    CredentialId::of_member(member).ok_or_else(long)
}

impl Runtime {
    /// Somebody signs in. Whatever fails, fails alike.
    pub async fn sign_in(&self, tenant: &str, from: Option<IpAddr>, proof: Proof) -> Result<NewSession, RuntimeError> {
        let known = intended_model::TenantId::new(tenant).ok().and_then(|id| self.tenant(&id));
        let Some(tenant) = known else {
            let name = match &proof {
                Proof::Password { member, .. } => Some(member.as_str()),
                Proof::Link { .. } => None,
            };
            self.stranger(tenant, name, from)?;
            if let Proof::Password { password, .. } = proof {
                self.verify_password(None, password).await?;
            }
            return Err(failed());
        };
        match proof {
            Proof::Password { member, password, code } => {
                self.sign_in_by_password(&tenant, from, &member, password, code).await
            }
            Proof::Link { link, code } => self.sign_in_by_link(&tenant, from, &link, code).await,
        }
    }

    async fn sign_in_by_password(
        &self,
        tenant: &Arc<Tenant>,
        from: Option<IpAddr>,
        text: &str,
        password: Secret,
        code: Option<Secret>,
    ) -> Result<NewSession, RuntimeError> {
        let attempt = self.attempt_at(tenant, text, from).await?;
        let member = named(text).filter(|m| has(&tenant.state(), m, SignInMethod::Password));
        let kept = match &member {
            Some(member) => self.password_of(tenant, member)?,
            None => None,
        };
        let (hash, at) = kept.map_or((None, 0), |(kept, version)| (Some(kept.hash), version));
        let right = self.verify_password(hash, password).await?;
        let Some(member) = member.filter(|_| right) else { return Err(failed()) };
        if has(&tenant.state(), &member, SignInMethod::Totp) {
            let Some(code) = code else {
                self.settle_attempt(attempt, Ended::Half).await?;
                return Err(Code::SignInSecondFactor.into());
            };
            self.guess_code(tenant, &member, &code).await?;
        }
        // The password that was right must still be the one: see `set_password`.
        let reads = vec![(super::password::fact(&member).into(), at)];
        let basis = Basis { link: None, record: Record { reads, ..Record::default() } };
        let session = self.start_session(tenant, &member, SignInMethod::Password, &basis);
        let session = session.await?;
        self.settle_attempt(attempt, Ended::Well).await?;
        Ok(session)
    }

    async fn sign_in_by_link(
        &self,
        tenant: &Arc<Tenant>,
        from: Option<IpAddr>,
        link: &Secret,
        code: Option<Secret>,
    ) -> Result<NewSession, RuntimeError> {
        let place = self.attempt(tenant, vec![of_place(from)]).await?;
        let digest = Digest::of(link.expose().as_bytes());
        let key = super::link::fact(digest);
        let fact = self.fact(tenant, &key)?.ok_or_else(failed)?;
        let member = std::str::from_utf8(&fact.value).ok().and_then(named).ok_or_else(failed)?;
        let state = tenant.state();
        let good = state.members.get(&member).is_some_and(|m| m.active && m.has_link(digest, self.now()));
        if !good {
            return Err(failed());
        }
        if has(&state, &member, SignInMethod::Totp) {
            let Some(code) = code else {
                self.settle_attempt(place, Ended::Half).await?;
                return Err(Code::SignInSecondFactor.into());
            };
            self.guess_code(tenant, &member, &code).await?;
        }
        let record = Record {
            reads: vec![(key.as_str().into(), fact.version)],
            writes: vec![delete(key.as_str())],
            events: Vec::new(),
        };
        let basis = Basis { link: Some(digest), record };
        let session = self.start_session(tenant, &member, SignInMethod::Link, &basis);
        let session = session.await?;
        self.settle_attempt(place, Ended::Well).await?;
        Ok(session)
    }

    /// Begins a session. What it rests on must still be so when it is durable.
    pub(crate) async fn start_session(
        &self,
        tenant: &Arc<Tenant>,
        member: &MemberId,
        method: SignInMethod,
        basis: &Basis,
    ) -> Result<NewSession, RuntimeError> {
        // Never a key that somebody brings along.
        let key = SessionKey::generate(self.rng(), &tenant.id).map_err(RuntimeError::internal)?;
        let by = acting(member)?;
        for attempt in 0..MAX_ATTEMPTS {
            let (folded, now) = (tenant.folded(), self.now());
            not_suspended(&folded.state)?;
            let expires_at = now.plus_millis(self.session_rules().absolute_ms);
            let Basis { link, mut record } = basis.clone();
            // A fact that it rests on is another one now: it has not lost a race, it is gone.
            if attempt > 0 {
                for (key, version) in &record.reads {
                    if super::version(self.fact(tenant, key)?.as_ref()) != *version {
                        return Err(failed());
                    }
                }
            }
            let started = SessionStarted {
                expires_at,
                link,
                member: member.clone(),
                method,
                session: key.hash(),
                v: BODY_VERSION,
            };
            let mut state = State::clone(&folded.state);
            for event in &record.events {
                state.apply(u64::MAX, event)?;
            }
            let kept = state.session_starts(&started, now).map_err(|_| failed())?;
            let turn = turn(member);
            let order = self.fact(tenant, &turn)?;
            record.reads.push((turn.as_str().into(), version(order.as_ref())));
            record.writes.push(put(turn, b"1".as_slice(), Some(expires_at)));
            let mut sessions = self.sessions_of(tenant, &state, member).await?;
            sessions.sort_by_key(|row| row.started);
            let over = (sessions.len() + 1).saturating_sub(MAX_SESSIONS);
            for oldest in sessions.iter().take(over) {
                self.end_in(tenant, &mut record, &by, member, oldest.session, "there is one session too many")?;
            }
            record.events.push(Event::SessionStarted(started));
            let value = serde_json::to_vec(&kept).map_err(RuntimeError::internal)?;
            record.writes.push(put(keys::sign_in(key.hash()), value, Some(expires_at)));
            let since = now.as_millis().to_string();
            let listed = format!("{}{}", keys::sign_ins_of(member), key.hash().to_hex());
            record.writes.push(put(listed, since.as_bytes(), Some(expires_at)));
            record.writes.push(put(touched(key.hash()), since.as_bytes(), Some(expires_at)));
            let at = record.events.len() as u64 - 1;
            if let Some(first) = self.try_record(tenant, &folded, now, record).await? {
                return Ok(NewSession { key, member: member.clone(), expires_at, index: first + at });
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// Adds the end of a session to what is to go down: while it stands, because it ends once.
    fn end_in(
        &self,
        tenant: &Tenant,
        record: &mut Record,
        by: &CredentialId,
        member: &MemberId,
        id: Digest,
        reason: &str,
    ) -> Result<(), RuntimeError> {
        let Some(fact) = self.fact(tenant, &keys::sign_in(id))? else { return Ok(()) };
        record.reads.push((keys::sign_in(id).into(), fact.version));
        record.events.push(ended(by, member, id, reason));
        record.writes.push(delete(keys::sign_in(id)));
        record.writes.push(delete(format!("{}{}", keys::sign_ins_of(member), id.to_hex())));
        record.writes.push(delete(touched(id)));
        self.desk.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(())
    }

    /// Who a session's key is of.
    pub(crate) fn authenticate_session(&self, text: &str, from: Option<IpAddr>) -> Result<Principal, RuntimeError> {
        let key = SessionKey::parse(text).map_err(|_| self.guessed(Code::CredentialMalformed, from))?;
        let unknown = || self.guessed(Code::CredentialUnknown, from);
        let tenant = self.tenant(key.tenant()).ok_or_else(unknown)?;
        let id = key.hash();
        let fact = self.fact(&tenant, &keys::sign_in(id))?.ok_or_else(unknown)?;
        let kept: KeptSignIn = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
        let (state, now) = (tenant.state(), self.now());
        not_suspended(&state)?;
        if now >= kept.expires_at {
            return Err(Code::CredentialExpired.into());
        }
        if !state.session_stands(&kept, now) {
            return Err(Code::MemberInactive.into());
        }
        self.touch(&tenant, id, &kept, now)?;
        let credential = acting(&kept.member)?;
        let meter = tenant.meters.of(&credential);
        meter.seen(now);
        let access = Arc::new(state.access(&credential, now).map_err(no_access)?);
        let session = Session { id, method: kept.method, expires_at: kept.expires_at };
        Ok(Principal {
            tenant,
            credential,
            access,
            control: state.control,
            meter,
            idempotency_key: None,
            session: Some(session),
            key: None,
        })
    }

    /// Whether the session of a request still stands, where it is made in one: it can have been ended by
    /// another since the request came in.
    pub(crate) fn session_stands(&self, by: &Principal, state: &State, now: Timestamp) -> Result<(), RuntimeError> {
        let Some(session) = &by.session else { return Ok(()) };
        let fact = self.fact(&by.tenant, &keys::sign_in(session.id))?.ok_or(Code::CredentialUnknown)?;
        let kept: KeptSignIn = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
        if now >= kept.expires_at {
            return Err(Code::CredentialExpired.into());
        }
        if state.session_stands(&kept, now) { Ok(()) } else { Err(Code::MemberInactive.into()) }
    }

    /// What a commit reads so that it is not made for a session that ends meanwhile.
    pub(crate) fn session_fence(&self, by: &Principal) -> Result<Option<(Box<str>, u64)>, RuntimeError> {
        let Some(session) = &by.session else { return Ok(None) };
        let fact = self.fact(&by.tenant, &keys::sign_in(session.id))?.ok_or(Code::CredentialUnknown)?;
        Ok(Some((keys::sign_in(session.id).into(), fact.version)))
    }

    /// Notes that a session is used, unless it has not been for too long.
    fn touch(&self, tenant: &Arc<Tenant>, id: Digest, kept: &KeptSignIn, now: Timestamp) -> Result<(), RuntimeError> {
        let idle = self.session_rules().idle_ms;
        let recent = |last: Timestamp| now.millis_since(last) < idle;
        let known = self.desk.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let mut seen = match known {
            Some(seen) if recent(seen.last) => seen,
            _ => {
                // It may have been used at another node, or before a restart.
                let fact = self.fact(tenant, &touched(id))?.ok_or(Code::CredentialExpired)?;
                let last = String::from_utf8_lossy(&fact.value).parse().map_err(RuntimeError::internal)?;
                let last = Timestamp::from_millis(last);
                if !recent(last) {
                    return Err(Code::CredentialExpired.into());
                }
                Seen { last, written: last }
            }
        };
        seen.last = seen.last.max(now);
        if now.millis_since(seen.written) >= TOUCH_MS
            && let Ok(executor) = tokio::runtime::Handle::try_current()
        {
            seen.written = now;
            let commit = intended_store::Commit {
                tenant: tenant.id.clone(),
                now,
                control_version: None,
                // Not of a session that is ended meanwhile.
                reads: self
                    .fact(tenant, &keys::sign_in(id))?
                    .map(|f| (keys::sign_in(id).into(), f.version))
                    .into_iter()
                    .collect(),
                writes: vec![put(touched(id), now.as_millis().to_string(), Some(kept.expires_at))],
                entries: Vec::new(),
            };
            let follower = self.follower.clone();
            executor.spawn(async move {
                if let Err(error) = follower.commit_here(commit).await {
                    tracing::debug!(%error, "the use of a session was not written down");
                }
            });
        }
        let mut all = self.desk.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_SEEN {
            all.retain(|_, s| recent(s.last));
        }
        if all.len() < MAX_SEEN || all.contains_key(&id) {
            all.insert(id, seen.clone());
        }
        Ok(())
    }

    /// A member's sessions that stand.
    pub(crate) async fn sessions_of(
        &self,
        tenant: &Tenant,
        state: &State,
        member: &MemberId,
    ) -> Result<Vec<SessionRow>, RuntimeError> {
        let (prefix, now) = (keys::sign_ins_of(member), self.now());
        let (mut rows, mut after) = (Vec::new(), prefix.clone());
        loop {
            let page = self.store().facts(&tenant.id, &prefix, &after, 256).await?;
            let Some((last, _)) = page.last() else { return Ok(rows) };
            after = last.clone();
            for (key, since) in page {
                let Some(id) = key.strip_prefix(&prefix).and_then(digest) else { continue };
                let Some(fact) = self.fact(tenant, &keys::sign_in(id))? else { continue };
                let kept: KeptSignIn = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
                let started = String::from_utf8_lossy(&since.value).parse().map_err(RuntimeError::internal)?;
                if state.session_stands(&kept, now) {
                    let started = Timestamp::from_millis(started);
                    rows.push(SessionRow { session: id, method: kept.method, started, expires_at: kept.expires_at });
                }
            }
        }
    }

    /// The sessions of a member: one's own, or anybody's by who sees all access.
    pub async fn sessions(&self, by: &Principal, member: &MemberId) -> Result<Vec<SessionRow>, RuntimeError> {
        if !by.is(member) {
            by.require_whole(Scope::AccessRead)?;
        }
        let state = by.tenant.state();
        if !state.members.contains_key(member) {
            return Err(Code::NotFound.into());
        }
        let mut rows = self.sessions_of(&by.tenant, &state, member).await?;
        rows.sort_by_key(|row| (row.started, row.session));
        Ok(rows)
    }

    /// Ends the session that the request is made in.
    pub async fn sign_out(&self, by: &Principal) -> Result<u64, RuntimeError> {
        let session = by.session.ok_or(Code::SessionNeeded)?;
        let member = by.credential.member().ok_or(Code::SessionNeeded)?;
        self.end_session(by, &member, session.id).await
    }

    /// Ends a session: one's own, or anybody's by who gives access.
    pub async fn end_session(&self, by: &Principal, member: &MemberId, id: Digest) -> Result<u64, RuntimeError> {
        for _ in 0..MAX_ATTEMPTS {
            let (folded, now) = (by.tenant.folded(), self.now());
            let by = self.current(by, &folded.state, now)?;
            if !by.is(member) {
                by.require_whole(Scope::AccessWrite)?;
            }
            let fact = self.fact(&by.tenant, &keys::sign_in(id))?.ok_or(Code::NotFound)?;
            let kept: KeptSignIn = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
            if kept.member != *member {
                return Err(Code::NotFound.into());
            }
            let mut record = Record::default();
            record.reads.extend(self.session_fence(&by)?.filter(|(key, _)| **key != *keys::sign_in(id)));
            let reason = if by.is(member) { "signed out" } else { "ended by who gives access" };
            self.end_in(&by.tenant, &mut record, &by.credential, member, id, reason)?;
            if record.events.is_empty() {
                return Err(Code::NotFound.into());
            }
            if let Some(index) = self.try_record(&by.tenant, &folded, now, record).await? {
                return Ok(index);
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// Adds the end of a member's other sessions, fenced against one that begins meanwhile.
    pub(crate) async fn end_others(
        &self,
        record: &mut Record,
        by: &Principal,
        member: &MemberId,
    ) -> Result<(), RuntimeError> {
        let turn = turn(member);
        let order = self.fact(&by.tenant, &turn)?;
        record.reads.push((turn.as_str().into(), version(order.as_ref())));
        let forget = self.now().plus_millis(self.session_rules().absolute_ms);
        record.writes.push(put(turn, b"1".as_slice(), Some(forget)));
        let own = by.session.map(|s| s.id);
        for row in self.sessions_of(&by.tenant, &by.tenant.state(), member).await? {
            if Some(row.session) != own {
                self.end_in(&by.tenant, record, &by.credential, member, row.session, "the password was changed")?;
            }
        }
        Ok(())
    }
}

/// Whether an active member has a means of signing in.
pub(crate) fn has(state: &State, member: &MemberId, method: SignInMethod) -> bool {
    state.members.get(member).is_some_and(|m| m.active && m.sign_in.contains(&method))
}

fn digest(hex: &str) -> Option<Digest> {
    let bytes = intended_model::digest::unhex(hex)?;
    Some(Digest::from_bytes(bytes.try_into().ok()?))
}

impl Principal {
    /// Whether it is this member who is signed in. A key of theirs is not they.
    #[must_use]
    pub fn is(&self, member: &MemberId) -> bool {
        self.session.is_some() && self.credential.member().as_ref() == Some(member)
    }
    /// The session that the request is made in.
    #[must_use]
    pub const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }
}
