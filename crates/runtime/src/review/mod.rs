//! Reviews of access: who may do what, whether it is used, and what of it somebody should look at. The
//! report is kept beside the ledger, its digest in it; two people sign that digest.

mod approvers;
mod compare;
mod csv;
mod findings;
mod html;
mod make;
mod report;

use std::collections::HashMap;
use std::sync::Arc;

use intended_engine::{Review, State, keys};
use intended_model::entry::{BODY_VERSION, ReviewMade, ReviewSigned, Scope};
use intended_model::{Code, CredentialId, Digest, Event, Name, Timestamp};
use intended_store::{Commit, Write};
use serde::{Deserialize, Serialize};

pub use approvers::words;
pub use compare::{ChangeRow, Changes, Difference, changes};
pub use csv::csv;
pub use html::html;
pub use make::{Sources, Used, report};
pub use report::{
    About, AgentRow, ApprovalRow, Counts, CredentialRow, CredentialState, Effective, Finding, GrantRow, GroupRow, May,
    MemberRow, Report, Severity, When,
};

use crate::activity::Activities;
use crate::admin::{Change, Changed};
use crate::simulation::low;
use crate::{Principal, Runtime, RuntimeError, Tenant};

/// Bytes of one part of a kept report: a commit that no decision waits long behind.
const PART: usize = 256 * 1024;
/// How often a report is made anew because the state changed meanwhile. After that it is about a state
/// that is a moment old, and says which.
const MAX_ATTEMPTS: usize = 3;
/// Parts of one read.
const PAGE: usize = 8;

/// A review that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    pub counts: Counts,
    pub digest: Digest,
    pub review: Name,
}

/// A review with its report.
#[derive(Debug, Clone)]
pub struct Kept {
    pub review: Review,
    pub report: Report,
    /// The report as it is kept: canonical JSON, whose SHA-256 is the review's digest.
    pub text: String,
}

impl Runtime {
    /// Makes a review of everything in the tenant.
    pub async fn make_review(&self, by: &Principal) -> Result<Changed<Made>, RuntimeError> {
        by.require_whole(Scope::ReviewSign)?;
        if let Some(before) = self.made_before::<Made>(by, "review").await? {
            return Ok(before);
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let state = by.tenant.state();
            let (text, made) = self.report_of(by, &state).await?;
            self.keep_report(&by.tenant, made.digest, &text).await?;
            let mut moved = false;
            let changed = self.change(by, "review", |by, now| {
                by.require_whole(Scope::ReviewSign)?;
                moved = now.control != state.control && attempt < MAX_ATTEMPTS;
                if moved {
                    return Err(Code::Conflict.into());
                }
                let (by, digest, review) = (by.credential.clone(), made.digest, made.review.clone());
                let event = Event::ReviewMade(ReviewMade { by, digest, review, v: BODY_VERSION });
                Ok(Change::new(event, made.clone()))
            });
            match changed.await {
                Ok(changed) if changed.answer.digest == made.digest => return Ok(changed),
                // Made meanwhile, under the same idempotency key.
                Ok(changed) => {
                    self.forget_report(&by.tenant, made.digest, &text).await;
                    return Ok(changed);
                }
                Err(error) => {
                    self.forget_report(&by.tenant, made.digest, &text).await;
                    if !moved {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The report of a state, as canonical JSON. Off the threads that decide, and giving way to them.
    async fn report_of(&self, by: &Principal, state: &Arc<State>) -> Result<(String, Made), RuntimeError> {
        let at = self.now();
        let activities = self.activities(&by.tenant).await?;
        let used = self.used(&by.tenant, state, &activities);
        let review = next_name(state, at)?;
        let (state, by) = (Arc::clone(state), by.credential.clone());
        low(&self.reviews, move || {
            let from = Sources { state: &state, activities: &activities, used: &used, at, by: &by, review: &review };
            let report = report(&from);
            let text = intended_model::json::canonical(&report).map_err(RuntimeError::internal)?;
            let made = Made { counts: report.counts, digest: Digest::of(text.as_bytes()), review };
            Ok((text, made))
        })
        .await
    }

    /// What is known of the use of every credential, and of everybody who signs in.
    fn used(&self, tenant: &Tenant, state: &State, activities: &Activities) -> HashMap<CredentialId, Used> {
        let sessions = state.members.keys().filter_map(CredentialId::of_member);
        let acted = |id: &CredentialId| activities.callers.get(id).and_then(|places| places.values().max()).copied();
        let used = |id: CredentialId| {
            let usage = self.usage(tenant, &id);
            let used = Used { last_used: usage.last_used.max(acted(&id)), scopes: usage.scopes };
            (id, used)
        };
        state.credentials.keys().cloned().chain(sessions).map(used).collect()
    }

    /// Writes a report down in parts, each in a commit of its own: none holds up a decision.
    async fn keep_report(&self, tenant: &Tenant, digest: Digest, text: &str) -> Result<(), RuntimeError> {
        for (n, part) in text.as_bytes().chunks(PART).enumerate() {
            let key = keys::review_part(digest, n).into();
            let write = Write::Put { key, value: part.to_vec(), expires_at: None };
            self.write_parts(tenant, vec![write]).await?;
        }
        Ok(())
    }

    /// Removes a report that no review is of.
    async fn forget_report(&self, tenant: &Tenant, digest: Digest, text: &str) {
        let parts = text.len().div_ceil(PART);
        let writes = (0..parts).map(|n| Write::Delete { key: keys::review_part(digest, n).into() }).collect();
        if let Err(error) = self.write_parts(tenant, writes).await {
            tracing::warn!(%error, "the report of a review that was not made is kept");
        }
    }

    async fn write_parts(&self, tenant: &Tenant, writes: Vec<Write>) -> Result<(), RuntimeError> {
        let (id, now, reads, entries) = (tenant.id.clone(), self.now(), Vec::new(), Vec::new());
        self.follower.commit(Commit { tenant: id, now, control_version: None, reads, writes, entries }).await?;
        Ok(())
    }

    /// A review with its report, held against the digest in the ledger.
    pub async fn review(&self, by: &Principal, id: &Name) -> Result<Kept, RuntimeError> {
        by.require_whole(Scope::AccessRead)?;
        let state = by.tenant.state();
        let review = state.reviews.iter().find(|r| r.id == *id).ok_or(Code::NotFound)?.clone();
        let mut bytes = Vec::new();
        let prefix = keys::review_parts(review.digest);
        let mut after = String::new();
        loop {
            let page = self.store().facts(&by.tenant.id, &prefix, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            page.into_iter().for_each(|(_, fact)| bytes.extend(fact.value));
        }
        let read = move || {
            let damaged = |what: &str| RuntimeError::new(Code::StoreCorrupt, format!("review `{}`: {what}", review.id));
            if Digest::of(&bytes) != review.digest {
                return Err(damaged("the report that is kept is not the one that the ledger names"));
            }
            let text = String::from_utf8(bytes).map_err(|_| damaged("the report is no text"))?;
            let report = serde_json::from_str(&text).map_err(|e| damaged(&e.to_string()))?;
            Ok(Kept { review, report, text })
        };
        low(&self.reviews, read).await
    }

    /// How a review differs from another: from the one before it, where none is named.
    pub async fn review_changes(
        &self,
        by: &Principal,
        id: &Name,
        from: Option<&Name>,
    ) -> Result<Changes, RuntimeError> {
        let to = self.review(by, id).await?.report;
        let from = match from.or(to.previous.as_ref()) {
            Some(from) => self.review(by, from).await?.report,
            None => return Err(RuntimeError::new(Code::NotFound, format!("there is no review before `{id}`"))),
        };
        low(&self.reviews, move || Ok(changes(&from, &to))).await
    }

    /// Signs the last review, as the person who calls. It takes two.
    pub async fn sign_review(
        &self,
        by: &Principal,
        id: &Name,
        digest: Digest,
        reason: &str,
    ) -> Result<Changed<bool>, RuntimeError> {
        crate::policy::reasoned(reason)?;
        self.change(by, ("review.sign", id, digest, reason), |by, state| {
            by.require_whole(Scope::ReviewSign)?;
            let known = state.reviews.iter().find(|r| r.id == *id).ok_or(Code::NotFound)?;
            let member = by.member().ok_or(Code::SessionNeeded)?.clone();
            let complete = known.signed.len() + 1 >= 2;
            let event = Event::ReviewSigned(ReviewSigned {
                by: by.credential.clone(),
                digest,
                member,
                reason: reason.into(),
                review: id.clone(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, complete))
        })
        .await
    }
}

/// The day, and which of that day's it is.
fn next_name(state: &State, at: Timestamp) -> Result<Name, RuntimeError> {
    let day: String = at.to_string().chars().take(10).collect();
    let name = |n: usize| Name::new(&format!("{day}-{n}")).map_err(RuntimeError::internal);
    let taken = |name: &Name| state.reviews.iter().any(|r| r.id == *name);
    (1..=state.reviews.len() + 1).map(name).find(|n| n.as_ref().map_or(true, |n| !taken(n))).ok_or(Code::Internal)?
}
