//! Token signing latency: real signatures with the live key of each environment, of what is no token
//! ([`intended_token::probe`]), each verified here with the public halves that verifiers are given.

use std::sync::Arc;

use intended_engine::KeyStatus;
use intended_keyring::SigningKey;
use intended_model::EnvironmentId;
use intended_token::{KeySet, TokenSigner as _, issue_probe, verify_probe};

use super::burst::{Times, budget, burst};
use super::{Context, Figure, Limit, Verdict};
use crate::Runtime;

/// Signatures of one burst.
const BURST: usize = 200;

impl Runtime {
    pub(super) async fn signing(&self, context: &Context<'_>) -> Vec<Figure> {
        let mut out = Vec::new();
        for environment in context.environments {
            out.extend(self.signing_in(context, environment).await.into_iter().map(|f| f.of(environment)));
        }
        out
    }

    async fn signing_in(&self, context: &Context<'_>, environment: &EnvironmentId) -> Vec<Figure> {
        let failed = |why: String| vec![Figure::without("p99", Limit::SigningP99, context.thresholds, why)];
        let (signer, public) = match pair(context, environment) {
            Ok(pair) => pair,
            Err(why) => {
                let advice = "no token is issued there: see key material available";
                return vec![Figure::stated("signing key", Verdict::Fail, why, advice)];
            }
        };
        let Ok(nonce) = self.random_id() else { return failed("the system gives no random bytes".to_owned()) };
        let (alg, budget) = (signer.alg(), budget(context));
        let times = burst(context, move || {
            let mut probes = Vec::with_capacity(BURST);
            let times = Times::of(BURST, budget, |_| {
                probes.push(issue_probe(&nonce, &*signer).map_err(|e| e.to_string())?);
                Ok(())
            })?;
            for probe in &probes {
                verify_probe(probe, &nonce, &public).map_err(|e| format!("a signature does not verify: {e}"))?;
            }
            Ok(times)
        });
        match times.await {
            Ok(times) => {
                let what = format!("{} {} signatures, each verified", times.count(), alg.as_str());
                times.figures(context, Limit::SigningP50, Limit::SigningP99, &what)
            }
            Err(why) => failed(why),
        }
    }
}

/// The key in memory, and what verifiers verify with. A new key is in memory a moment before the state
/// names it.
fn pair(context: &Context<'_>, environment: &EnvironmentId) -> Result<(Arc<SigningKey>, KeySet), String> {
    let signer = context.tenant.signer(environment).map_err(|e| e.to_string())?;
    let state = context.tenant.state();
    let keys = state.environments.get(environment).map(|e| e.keys.as_slice()).unwrap_or_default();
    if !keys.iter().any(|k| *k.kid == *signer.kid() && k.status != KeyStatus::Retired) {
        return Err("the key in memory is not one of the ledger's: it is being rotated, check again".to_owned());
    }
    let set = Runtime::key_set(&state, Some(environment)).map_err(|e| e.to_string())?;
    Ok((signer, KeySet::from_jwks(&set).map_err(|e| e.to_string())?))
}
