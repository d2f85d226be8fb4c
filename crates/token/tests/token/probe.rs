//! What a readiness check signs with the live key: nobody takes it for a token.

use intended_token::{
    KeySet, PROBE_AUDIENCE, PROBE_TYPE, Refusal, RevocationList, TokenSigner as _, issue_probe, open_jws, verify_probe,
};
use serde_json::Value;

use crate::fixture::{ALGS, Check, at, bytes, claims, code, forge, header, key, keys, set, stranger, token};

fn part(token: &str, n: usize) -> Vec<u8> {
    bytes(token.split('.').nth(n).unwrap())
}

#[test]
fn a_probe_verifies_as_what_it_is_with_its_own_nonce_and_keys_alone() {
    for alg in ALGS {
        let probe = issue_probe("n1", key(alg)).unwrap();
        verify_probe(&probe, "n1", keys()).unwrap();
        assert_eq!(verify_probe(&probe, "n2", keys()), Err(Refusal::Claims));
        assert_eq!(verify_probe(&probe, "n1", &set([stranger().jwk])), Err(Refusal::KeyUnknown));
        assert_eq!(verify_probe(&probe, "n1", &KeySet::default()), Err(Refusal::KeyUnknown));
        assert_eq!(verify_probe(&token(alg), "n1", keys()), Err(Refusal::Type), "a token is no probe");
        let (message, signature) = probe.rsplit_once('.').unwrap();
        let mut signature = bytes(signature);
        signature[7] ^= 1;
        let bent = format!("{message}.{}", intended_token::base64url(&signature));
        assert_eq!(verify_probe(&bent, "n1", keys()), Err(Refusal::Signature));
    }
}

#[test]
fn no_verifier_takes_a_probe_for_a_token_or_a_list_of_revocations() {
    for alg in ALGS {
        let probe = issue_probe("n1", key(alg)).unwrap();
        assert_eq!(code(&probe), "token.type", "{alg:?}");
        let issuer = claims().iss;
        assert_eq!(RevocationList::open(&probe, &issuer, keys()).unwrap_err(), Refusal::Type);
        // Whoever takes any type of his own choosing has to name this one to get anywhere.
        for typ in ["authority+jwt", "JWT", "at+jwt"] {
            assert_eq!(open_jws(&probe, |is| is == Some(typ), keys()).unwrap_err(), Refusal::Type, "{typ}");
        }
        assert_eq!(open_jws(&probe, |is| is.is_none(), keys()).unwrap_err(), Refusal::Type);
    }
}

/// Each reason by itself: were the others not there, it would still be refused.
#[test]
fn a_probe_under_a_tokens_header_and_at_any_time_is_still_no_token() {
    for alg in ALGS {
        let probe = issue_probe("n1", key(alg)).unwrap();
        // Nobody but the key's holder can make this: the same claims as a token.
        let dressed = forge(&header(alg.as_str(), key(alg).kid()), &part(&probe, 1), key(alg));
        assert_eq!(code(&dressed), "token.times", "it ends when it begins");
        for now in [0, 1, 1_790_000_000] {
            assert!(Check { now: at(now), ..Check::default() }.run(&dressed).is_err(), "{now}");
        }
        // With times that would do, it lacks everything that a token is made of.
        let mut claims: Value = serde_json::from_slice(&part(&probe, 1)).unwrap();
        for (name, value) in [("iat", 1_790_000_000), ("nbf", 1_790_000_000), ("exp", 1_790_000_060)] {
            claims[name] = value.into();
        }
        let dressed = forge(&header(alg.as_str(), key(alg).kid()), claims.to_string().as_bytes(), key(alg));
        assert_eq!(code(&dressed), "token.claims");
    }
}

#[test]
fn a_probe_says_nothing_but_that_it_is_for_nobody_and_over() {
    let probe = issue_probe("n1", key(ALGS[0])).unwrap();
    let head: Value = serde_json::from_slice(&part(&probe, 0)).unwrap();
    assert_eq!(head["typ"], PROBE_TYPE);
    let claims: Value = serde_json::from_slice(&part(&probe, 1)).unwrap();
    assert_eq!(claims["aud"], PROBE_AUDIENCE);
    assert_eq!((&claims["exp"], &claims["nbf"], &claims["iat"]), (&0.into(), &0.into(), &0.into()));
    let named: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    for absent in ["iss", "sub", "jti", "tid", "env", "txn", "authorization_details", "intent_hash", "scope", "once"] {
        assert!(!named.contains(&absent), "{absent}: {claims}");
    }
    // As long as a token, so that it takes as long.
    let (probe, token) = (probe.len() as f64, token(ALGS[0]).len() as f64);
    assert!((probe / token - 1.0).abs() < 0.25, "{probe} {token}");
}
