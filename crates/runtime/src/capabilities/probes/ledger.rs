//! The ledger: proofs, receipts, and decisions made again.

use std::sync::Arc;

use intended_engine::{State, decide};
use intended_ledger::{
    Checkpoint, ExportHeader, Leaf, NoteVerifier, Receipt, leaf_hash, verify_consistency, verify_inclusion,
};
use intended_model::decision::{DecisionRecord, Input};
use intended_model::{Event, Kind};
use intended_store::{StoredEntry, TreeHead};
use intended_verify::Verifier;

use crate::capabilities::{Ask, Found, Probed};
use crate::tenant::{event_of, newest_checkpoint};
use crate::verification::Outcome;
use crate::{RuntimeError, audit::MAX_PAGE};

/// Newest entries that are proved.
const PROVED: usize = 8;
/// Entries that are looked through for a decision.
const LOOKED: u64 = 4_096;
/// Entries that the verifier is given.
const VERIFIED: u64 = 128;

const DAMAGED: &str = "keep the data directory as it is and verify a copy: `intended verify`; then restore a backup";

fn damaged(index: u64, what: impl std::fmt::Display) -> Found {
    Found::unavailable(format!("entry {index}: {what}"), DAMAGED)
}

/// A head with its checkpoint, as somebody who knows the public key reads it.
async fn signed_head(ask: &Ask) -> Result<(Arc<TreeHead>, Arc<str>, Result<Checkpoint, String>), RuntimeError> {
    let (head, note) = ask.runtime().head(ask.tenant()).await?;
    let key = NoteVerifier::parse(&ask.state().vkey).map_err(RuntimeError::internal)?;
    let checkpoint = Checkpoint::verified(&note, &key).map_err(|e| e.to_string());
    Ok((head, note, checkpoint))
}

pub async fn inclusion(ask: &Ask) -> Probed {
    let (store, tenant) = (ask.runtime().store(), &ask.tenant().id);
    let (_, _, checkpoint) = signed_head(ask).await?;
    let checkpoint = match checkpoint {
        Ok(checkpoint) => checkpoint,
        Err(why) => return Ok(Found::unavailable(format!("the checkpoint does not verify: {why}"), DAMAGED)),
    };
    let entries = store.entries_before(tenant, checkpoint.size, PROVED).await?;
    for entry in &entries {
        let proof = store.inclusion_proof(tenant, entry.index, checkpoint.size).await?;
        let hash = leaf_hash(&entry.leaf);
        if let Err(why) = verify_inclusion(hash, entry.index, checkpoint.size, &proof, checkpoint.root) {
            return Ok(damaged(entry.index, format!("it is not the one that was recorded: {why}")));
        }
    }
    Ok(Found::working(format!(
        "the newest {} of {} proved against a signed checkpoint",
        entries.len(),
        checkpoint.size
    )))
}

pub async fn consistency(ask: &Ask) -> Probed {
    let (store, tenant) = (ask.runtime().store(), &ask.tenant().id);
    let kept = newest_checkpoint(store, tenant, &ask.state().vkey).await?;
    let head = store.head(tenant).await?;
    let bad = |why: String| Found::unavailable(why, DAMAGED);
    if kept.size > head.size {
        return Ok(bad(format!("{} entries were signed for, and there are {}", kept.size, head.size)));
    }
    let proof = store.consistency_proof(tenant, kept.size, head.size).await?;
    Ok(match verify_consistency(kept.size, kept.root, head.size, head.root, &proof) {
        Ok(()) => Found::working(format!("{} entries go on from the {} of the kept checkpoint", head.size, kept.size)),
        Err(why) => bad(format!("the ledger is not the one whose first {} entries were signed for: {why}", kept.size)),
    })
}

pub async fn receipts(ask: &Ask) -> Probed {
    let (store, tenant) = (ask.runtime().store(), &ask.tenant().id);
    let (head, note, _) = signed_head(ask).await?;
    let newest = store.entries_before(tenant, head.size, 1).await?;
    let Some(newest) = newest.first() else { return Ok(Found::unavailable("the ledger has no entry", DAMAGED)) };
    let proof = store.inclusion_proof(tenant, newest.index, head.size).await?;
    let vkey = ask.state().vkey.to_string();
    let receipt = Receipt::new(&newest.leaf, newest.index, &proof, &note).map_err(RuntimeError::internal)?;
    if let Err(why) = receipt.verify(&vkey) {
        return Ok(damaged(newest.index, format!("its receipt does not hold: {why}")));
    }
    let altered = Receipt { index: newest.index + 1, ..receipt };
    if altered.verify(&vkey).is_ok() {
        return Ok(Found::unavailable(
            "a receipt that says another index holds",
            "verify receipts with another release",
        ));
    }
    Ok(Found::working(format!("that of entry {} holds with the public key", newest.index)))
}

/// The newest decision that the caller sees, where it is, and whether it is what was recorded.
pub(super) enum Newest {
    None,
    Damaged(Found),
    Found(Box<DecisionRecord>, StoredEntry),
}

pub(super) async fn newest_decision(ask: &Ask) -> Result<Newest, RuntimeError> {
    let (store, tenant) = (ask.runtime().store(), &ask.tenant().id);
    let head = store.head(tenant).await?;
    let last = head.size.saturating_sub(LOOKED);
    let mut before = head.size;
    while before > last {
        let page = store.entries_before(tenant, before, MAX_PAGE).await?;
        let Some(oldest) = page.last() else { break };
        before = oldest.index;
        for entry in page {
            let leaf = match Leaf::parse(&entry.leaf) {
                Ok(leaf) => leaf,
                Err(why) => return Ok(Newest::Damaged(damaged(entry.index, why))),
            };
            if leaf.kind != Kind::Decision.as_str() {
                continue;
            }
            let record = match event_of(&entry.leaf) {
                Ok(Event::Decision(record)) => record,
                Ok(_) => continue,
                Err(why) => return Ok(Newest::Damaged(damaged(entry.index, why.detail))),
            };
            if !ask.by.sees(&record.input.intent.environment) {
                continue;
            }
            let proof = store.inclusion_proof(tenant, entry.index, head.size).await?;
            let hash = leaf_hash(&entry.leaf);
            if verify_inclusion(hash, entry.index, head.size, &proof, head.root).is_err() {
                return Ok(Newest::Damaged(damaged(entry.index, "it is not the one that was recorded")));
            }
            return Ok(Newest::Found(Box::new(record), entry));
        }
    }
    Ok(Newest::None)
}

pub(super) fn nothing_decided() -> Found {
    Found::not_configured(
        "nothing was decided lately in the environments that you see",
        "submit an intent: docs/api.md#the-first-intent",
    )
}

/// Asks something of the state that a decision was made on: the live one, where nothing has changed since.
pub(super) async fn on_its_state<T: Send + 'static>(
    ask: &Ask,
    record: &DecisionRecord,
    index: u64,
    question: impl FnOnce(&State, &Input) -> T + Send + 'static,
) -> Result<T, RuntimeError> {
    let state = ask.state();
    if record.input.control != state.control {
        return ask.runtime().as_of(ask.tenant(), record, index, question).await;
    }
    let (ask, input) = (ask.clone(), record.input.clone());
    let work = move || {
        let _place = ask;
        question(&state, &input)
    };
    tokio::task::spawn_blocking(work).await.map_err(RuntimeError::internal)
}

pub async fn replay(ask: &Ask) -> Probed {
    let (record, entry) = match newest_decision(ask).await? {
        Newest::None => return Ok(nothing_decided()),
        Newest::Damaged(found) => return Ok(found),
        Newest::Found(record, entry) => (record, entry),
    };
    let again = on_its_state(ask, &record, entry.index, decide).await?;
    let bytes = |d| serde_json::to_vec(d).map_err(RuntimeError::internal);
    let (recorded, again) = (bytes(&record.decision)?, bytes(&again)?);
    if recorded != again {
        return Ok(damaged(entry.index, "decided again it is another decision"));
    }
    Ok(Found::working(format!("entry {} again, {} bytes, all the same", entry.index, again.len())))
}

pub async fn offline_verify(ask: &Ask) -> Probed {
    let (runtime, tenant) = (Arc::clone(&ask.runtime), Arc::clone(ask.tenant()));
    // Said first: it is about all of the ledger. What failed is the whole tenant's to read.
    let standing = runtime.verification(&tenant);
    let also = match standing.last.as_deref().map(|v| (&v.outcome, v.size, v.finished_at)) {
        Some((Outcome::Fails(failure), ..)) => {
            let index = failure.index.map_or_else(|| "the tree".to_owned(), |i| format!("entry {i}"));
            let what = if ask.by.sees_all() { failure.to_string() } else { "it does not hold".to_owned() };
            return Ok(Found::unavailable(format!("{index}: {what}"), DAMAGED));
        }
        Some((Outcome::Holds(_), size, at)) => format!("; all of the first {size} hold as of {at}"),
        Some((Outcome::Incomplete(_), ..)) | None => "; not verified as a whole since the server started".to_owned(),
    };
    let (head, note, _) = signed_head(ask).await?;
    let header = ExportHeader {
        checkpoint: note.to_string(),
        checkpoints: Vec::new(),
        size: head.size,
        tenant: tenant.id.clone(),
        vkey: tenant.state().vkey.to_string(),
    };
    let line = header.to_line().map_err(RuntimeError::internal)?;
    let header = ExportHeader::parse(line.as_bytes()).map_err(RuntimeError::internal)?;
    let first = head.size.min(VERIFIED);
    let limit = usize::try_from(first).unwrap_or(MAX_PAGE);
    let entries = runtime.store().entries(&tenant.id, 0, limit).await?;
    ask.aside(move |_, state| {
        let mut verifier = match Verifier::new(header, Some(&state.vkey)) {
            Ok(verifier) => verifier,
            Err(failure) => return Ok(Found::unavailable(failure.to_string(), DAMAGED)),
        };
        for entry in &entries {
            if let Err(failure) = verifier.entry(&entry.leaf) {
                return Ok(damaged(entry.index, failure));
            }
        }
        Ok(Found::working(format!("the first {} entries hold{also}", entries.len())))
    })
    .await
}
