//! Authority tokens: compact JWS, `typ: authority+jwt`. Small, because enforcement points embed it;
//! pure, because what it needs (keys, time, the call) is handed in.
//!
//! * [`claims`]: what a token says
//! * [`keys`]: algorithms, JWK sets, key sets
//! * [`verify`]: the checks, in a fixed order, stopping at the first that fails
//! * [`revocation`]: the signed list of revoked tokens for offline verifiers
//! * [`probe`]: a signature that is worth nothing, to see that a key signs
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

pub mod claims;
pub mod keys;
pub mod probe;
pub mod revocation;
pub mod verify;

pub use claims::{Action, Claims, LedgerPosition};
pub use keys::{Alg, Jwk, JwkError, JwkSet, KeySet};
pub use probe::{PROBE_AUDIENCE, PROBE_TYPE, issue_probe, verify_probe};
pub use revocation::{HaltCut, InForce, Listed, RevocationList, RevokedCut, issue_list, issue_revocation_list};
pub use verify::{Accepted, Binding, Call, Expectations, Known, Refusal, SingleUse, Verifier, open_jws};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use intended_model::json::compact;

/// The `typ` of an authority token.
pub const TYPE: &str = "authority+jwt";
/// Longest token that is looked at.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Longest time a token may be valid, in seconds.
pub const MAX_TTL: i64 = 300;

/// Signing failed: the key cannot sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("the key cannot sign")]
    Key,
    #[error("a token is valid for at most {MAX_TTL} seconds")]
    Ttl,
    #[error("the claims cannot be written")]
    Claims,
}

/// Signs tokens with one key.
pub trait TokenSigner: Send + Sync {
    fn kid(&self) -> &str;
    fn alg(&self) -> Alg;
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Base64url without padding.
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Strict: no padding, no white space, no stray bits at the end.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// What the claims of a token usually come to, with room to spare.
const ROOM: usize = 2 << 10;

/// Signs a token.
pub fn issue(claims: &Claims, signer: &dyn TokenSigner) -> Result<String, SignError> {
    if claims.exp.saturating_sub(claims.iat) > MAX_TTL {
        return Err(SignError::Ttl);
    }
    let payload = compact::to_string(&claims.to_wire(), ROOM).map_err(|_| SignError::Claims)?;
    jws(TYPE, payload.as_bytes(), signer)
}

/// A compact JWS (RFC 7515 section 7.1).
fn jws(typ: &str, payload: &[u8], signer: &dyn TokenSigner) -> Result<String, SignError> {
    let (alg, kid) = (signer.alg().as_str(), signer.kid());
    let header = ["{\"alg\":\"", alg, "\",\"kid\":\"", kid, "\",\"typ\":\"", typ, "\"}"].concat();
    let mut out = String::with_capacity((header.len() + payload.len()) * 4 / 3 + 400);
    URL_SAFE_NO_PAD.encode_string(header, &mut out);
    out.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut out);
    let signature = signer.sign(out.as_bytes())?;
    out.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut out);
    Ok(out)
}
