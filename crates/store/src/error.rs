//! Why a commit did not happen.

/// What did not hold any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("the state has moved from {expected} to {actual}")]
    Control { expected: u64, actual: u64 },
    #[error("the fact `{key}` has changed")]
    Fact { key: Box<str> },
    #[error("the counter `{key}` stands at {current} and may not go above {max}")]
    Bound { key: Box<str>, current: i64, max: i64 },
    #[error("it is from before {head}, the ledger's time")]
    Late { head: intended_model::Timestamp },
}

/// Why the store refused or failed. Whatever it is, nothing of the commit is there, except for
/// `Stopped`, whose outcome is unknown: see [`Store::commit`](crate::Store::commit).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error("the tenant does not exist")]
    UnknownTenant,
    #[error("the tenant exists already")]
    TenantExists,
    #[error("the disk is full: {0}")]
    Full(String),
    #[error("the store cannot be written: {0}")]
    ReadOnly(String),
    #[error("the store's data is damaged: {0}")]
    Corrupt(String),
    #[error("the store has stopped after a failed write: {0}")]
    Stopped(String),
    #[error("too many commits are waiting")]
    Overloaded,
    #[error("the store is closed")]
    Closed,
    #[error("another process serves this data directory: {0}")]
    Locked(String),
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    #[error("the commit is not valid: {0}")]
    Invalid(&'static str),
}

impl StoreError {
    /// The stable code of the catalogue.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "commit.conflict",
            Self::UnknownTenant => "not_found",
            Self::TenantExists => "conflict",
            Self::Full(_) => "store.full",
            Self::ReadOnly(_) => "store.read_only",
            Self::Corrupt(_) => "store.corrupt",
            Self::Stopped(_) => "store.stopped",
            Self::Overloaded => "overloaded",
            Self::Closed => "not_ready",
            Self::Locked(_) | Self::Unavailable(_) => "store.unavailable",
            Self::Invalid(_) => "internal",
        }
    }

    /// Whether the same commit may succeed later without anything about it changing. Never for
    /// `Conflict`: what it relied on is gone, so it has to be made anew.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Full(_)
                | Self::ReadOnly(_)
                | Self::Overloaded
                | Self::Closed
                | Self::Locked(_)
                | Self::Unavailable(_)
        )
    }
}
