//! A signature that is worth nothing: what a check signs to see that a key signs, and how fast.
//!
//! It is made with the key that signs authority, so nobody may ever take it for authority. Each of
//! these would do, and all of them hold:
//!
//! * `typ` is [`PROBE_TYPE`], and a verifier of tokens looks at that first;
//! * it names no action, no intent and no tenant, so it is no token by its shape either;
//! * its audience is a name that no enforcement point has;
//! * it ended in 1970: to any reader of JWTs it is long expired;
//! * no decision in any ledger grants it, which is what online verification asks for.

use intended_model::Value;
use serde::Serialize;

use crate::verify::open;
use crate::{KeySet, MAX_TOKEN, Refusal, SignError, TokenSigner, jws};

/// The `typ` of a probe.
pub const PROBE_TYPE: &str = "intended-probe+jwt";
/// Whom it is for: nobody.
pub const PROBE_AUDIENCE: &str = "urn:intended:nobody";
/// As many bytes as the claims of a usual token have, so that signing takes as long.
const FILLER: usize = 720;

#[derive(Serialize)]
struct Wire<'a> {
    aud: &'static str,
    exp: i64,
    filler: String,
    iat: i64,
    nbf: i64,
    nonce: &'a str,
}

/// Signs a probe. `nonce` tells it from others.
pub fn issue_probe(nonce: &str, signer: &dyn TokenSigner) -> Result<String, SignError> {
    let wire = Wire { aud: PROBE_AUDIENCE, exp: 0, filler: "-".repeat(FILLER), iat: 0, nbf: 0, nonce };
    let payload = serde_json::to_vec(&wire).map_err(|_| SignError::Claims)?;
    jws(PROBE_TYPE, &payload, signer)
}

/// Verifies the signature of a probe with public keys, as strictly as a token's, and that it is this one.
pub fn verify_probe(probe: &str, nonce: &str, keys: &KeySet) -> Result<(), Refusal> {
    let value = open(probe, PROBE_TYPE, keys, MAX_TOKEN)?;
    if value.get("nonce").and_then(Value::as_str) == Some(nonce) { Ok(()) } else { Err(Refusal::Claims) }
}
