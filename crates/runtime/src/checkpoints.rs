//! A tenant's signed checkpoints.
//!
//! A checkpoint says of a head that it is durable, so nobody may see one before it is. But the head is
//! known before the disk has it, and while the disk works a core has nothing to do: the note is signed
//! then, kept here, and handed out only for a head that whoever asks knows to be durable. What becomes
//! of a commit that fails is that its note is never asked for, and forgotten with the next.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use intended_ledger::{Checkpoint, Ed25519NoteSigner, origin};
use intended_model::TenantId;
use intended_store::{Ahead, TreeHead};

use crate::{RuntimeError, Tenant};

/// A tree head and its signed note.
pub struct SignedHead {
    pub size: u64,
    pub note: Arc<str>,
}

/// The note of a head that is on its way to the disk.
struct SignedAhead {
    head: Arc<TreeHead>,
    note: Arc<str>,
}

/// The notes of one ledger.
pub(crate) struct Checkpoints {
    pub signer: Ed25519NoteSigner,
    newest: ArcSwapOption<SignedHead>,
    /// One signs at a time.
    ahead: Mutex<Option<SignedAhead>>,
}

impl Checkpoints {
    pub fn new(signer: Ed25519NoteSigner) -> Self {
        Self { signer, newest: ArcSwapOption::empty(), ahead: Mutex::new(None) }
    }

    /// The note of a head that is durable. Signed once for all decisions of a batch.
    pub fn of(&self, tenant: &TenantId, head: &TreeHead) -> Result<Arc<str>, RuntimeError> {
        if let Some(note) = self.signed(head) {
            return Ok(note);
        }
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = self.signed(head) {
            return Ok(note);
        }
        // Of that size there can have been another that never became durable.
        let note = match ahead.take_if(|a| a.head.size <= head.size) {
            Some(a) if a.head.size == head.size && a.head.root == head.root => a.note,
            _ => self.sign(tenant, head)?,
        };
        if self.newest.load().as_ref().is_none_or(|s| s.size < head.size) {
            self.newest.store(Some(Arc::new(SignedHead { size: head.size, note: Arc::clone(&note) })));
        }
        Ok(note)
    }

    /// The newest that was handed out.
    pub fn newest(&self) -> Option<Arc<SignedHead>> {
        self.newest.load_full()
    }

    fn signed(&self, head: &TreeHead) -> Option<Arc<str>> {
        self.newest.load().as_ref().filter(|s| s.size == head.size).map(|s| Arc::clone(&s.note))
    }

    fn sign(&self, tenant: &TenantId, head: &TreeHead) -> Result<Arc<str>, RuntimeError> {
        let checkpoint = Checkpoint { origin: origin(tenant), size: head.size, root: head.root };
        Ok(checkpoint.sign(&self.signer).map_err(RuntimeError::internal)?.into())
    }

    /// Signs what is not durable yet, for [`Self::of`] to find.
    fn sign_ahead(&self, tenant: &TenantId, head: Arc<TreeHead>) {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        // The disk was faster.
        if self.newest.load().as_ref().is_some_and(|s| s.size >= head.size) {
            return;
        }
        *ahead = self.sign(tenant, &head).ok().map(|note| SignedAhead { head, note });
    }
}

/// What the thread that signs ahead has to do: the newest head only. One that it has no time for is
/// signed by whoever needs it.
#[derive(Default)]
struct Due {
    next: Mutex<Next>,
    bell: Condvar,
}

#[derive(Default)]
enum Next {
    #[default]
    Nothing,
    Sign(Arc<Tenant>, Arc<TreeHead>),
    End,
}

impl Due {
    /// The bell is rung after the lock is given back: who is woken need not wait for it.
    fn set(&self, next: Next) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
        self.bell.notify_one();
    }

    /// Waits for something to do; `None` at the end.
    fn take(&self) -> Option<(Arc<Tenant>, Arc<TreeHead>)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::take(&mut *next) {
                Next::Sign(tenant, head) => return Some((tenant, head)),
                Next::End => return None,
                Next::Nothing => next = self.bell.wait(next).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Ends the thread with the store that tells it of heads.
struct Ends(Arc<Due>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.set(Next::End);
    }
}

/// A thread that signs ahead.
pub(crate) fn signing(
    find: impl Fn(&TenantId) -> Option<Arc<Tenant>> + Send + Sync + 'static,
) -> std::io::Result<Ahead> {
    let due = Arc::new(Due::default());
    let theirs = Arc::clone(&due);
    std::thread::Builder::new().name("checkpoint-signer".to_owned()).spawn(move || {
        while let Some((tenant, head)) = theirs.take() {
            tenant.checkpoints().sign_ahead(&tenant.id, head);
        }
    })?;
    let told = Ends(due);
    Ok(Box::new(move |tenant, head| {
        if let Some(tenant) = find(tenant) {
            told.0.set(Next::Sign(tenant, Arc::clone(head)));
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use intended_keyring::SigningKey;
    use intended_ledger::{NodeHash, NoteVerifier};
    use intended_model::Timestamp;

    fn head(size: u64, root: u8) -> Arc<TreeHead> {
        let root = NodeHash::from_bytes([root; 32]);
        Arc::new(TreeHead { size, root, at: Timestamp::from_millis(1), control_version: 1 })
    }

    fn checkpoints(tenant: &TenantId) -> (Checkpoints, NoteVerifier) {
        let key = SigningKey::generate(intended_token::Alg::EdDSA, &intended_keyring::SystemRng::default()).unwrap();
        let signer = crate::tenant::note_signer(tenant, &key).unwrap();
        let verifier = NoteVerifier::parse(&signer.vkey()).unwrap();
        (Checkpoints::new(signer), verifier)
    }

    #[test]
    fn what_was_signed_ahead_is_seen_by_nobody_until_it_is_asked_for() {
        let tenant = TenantId::new("acme").unwrap();
        let (checkpoints, key) = checkpoints(&tenant);
        checkpoints.of(&tenant, &head(3, 3)).unwrap();
        checkpoints.sign_ahead(&tenant, head(4, 4));
        assert_eq!(checkpoints.newest().unwrap().size, 3);
        let note = checkpoints.of(&tenant, &head(4, 4)).unwrap();
        let read = Checkpoint::verified(&note, &key).unwrap();
        assert_eq!((read.size, read.root), (4, NodeHash::from_bytes([4; 32])));
        assert_eq!(checkpoints.newest().unwrap().size, 4);
    }

    #[test]
    fn the_note_of_a_head_that_never_became_durable_is_not_handed_out() {
        let tenant = TenantId::new("acme").unwrap();
        let (checkpoints, key) = checkpoints(&tenant);
        for lost in [head(3, 9), head(4, 9)] {
            checkpoints.sign_ahead(&tenant, lost);
            let note = checkpoints.of(&tenant, &head(3, 3)).unwrap();
            assert_eq!(Checkpoint::verified(&note, &key).unwrap().root, NodeHash::from_bytes([3; 32]));
        }
        let note = checkpoints.of(&tenant, &head(4, 4)).unwrap();
        assert_eq!(Checkpoint::verified(&note, &key).unwrap().root, NodeHash::from_bytes([4; 32]));
    }
}
