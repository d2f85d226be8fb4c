//! How many requests were answered how, by class of status. What only asks how the server is does not
//! count: a probe that is told "not ready" is no request that failed.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use http::StatusCode;

/// The classes of status codes. There are answers of the other ones only in the protocol itself.
pub const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Those who ask how the server is.
const PROBES: [&str; 4] = ["/livez", "/readyz", "/healthz", "/metrics"];

#[derive(Debug, Default)]
pub struct Answers([AtomicU64; CLASSES.len()]);

impl Answers {
    #[must_use]
    pub fn read(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|at| self.0.get(at).map_or(0, |n| n.load(Ordering::Relaxed)))
    }

    pub(crate) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).checked_sub(2);
        if let Some(counter) = class.and_then(|at| self.0.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether a request only asks how the server is.
pub(crate) fn is_probe(request: &Request) -> bool {
    PROBES.contains(&request.uri().path())
}
