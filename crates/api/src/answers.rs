//! How many requests were answered how, by class of status. What only asks how the server is does not
//! count: a probe that is told "not ready" is no request that failed.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::App;

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
}

pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let probes = PROBES.contains(&request.uri().path());
    let response = next.run(request).await;
    let class = usize::from(response.status().as_u16() / 100).checked_sub(2);
    if !probes && let Some(counter) = class.and_then(|at| app.answers.0.get(at)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    response
}
