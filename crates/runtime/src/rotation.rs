//! A new key for a credential. Who gets it could do what the credential can, so it is given as a new
//! credential would be: by somebody who has all of that.

use intended_keyring::{ApiKey, KeyKind};
use intended_model::entry::{BODY_VERSION, CredentialRotated};
use intended_model::{Code, CredentialId, Event};

use crate::access::{CredentialSpec, may_create};
use crate::admin::{Change, NewKey};
use crate::{Principal, Runtime, RuntimeError};

impl Runtime {
    /// Makes a new key. The one before stays good for `overlap_secs`, an older one for no longer.
    pub async fn rotate_credential(
        &self,
        by: &Principal,
        credential: CredentialId,
        overlap_secs: u32,
    ) -> Result<NewKey, RuntimeError> {
        if overlap_secs > intended_engine::access::MAX_OVERLAP_SECS {
            let detail = format!("at most {} seconds, 7 days", intended_engine::access::MAX_OVERLAP_SECS);
            return Err(RuntimeError::at(Code::RequestInvalid, "/overlap_seconds", detail));
        }
        let [live, test] = [KeyKind::Live, KeyKind::Test].map(|kind| ApiKey::generate(self.rng(), kind));
        let (live, test) = (live.map_err(RuntimeError::internal)?, test.map_err(RuntimeError::internal)?);
        let changed = self.change(by, ("credential.rotate", &credential, overlap_secs), |by, state| {
            by.require(intended_model::entry::Scope::AccessWrite, None)?;
            let known = state.credentials.get(&credential).ok_or(Code::NotFound)?;
            if known.revoked {
                return Err(RuntimeError::new(Code::Conflict, "it was revoked: create another"));
            }
            may_create(by, state, &CredentialSpec::from(&**known))?;
            let key = if known.test { &test } else { &live };
            let event = Event::CredentialRotated(CredentialRotated {
                by: by.credential.clone(),
                credential: credential.clone(),
                hash: key.hash(),
                previous_until: self.now().plus_millis(i64::from(overlap_secs) * 1_000),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, known.test))
        });
        let changed = changed.await?;
        if changed.repeated {
            let detail = "this request rotated it before; the key was in the first answer and is kept nowhere: \
                          rotate it again";
            return Err(RuntimeError::new(Code::Conflict, detail));
        }
        let key = if changed.answer { test } else { live };
        Ok(NewKey { credential, key: key.expose().to_owned(), index: changed.index })
    }
}
