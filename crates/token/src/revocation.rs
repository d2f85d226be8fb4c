//! The signed list of what kills tokens, for verifiers without a connection: tokens that were revoked,
//! by a short digest of their id; halts in force; and cut-offs, which say that what was granted before
//! a ledger position is dead. It says when it was made, and is not to be relied on after its `exp`, or
//! earlier where the verifier asks for it.
//!
//! A token does not say everything that a halt or a revocation can be about (its category, the
//! credential that asked for it). What cannot be told from the token counts as meant: offline, more is
//! refused than online, for as long as a token lives, and never less.

use std::collections::BTreeSet;

use intended_model::Digest;
use intended_model::emergency::{HaltTarget, TokenSelector, connector_of};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::claims::{Actor, Claims};
use crate::keys::KeySet;
use crate::verify::{LEEWAY_SECS, Refusal, open};
use crate::{SignError, TokenSigner, base64url, from_base64url, jws};

/// The `typ` of a revocation list.
pub const TYPE: &str = "revocations+jwt";
/// How long a list may be relied on, in seconds.
pub const MAX_AGE: i64 = 60;
/// Longest list that is looked at.
pub const MAX_LIST: usize = 4 << 20;

/// The first 128 bits of a token id's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Short([u8; 16]);

impl Short {
    fn of(jti: &str) -> Self {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(Digest::of(jti.as_bytes()).as_bytes()) {
            *to = *from;
        }
        Self(short)
    }
}

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64url(&self.0))
    }
}
impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = from_base64url(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("not a short digest"))
    }
}

/// What was granted before a ledger position and lies under a halt is dead, also after its resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaltCut {
    pub before: u64,
    /// Absent: everything of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<HaltTarget>,
}

/// What was granted before a ledger position and is meant by a selector is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedCut {
    pub before: u64,
    pub selector: TokenSelector,
}

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InForce {
    /// Absent: everything of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<HaltTarget>,
}

/// What a list says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Whose list it is; `None` is of all environments.
    pub environment: Option<String>,
    /// Ids of revoked tokens.
    pub revoked: Vec<String>,
    pub halts: Vec<InForce>,
    pub halt_cuts: Vec<HaltCut>,
    pub revoked_cuts: Vec<RevokedCut>,
    /// Everything before this position is dead.
    pub dead_before: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    iss: String,
    tid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    iat: i64,
    exp: i64,
    /// The ledger's size when the list was made: lists can be put in order.
    seq: u64,
    revoked: BTreeSet<Short>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    halts: Vec<InForce>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    halt_cuts: Vec<HaltCut>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked_cuts: Vec<RevokedCut>,
    #[serde(default, skip_serializing_if = "is_zero")]
    dead_before: u64,
}

/// A verified list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    pub tenant: String,
    pub environment: Option<String>,
    pub issued_at: i64,
    pub expires_at: i64,
    pub sequence: u64,
    revoked: BTreeSet<Short>,
    halts: Vec<InForce>,
    halt_cuts: Vec<HaltCut>,
    revoked_cuts: Vec<RevokedCut>,
    dead_before: u64,
}

/// Signs a list of token ids with their expiry.
pub fn issue_revocation_list(
    issuer: &str,
    tenant: &str,
    now: i64,
    sequence: u64,
    revoked: &[(String, i64)],
    signer: &dyn TokenSigner,
) -> Result<String, SignError> {
    let revoked = revoked.iter().map(|(jti, _)| jti.clone()).collect();
    issue_list(issuer, tenant, now, sequence, &Listed { revoked, ..Listed::default() }, signer)
}

/// Signs a list of everything that kills tokens of an environment.
pub fn issue_list(
    issuer: &str,
    tenant: &str,
    now: i64,
    sequence: u64,
    listed: &Listed,
    signer: &dyn TokenSigner,
) -> Result<String, SignError> {
    let wire = Wire {
        iss: issuer.to_owned(),
        tid: tenant.to_owned(),
        env: listed.environment.clone(),
        iat: now,
        exp: now + MAX_AGE,
        seq: sequence,
        revoked: listed.revoked.iter().map(|jti| Short::of(jti)).collect(),
        halts: listed.halts.clone(),
        halt_cuts: listed.halt_cuts.clone(),
        revoked_cuts: listed.revoked_cuts.clone(),
        dead_before: listed.dead_before,
    };
    let payload = serde_json::to_vec(&wire).map_err(|_| SignError::Claims)?;
    jws(TYPE, &payload, signer)
}

impl RevocationList {
    /// Verifies the signature, and that the list does not ask to be relied on for longer than
    /// [`MAX_AGE`]. Its age is checked when it is used.
    pub fn open(token: &str, issuer: &str, keys: &KeySet) -> Result<Self, Refusal> {
        let value = open(token, TYPE, keys, MAX_LIST)?;
        let wire: Wire = intended_model::json::from_value(&value).map_err(|_| Refusal::Claims)?;
        if wire.iat < 0 || wire.exp <= wire.iat || wire.exp - wire.iat > MAX_AGE {
            return Err(Refusal::Times);
        }
        if wire.iss != issuer {
            return Err(Refusal::Issuer);
        }
        Ok(Self {
            tenant: wire.tid,
            environment: wire.env,
            issued_at: wire.iat,
            expires_at: wire.exp,
            sequence: wire.seq,
            revoked: wire.revoked,
            halts: wire.halts,
            halt_cuts: wire.halt_cuts,
            revoked_cuts: wire.revoked_cuts,
            dead_before: wire.dead_before,
        })
    }

    /// Relied on for at most so many seconds after it was made, and never for longer than it says.
    #[must_use]
    pub fn not_older_than(mut self, seconds: i64) -> Self {
        self.expires_at = self.expires_at.min(self.issued_at.saturating_add(seconds.max(0)));
        self
    }

    pub(crate) fn check(&self, claims: &Claims, now: i64) -> Result<(), Refusal> {
        if claims.tid != self.tenant {
            return Err(Refusal::Tenant);
        }
        if self.environment.as_ref().is_some_and(|of| *of != claims.env) {
            return Err(Refusal::Environment);
        }
        if now >= self.expires_at || now + LEEWAY_SECS < self.issued_at {
            return Err(Refusal::RevocationsStale);
        }
        let granted = claims.ledger.index;
        let revoked = |cut: &RevokedCut| granted < cut.before && meant(&cut.selector, claims);
        if self.revoked.contains(&Short::of(&claims.jti))
            || granted < self.dead_before
            || self.revoked_cuts.iter().any(revoked)
        {
            return Err(Refusal::Revoked);
        }
        let killed = |cut: &HaltCut| granted < cut.before && under(cut.on.as_ref(), claims);
        // Nothing that a halt in force covers was granted after it; what was before it is cut off. So a
        // halt that the token does not tell apart says nothing about later ones.
        let told = |on: Option<&HaltTarget>| !matches!(on, Some(HaltTarget::Category(_)));
        let in_force = |halt: &InForce| told(halt.on.as_ref()) && under(halt.on.as_ref(), claims);
        if self.halts.iter().any(in_force) || self.halt_cuts.iter().any(killed) {
            return Err(Refusal::Halted);
        }
        Ok(())
    }
}

/// Whether an agent asked for it, or it was asked for on the agent's behalf.
fn acts(agent: &str, claims: &Claims) -> bool {
    fn next(actor: &Actor) -> Option<&Actor> {
        actor.act.as_deref()
    }
    claims.sub == agent || std::iter::successors(claims.act.as_ref(), |a| next(a)).any(|a| a.sub == agent)
}

/// Whether a halt covers what the token would do, as far as the token says.
fn under(on: Option<&HaltTarget>, claims: &Claims) -> bool {
    let tool = &claims.action.tool;
    match on {
        // The category does not stand in the token.
        None | Some(HaltTarget::Category(_)) => true,
        Some(HaltTarget::Agent(agent)) => acts(agent, claims),
        Some(HaltTarget::Connector(system)) => connector_of(tool).is_none_or(|of| of.eq_ignore_ascii_case(system)),
        Some(HaltTarget::Tool(pattern)) => match pattern.strip_suffix('*') {
            Some(prefix) => tool.starts_with(prefix),
            None => **tool == **pattern,
        },
    }
}

/// Whether a selector means the token, as far as the token says: who submitted it does not stand there.
fn meant(selector: &TokenSelector, claims: &Claims) -> bool {
    let TokenSelector { agent, credential: _, environment, from, intent, member: _, policy, to } = selector;
    agent.as_ref().is_none_or(|agent| acts(agent, claims))
        && environment.as_ref().is_none_or(|e| e.as_str() == claims.env)
        // The token has whole seconds.
        && from.is_none_or(|from| from.as_secs() <= claims.iat)
        && to.is_none_or(|to| claims.iat.saturating_mul(1000) < to.as_millis())
        && intent.is_none_or(|intent| intent.to_string() == claims.txn)
        && policy.is_none_or(|policy| policy.to_string() == claims.policy)
}
