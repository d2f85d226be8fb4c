//! Sessions of people: what may begin, and how a session is kept beside the ledger.

use std::collections::HashMap;

use intended_model::entry::{SessionEnded, SessionStarted, SignInMethod};
use intended_model::{Digest, MemberId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::State;

/// Longest that a session lasts: 24 hours. How long it does is configured.
pub const MAX_SESSION_MS: i64 = 24 * 3_600_000;
/// How much later than it was asked for it can be judged, or earlier.
const LATE_MS: i64 = 60_000;
/// How long a link is good: 15 minutes.
pub const LINK_MS: i64 = 15 * 60_000;

/// A session as it is kept: all of it follows from the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptSignIn {
    /// How many control entries there were.
    pub control: u64,
    pub expires_at: Timestamp,
    pub member: MemberId,
    pub method: SignInMethod,
}

/// Why a session cannot begin, or cannot end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    #[error("`{0}` is not an active member")]
    NoMember(MemberId),
    #[error("`{member}` does not sign in by {method}")]
    Method { member: MemberId, method: &'static str },
    #[error("the link is not the last one that `{0}` was given, or is too old")]
    Link(MemberId),
    #[error("the link was used before")]
    LinkUsed,
    #[error("a session lasts for more than nothing and at most 24 hours")]
    Time,
    #[error("the session began before")]
    Again,
    #[error("there is no such session of `{0}`")]
    NoSession(MemberId),
}

impl State {
    /// What the fact of a session is that begins at a time; `Err` when it cannot begin.
    pub fn session_starts(&self, started: &SessionStarted, at: Timestamp) -> Result<KeptSignIn, SignInError> {
        let id = &started.member;
        let member = self.members.get(id).filter(|m| m.active).ok_or_else(|| SignInError::NoMember(id.clone()))?;
        let by_link = started.method == SignInMethod::Link;
        // A code alone is never enough.
        if started.method == SignInMethod::Totp
            || !member.sign_in.contains(&started.method)
            || by_link != started.link.is_some()
            // By a provider who knows them, not by one that may come to.
            || (started.method == SignInMethod::Oidc && member.oidc.as_ref().is_none_or(|l| l.subject.is_none()))
        {
            return Err(SignInError::Method { member: id.clone(), method: started.method.as_str() });
        }
        if started.link.is_some_and(|link| !member.has_link(link, at)) {
            return Err(SignInError::Link(id.clone()));
        }
        if started.expires_at <= at || started.expires_at > at.plus_millis(MAX_SESSION_MS + LATE_MS) {
            return Err(SignInError::Time);
        }
        Ok(KeptSignIn {
            control: self.control,
            expires_at: started.expires_at,
            member: id.clone(),
            method: started.method,
        })
    }

    /// Whether a session that is kept is still one: who was taken out since is not in it any more.
    #[must_use]
    pub fn session_stands(&self, kept: &KeptSignIn, at: Timestamp) -> bool {
        let member = self.members.get(&kept.member);
        // Of one from before a copy was made nobody knows whether it was ended.
        if self.restored.last().is_some_and(|r| kept.control < r.control) {
            return false;
        }
        at < kept.expires_at && member.is_some_and(|m| m.active && m.out <= kept.control)
    }
}

/// The sessions that there are, as the ledger says.
#[derive(Debug, Default)]
pub struct SignIns {
    open: HashMap<Digest, KeptSignIn>,
    seen: std::collections::HashSet<Digest>,
    links: std::collections::HashSet<Digest>,
}

impl SignIns {
    /// One more, in the state before it. `at` is the time that it is judged by: when it was asked for.
    pub fn start(&mut self, state: &State, started: &SessionStarted, at: Timestamp) -> Result<(), SignInError> {
        let kept = state.session_starts(started, at)?;
        if !self.seen.insert(started.session) {
            return Err(SignInError::Again);
        }
        if started.link.is_some_and(|link| !self.links.insert(link)) {
            return Err(SignInError::LinkUsed);
        }
        self.open.insert(started.session, kept);
        Ok(())
    }
    /// One less.
    pub fn end(&mut self, ended: &SessionEnded) -> Result<(), SignInError> {
        let known = self.open.remove(&ended.session).filter(|kept| kept.member == ended.member);
        known.map(drop).ok_or_else(|| SignInError::NoSession(ended.member.clone()))
    }
    pub fn open(&self) -> impl Iterator<Item = (&Digest, &KeptSignIn)> {
        self.open.iter()
    }
}
