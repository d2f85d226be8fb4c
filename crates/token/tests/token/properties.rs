//! What holds for every token. Where all cases can be tried, all are.

use intended_token::claims::Actor;
use intended_token::{Alg, Binding, Claims, Jwk, LedgerPosition, TokenSigner as _, base64url, issue};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::fixture::{ACCEPTED, ALGS, Check, TestKey, bytes, claims, code, expectations, key, set, token};

/// The same cases on every run.
fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(8037), ..ProptestConfig::default() }
}

fn flipped(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len() * 8).map(|bit| {
        let mut out = bytes.to_vec();
        out[bit / 8] ^= 1 << (bit % 8);
        (bit, out)
    })
}

#[test]
fn a_token_with_any_one_bit_of_its_text_flipped_never_verifies() {
    for alg in ALGS {
        let token = token(alg);
        assert_eq!(code(&token), ACCEPTED);
        for (bit, other) in flipped(token.as_bytes()) {
            // The eighth bit leaves UTF-8: such bytes are no text and cannot be handed in.
            let Ok(other) = String::from_utf8(other) else { continue };
            assert_ne!(code(&other), ACCEPTED, "{alg:?}, bit {bit}");
        }
    }
}

#[test]
fn a_token_with_any_one_bit_of_what_it_encodes_flipped_never_verifies() {
    for alg in ALGS {
        let token = token(alg);
        let parts: Vec<_> = token.split('.').collect();
        for at in 0..3 {
            for (bit, other) in flipped(&bytes(parts[at])) {
                let other = base64url(&other);
                let mut parts = parts.clone();
                parts[at] = &other;
                let code = code(&parts.join("."));
                // Claims are not looked at before the signature is.
                let expected = if at == 0 { code != ACCEPTED } else { code == "token.signature" };
                assert!(expected, "{alg:?}, part {at}, bit {bit}: {code}");
            }
        }
    }
}

#[test]
fn a_token_cut_short_or_long_anywhere_never_verifies() {
    let token = token(Alg::EdDSA);
    for at in 0..token.len() {
        let (head, tail) = token.split_at(at);
        for other in [head.to_owned(), tail[1..].to_owned(), format!("{head}{}", &tail[1..]), format!("{head}A{tail}")]
        {
            assert_ne!(code(&other), ACCEPTED, "at {at}");
        }
    }
}

#[test]
fn parts_of_two_tokens_never_make_a_third() {
    let other = Claims { jti: base64url(&[0xa5; 32]), ..claims() };
    let tokens: Vec<_> = ALGS.into_iter().flat_map(|a| [token(a), issue(&other, key(a)).unwrap()]).collect();
    let parts: Vec<Vec<_>> = tokens.iter().map(|t| t.split('.').collect()).collect();
    let mut accepted = 0;
    for header in &parts {
        for payload in &parts {
            for signature in &parts {
                let made = [header[0], payload[1], signature[2]].join(".");
                let is_original = tokens.contains(&made);
                assert_eq!(code(&made) == ACCEPTED, is_original, "{made}");
                accepted += usize::from(is_original);
            }
        }
    }
    assert!(accepted >= tokens.len());
}

/// Other keys that stand under the id of the one that signed.
fn posing_as(real: &TestKey, others: impl IntoIterator<Item = Jwk>) {
    let token = issue(&claims(), real).unwrap();
    let own = set([real.jwk.clone()]);
    assert_eq!(Check { keys: &own, ..Check::default() }.code(&token), ACCEPTED);
    for other in others {
        let expected = if other.alg == real.alg() { "token.signature" } else { "token.algorithm" };
        let keys = set([Jwk { kid: real.kid().to_owned(), ..other.clone() }]);
        assert_eq!(Check { keys: &keys, ..Check::default() }.code(&token), expected, "{other:?}");
        let keys = set([other]);
        assert_eq!(Check { keys: &keys, ..Check::default() }.code(&token), "token.key_unknown");
    }
}

#[test]
fn a_token_never_verifies_with_a_key_of_another_algorithm() {
    for alg in ALGS {
        posing_as(key(alg), ALGS.into_iter().filter(|other| *other != alg).map(|other| key(other).jwk.clone()));
    }
}

#[test]
fn a_token_never_verifies_with_another_rsa_key() {
    let real = key(Alg::Rs256);
    let n = bytes(real.jwk.n.as_deref().unwrap());
    let moduli = [
        // RFC 7520 section 3.3.
        bytes(
            "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw",
        ),
        // RFC 7638 section 3.1.
        bytes(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        ),
    ];
    let others = moduli.iter().map(|n| Jwk::rsa(n, &[1, 0, 1]));
    // Its own modulus under another exponent, and with one bit flipped.
    let exponents = [vec![1], vec![3], vec![1, 0, 3]];
    let own = exponents.iter().map(|e| Jwk::rsa(&n, e));
    let flipped = flipped(&n).map(|(_, n)| Jwk::rsa(&n, &[1, 0, 1]));
    posing_as(real, others.chain(own).chain(flipped).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(fixed(128))]

    #[test]
    fn a_token_never_verifies_with_another_ed25519_key(a: [u8; 32], b: [u8; 32]) {
        prop_assume!(a != b);
        posing_as(&TestKey::ed25519(&a), [TestKey::ed25519(&b).jwk]);
    }

    #[test]
    fn a_token_never_verifies_with_another_p256_key(a in 1..u128::MAX, b in 1..u128::MAX) {
        prop_assume!(a != b);
        let scalar = |n: u128| [n.to_be_bytes(), n.to_be_bytes()].concat();
        // The order of the group begins with 2^32 - 1.
        prop_assume!(a >> 96 < 0xffff_ffff && b >> 96 < 0xffff_ffff);
        posing_as(&TestKey::p256(&scalar(a)), [TestKey::p256(&scalar(b)).jwk]);
    }

    #[test]
    fn what_is_issued_is_what_verifies(
        texts in proptest::collection::vec("\\PC{0,24}|[\\x00-\\x7f]{0,24}", 12),
        chain in proptest::collection::vec("\\PC{0,8}", 0..4),
        iat in 0_i64..250_000_000_000,
        ttl in 1_i64..=300,
        wait in 0_i64..300,
        digests: [[u8; 32]; 2],
        index in 0_u64..(1 << 53) - 1,
        alg in proptest::sample::select(ALGS.to_vec()),
    ) {
        let mut text = texts.into_iter();
        let mut text = || text.next().unwrap();
        let mut c = claims();
        for slot in [&mut c.iss, &mut c.sub, &mut c.aud, &mut c.jti, &mut c.tid, &mut c.env, &mut c.txn, &mut c.policy] {
            *slot = text();
        }
        let action = &mut c.action;
        for slot in [&mut action.tool, &mut action.operation, &mut action.resource_type, &mut action.resource_id] {
            *slot = text();
        }
        c.act = chain.into_iter().fold(None, |act, sub| Some(Actor { sub, act: act.map(Box::new) }));
        [c.action.arguments_digest, c.intent_hash] = digests.map(intended_model::Digest::from_bytes);
        (c.iat, c.nbf, c.exp) = (iat, iat, iat + ttl);
        c.ledger = LedgerPosition { index, size: index + 1, root: base64url(&digests[0]) };
        let token = issue(&c, key(alg)).unwrap();
        let check = Check {
            expect: expectations(&c),
            binding: Binding::IntentHash(c.intent_hash),
            now: crate::fixture::at(iat + wait % ttl),
            ..Check::default()
        };
        let accepted = check.run(&token);
        prop_assert_eq!(accepted.map(|a| a.claims), Ok(c));
    }
}

proptest! {
    #![proptest_config(fixed(2048))]

    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC{0,64}|[A-Za-z0-9_.=-]{0,200}|(e30|eyJ9|bnVsbA)(\\.[A-Za-z0-9_-]{0,40}){0,4}") {
        prop_assert_ne!(code(&text), ACCEPTED);
    }

    #[test]
    fn any_header_over_any_signature_is_refused_without_a_panic(
        typ in "authority\\+jwt|JWT|\\PC{0,8}",
        alg in "EdDSA|ES256|RS256|none|HS256|\\PC{0,8}",
        own in 0_usize..4,
        kid in "\\PC{0,44}",
        signature in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let kid = ALGS.get(own).map_or(kid, |alg| key(*alg).kid().to_owned());
        let header = serde_json::json!({ "alg": alg, "kid": kid, "typ": typ }).to_string();
        let payload = crate::fixture::payload();
        let token = [base64url(header.as_bytes()), base64url(&payload), base64url(&signature)].join(".");
        prop_assert_ne!(code(&token), ACCEPTED);
    }
}
