//! Where checkpoints are kept outside the store, as far as this process is told: whoever writes them can
//! read them back, so that it can be seen what an older copy of the store would be found by.

use intended_model::TenantId;

use crate::Runtime;

/// A place for the newest checkpoint of each tenant. It may be slow or gone: it is asked on threads that
/// may wait.
pub trait Elsewhere: Send + Sync + 'static {
    /// The note that is kept of a tenant; `None` when none is.
    fn newest(&self, tenant: &TenantId) -> Result<Option<String>, String>;
}

impl Runtime {
    /// Says where checkpoints are kept, once.
    pub fn keeps_checkpoints_in(&self, place: impl Elsewhere) {
        let _ = self.elsewhere.set(std::sync::Arc::new(place));
    }
}
