//! Verification, in this order, stopping at the first failure: size and shape → type and algorithm
//! pinned to the key → key → signature → times → class → issuer, audience, tenant, environment →
//! revocation → the call about to be made. Consumption needs shared state and comes after, online;
//! what is said here of single use is that it was not checked.

use intended_model::{Class, Code, Digest, Timestamp, Value, synthetic};

use crate::claims::{Claims, Wire};
use crate::keys::{Alg, KeySet};
use crate::revocation::RevocationList;
use crate::{MAX_TOKEN, MAX_TTL, TYPE, from_base64url};

/// Clocks may differ by this much.
pub const LEEWAY_SECS: i64 = 5;

/// Why a token was refused. The codes are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the token is not a strict compact JWS")]
    Malformed,
    #[error("the token's type is not `authority+jwt`")]
    Type,
    #[error("the token's algorithm is not the one of its key")]
    Algorithm,
    #[error("the token's header has a member that is not accepted")]
    Header,
    #[error("the token's key is unknown")]
    KeyUnknown,
    #[error("the token's key is retired")]
    KeyRetired,
    #[error("the signature is not valid")]
    Signature,
    #[error("the token's claims are not those of an authority token")]
    Claims,
    #[error("the token's times are not valid")]
    Times,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token has expired")]
    Expired,
    #[error("the token is a self-test's, or is none where one is asked for")]
    Class,
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token is of another tenant")]
    Tenant,
    #[error("the token is of another environment")]
    Environment,
    #[error("the token is revoked")]
    Revoked,
    #[error("the revocation list is too old to rely on")]
    RevocationsStale,
    #[error("the token is for another call")]
    Binding,
    #[error("the token was used before")]
    Consumed,
    /// Said only online: the signature holds, but no decision in the ledger granted the token.
    #[error("no recorded decision granted the token")]
    NotGranted,
    /// Said online; offline as far as the list of revocations knows of the halt.
    #[error("a halt covers what the token would do")]
    Halted,
    /// Said only online, as well.
    #[error("the tenant or the environment is suspended")]
    Suspended,
}

impl Refusal {
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.catalogued().as_str()
    }
    /// The code as the catalogue has it.
    #[must_use]
    pub const fn catalogued(self) -> Code {
        match self {
            Self::Malformed => Code::TokenMalformed,
            Self::Type => Code::TokenType,
            Self::Algorithm => Code::TokenAlgorithm,
            Self::Header => Code::TokenHeader,
            Self::KeyUnknown => Code::TokenKeyUnknown,
            Self::KeyRetired => Code::TokenKeyRetired,
            Self::Signature => Code::TokenSignature,
            Self::Claims => Code::TokenClaims,
            Self::Times => Code::TokenTimes,
            Self::NotYetValid => Code::TokenNotYetValid,
            Self::Expired => Code::TokenExpired,
            Self::Class => Code::TokenClass,
            Self::Issuer => Code::TokenIssuer,
            Self::Audience => Code::TokenAudience,
            Self::Tenant => Code::TokenTenant,
            Self::Environment => Code::TokenEnvironment,
            Self::Revoked => Code::TokenRevoked,
            Self::RevocationsStale => Code::TokenRevocationsStale,
            Self::Binding => Code::TokenBinding,
            Self::Consumed => Code::TokenConsumed,
            Self::NotGranted => Code::TokenNotGranted,
            Self::Halted => Code::TokenHalted,
            Self::Suspended => Code::TokenSuspended,
        }
    }
}

/// The call that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub agent: String,
    pub tool: String,
    pub resource_type: String,
    pub resource_id: String,
    pub arguments_digest: Digest,
}

/// What the token must be for. One of them is always given: a token without a call proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    Call(Call),
    IntentHash(Digest),
}

/// Whom the verifier is, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectations {
    pub issuer: String,
    pub audience: String,
    pub tenant: String,
    pub environment: String,
}

/// What is known of single use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SingleUse {
    /// Offline there is no shared state: the token may have been used before.
    NotChecked,
}

/// As of when something was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing was at hand that says it.
    NotChecked,
    /// As of this time, in seconds: what happened since is not known.
    AsOf(i64),
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotChecked => f.write_str("not_checked"),
            Self::AsOf(at) => write!(f, "as of {}", Timestamp::from_millis(at.saturating_mul(1000))),
        }
    }
}

/// A token that stands, as far as can be told offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub claims: Claims,
    pub single_use: SingleUse,
    /// Whether it was revoked.
    pub revocations: Known,
    /// Whether a halt covers what it would do.
    pub halts: Known,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Verifier<'k> {
    pub keys: &'k KeySet,
    pub expect: Expectations,
    /// Offline: the list of revoked tokens; online it is looked up.
    pub revocations: Option<&'k RevocationList>,
}

/// A JWS taken apart and verified.
pub(crate) fn open(token: &str, typ: &str, keys: &KeySet, longest: usize) -> Result<Value, Refusal> {
    if token.len() > longest {
        return Err(Refusal::Malformed);
    }
    take_apart(token, |is| is == Some(typ), keys)
}

/// The claims of any signed token, of a type that is accepted: as strict as with one's own. What they
/// say is for the caller to look at.
pub fn open_jws(token: &str, accepts: impl Fn(Option<&str>) -> bool, keys: &KeySet) -> Result<Value, Refusal> {
    if token.len() > MAX_TOKEN {
        return Err(Refusal::Malformed);
    }
    take_apart(token, accepts, keys)
}

fn take_apart(token: &str, accepts: impl Fn(Option<&str>) -> bool, keys: &KeySet) -> Result<Value, Refusal> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let decode = |part: &str| from_base64url(part).filter(|b| !b.is_empty()).ok_or(Refusal::Malformed);
    let (head, body, sig) = (decode(header)?, decode(payload)?, decode(signature)?);
    let head = intended_model::json::parse(&head).map_err(|_| Refusal::Malformed)?;
    let members = head.as_object().ok_or(Refusal::Malformed)?;
    // A type that is no text is none that is accepted.
    let typ = members.get("typ").map(|typ| typ.as_str().unwrap_or_default());
    if !accepts(typ) {
        return Err(Refusal::Type);
    }
    let alg = members.get("alg").and_then(Value::as_str).and_then(Alg::parse).ok_or(Refusal::Algorithm)?;
    // Keys come from the verifier, never from the token: no jku, jwk, x5u, x5c; no crit either,
    // because no extension is known (RFC 7515 section 4.1.11).
    if members.iter().any(|(name, _)| !matches!(name, "alg" | "kid" | "typ")) {
        return Err(Refusal::Header);
    }
    let kid = members.get("kid").and_then(Value::as_str).filter(|k| !k.is_empty()).ok_or(Refusal::KeyUnknown)?;
    if keys.is_retired(kid) {
        return Err(Refusal::KeyRetired);
    }
    match keys.alg(kid) {
        None => return Err(Refusal::KeyUnknown),
        Some(pinned) if pinned != alg => return Err(Refusal::Algorithm),
        Some(_) => {}
    }
    let signed = token.get(..header.len() + 1 + payload.len()).ok_or(Refusal::Malformed)?;
    if !keys.verify(kid, signed.as_bytes(), &sig) {
        return Err(Refusal::Signature);
    }
    intended_model::json::parse(&body).map_err(|_| Refusal::Claims)
}

/// A time claim: a whole number of seconds, not negative, before the year 10000.
fn time(claims: &Value, name: &str) -> Result<i64, Refusal> {
    claims.get(name).and_then(Value::as_int).filter(|t| (0..253_402_300_800).contains(t)).ok_or(Refusal::Times)
}

impl Verifier<'_> {
    /// Verifies a token for a call, at a time. A self-test's is refused: nothing is done on it.
    pub fn verify(&self, token: &str, binding: &Binding, now: Timestamp) -> Result<Accepted, Refusal> {
        self.verify_class(Class::Traffic, token, binding, now)
    }

    /// The same for a token of one class, and of no other. Whoever acts on what it says never asks for a
    /// synthetic one.
    pub fn verify_class(
        &self,
        class: Class,
        token: &str,
        binding: &Binding,
        now: Timestamp,
    ) -> Result<Accepted, Refusal> {
        let value = open(token, TYPE, self.keys, MAX_TOKEN)?;
        let (iat, nbf, exp) = (time(&value, "iat")?, time(&value, "nbf")?, time(&value, "exp")?);
        if nbf < iat || exp <= nbf || exp - iat > MAX_TTL {
            return Err(Refusal::Times);
        }
        if value.get("aud").and_then(Value::as_str).is_none() {
            // Missing, or a list: one token is for one enforcement point.
            return Err(Refusal::Audience);
        }
        let wire: Wire = intended_model::json::from_value(&value).map_err(|_| Refusal::Claims)?;
        let claims = Claims::from_wire(wire).ok_or(Refusal::Claims)?;
        let now = now.as_secs();
        if now + LEEWAY_SECS < nbf {
            return Err(Refusal::NotYetValid);
        }
        if now >= exp {
            return Err(Refusal::Expired);
        }
        // The claim is the issuer's word, and the tool's name says it too: neither alone makes a token
        // of the other class.
        if claims.class != class || (claims.action.tool == synthetic::NAME) != class.is_synthetic() {
            return Err(Refusal::Class);
        }
        for (is, wanted, refusal) in [
            (&claims.iss, &self.expect.issuer, Refusal::Issuer),
            (&claims.aud, &self.expect.audience, Refusal::Audience),
            (&claims.tid, &self.expect.tenant, Refusal::Tenant),
            (&claims.env, &self.expect.environment, Refusal::Environment),
        ] {
            if is != wanted {
                return Err(refusal);
            }
        }
        if let Some(list) = self.revocations {
            list.check(&claims, now)?;
        }
        let bound = match binding {
            Binding::IntentHash(hash) => claims.intent_hash == *hash,
            Binding::Call(call) => {
                claims.sub == call.agent
                    && claims.action.tool == call.tool
                    && claims.action.resource_type == call.resource_type
                    && claims.action.resource_id == call.resource_id
                    && claims.action.arguments_digest == call.arguments_digest
            }
        };
        if !bound {
            return Err(Refusal::Binding);
        }
        let known = self.revocations.map_or(Known::NotChecked, |list| Known::AsOf(list.issued_at));
        Ok(Accepted { claims, single_use: SingleUse::NotChecked, revocations: known, halts: known })
    }
}
