//! A ledger that goes on from a copy of itself.
//!
//! A copy is as old as it is. What came after it is gone: uses of tokens, halts, revocations, approvals,
//! ends of sessions. None of that can be known here, so whatever it could have ended is ended: the
//! tenant is halted until people lift it, every token from before is dead, nobody is signed in, and what
//! waited for people is not decided by their word any more.

use std::sync::Arc;

use intended_model::Timestamp;
use intended_model::emergency::TreeAt;
use intended_model::entry::LedgerRestored;

use crate::emergency::{EmergencyError, Halt};
use crate::state::{FoldError, State};

/// Most restorations that are remembered.
pub const MAX_RESTORED: usize = 100;

/// Most older checkpoints of what is lost that one restoration remembers.
pub const MAX_ALSO_LOST: usize = 64;

/// Where a ledger goes on from a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Ledger position of the entry that says so.
    pub index: u64,
    pub at: Timestamp,
    /// How many control entries there were with it.
    pub control: u64,
    pub copied: TreeAt,
    /// The newest checkpoint of what is lost, as far as one was known.
    pub lost: Option<TreeAt>,
    /// Older ones of it, the smaller first.
    pub also_lost: Vec<TreeAt>,
}

impl State {
    pub(crate) fn ledger_restored(&mut self, index: u64, e: &LedgerRestored) -> Result<(), FoldError> {
        if self.halts.contains_key(&e.halt) {
            return Err(FoldError::HaltExists(e.halt.clone()));
        }
        let expected = self.resume_people(None);
        if e.resume_people != expected {
            return Err(EmergencyError::People { stated: Some(e.resume_people), expected }.into());
        }
        if let Some(lost) = e.lost.as_ref().filter(|lost| lost.size <= e.copied.size) {
            return Err(FoldError::NothingLost { copied: e.copied.size, known: lost.size });
        }
        let sizes = std::iter::once(e.copied.size).chain(e.also_lost.iter().chain(&e.lost).map(|tree| tree.size));
        let newest = e.lost.is_some() || e.also_lost.is_empty();
        if !newest || e.also_lost.len() > MAX_ALSO_LOST || !sizes.is_sorted_by(|a, b| a < b) {
            return Err(FoldError::LostOrder);
        }
        self.throw(
            Halt {
                environment: None,
                on: None,
                reason: e.reason.clone(),
                by: e.by.clone(),
                index,
                people: e.resume_people,
                asked: None,
            },
            &e.halt,
        );
        let restored = Arc::make_mut(&mut self.restored);
        restored.push(Restored {
            index,
            at: e.at,
            control: self.control + 1,
            copied: e.copied.clone(),
            lost: e.lost.clone(),
            also_lost: e.also_lost.clone(),
        });
        if restored.len() > MAX_RESTORED {
            restored.remove(0);
        }
        Ok(())
    }

    /// Whether a ledger position is one of a copy: what was asked there may have been decided since, in
    /// what is lost.
    #[must_use]
    pub fn from_before_a_copy(&self, index: u64) -> bool {
        self.restored.last().is_some_and(|r| index < r.index)
    }

    /// Whether it is known, and was said when the ledger was restored, that what this tree holds is lost.
    #[must_use]
    pub fn known_lost(&self, tree: &TreeAt) -> bool {
        self.restored.iter().any(|r| r.also_lost.iter().chain(&r.lost).any(|lost| lost == tree))
    }
}
