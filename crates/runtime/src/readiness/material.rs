//! Key material available: each environment has an active key, it is the one in memory, it is not too
//! old, and what is sealed in the store unseals with the root key of this process and signs what the
//! public half in the ledger verifies. A server that runs has its keys in memory; whether it would get
//! them again after a restart is what this finds out before the restart does.

use std::sync::Arc;

use intended_engine::{KeyStatus, keys};
use intended_keyring::{RootKey, SigningKey};
use intended_ledger::NoteVerifier;
use intended_model::{EnvironmentId, TenantId};
use intended_store::Store;
use intended_token::{JwkSet, KeySet, issue_probe, verify_probe};

use super::{Context, Figure, Limit, Verdict, late};
use crate::health::Found;
use crate::tenant::{ledger_key_fact, note_signer};
use crate::{Follower, Runtime};

const DAY_MS: i64 = 86_400_000;
/// What the probes of this check are told apart by: they are verified where they are made.
const NONCE: &str = "key material";
/// When a key does not come out of its seal.
const UNSEAL: &str = "do not restart before this is settled: give the server the root key that sealed it, restore the \
                      fact from a backup, or rotate the key";
const ROTATE: &str = "make one: `intended keys rotate -e <environment>`; nothing is allowed there until then";

pub(super) async fn figures(context: &Context<'_>) -> Vec<Figure> {
    let mut out = Vec::new();
    for environment in context.environments {
        out.extend(of_environment(context, environment).await.into_iter().map(|f| f.of(environment)));
    }
    out.push(ledger_key(context).await);
    out
}

/// The root key itself, which a restart reads again; nothing where it is not known where it came from.
pub(super) async fn root(context: &Context<'_>, runtime: &Runtime) -> Option<Figure> {
    Some(match context.in_time(runtime.root_read()).await {
        None => Figure::stated("root key", Verdict::Fail, late(), UNSEAL),
        Some(found) => match found? {
            Found::Same => Figure::stated("root key", Verdict::Pass, Found::Same.says(), ""),
            other => Figure::stated("root key", Verdict::Fail, other.says(), UNSEAL),
        },
    })
}

async fn of_environment(context: &Context<'_>, environment: &EnvironmentId) -> Vec<Figure> {
    let known = context.state.environments.get(environment);
    let active = known.and_then(|e| e.keys.iter().find(|k| k.status == KeyStatus::Active));
    let Some(active) = active else {
        return vec![Figure::stated("active key", Verdict::Fail, "there is none", ROTATE)];
    };
    let in_memory = match context.tenant.signer(environment) {
        Ok(signer) if signer.kid() == &*active.kid => {
            Figure::stated("active key", Verdict::Pass, format!("{} {}, in memory", active.alg, active.kid), "")
        }
        Ok(_) => {
            let advice = "it is being rotated: check again; if it stays so, restart this node";
            Figure::stated("active key", Verdict::Warn, "another one than the ledger's is in memory", advice)
        }
        Err(error) => Figure::stated("active key", Verdict::Fail, error.to_string(), "restart this node"),
    };
    vec![in_memory, age(context, active.added).await, sealed(context, environment, active).await]
}

/// Since it was made, by the ledger.
async fn age(context: &Context<'_>, added: u64) -> Figure {
    let limit = Limit::KeyAge;
    let missing = |why: String| Figure::without("key age", limit, context.thresholds, why);
    match context.in_time(context.follower.store.entry(&context.tenant.id, added)).await {
        None => missing(late()),
        Some(Err(error)) => missing(error.to_string()),
        Some(Ok(None)) => missing(format!("entry {added}, which made it, is not there")),
        Some(Ok(Some(entry))) => {
            let days = context.now.millis_since(entry.at).max(0) / DAY_MS;
            let held = Figure::held("key age", limit, context.thresholds, days.unsigned_abs());
            held.with(format!("made by entry {added}, at {}", entry.at))
        }
    }
}

async fn sealed(context: &Context<'_>, environment: &EnvironmentId, active: &intended_engine::Key) -> Figure {
    let name = keys::sealed_key(environment.as_str(), &active.kid);
    let jwk = active.jwk.clone();
    let work = move |key: SigningKey| {
        let jwk = intended_model::json::from_value(&jwk).map_err(|e| e.to_string())?;
        let public = KeySet::from_jwks(&JwkSet { keys: vec![jwk] }).map_err(|e| e.to_string())?;
        let probe = issue_probe(NONCE, &key).map_err(|e| e.to_string())?;
        verify_probe(&probe, NONCE, &public).map_err(|e| format!("what it signs does not verify: {e}"))
    };
    unsealed(context, "sealed key", name, work).await
}

/// The key that signs checkpoints.
async fn ledger_key(context: &Context<'_>) -> Figure {
    let (tenant, vkey) = (context.tenant.id.clone(), context.state.vkey.to_string());
    let work = move |key: SigningKey| {
        let signer = note_signer(&tenant, &key).map_err(|e| e.to_string())?;
        let public = NoteVerifier::parse(&vkey).map_err(|e| e.to_string())?;
        let note = signer.sign(&format!("{}/readiness\n{NONCE}\n", intended_ledger::origin(&tenant)));
        public.verify(&note).map(drop).map_err(|e| format!("what it signs does not verify: {e}"))
    };
    unsealed(context, "ledger key", ledger_key_fact(), work).await
}

/// Reads what is sealed, unseals it, and does something with it.
async fn unsealed(
    context: &Context<'_>,
    figure: &str,
    name: String,
    work: impl FnOnce(SigningKey) -> Result<(), String> + Send + 'static,
) -> Figure {
    let (Follower { store, root, .. }, tenant) = (context.follower.clone(), context.tenant.id.clone());
    let done = context.blocking(move || work(open(&*store, &root, &tenant, &name)?)).await;
    match done {
        None => Figure::stated(figure, Verdict::Fail, late(), Limit::StoreRead.hint()),
        Some(Err(why)) => Figure::stated(figure, Verdict::Fail, why, UNSEAL),
        Some(Ok(())) => {
            let what = "unsealed again from the store; what it signed verifies with the ledger's public half";
            Figure::stated(figure, Verdict::Pass, what, "")
        }
    }
}

fn open(store: &dyn Store, root: &Arc<RootKey>, tenant: &TenantId, name: &str) -> Result<SigningKey, String> {
    let fact = store.fact_now(tenant, name).map_err(|e| e.to_string())?;
    let fact = fact.ok_or_else(|| "it is not in the store".to_owned())?;
    SigningKey::from_sealed(root, tenant.as_str(), &String::from_utf8_lossy(&fact.value)).map_err(|e| e.to_string())
}
