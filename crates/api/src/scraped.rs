//! When the metrics page was last read, and by whom: whether anything can come of its figures.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use intended_model::{TenantId, Timestamp};

/// By tenant, and by everyone who says not who they are. No more of them than there are tenants.
#[derive(Debug, Default)]
pub struct Scraped(Mutex<HashMap<Option<TenantId>, Timestamp>>);

impl Scraped {
    pub fn read(&self, by: Option<&TenantId>, at: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(by.cloned(), at);
    }
    /// When a page with a tenant's figures on it was last read: its own, or everyone's.
    pub fn last(&self, tenant: &TenantId) -> Option<Timestamp> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read.get(&None).max(read.get(&Some(tenant.clone()))).copied()
    }
}
