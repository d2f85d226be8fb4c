//! The token service: whether each environment's key is there, signs what its public half verifies, and
//! could be unsealed again.

use intended_engine::{Environment, KeyStatus, State, keys};
use intended_keyring::SigningKey;
use intended_model::{Code, EnvironmentId};
use intended_token::{KeySet, issue_probe, verify_probe};

use super::{Finding, Sheet, TOKENS, degraded, healthy, unavailable};
use crate::key_age::Rotation;
use crate::metrics::Stopwatch;
use crate::tenant::{ledger_key_fact, note_signer};
use crate::{Runtime, RuntimeError, Tenant};

const OLD: &str = "Rotate the environment's key: `intended keys rotate`. Tokens of the one before stay good until \
    they expire.";
const SEALED: &str = "Restore the sealed key from a backup, or see that every node has the root key that sealed it; \
    for a signing key: rotate it. A node that restarts now does not come up.";

impl Runtime {
    pub(super) fn check_key(sheet: &mut Sheet, tenant: &Tenant, environment: &Environment) {
        let found = match tenant.signer(&environment.id) {
            Ok(key) => healthy(intended_token::TokenSigner::kid(&*key)),
            Err(_) => unavailable(
                Code::KeyMissing.title(),
                "Rotate the environment's key: `intended keys rotate -e <environment>`. Until then nothing is allowed there.",
            ),
        };
        sheet.add(TOKENS, "signing key", found.of(format!("{}/{}", tenant.id, environment.id)));
    }

    /// Signs something that is worth nothing, and verifies it with what verifiers have.
    pub(super) fn check_signature(&self, sheet: &mut Sheet, tenant: &Tenant, state: &State, of: &EnvironmentId) {
        // That there is none is said by `signing key`.
        let Ok(signer) = tenant.signer(of) else { return };
        let try_it = || -> Result<std::time::Duration, RuntimeError> {
            let nonce = self.random_id()?;
            let watch = Stopwatch::start();
            let probe = issue_probe(&nonce, &*signer).map_err(RuntimeError::internal)?;
            let keys = KeySet::from_jwks(&Self::key_set(state, Some(of))?).map_err(RuntimeError::internal)?;
            verify_probe(&probe, &nonce, &keys)
                .map_err(|refusal| RuntimeError::new(Code::Internal, refusal.to_string()))?;
            Ok(watch.elapsed())
        };
        let found = match try_it() {
            Ok(took) => healthy(format!("signed and verified in {:.1} ms", took.as_secs_f64() * 1000.0)),
            Err(error) => unavailable(
                format!("what it signs does not verify: {error}"),
                "Rotate the environment's key: what is signed with this one is refused everywhere.",
            ),
        };
        sheet.add(TOKENS, "signature", found.of(format!("{}/{of}", tenant.id)));
    }

    /// Whether the active key is older than policy has it. Nothing is refused for that.
    pub(super) async fn check_key_age(&self, sheet: &mut Sheet, tenant: &Tenant, of: &EnvironmentId) {
        let now = self.now();
        let found = match self.key_age(tenant, of).await {
            // That there is none is said by `signing key`.
            Ok(None) => return,
            Ok(Some(age)) => {
                let days = age.days(now);
                match (age.rotation(now), age.due) {
                    (Rotation::Overdue, Some(due)) => {
                        degraded(format!("{days} days old, to be rotated since {due}"), OLD)
                    }
                    (_, Some(due)) => healthy(format!("{days} days old, to be rotated by {due}")),
                    (_, None) => healthy(format!("{days} days old")),
                }
            }
            Err(error) => degraded(error.to_string(), "See the store's checks."),
        };
        sheet.add(TOKENS, "key age", found.of(format!("{}/{of}", tenant.id)));
    }

    /// Unseals again what a restart would have to: the active keys and the ledger's. It signs from
    /// memory meanwhile, and would not notice otherwise.
    pub(super) fn check_sealed(&self, sheet: &mut Sheet, tenant: &Tenant, state: &State) {
        let mut wanted = vec![(None, ledger_key_fact(), None)];
        for environment in state.environments.values() {
            let active = environment.keys.iter().find(|k| k.status == KeyStatus::Active);
            wanted.extend(active.map(|key| {
                let fact = keys::sealed_key(environment.id.as_str(), &key.kid);
                (Some(&environment.id), fact, Some(&*key.kid))
            }));
        }
        for (environment, fact, kid) in wanted {
            sheet.about(Some(&tenant.id), environment);
            let place = environment.map_or_else(|| tenant.id.to_string(), |e| format!("{}/{e}", tenant.id));
            sheet.add(TOKENS, "sealed keys", self.unseals(tenant, &fact, kid, &state.vkey).of(place));
        }
    }

    /// `kid` of a signing key; without one it is the key that signs for the ledger as `vkey`.
    fn unseals(&self, tenant: &Tenant, fact: &str, kid: Option<&str>, vkey: &str) -> Finding {
        let name = kid.unwrap_or("the ledger's key");
        let sealed = match self.store().fact_now(&tenant.id, fact) {
            Ok(Some(sealed)) => sealed,
            Ok(None) => return degraded(format!("{name} is in memory and no longer in the store"), SEALED),
            Err(error) => return degraded(format!("{name} cannot be read: {error}"), SEALED),
        };
        let text = String::from_utf8_lossy(&sealed.value);
        match SigningKey::from_sealed(self.root_key(), tenant.id.as_str(), &text) {
            Ok(key) => {
                let own = match kid {
                    Some(kid) => key.kid() == kid,
                    None => note_signer(&tenant.id, &key).is_ok_and(|signer| signer.vkey() == vkey),
                };
                if own {
                    healthy(if kid.is_some() { "unseals" } else { "the ledger's key unseals" })
                } else {
                    degraded(format!("another key is sealed in the place of {name}"), SEALED)
                }
            }
            Err(error) => degraded(format!("{name} does not unseal: {error}"), SEALED),
        }
    }
}
