//! ID tokens (OpenID Connect Core section 3.1.3.7): signed by a key of the provider that is pinned to one
//! algorithm, for this client and nobody else, of now, and for the sign-in that was begun.

use intended_model::{Timestamp, Value};
use intended_token::{Alg, Jwk, JwkSet, KeySet, open_jws};

use crate::sign_in::unsafe_in_text;

/// Clocks may differ by this much.
const LEEWAY_SECS: i64 = 60;
/// An ID token is used when it is made.
const MAX_AGE_SECS: i64 = 600;
/// Longest of a name, an address, a subject.
const MAX_TEXT: usize = 256;
/// Most groups that are looked at.
const MAX_GROUPS: usize = 1024;

/// What is expected of a token.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// What a provider says of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub subject: String,
    /// As far as the provider has verified it.
    pub email: Option<String>,
    pub username: Option<String>,
    pub name: Option<String>,
    pub groups: Vec<String>,
}

/// The keys that ID tokens may be signed with. Each has one algorithm: the one that it names, or the
/// only one of its type that is accepted. Others are left out: a provider has keys for other things.
pub fn keys(jwks: &Value) -> Result<KeySet, &'static str> {
    let Some(Value::Array(all)) = jwks.get("keys") else { return Err("its key set has no keys") };
    let mut set = JwkSet::default();
    for key in all {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") {
            continue;
        }
        let only = match (text("kty"), text("crv")) {
            (Some("RSA"), None) => Alg::Rs256,
            (Some("EC"), Some("P-256")) => Alg::Es256,
            (Some("OKP"), Some("Ed25519")) => Alg::EdDSA,
            _ => continue,
        };
        if text("alg").is_some_and(|alg| Alg::parse(alg) != Some(only)) {
            continue;
        }
        let own = |name: &str| text(name).map(str::to_owned);
        let Some(kid) = own("kid") else { continue };
        let jwk = Jwk {
            alg: only,
            crv: own("crv"),
            d: own("d"),
            e: own("e"),
            kid,
            kty: own("kty").unwrap_or_default(),
            n: own("n"),
            usage: Some("sig".to_owned()),
            x: own("x"),
            y: own("y"),
        };
        set.keys.push(jwk);
    }
    KeySet::from_jwks(&set).map_err(|_| "its key set has a key that is not well formed")
}

/// Verifies an ID token. What is wrong is said without anything of the token in it.
pub fn verify(token: &str, keys: &KeySet, expected: Expected<'_>, groups: &str) -> Result<Claims, &'static str> {
    // RFC 8725 section 3.11: no token of another kind. ID tokens are `JWT` or untyped.
    let typed = |typ: Option<&str>| typ.is_none_or(|t| t.eq_ignore_ascii_case("JWT"));
    let claims = open_jws(token, typed, keys).map_err(|_| "its ID token is not signed by a key of its set")?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err("its ID token is of another issuer");
    }
    let for_us = match claims.get("aud") {
        Some(Value::String(one)) => **one == *expected.client_id,
        // Others in it are others who could use it.
        Some(Value::Array(all)) => !all.is_empty() && all.iter().all(|a| a.as_str() == Some(expected.client_id)),
        _ => false,
    };
    if !for_us || claims.get("azp").is_some_and(|azp| azp.as_str() != Some(expected.client_id)) {
        return Err("its ID token is for another client");
    }
    let seconds = |name: &str| claims.get(name).and_then(Value::as_int).filter(|t| (0..253_402_300_800).contains(t));
    let (Some(exp), Some(iat)) = (seconds("exp"), seconds("iat")) else { return Err("its ID token lacks a time") };
    let now = expected.now.as_secs();
    if exp <= now {
        return Err("its ID token has expired");
    }
    if iat > now + LEEWAY_SECS || iat < now - MAX_AGE_SECS || exp <= iat {
        return Err("its ID token is not of now");
    }
    if claims.get("nbf").is_some() && seconds("nbf").is_none_or(|nbf| nbf > now + LEEWAY_SECS) {
        return Err("its ID token is not valid yet");
    }
    if text("nonce") != Some(expected.nonce) {
        return Err("its ID token is of another sign-in");
    }
    let subject = text("sub").filter(|s| !s.is_empty() && s.len() <= MAX_TEXT);
    let subject = subject.ok_or("its ID token names nobody")?.to_owned();
    let plain = |name: &str| {
        let good = |t: &&str| !t.is_empty() && t.len() <= MAX_TEXT && !t.chars().any(unsafe_in_text);
        text(name).filter(good).map(str::to_owned)
    };
    let verified = matches!(claims.get("email_verified"), Some(Value::Bool(true)));
    let groups = match claims.get(groups) {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one.to_string()],
        Some(Value::Array(all)) if all.len() <= MAX_GROUPS => {
            let texts: Option<Vec<String>> = all.iter().map(|g| g.as_str().map(str::to_owned)).collect();
            texts.ok_or("its groups are not texts")?
        }
        Some(_) => return Err("its groups are no list, or a very long one"),
    };
    Ok(Claims {
        subject,
        email: plain("email").filter(|_| verified),
        username: plain("preferred_username"),
        name: plain("name"),
        groups,
    })
}
