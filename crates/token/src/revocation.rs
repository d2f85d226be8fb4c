//! The signed list of revoked tokens, for verifiers without a connection. It names tokens by the
//! SHA-256 of their id, says when it was made, and is not to be relied on after its `exp`.

use std::collections::BTreeSet;

use intended_model::Digest;
use serde::{Deserialize, Serialize};

use crate::keys::KeySet;
use crate::verify::{LEEWAY_SECS, Refusal, open};
use crate::{SignError, TokenSigner, jws};

/// The `typ` of a revocation list.
pub const TYPE: &str = "authority-revocations+jwt";
/// How long a list may be relied on, in seconds.
pub const MAX_AGE: i64 = 60;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    iss: String,
    tid: String,
    iat: i64,
    exp: i64,
    /// The ledger's size when the list was made: lists can be put in order.
    seq: u64,
    revoked: BTreeSet<Digest>,
}

/// A verified list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    pub tenant: String,
    pub issued_at: i64,
    pub expires_at: i64,
    pub sequence: u64,
    revoked: BTreeSet<Digest>,
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
    let wire = Wire {
        iss: issuer.to_owned(),
        tid: tenant.to_owned(),
        iat: now,
        exp: now + MAX_AGE,
        seq: sequence,
        revoked: revoked.iter().map(|(jti, _)| Digest::of(jti.as_bytes())).collect(),
    };
    let payload = serde_json::to_vec(&wire).map_err(|_| SignError::Claims)?;
    jws(TYPE, &payload, signer)
}

impl RevocationList {
    /// Verifies the signature, and that the list does not ask to be relied on for longer than
    /// [`MAX_AGE`]. Its age is checked when it is used.
    pub fn open(token: &str, issuer: &str, keys: &KeySet) -> Result<Self, Refusal> {
        let wire: Wire = intended_model::json::from_value(&open(token, TYPE, keys)?).map_err(|_| Refusal::Claims)?;
        if wire.iat < 0 || wire.exp <= wire.iat || wire.exp - wire.iat > MAX_AGE {
            return Err(Refusal::Times);
        }
        if wire.iss != issuer {
            return Err(Refusal::Issuer);
        }
        Ok(Self {
            tenant: wire.tid,
            issued_at: wire.iat,
            expires_at: wire.exp,
            sequence: wire.seq,
            revoked: wire.revoked,
        })
    }
    pub(crate) fn check(&self, tenant: &str, jti: &str, now: i64) -> Result<(), Refusal> {
        if tenant != self.tenant {
            return Err(Refusal::Tenant);
        }
        if now >= self.expires_at || now + LEEWAY_SECS < self.issued_at {
            return Err(Refusal::RevocationsStale);
        }
        if self.revoked.contains(&Digest::of(jti.as_bytes())) { Err(Refusal::Revoked) } else { Ok(()) }
    }
}
