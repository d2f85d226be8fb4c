//! One tenant in memory: its state behind an atomic pointer, its signing keys, its latest signed
//! checkpoint. Everything here is a copy of what the ledger says; `catch_up` makes it current.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use intended_engine::{Credential, State, keys};
use intended_keyring::{RootKey, SigningKey};
use intended_ledger::{BLOCK, Checkpoint, Ed25519NoteSigner, Leaf, NoteVerifier, leaf_hash, origin, verify_inclusion};
use intended_model::{Code, EnvironmentId, Event, Kind, TenantId};
use intended_store::{Store, TreeHead};

use crate::RuntimeError;
use crate::checkpoints::{Checkpoints, SignedHead};
use crate::usage::Meters;

/// How many control entries one read takes.
const CONTROL_PAGE: usize = 512;

/// One tenant.
pub struct Tenant {
    pub id: TenantId,
    folded: ArcSwap<Folded>,
    /// The credentials of the entries before this position can be found by their key.
    indexed: AtomicU64,
    /// One catches up at a time.
    catching_up: tokio::sync::Mutex<()>,
    pub(crate) meters: Meters,
    signers: ArcSwap<HashMap<EnvironmentId, Arc<SigningKey>>>,
    checkpoints: Checkpoints,
    pub(crate) breakers: crate::breakers::Monitor,
    /// The checkpoint kept last, and the hour that it was kept in.
    pub(crate) kept: Mutex<Option<(u64, i64)>>,
    /// Who did something where, and when.
    pub(crate) activity: crate::activity::Activity,
    /// When the state was last seen to be current, in milliseconds: see [`crate::staleness`].
    pub(crate) confirmed: AtomicI64,
}

/// A state, and the index after the last control entry that it is the fold of. Whatever commits
/// fenced by this state has its first control entry at `next` or after, with none in between.
#[derive(Clone)]
pub(crate) struct Folded {
    pub state: Arc<State>,
    pub next: u64,
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenant").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Tenant {
    /// Rebuilds a tenant from its ledger and unseals its keys.
    pub async fn load(store: &dyn Store, id: &TenantId, root: &RootKey) -> Result<Self, RuntimeError> {
        let first = store.control_entries(id, 0, 1).await?;
        let genesis = first.first().ok_or_else(|| RuntimeError::new(Code::StoreCorrupt, "the ledger is empty"))?;
        let state = State::genesis(&event_of(&genesis.leaf)?)?;
        let ledger_signer = ledger_signer(store, id, root)?;
        if ledger_signer.vkey() != *state.vkey {
            // Whoever can write the store can write another key into the ledger, and sign with it.
            return Err(RuntimeError::new(
                Code::StoreCorrupt,
                format!("tenant `{id}`: the ledger is signed for by another key than the sealed one"),
            ));
        }
        hold_against_tree(store, id, &ledger_signer).await?;
        let tenant = Self {
            id: id.clone(),
            folded: ArcSwap::from_pointee(Folded { state: Arc::new(state), next: 1 }),
            indexed: AtomicU64::new(0),
            catching_up: tokio::sync::Mutex::default(),
            meters: Meters::default(),
            signers: ArcSwap::default(),
            checkpoints: Checkpoints::new(ledger_signer),
            breakers: crate::breakers::Monitor::default(),
            kept: Mutex::new(None),
            activity: crate::activity::Activity::default(),
            confirmed: AtomicI64::new(i64::MIN),
        };
        tenant.catch_up(store, root).await?;
        tenant.meters.load(store, id).await?;
        let vkey = tenant.state().vkey.to_string();
        hold_against_checkpoint(store, id, &vkey).await?;
        Ok(tenant)
    }

    /// The state as of now. Cheap; the caller keeps it for one decision.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.folded.load().state)
    }

    pub(crate) fn folded(&self) -> Folded {
        Folded::clone(&self.folded.load())
    }

    /// Folds in the control entries that this node has not seen yet, and loads new keys.
    pub async fn catch_up(&self, store: &dyn Store, root: &RootKey) -> Result<(), RuntimeError> {
        let _one_catches_up = self.catching_up.lock().await;
        loop {
            let Folded { state, next } = self.folded();
            let page = store.control_entries(&self.id, next, CONTROL_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            let mut state = State::clone(&state);
            for entry in &page {
                state.apply(entry.index, &event_of(&entry.leaf)?)?;
            }
            self.load_signers(store, root, &state)?;
            self.folded.store(Arc::new(Folded { state: Arc::new(state), next: last.index + 1 }));
        }
    }

    /// The credentials with a key that cannot be found yet, and the position up to which all can be
    /// found when they are.
    pub(crate) fn unindexed(&self) -> (Vec<Arc<Credential>>, u64) {
        let (Folded { state, next }, from) = (self.folded(), self.indexed.load(Ordering::Acquire));
        if next <= from {
            return (Vec::new(), from);
        }
        let new = |c: &&Arc<Credential>| c.rotated_at.unwrap_or(c.created_at) >= from;
        (state.credentials.values().filter(new).cloned().collect(), next)
    }
    pub(crate) fn indexed(&self, next: u64) {
        self.indexed.fetch_max(next, Ordering::AcqRel);
    }

    fn load_signers(&self, store: &dyn Store, root: &RootKey, state: &State) -> Result<(), RuntimeError> {
        let mut signers = HashMap::clone(&self.signers.load());
        for environment in state.environments.values() {
            let active = environment.keys.iter().find(|k| k.status == intended_engine::KeyStatus::Active);
            let Some(active) = active else {
                signers.remove(&environment.id);
                continue;
            };
            if signers.get(&environment.id).is_some_and(|s| s.kid() == &*active.kid) {
                continue;
            }
            let name = keys::sealed_key(environment.id.as_str(), &active.kid);
            let sealed = store.fact_now(&self.id, &name)?.ok_or(Code::KeyMissing)?;
            let text = String::from_utf8_lossy(&sealed.value);
            let key = SigningKey::from_sealed(root, self.id.as_str(), &text)
                .map_err(|e| RuntimeError::new(Code::KeySealed, e.to_string()))?;
            signers.insert(environment.id.clone(), Arc::new(key));
        }
        self.signers.store(Arc::new(signers));
        Ok(())
    }

    /// The environment's active signing key.
    pub fn signer(&self, environment: &EnvironmentId) -> Result<Arc<SigningKey>, RuntimeError> {
        self.signers.load().get(environment).cloned().ok_or_else(|| Code::KeyMissing.into())
    }

    /// The signed checkpoint of a head that is durable. Signed once for all decisions of a batch.
    pub fn checkpoint(&self, head: &TreeHead) -> Result<Arc<str>, RuntimeError> {
        self.checkpoints.of(&self.id, head)
    }
    pub(crate) const fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// The signed number of control entries of a head that is durable.
    #[must_use]
    pub fn control_count(&self, head: &TreeHead) -> String {
        control_count(&self.checkpoints.signer, &self.id, head.size, head.control_version)
    }

    /// Signs a text that is not about a tree: its first line says what it is.
    #[must_use]
    pub(crate) fn sign_note(&self, text: &str) -> String {
        self.checkpoints.signer.sign(text)
    }

    /// The newest checkpoint that this node has signed.
    #[must_use]
    pub fn latest_checkpoint(&self) -> Option<Arc<SignedHead>> {
        self.checkpoints.newest()
    }
}

/// Holds everything that state is folded from against the tree and against what was signed: each
/// control entry's block of leaves must lead to the head's root, and no control entry may be hidden.
/// A changed or hidden one would otherwise be decided by until somebody verifies the ledger.
///
/// Which entries are control entries stands beside them, not in what is hashed. So their number up
/// to some size is kept as a signed note, and the entries after that are looked at one by one.
async fn hold_against_tree(store: &dyn Store, id: &TenantId, signer: &Ed25519NoteSigner) -> Result<(), RuntimeError> {
    let damaged = |what: String| RuntimeError::new(Code::StoreCorrupt, format!("tenant `{id}`: {what}"));
    let head = store.head(id).await?;
    let kept = store.fact_now(id, keys::CONTROL_COUNT)?;
    let kept = kept.ok_or_else(|| damaged("the signed number of control entries is missing".to_owned()))?;
    let key = NoteVerifier::parse(&signer.vkey()).map_err(|e| damaged(e.to_string()))?;
    let (size, signed) = read_control_count(&String::from_utf8_lossy(&kept.value), &key, id)
        .filter(|(size, _)| *size <= head.size)
        .ok_or_else(|| damaged("the signed number of control entries does not hold".to_owned()))?;
    let (mut from, mut count, mut before, mut after, mut held) = (0, 0_u64, 0_u64, HashSet::new(), None);
    loop {
        let mut page = store.control_entries(id, from, CONTROL_PAGE).await?;
        page.retain(|e| e.index < head.size);
        let Some(last) = page.last() else { break };
        from = last.index + 1;
        count += page.len() as u64;
        for entry in &page {
            if entry.index < size {
                before += 1;
            } else {
                after.insert(entry.index);
            }
            // One proof is made of all leaves of its block.
            let block = entry.index / BLOCK;
            if held != Some(block) {
                let proof = store.inclusion_proof(id, entry.index, head.size).await?;
                verify_inclusion(leaf_hash(&entry.leaf), entry.index, head.size, &proof, head.root).map_err(|_| {
                    damaged(format!(
                        "entries {} to {} do not have the root that was recorded for them",
                        block * BLOCK,
                        (block + 1) * BLOCK - 1
                    ))
                })?;
                held = Some(block);
            }
        }
    }
    if before != signed || count != head.control_version {
        return Err(damaged(format!(
            "there are {count} control entries, {before} of them among the first {size}; {} and {signed} are recorded",
            head.control_version
        )));
    }
    let mut next = size;
    while next < head.size {
        let page = store.entries(id, next, CONTROL_PAGE).await?;
        let Some(last) = page.last() else { return Err(damaged(format!("entry {next} is missing"))) };
        next = last.index + 1;
        for entry in page.iter().filter(|e| e.index < head.size) {
            let leaf = Leaf::parse(&entry.leaf).map_err(|e| damaged(e.to_string()))?;
            if Kind::parse(leaf.kind).is_some_and(Kind::is_control) != after.contains(&entry.index) {
                return Err(damaged(format!("entry {} is not marked as what it is", entry.index)));
            }
        }
    }
    Ok(())
}

/// The note that there are `control` control entries among the first `size` entries.
pub(crate) fn control_count(signer: &Ed25519NoteSigner, id: &TenantId, size: u64, control: u64) -> String {
    signer.sign(&format!("{}/control\n{size}\n{control}\n", origin(id)))
}

fn read_control_count(note: &str, key: &NoteVerifier, id: &TenantId) -> Option<(u64, u64)> {
    let mut lines = key.verify(note).ok()?.lines();
    let named = lines.next()? == format!("{}/control", origin(id));
    let read = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
    (named && lines.next().is_none()).then_some(read)
}

/// Holds the tree against the newest kept checkpoint: it was signed with a key that is not in the
/// store unsealed.
pub(crate) async fn hold_against_checkpoint(store: &dyn Store, id: &TenantId, vkey: &str) -> Result<(), RuntimeError> {
    let size = store.head(id).await?.size;
    let kept = newest_checkpoint(store, id, vkey).await?;
    if kept.size <= size && store.root_at(id, kept.size).await? == kept.root {
        return Ok(());
    }
    Err(RuntimeError::new(
        Code::StoreCorrupt,
        format!("tenant `{id}`: the ledger is not the one whose first {} entries were signed for", kept.size),
    ))
}

/// The newest kept checkpoint, its signature verified.
pub(crate) async fn newest_checkpoint(
    store: &dyn Store,
    id: &TenantId,
    vkey: &str,
) -> Result<Checkpoint, RuntimeError> {
    let damaged = |what: String| RuntimeError::new(Code::StoreCorrupt, format!("tenant `{id}`: {what}"));
    let size = store.head(id).await?.size;
    let mut back = 1_u64;
    let newest = loop {
        let after = keys::checkpoint(size.saturating_sub(back));
        let page = store.facts(id, keys::CHECKPOINT_PREFIX, &after, CONTROL_PAGE).await?;
        if let Some((_, fact)) = page.last() {
            break fact.value.clone();
        }
        if back >= size {
            return Err(damaged("no signed checkpoint of it is kept".to_owned()));
        }
        back = back.saturating_mul(8);
    };
    let key = NoteVerifier::parse(vkey).map_err(|e| damaged(e.to_string()))?;
    Checkpoint::verified(&String::from_utf8_lossy(&newest), &key)
        .map_err(|e| damaged(format!("the newest kept checkpoint: {e}")))
}

/// Reads the event in a leaf.
pub fn event_of(leaf: &[u8]) -> Result<Event, RuntimeError> {
    let damaged = |what: String| RuntimeError::new(Code::StoreCorrupt, what);
    let leaf = Leaf::parse(leaf).map_err(|e| damaged(e.to_string()))?;
    let kind = Kind::parse(leaf.kind).ok_or_else(|| damaged(format!("unknown entry kind `{}`", leaf.kind)))?;
    let body = intended_model::json::parse_recorded(leaf.body.as_bytes()).map_err(|e| damaged(e.to_string()))?;
    Event::parse(kind, &body).map_err(|e| damaged(format!("entry {}: {e}", leaf.index)))
}

/// The name of the sealed ledger key.
pub(crate) fn ledger_key_fact() -> String {
    keys::sealed_key("ledger", "1")
}

fn ledger_signer(store: &dyn Store, id: &TenantId, root: &RootKey) -> Result<Ed25519NoteSigner, RuntimeError> {
    let sealed = store.fact_now(id, &ledger_key_fact())?.ok_or(Code::KeyMissing)?;
    let text = String::from_utf8_lossy(&sealed.value);
    let key = SigningKey::from_sealed(root, id.as_str(), &text)
        .map_err(|e| RuntimeError::new(Code::KeySealed, e.to_string()))?;
    note_signer(id, &key)
}

pub(crate) fn note_signer(id: &TenantId, key: &SigningKey) -> Result<Ed25519NoteSigner, RuntimeError> {
    Ed25519NoteSigner::from_pkcs8(&origin(id), &key.pkcs8()).map_err(RuntimeError::internal)
}
