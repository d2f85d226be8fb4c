//! Links: a code that lets a member sign in once, within a quarter of an hour. It replaces no second
//! factor, and nobody gives one for somebody who may do more than they may themselves.

use intended_engine::sign_in::LINK_MS;
use intended_model::entry::{BODY_VERSION, LinkIssued, Scope};
use intended_model::{Code, Digest, Event, MemberId, Timestamp};

use super::{Secret, put};
use crate::admin::Change;
use crate::{Principal, Runtime, RuntimeError};

/// A link that was given. Its code is shown this once.
#[derive(Debug)]
pub struct NewLink {
    pub code: Secret,
    pub member: MemberId,
    pub expires_at: Timestamp,
    pub index: u64,
}

/// Whose a link is. Gone once it was used.
pub(crate) fn fact(link: Digest) -> String {
    format!("pl/{}", link.to_hex())
}

impl Runtime {
    /// Gives a link to a member. The one before is good no more.
    pub async fn issue_link(&self, by: &Principal, member: &MemberId) -> Result<NewLink, RuntimeError> {
        let code = Secret::new(format!("int_link_{}", intended_token::base64url(&self.random::<32>()?)));
        let link = Digest::of(code.expose().as_bytes());
        let changed = self.change(by, ("link", member), |by, state| {
            by.require_whole(Scope::AccessWrite)?;
            let known = state.members.get(member).filter(|m| m.active).ok_or(Code::NotFound)?;
            if by.member().is_some_and(|own| state.same_member(own, member)) {
                return Err(RuntimeError::new(Code::AccessOwn, "a link for oneself is given by somebody else"));
            }
            let now = self.now();
            if !by.access.covers_member(known, now) {
                let detail = format!("`{member}` may do more than you may");
                return Err(RuntimeError::new(Code::AccessWider, detail));
            }
            let expires_at = now.plus_millis(LINK_MS);
            let issued =
                LinkIssued { by: by.credential.clone(), expires_at, link, member: member.clone(), v: BODY_VERSION };
            let mut change = Change::new(Event::LinkIssued(issued), expires_at);
            change.writes.push(put(fact(link), member.as_str().as_bytes(), Some(expires_at)));
            Ok(change)
        });
        let changed = changed.await?;
        if changed.repeated {
            let detail = "this request gave a link before; its code was in the first answer and is kept nowhere";
            return Err(RuntimeError::new(Code::Conflict, detail));
        }
        Ok(NewLink { code, member: member.clone(), expires_at: changed.answer, index: changed.index })
    }
}
