//! Keys, claims, and forgery: tokens that `issue` would never write, under a signature that is right.
//! The keys are those of RFC 8037 appendix A.1 and RFC 7515 appendices A.2 and A.3.

use std::sync::LazyLock;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaEncoding,
    RsaKeyPair,
};
use intended_model::{Digest, Timestamp};
use intended_token::claims::Actor;
use intended_token::{
    Accepted, Action, Alg, Binding, Call, Claims, Expectations, Jwk, JwkSet, KeySet, LedgerPosition, Refusal,
    RevocationList, SignError, TokenSigner, Verifier, base64url, from_base64url, issue,
};
use serde_json::Value;

pub const NOW: i64 = 1_790_000_000;
pub const ALGS: [Alg; 3] = [Alg::EdDSA, Alg::Es256, Alg::Rs256];
pub const ACCEPTED: &str = "accepted";

/// RFC 8037 appendix A.1.
pub const ED_D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
pub const ED_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// RFC 7515 appendix A.3.
pub const EC_D: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
pub const EC_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
pub const EC_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
/// RFC 7515 appendix A.2.
pub const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const RSA_D: &str = "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ";
const RSA_P: &str = "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc";
const RSA_Q: &str = "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc";
const RSA_DP: &str = "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0";
const RSA_DQ: &str = "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU";
const RSA_QI: &str = "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U";

pub enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

pub struct TestKey {
    pub jwk: Jwk,
    pub pair: Pair,
}

pub fn bytes(text: &str) -> Vec<u8> {
    from_base64url(text).unwrap()
}

impl TestKey {
    pub fn ed25519(seed: &[u8]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
        Self { jwk: Jwk::ed25519(pair.public_key().as_ref()), pair: Pair::Ed25519(pair) }
    }
    pub fn p256(scalar: &[u8]) -> Self {
        let public = PrivateKey::from_private_key(&ECDH_P256, scalar).unwrap().compute_public_key().unwrap();
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, scalar, public.as_ref())
                .unwrap();
        Self { jwk: Jwk::p256(public.as_ref()).unwrap(), pair: Pair::P256(pair) }
    }
    fn rsa() -> Self {
        let public_key = PublicKeyComponents { n: bytes(RSA_N), e: bytes("AQAB") };
        let jwk = Jwk::rsa(&public_key.n, &public_key.e);
        let [d, p, q] = [RSA_D, RSA_P, RSA_Q].map(bytes);
        let [dp, dq, qi] = [RSA_DP, RSA_DQ, RSA_QI].map(bytes);
        let components = KeyPairComponents { public_key, d, p, q, dP: dp, dQ: dq, qInv: qi };
        Self { jwk, pair: Pair::Rsa(RsaKeyPair::from_components(&components).unwrap()) }
    }
    /// An RSA signature under another scheme than RS256.
    pub fn sign_rsa(&self, scheme: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let Pair::Rsa(pair) = &self.pair else { panic!("not an RSA key") };
        let mut out = vec![0; pair.public_modulus_len()];
        pair.sign(scheme, &SystemRandom::new(), message, &mut out).unwrap();
        out
    }
}

impl TokenSigner for TestKey {
    fn kid(&self) -> &str {
        &self.jwk.kid
    }
    fn alg(&self) -> Alg {
        self.jwk.alg
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(match &self.pair {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Pair::Rsa(_) => self.sign_rsa(&RSA_PKCS1_SHA256, message),
        })
    }
}

static EDDSA: LazyLock<TestKey> = LazyLock::new(|| TestKey::ed25519(&bytes(ED_D)));
static ES256: LazyLock<TestKey> = LazyLock::new(|| TestKey::p256(&bytes(EC_D)));
static RS256: LazyLock<TestKey> = LazyLock::new(TestKey::rsa);
static KEYS: LazyLock<KeySet> = LazyLock::new(|| set(ALGS.map(|alg| key(alg).jwk.clone())));

/// The trusted key of an algorithm.
pub fn key(alg: Alg) -> &'static TestKey {
    match alg {
        Alg::EdDSA => &EDDSA,
        Alg::Es256 => &ES256,
        Alg::Rs256 => &RS256,
    }
}

/// A key that nobody trusts.
pub fn stranger() -> TestKey {
    TestKey::ed25519(&[7; 32])
}

/// The trusted keys, one of each algorithm.
pub fn keys() -> &'static KeySet {
    &KEYS
}

pub fn set(keys: impl IntoIterator<Item = Jwk>) -> KeySet {
    KeySet::from_jwks(&JwkSet { keys: keys.into_iter().collect() }).unwrap()
}

pub fn claims() -> Claims {
    Claims {
        iss: "https://intended.test".to_owned(),
        sub: "support-agent".to_owned(),
        aud: "https://mail.test/send".to_owned(),
        iat: NOW,
        nbf: NOW,
        exp: NOW + 60,
        jti: base64url(&[0x5a; 32]),
        tid: "acme".to_owned(),
        env: "production".to_owned(),
        txn: "int_01".to_owned(),
        act: Some(Actor { sub: "alice".to_owned(), act: None }),
        class: intended_model::Class::Traffic,
        action: Action {
            tool: "mail.send".to_owned(),
            operation: "send".to_owned(),
            resource_type: "mailbox".to_owned(),
            resource_id: "support@acme.test".to_owned(),
            arguments_digest: Digest::of(b"arguments"),
        },
        intent_hash: Digest::of(b"intent"),
        policy: Digest::of(b"policy").to_string(),
        ledger: LedgerPosition { index: 41, size: 42, root: base64url(&[1; 32]) },
    }
}

pub fn call() -> Call {
    let c = claims();
    Call {
        agent: c.sub,
        tool: c.action.tool,
        resource_type: c.action.resource_type,
        resource_id: c.action.resource_id,
        arguments_digest: c.action.arguments_digest,
    }
}

pub fn expectations(claims: &Claims) -> Expectations {
    Expectations {
        issuer: claims.iss.clone(),
        audience: claims.aud.clone(),
        tenant: claims.tid.clone(),
        environment: claims.env.clone(),
    }
}

/// A valid token.
pub fn token(alg: Alg) -> String {
    issue(&claims(), key(alg)).unwrap()
}

/// Everything of a verification that a test may want to be different.
pub struct Check<'a> {
    pub keys: &'a KeySet,
    pub expect: Expectations,
    pub revocations: Option<&'a RevocationList>,
    pub binding: Binding,
    pub now: Timestamp,
}

impl Default for Check<'_> {
    fn default() -> Self {
        Self {
            keys: keys(),
            expect: expectations(&claims()),
            revocations: None,
            binding: Binding::Call(call()),
            now: at(NOW + 1),
        }
    }
}

impl Check<'_> {
    pub fn run(&self, token: &str) -> Result<Accepted, Refusal> {
        let verifier = Verifier { keys: self.keys, expect: self.expect.clone(), revocations: self.revocations };
        verifier.verify(token, &self.binding, self.now)
    }
    /// The stable code of the outcome.
    pub fn code(&self, token: &str) -> &'static str {
        self.run(token).map_or_else(Refusal::code, |_| ACCEPTED)
    }
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// The stable code of the outcome, when nothing is wrong but the token.
pub fn code(token: &str) -> &'static str {
    Check::default().code(token)
}

pub fn header(alg: &str, kid: &str) -> String {
    format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"authority+jwt"}}"#)
}

/// The payload of a valid token.
pub fn payload() -> Vec<u8> {
    bytes(token(Alg::EdDSA).split('.').nth(1).unwrap())
}

/// Any header over any payload, signed.
pub fn forge(header: &str, payload: &[u8], signer: &dyn TokenSigner) -> String {
    let message = format!("{}.{}", base64url(header.as_bytes()), base64url(payload));
    let signature = signer.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", base64url(&signature))
}

/// A valid payload under any header, signed by the trusted Ed25519 key.
pub fn with_header(header: &str) -> String {
    forge(header, &payload(), key(Alg::EdDSA))
}

/// Any payload under a valid header, signed by the trusted Ed25519 key.
pub fn with_payload(payload: &[u8]) -> String {
    let key = key(Alg::EdDSA);
    forge(&header("EdDSA", key.kid()), payload, key)
}

/// A valid token but for what `edit` does to its claims.
pub fn with_claims(edit: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_slice(&payload()).unwrap();
    edit(&mut value);
    with_payload(value.to_string().as_bytes())
}

/// A valid token with one claim replaced.
pub fn with(claim: &str, value: Value) -> String {
    with_claims(|c| c[claim] = value)
}

/// A valid token without one claim.
pub fn without(claim: &str) -> String {
    with_claims(|c| assert!(c.as_object_mut().unwrap().remove(claim).is_some()))
}

/// A valid token with one piece of its payload's text replaced.
pub fn with_text(from: &str, to: &str) -> String {
    let text = String::from_utf8(payload()).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    with_payload(text.replacen(from, to, 1).as_bytes())
}

/// A token's signed part and its signature.
pub fn cut(token: &str) -> (&str, Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    (message, bytes(signature))
}

/// The signed part with another signature.
pub fn resigned(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", base64url(signature))
}
