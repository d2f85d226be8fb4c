//! What was revoked lately, for whoever looks at how things stand.

use intended_model::{Event, Timestamp};

use crate::tenant::event_of;
use crate::{Principal, Runtime, RuntimeError};

/// Control entries that are read at a time.
const PAGE: usize = 1000;

/// Revocations.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    /// In bulk, since then.
    pub bulk: u64,
    /// The last of these, and why.
    pub last: Option<(Timestamp, Box<str>)>,
    /// Single tokens that are revoked and would still be good.
    pub tokens: u64,
}

impl Runtime {
    /// What was revoked since `since`, as far as the caller may see it. Single revocations are known for
    /// as long as their tokens would be good; those in bulk, for ever.
    pub async fn revoked_since(&self, by: &Principal, since: Timestamp) -> Result<Revocations, RuntimeError> {
        let tenant = &by.tenant;
        let size = self.store().head(&tenant.id).await?.size;
        let mut from = self.first_at(tenant, since, size).await?;
        let reach = self.reach(tenant).await?;
        let mut out = Revocations { tokens: self.revoked_tokens(by).await?.len() as u64, ..Revocations::default() };
        loop {
            let page = self.store().control_entries(&tenant.id, from, PAGE).await?;
            let Some(last) = page.last() else { return Ok(out) };
            from = last.index + 1;
            for entry in page {
                let event = event_of(&entry.leaf)?;
                if let Event::TokensRevoked(revoked) = &event
                    && reach.of(&event).seen_by(by)
                {
                    out.bulk += 1;
                    out.last = Some((entry.at, revoked.reason.clone()));
                }
            }
        }
    }
}
