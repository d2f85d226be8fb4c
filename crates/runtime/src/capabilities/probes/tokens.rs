//! Tokens and keys. With a live key only what the server hands out anyway is signed: an authority
//! token is made of a committed decision and of nothing else, also here. What looks like a token is
//! signed with a key that nobody trusts and that is gone when the probe ends.

use intended_engine::{Environment, KeyStatus, State, keys};
use intended_keyring::SigningKey;
use intended_model::{Class, Digest, Timestamp};
use intended_token::{Action, LedgerPosition};
use intended_token::{
    Alg, Binding, Claims, Expectations, JwkSet, KeySet, MAX_TTL, Refusal, RevocationList, Verifier, issue,
};

use super::{MADE_UP, count, listed};
use crate::capabilities::{Ask, Found, Probed};
use crate::tenant::{ledger_key_fact, note_signer};
use crate::{Runtime, RuntimeError};

/// From then on a list that was made now is too old: it says a minute, and is made anew each few seconds.
const STALE_SECS: i64 = 61;

fn none() -> Found {
    Found::not_configured("there is no environment", "make one: docs/api.md#tenants-and-environments")
}

fn keys_of(state: &State, environment: &Environment) -> Result<KeySet, RuntimeError> {
    KeySet::from_jwks(&Runtime::key_set(state, Some(&environment.id))?).map_err(RuntimeError::internal)
}

/// A list that was signed now, and what it says.
async fn list(
    ask: &Ask,
    state: &State,
    environment: &Environment,
) -> Result<Result<RevocationList, Refusal>, RuntimeError> {
    let document = ask.runtime().list_of(ask.tenant(), &environment.id).await?;
    Ok(RevocationList::open(&document.text, ask.runtime().issuer(), &keys_of(state, environment)?))
}

pub async fn signing(ask: &Ask) -> Probed {
    let state = ask.state();
    let mut signed = 0;
    for environment in ask.environments(&state) {
        let without = format!("`{}` has no active key: nothing is allowed there", environment.id);
        let add = format!("add one: POST environments/{}/keys", environment.id);
        if ask.tenant().signer(&environment.id).is_err() {
            return Ok(Found::unavailable(without, add));
        }
        if let Err(refusal) = list(ask, &state, environment).await? {
            return Ok(Found::unavailable(
                format!("what `{}` signs does not verify with its published keys: {refusal}", environment.id),
                "rotate the environment's key, and have verifiers fetch the keys again",
            ));
        }
        signed += 1;
    }
    if signed == 0 {
        return Ok(none());
    }
    Ok(Found::working(format!("{} sign, and the published keys verify it", count(signed, "environment"))))
}

/// A key that nobody trusts, and claims that nobody granted.
struct Forged {
    key: SigningKey,
    keys: KeySet,
    claims: Claims,
    expect: Expectations,
    binding: Binding,
    now: Timestamp,
}

impl Forged {
    fn new(ask: &Ask, environment: &str, position: u64) -> Result<Self, RuntimeError> {
        let runtime = ask.runtime();
        let key = SigningKey::generate(Alg::EdDSA, runtime.rng()).map_err(RuntimeError::internal)?;
        let set = JwkSet { keys: vec![key.public_jwk().clone()] };
        let keys = KeySet::from_jwks(&set).map_err(RuntimeError::internal)?;
        let (now, hash) = (ask.now(), Digest::of(MADE_UP.as_bytes()));
        let (issuer, tenant) = (runtime.issuer().to_owned(), ask.tenant().id.to_string());
        let claims = Claims {
            iss: issuer.clone(),
            sub: MADE_UP.to_owned(),
            aud: MADE_UP.to_owned(),
            iat: now.as_secs(),
            nbf: now.as_secs(),
            exp: now.as_secs() + MAX_TTL,
            jti: runtime.random_jti()?.to_string(),
            tid: tenant.clone(),
            env: environment.to_owned(),
            txn: intended_model::IntentId::v7(now, runtime.random()?).to_string(),
            act: None,
            class: Class::Traffic,
            action: Action {
                tool: MADE_UP.to_owned(),
                operation: "read".to_owned(),
                resource_type: MADE_UP.to_owned(),
                resource_id: MADE_UP.to_owned(),
                arguments_digest: hash,
            },
            intent_hash: hash,
            policy: String::new(),
            ledger: LedgerPosition { index: position, size: position + 1, root: String::new() },
        };
        let expect = Expectations { issuer, audience: MADE_UP.to_owned(), tenant, environment: environment.to_owned() };
        Ok(Self { key, keys, claims, expect, binding: Binding::IntentHash(hash), now })
    }
    fn token(&self) -> Result<String, RuntimeError> {
        issue(&self.claims, &self.key).map_err(RuntimeError::internal)
    }
}

pub async fn verification(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let Some(environment) = ask.environments(state).next() else { return Ok(none()) };
        let forged = Forged::new(ask, environment.id.as_str(), 0)?;
        let token = forged.token()?;
        let live = keys_of(state, environment)?;
        let verify = |keys: &KeySet, expect: Expectations, token: &str, binding: &Binding, at: Timestamp| {
            Verifier { keys, expect, revocations: None }.verify(token, binding, at).map(drop)
        };
        let (right, now, keys) = (forged.expect.clone(), forged.now, &forged.keys);
        let other = |change: fn(&mut Expectations)| {
            let mut expect = forged.expect.clone();
            change(&mut expect);
            verify(keys, expect, &token, &forged.binding, now)
        };
        let call = Binding::IntentHash(Digest::of(b"another call"));
        // One letter in the middle of what it says: it still reads as base64url.
        let middle = token.len() / 2;
        let altered = token.char_indices().map(|(at, c)| match c {
            'A' if at == middle => 'B',
            _ if at == middle => 'A',
            c => c,
        });
        let altered = altered.collect::<String>();
        let cases = [
            ("a token that is right", verify(keys, right.clone(), &token, &forged.binding, now), Ok(())),
            ("one for another audience", other(|e| e.audience.push('2')), Err(Refusal::Audience)),
            ("one of another environment", other(|e| e.environment.push('2')), Err(Refusal::Environment)),
            ("one of another tenant", other(|e| e.tenant.push('2')), Err(Refusal::Tenant)),
            ("one for another call", verify(keys, right.clone(), &token, &call, now), Err(Refusal::Binding)),
            (
                "one that has expired",
                verify(keys, right.clone(), &token, &forged.binding, now.plus_secs(MAX_TTL)),
                Err(Refusal::Expired),
            ),
            (
                "one that was altered",
                verify(keys, right.clone(), &altered, &forged.binding, now),
                Err(Refusal::Signature),
            ),
            (
                "one of a key that nobody trusts",
                verify(&live, right, &token, &forged.binding, now),
                Err(Refusal::KeyUnknown),
            ),
        ];
        for (what, is, wanted) in &cases {
            if is != wanted {
                let is = is.as_ref().err().map_or_else(|| "accepted".to_owned(), |r| format!("refused: {r}"));
                return Ok(Found::unavailable(
                    format!("{what} is {is}"),
                    "stop the enforcement points that verify with this release",
                ));
            }
        }
        Ok(Found::working(format!("1 accepted, {} refused by name", cases.len() - 1)))
    })
    .await
}

pub async fn revocation_list(ask: &Ask) -> Probed {
    let state = ask.state();
    let wrong = |what: String| {
        Found::unavailable(what, "have verifiers verify online: what is revoked is not told to others reliably")
    };
    let (mut made, mut halted) = (0, false);
    for environment in ask.environments(&state) {
        let list = match list(ask, &state, environment).await? {
            Ok(list) => list,
            Err(refusal) => return Ok(wrong(format!("the list of `{}` does not open: {refusal}", environment.id))),
        };
        // After everything that there is: nothing from before concerns it, but what is halted now does.
        let head = ask.runtime().store().head(&ask.tenant().id).await?;
        let forged = Forged::new(ask, environment.id.as_str(), head.size)?;
        let token = forged.token()?;
        let verify = |at: Timestamp| {
            let expect = forged.expect.clone();
            Verifier { keys: &forged.keys, expect, revocations: Some(&list) }
                .verify(&token, &forged.binding, at)
                .map(drop)
        };
        let under_halt = state.halts.values().any(|h| h.environment.as_ref().is_none_or(|e| *e == environment.id));
        halted |= under_halt;
        match verify(forged.now) {
            Ok(()) => {}
            Err(Refusal::Halted) if under_halt => {}
            Err(refusal) => {
                return Ok(wrong(format!("a token that `{}` has not revoked is refused: {refusal}", environment.id)));
            }
        }
        if verify(forged.now.plus_secs(STALE_SECS)) != Err(Refusal::RevocationsStale) {
            return Ok(wrong(format!("the list of `{}` is relied on when it is too old", environment.id)));
        }
        made += 1;
    }
    if made == 0 {
        return Ok(none());
    }
    let also = if halted { ", with a halt in force" } else { "" };
    Ok(Found::working(format!("{} made and opened{also}; refused a minute later", count(made, "list"))))
}

pub async fn keys_at_rest(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let (runtime, tenant) = (ask.runtime(), ask.tenant());
        let unsealed = |fact: &str| -> Result<Result<SigningKey, String>, RuntimeError> {
            let Some(sealed) = runtime.store().fact_now(&tenant.id, fact)? else {
                return Ok(Err("it is not in the store".to_owned()));
            };
            let text = String::from_utf8_lossy(&sealed.value);
            Ok(SigningKey::from_sealed(runtime.root_key(), tenant.id.as_str(), &text).map_err(|e| e.to_string()))
        };
        let mut bad = Vec::new();
        match unsealed(&ledger_key_fact())? {
            Err(why) => bad.push(format!("of the ledger: {why}")),
            Ok(key) if note_signer(&tenant.id, &key)?.vkey() != *state.vkey => {
                bad.push("of the ledger: it is another key".to_owned());
            }
            Ok(_) => {}
        }
        let mut held = 1;
        for environment in ask.environments(state) {
            for key in environment.keys.iter().filter(|k| k.status == KeyStatus::Active) {
                held += 1;
                match unsealed(&keys::sealed_key(environment.id.as_str(), &key.kid))? {
                    Err(why) => bad.push(format!("of `{}`: {why}", environment.id)),
                    Ok(sealed) if sealed.kid() != &*key.kid => bad.push(format!("of `{}`: it is another key", environment.id)),
                    Ok(_) => {}
                }
            }
        }
        if bad.is_empty() {
            return Ok(Found::working(format!("{} unseal with the root key", count(held, "key"))));
        }
        Ok(Found::unavailable(
            format!("a key does not unseal: {}; it is still signed with from memory", listed(&bad)),
            "do not restart the server; rotate the environment's key, or put the store and its root key back together from the backup",
        ))
    })
    .await
}
