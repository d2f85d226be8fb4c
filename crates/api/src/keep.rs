//! What strangers may ask for is made once a second at most, however many ask.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use intended_runtime::metrics::Stopwatch;
use tokio::sync::Mutex;

use crate::Problem;

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);

/// An answer as it is kept: status, media type, body.
#[derive(Debug, Clone)]
pub struct Kept {
    pub status: u16,
    pub kind: &'static str,
    pub body: Bytes,
}

impl Kept {
    pub fn into_response(self) -> Response {
        let status = http::StatusCode::from_u16(self.status).unwrap_or(http::StatusCode::OK);
        (status, [(http::header::CONTENT_TYPE, self.kind)], self.body).into_response()
    }
}

/// One answer. Whoever comes while it is made waits for that one.
#[derive(Debug, Default)]
pub struct Keep(Mutex<Option<(Stopwatch, Kept)>>);

impl Keep {
    pub async fn get(&self, make: impl Future<Output = Result<Kept, Problem>>) -> Result<Kept, Problem> {
        let mut slot = self.0.lock().await;
        if let Some((_, kept)) = slot.as_ref().filter(|(made, _)| made.elapsed() < FRESH) {
            return Ok(kept.clone());
        }
        let kept = make.await?;
        *slot = Some((Stopwatch::start(), kept.clone()));
        Ok(kept)
    }
}
