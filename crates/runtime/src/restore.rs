//! A ledger against checkpoints of it that were kept elsewhere, and going on from a copy of it.
//!
//! A copy of a ledger is consistent in itself, however old it is: only who kept a checkpoint somewhere
//! else can tell that there was more. What there was is unknown then, so the ledger says that it goes on
//! from a copy, and the fold of that entry ends whatever it could have ended (`engine::restored`).

use intended_ledger::{Checkpoint, NoteVerifier, origin};
use intended_model::emergency::TreeAt;
use intended_model::entry::{BODY_VERSION, LedgerRestored};
use intended_model::{Code, CredentialId, Event, Name, TenantId};

use intended_engine::access::OPERATOR;

use crate::admin::Change;
use crate::{Runtime, RuntimeError};

/// Longest reason.
const MAX_REASON: usize = 500;

/// Where a ledger goes on from a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneOn {
    /// How many entries were copied.
    pub copied: u64,
    /// What the tenant is halted by.
    pub halt: Name,
    /// Ledger position.
    pub index: u64,
}

/// What a checkpoint that was kept elsewhere says of the ledger that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The ledger begins with what it signs for.
    Holds { tenant: TenantId, size: u64 },
    /// It signs for what was lost, and the ledger says so.
    KnownLost { tenant: TenantId, size: u64 },
}

impl Runtime {
    /// Holds a ledger against a checkpoint of it that was kept elsewhere: `Err` when the ledger was taken
    /// back behind it, or is not the one that it signs for.
    pub async fn hold_against(&self, note: &str) -> Result<Kept, RuntimeError> {
        let of = note.lines().next().unwrap_or_default();
        let tenant = self.tenants().into_iter().find(|t| origin(&t.id) == of);
        let tenant =
            tenant.ok_or_else(|| RuntimeError::new(Code::NotFound, format!("there is no ledger `{of}` here")))?;
        let (id, state) = (tenant.id.clone(), tenant.state());
        let key = NoteVerifier::parse(&state.vkey).map_err(RuntimeError::internal)?;
        let kept = Checkpoint::verified(note, &key)
            .map_err(|e| RuntimeError::new(Code::LedgerForked, format!("the kept checkpoint of `{id}`: {e}")))?;
        let here = self.store().head(&id).await?.size;
        if kept.size <= here && self.store().root_at(&id, kept.size).await? == kept.root {
            return Ok(Kept::Holds { tenant: id, size: kept.size });
        }
        if state.known_lost(&TreeAt { root: kept.root.to_base64().into(), size: kept.size }) {
            return Ok(Kept::KnownLost { tenant: id, size: kept.size });
        }
        Err(if kept.size > here {
            let what = format!(
                "the checkpoint of `{id}` signs for {} entries, {here} are here: {} are missing",
                kept.size,
                kept.size - here
            );
            RuntimeError::new(Code::LedgerTakenBack, what)
        } else {
            let what = format!("the first {} of the {here} entries of `{id}` have another root", kept.size);
            RuntimeError::new(Code::LedgerForked, what)
        })
    }

    /// Records that a tenant's ledger goes on from a copy of itself. That is for whoever has the data and
    /// the root key to say, and no request does. The tenant is halted by the same entry. `lost` are the
    /// trees that are known of what is lost, the smaller first.
    pub async fn go_on_from_copy(&self, id: &TenantId, lost: &[TreeAt], reason: &str) -> Result<GoneOn, RuntimeError> {
        let reason = reason.trim();
        if reason.is_empty() || reason.len() > MAX_REASON {
            let what = format!("say why, in 1 to {MAX_REASON} characters");
            return Err(RuntimeError::at(Code::RequestInvalid, "/reason", what));
        }
        let tenant = self.tenant(id).ok_or(Code::NotFound)?;
        let by = CredentialId::new(OPERATOR).map_err(RuntimeError::internal)?;
        let hex = intended_model::digest::hex(&self.random::<4>()?);
        let halt = Name::new(&format!("restored-{hex}")).map_err(RuntimeError::internal)?;
        let head = self.store().head(id).await?;
        let copied = TreeAt { root: head.root.to_base64().into(), size: head.size };
        let (newest, also_lost) = lost.split_last().map_or((None, lost), |(newest, older)| (Some(newest), older));
        let changed = self.change_of(&tenant, None, None, |_, state| {
            let event = Event::LedgerRestored(LedgerRestored {
                also_lost: also_lost.to_vec(),
                at: self.now(),
                by: by.clone(),
                copied: copied.clone(),
                halt: halt.clone(),
                lost: newest.cloned(),
                reason: reason.into(),
                resume_people: state.resume_people(None),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        let index = changed.await?.index;
        if index != head.size {
            // What it says of itself would not be true.
            return Err(RuntimeError::new(Code::Conflict, "something else wrote to the ledger meanwhile"));
        }
        Ok(GoneOn { copied: head.size, halt, index })
    }
}
