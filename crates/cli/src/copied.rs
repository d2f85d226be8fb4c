//! The ledgers of a copy: whether each has the tree that was signed for, and what a checkpoint that was
//! kept elsewhere says of it.

use std::collections::{BTreeMap, BTreeSet};

use intended_engine::keys;
use intended_ledger::{Checkpoint, Frontier, NodeHash, NoteVerifier, leaf_hash, origin};
use intended_model::emergency::TreeAt;
use intended_model::{Code, ExitCode, TenantId};
use intended_store_sqlite::ReadOnly;

use crate::cmd::verify::facts;
use crate::error::CliError;
use crate::kept;

/// A tenant's ledger in a copy, whose tree is the signed one.
pub struct Copied {
    pub tenant: TenantId,
    pub size: u64,
    pub root: NodeHash,
    /// The newest checkpoint in it.
    pub note: String,
    /// So many entries are signed for by it.
    pub signed: u64,
    pub vkey: NoteVerifier,
    /// The roots that were asked for, by size.
    roots: BTreeMap<u64, NodeHash>,
}

fn broken(tenant: &TenantId, what: &str) -> CliError {
    CliError::Failed(format!("the copy does not hold\n  `{tenant}`: {what}"), ExitCode::VerificationFailed)
}

/// All ledgers of a copy. `wanted` are sizes of trees that are asked about later.
pub fn all(store: &ReadOnly, wanted: &BTreeSet<u64>, bar: &indicatif::ProgressBar) -> Result<Vec<Copied>, CliError> {
    let damaged = |e: intended_store::StoreError| {
        CliError::Failed(format!("the copy does not hold\n  {e}"), ExitCode::VerificationFailed)
    };
    let mut out = Vec::new();
    for tenant in store.tenants().map_err(damaged)? {
        // A tenant whose set-up did not finish has nothing.
        if store.head(&tenant).map_err(damaged)?.size > 0 {
            out.push(one(store, tenant, wanted, bar)?);
        }
    }
    if out.is_empty() {
        return Err(CliError::Failed("there is no ledger in it".to_owned(), ExitCode::VerificationFailed));
    }
    Ok(out)
}

fn one(
    store: &ReadOnly,
    tenant: TenantId,
    wanted: &BTreeSet<u64>,
    bar: &indicatif::ProgressBar,
) -> Result<Copied, CliError> {
    let wrong = |what: &str| broken(&tenant, what);
    let damaged = |e: intended_store::StoreError| broken(&tenant, &e.to_string());
    let head = store.head(&tenant).map_err(damaged)?;
    let first = store.entries(&tenant, 0, 1).map_err(damaged)?;
    let first = first.first().and_then(|e| serde_json::from_slice::<serde_json::Value>(&e.leaf).ok());
    let vkey = first.as_ref().and_then(|v| v.pointer("/body/vkey")).and_then(|k| k.as_str()).unwrap_or_default();
    let vkey = NoteVerifier::parse(vkey).map_err(|e| wrong(&format!("the ledger's key: {e}")))?;
    let newest = facts(store, &tenant, keys::CHECKPOINT_PREFIX).map_err(damaged)?.pop();
    let (_, note) = newest.ok_or_else(|| wrong("no signed checkpoint of it is kept"))?;
    let note = String::from_utf8_lossy(&note).into_owned();
    let signed = Checkpoint::verified(&note, &vkey).map_err(|e| wrong(&format!("its newest checkpoint: {e}")))?;
    if signed.origin != origin(&tenant) {
        return Err(wrong("its newest checkpoint is of another ledger"));
    }
    if signed.size > head.size {
        return Err(wrong(&format!(
            "its newest checkpoint signs for {} entries, {} are here: the tail is missing",
            signed.size, head.size
        )));
    }
    bar.set_length(head.size);
    let (mut frontier, mut roots) = (Frontier::empty(), BTreeMap::new());
    while frontier.size() < head.size {
        let page = store.entries(&tenant, frontier.size(), 1024).map_err(damaged)?;
        if page.is_empty() {
            return Err(wrong(&format!("entry {} is missing", frontier.size())));
        }
        for entry in page {
            if entry.index != frontier.size() {
                return Err(wrong(&format!("entry {} is missing", frontier.size())));
            }
            frontier.push(leaf_hash(&entry.leaf));
            let size = frontier.size();
            if size == signed.size && frontier.root() != signed.root {
                return Err(wrong(&format!(
                    "its first {size} entries do not have the root that was signed for: one was altered"
                )));
            }
            if wanted.contains(&size) {
                roots.insert(size, frontier.root());
            }
        }
        bar.set_position(frontier.size());
    }
    if frontier.root() != head.root {
        return Err(wrong("its entries do not have the root that the store's head has: one was altered"));
    }
    Ok(Copied { size: head.size, root: head.root, note, signed: signed.size, vkey, roots, tenant })
}

impl Copied {
    /// Holds it against a checkpoint that was kept elsewhere: what is lost, if something is.
    pub fn against(&self, note: &str) -> Result<Option<TreeAt>, CliError> {
        let forked = |what: String| CliError::Refused {
            code: Code::LedgerForked.to_string(),
            title: Code::LedgerForked.title().to_owned(),
            detail: format!(": `{}`: {what}", self.tenant),
            parts: Vec::new(),
            hint: Code::LedgerForked.hint().to_owned(),
            exit: ExitCode::VerificationFailed,
        };
        let kept = Checkpoint::verified(note, &self.vkey).map_err(|e| forked(format!("the kept checkpoint: {e}")))?;
        if kept.size > self.size {
            return Ok(Some(TreeAt { root: kept.root.to_base64().into(), size: kept.size }));
        }
        match self.roots.get(&kept.size) {
            Some(root) if *root == kept.root => Ok(None),
            _ => Err(forked(format!("its first {} entries have another root", kept.size))),
        }
    }
}

/// The sizes that notes are about.
pub fn sizes<'n>(notes: impl IntoIterator<Item = &'n String>) -> BTreeSet<u64> {
    notes.into_iter().filter_map(|note| kept::parse(note)).map(|c| c.size).collect()
}
