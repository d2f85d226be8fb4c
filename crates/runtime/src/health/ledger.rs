//! The audit ledger: whether what is in it is what was signed for, read again piece by piece; and
//! whether it reaches those who are to have it.

use intended_ledger::{BLOCK, leaf_hash, verify_inclusion};
use intended_store::{StoreError, TreeHead};

use super::{LEDGER, Sheet, degraded, healthy, unavailable};
use crate::tenant::hold_against_checkpoint;
use crate::verification::Outcome;
use crate::{Runtime, RuntimeError, Tenant};

/// Entries are covered by a kept checkpoint some ten seconds after they were written.
const OLD_CHECKPOINT_MS: i64 = 120_000;
/// From here on it matters to who compares times: offline verifiers, business hours.
pub(super) const CLOCK_AHEAD_MS: i64 = 5_000;

const DAMAGED: &str = "Halt if it may have been tampered with. Stop this node and keep the data file as it is: it is \
    evidence. `intended verify` names the first entry that does not hold; then restore a backup and hold it against a \
    checkpoint that is kept elsewhere.";

/// How far the rolling look at a ledger has come: the next block of leaves.
pub(super) type Sweep = u64;

/// What a look at some blocks came to.
enum Held {
    All,
    /// The first block that does not lead to the recorded root.
    Not(u64),
}

impl Runtime {
    /// The newest kept checkpoint's signature, that it signs for this ledger, and how long entries have
    /// been waiting for one.
    pub(super) async fn check_checkpoint(&self, sheet: &mut Sheet, tenant: &Tenant, head: &TreeHead) {
        let vkey = tenant.state().vkey.to_string();
        let held = hold_against_checkpoint(self.store(), &tenant.id, &vkey).await;
        let age = self.checkpoint_age(tenant).await;
        let found = match (held, age) {
            (Err(error), _) if error.code == intended_model::Code::StoreCorrupt => {
                unavailable(error.to_string(), DAMAGED)
            }
            (Err(error), _) | (_, Err(error)) => unavailable(error.to_string(), "See the store's checks."),
            (Ok(()), Ok(age)) => {
                let detail = if age < 1_000 {
                    format!("{} entries, all signed for", head.size)
                } else {
                    format!("{} entries, signed for up to {} s ago", head.size, age / 1000)
                };
                if age > OLD_CHECKPOINT_MS {
                    degraded(
                        detail,
                        "See `housekeeping` and the store's checks: without a kept checkpoint it cannot be told when \
                         newer entries are cut off.",
                    )
                } else {
                    healthy(detail)
                }
            }
        };
        sheet.add(LEDGER, "checkpoint", found.of(&tenant.id));
    }

    /// Reads the newest block of entries again, and one other in turn, and holds both against the tree.
    /// What does not hold is looked at again each time, so that it stays said. Answers where to go on.
    pub(super) async fn check_entries(
        &self,
        sheet: &mut Sheet,
        tenant: &Tenant,
        head: &TreeHead,
        sweep: Sweep,
    ) -> Sweep {
        let blocks = head.size.div_ceil(BLOCK);
        let newest = blocks.saturating_sub(1);
        let other = if sweep < blocks { sweep } else { 0 };
        let mut next = other + 1;
        let found = match self.hold(tenant, head, [newest, other]).await {
            Ok(Held::All) if blocks < 2 => healthy("all read again"),
            Ok(Held::All) => healthy(format!("blocks {} and {} of {blocks} read again", newest + 1, other + 1)),
            Ok(Held::Not(block)) => {
                next = if block == newest { next } else { block };
                let last = ((block + 1) * BLOCK).min(head.size).saturating_sub(1);
                unavailable(
                    format!("entries {} to {last} do not have the root that was recorded for them", block * BLOCK),
                    DAMAGED,
                )
            }
            Err(error @ StoreError::Corrupt(_)) => {
                next = other;
                unavailable(error.to_string(), DAMAGED)
            }
            Err(error) => unavailable(format!("cannot be read: {error}"), "See the store's checks."),
        };
        sheet.add(LEDGER, "entries", found.of(&tenant.id));
        next
    }

    /// One proof is made of all leaves of its block.
    async fn hold(&self, tenant: &Tenant, head: &TreeHead, blocks: [u64; 2]) -> Result<Held, StoreError> {
        for block in blocks {
            let index = block * BLOCK;
            let entry = self.store().entry(&tenant.id, index).await?;
            let Some(entry) = entry else { return Ok(Held::Not(block)) };
            let proof = self.store().inclusion_proof(&tenant.id, index, head.size).await?;
            if verify_inclusion(leaf_hash(&entry.leaf), index, head.size, &proof, head.root).is_err() {
                return Ok(Held::Not(block));
            }
        }
        Ok(Held::All)
    }

    /// Whether the newest entry is from the future of this node's clock.
    pub(super) fn check_time(&self, sheet: &mut Sheet, tenant: &Tenant, head: &TreeHead) {
        let wall = self.clock().now().plus_millis(-self.clock().ahead_millis());
        let ahead = head.at.millis_since(wall);
        let found = if ahead > CLOCK_AHEAD_MS {
            degraded(
                format!("the ledger's time is {} s ahead of this node's clock", ahead / 1000),
                "Compare the clocks of all nodes: one was ahead, or this one was set back. Times in the ledger never \
                 go back, so it goes on from there until the clock has caught up.",
            )
        } else {
            healthy(format!("it is {}", head.at))
        };
        sheet.add(LEDGER, "time", found.of(&tenant.id));
    }

    /// What the last verification of the whole came to, once there was one.
    pub(super) fn check_verification(&self, sheet: &mut Sheet, tenant: &Tenant) {
        let Some(last) = self.verification(tenant).last else { return };
        let found = match &last.outcome {
            Outcome::Holds(_) => healthy(format!("{} entries held at {}", last.size, last.finished_at)),
            Outcome::Fails(failure) => unavailable(failure.to_string(), DAMAGED),
            Outcome::Incomplete(why) => degraded(
                format!("did not get to an end at {}: {why}", last.finished_at),
                "Start it again: `POST …/audit/verification`, or `intended audit verify`.",
            ),
        };
        sheet.add(LEDGER, "verification", found.of(&tenant.id));
    }

    /// Never more than degraded: nothing that is decided waits for a collector.
    pub(super) async fn check_siem(&self, sheet: &mut Sheet, tenant: &Tenant) {
        let standing = match self.siem(tenant).await {
            Ok(standing) => standing,
            Err(error) => {
                let found = degraded(RuntimeError::to_string(&error), "See the store's checks.");
                return sheet.add(LEDGER, "siem", found.of(&tenant.id));
            }
        };
        for sink in standing {
            let error = sink.progress.last_error.as_deref().filter(|_| sink.progress.failing);
            let error = error.map_or(String::new(), |e| format!("; {e}"));
            let detail = format!("{} entries behind for {} s{error}", sink.lag_entries, sink.lag_ms / 1000);
            let found = if sink.state() == "ok" {
                healthy(detail)
            } else {
                degraded(
                    detail,
                    "See `intended siem status`, and whether the collector takes events: `intended siem test <sink>`. \
                     Nothing is lost: it goes on from where it was.",
                )
            };
            sheet.add(LEDGER, "siem", found.of(format!("{}/{}", tenant.id, sink.sink.spec.name)));
        }
    }
}
