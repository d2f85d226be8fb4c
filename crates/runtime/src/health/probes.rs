//! What costs something to know: a write, entries read again, keys unsealed, decisions made up. It is
//! measured once for all who ask, at most once a second, and where it takes long for about a tenth of the
//! time: however many ask, it is no load.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use intended_model::TenantId;
use tokio::sync::Mutex;

use super::ledger::Sweep;
use super::storage::Wrote;
use super::{Check, LEDGER, Sheet, degraded, unavailable};
use crate::metrics::Stopwatch;
use crate::{Runtime, RuntimeError, Tenant};

/// How long what was measured is good for whoever wants to know how things are.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// And for whoever asks whether the node is ready: heartbeats measure twice in this time.
pub(super) const ROUND: Duration = Duration::from_secs(30);
/// What was measured is kept for so many times as long as it took, but not for longer than is good to
/// know that it is well again.
const SHARE: u32 = 10;
const STALE: Duration = Duration::from_secs(10);
/// All of it takes no longer than this: what is left is said not to have been looked at.
const DEADLINE: Duration = Duration::from_secs(8);

/// What was measured.
pub(super) struct Measured {
    /// Counts up.
    pub number: u64,
    pub wrote: Wrote,
    pub not_served: Result<usize, RuntimeError>,
    /// Of the tenants.
    pub checks: Vec<Check>,
}

/// The last of it, and where the next goes on.
#[derive(Default)]
pub(crate) struct Probes(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    /// Also of one that nobody waited for to its end.
    began: Option<Stopwatch>,
    last: Option<(Stopwatch, Duration, Arc<Measured>)>,
    sweeps: HashMap<TenantId, Sweep>,
    made: u64,
}

impl Runtime {
    pub(super) async fn measured(&self, fresh: Duration) -> Arc<Measured> {
        let mut slot = self.probes.0.lock().await;
        if let Some((made, took, measured)) = &slot.last
            && made.elapsed() < fresh.max((*took * SHARE).min(STALE))
        {
            return Arc::clone(measured);
        }
        if let Some(since) = slot.began.map(|began| began.elapsed()).filter(|since| *since < FRESH) {
            tokio::time::sleep(FRESH - since).await;
        }
        slot.began = Some(Stopwatch::start());
        // Whoever waits for an answer works nothing.
        let wrote = self.try_writing().await;
        let watch = Stopwatch::start();
        slot.made += 1;
        let number = slot.made;
        let measured = Arc::new(self.measure_all(number, wrote, &mut slot.sweeps).await);
        slot.last = Some((Stopwatch::start(), watch.elapsed(), Arc::clone(&measured)));
        measured
    }

    async fn measure_all(&self, number: u64, wrote: Wrote, sweeps: &mut HashMap<TenantId, Sweep>) -> Measured {
        let watch = Stopwatch::start();
        let mut sheet = Sheet::default();
        for tenant in self.tenants() {
            let left = DEADLINE.saturating_sub(watch.elapsed());
            let sweep = sweeps.get(&tenant.id).copied().unwrap_or_default();
            let mut own = Sheet::default();
            match tokio::time::timeout(left, self.measure_tenant(&mut own, &tenant, sweep)).await {
                Ok(next) => drop(sweeps.insert(tenant.id.clone(), next)),
                Err(_) => {
                    own.about(Some(&tenant.id), None);
                    let detail = format!("not looked at: the checks took more than {} s", DEADLINE.as_secs());
                    own.add(
                        LEDGER,
                        "entries",
                        degraded(detail, "See the store's checks: reading takes long.").of(&tenant.id),
                    );
                }
            }
            sheet.checks.append(&mut own.checks);
        }
        let not_served = match tokio::time::timeout(super::storage::PATIENCE, self.not_served()).await {
            Ok(not_served) => not_served,
            Err(_) => Err(intended_store::StoreError::Unavailable("no answer".to_owned()).into()),
        };
        Measured { number, wrote, not_served, checks: sheet.checks }
    }

    /// Everything of one tenant. The head is read first: see [`Self::check_state`].
    async fn measure_tenant(&self, sheet: &mut Sheet, tenant: &Arc<Tenant>, sweep: Sweep) -> Sweep {
        sheet.about(Some(&tenant.id), None);
        let head = match self.store().head(&tenant.id).await {
            Ok(head) => head,
            Err(error) => {
                let found = unavailable(error.to_string(), "See the store's checks.");
                sheet.add(LEDGER, "checkpoint", found.of(&tenant.id));
                return sweep;
            }
        };
        self.check_state(sheet, tenant, &head).await;
        self.check_checkpoint(sheet, tenant, &head).await;
        let next = self.check_entries(sheet, tenant, &head, sweep).await;
        self.check_time(sheet, tenant, &head);
        self.check_nodes(sheet, tenant).await;
        let state = tenant.state();
        for environment in state.environments.keys() {
            sheet.about(Some(&tenant.id), Some(environment));
            self.check_signature(sheet, tenant, &state, environment);
            self.check_key_age(sheet, tenant, environment).await;
            self.check_evaluation(sheet, tenant, &state, environment).await;
        }
        self.check_sealed(sheet, tenant, &state);
        next
    }
}
