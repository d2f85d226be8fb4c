//! Watching a ledger: its entries as server-sent events, from any index on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use intended_model::entry::Scope;
use intended_model::{Code, TenantId};
use intended_runtime::{Principal, RuntimeError, audit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{App, Problem, auth, exchange};

/// Most streams of a tenant at a time.
pub const MAX_STREAMS: usize = 32;
/// Entries that are read at once.
const PAGE: usize = 256;
/// How often it looks for new ones.
const LOOK: Duration = Duration::from_millis(200);
/// Looks without anything new until the client is told that the stream lives.
const QUIET: u32 = 75;
/// A client that takes nothing for so long is let go; it can come back to where it was.
const STUCK: Duration = Duration::from_secs(30);

/// The places that each tenant has for streams.
#[derive(Debug, Default)]
pub struct Streams(Mutex<HashMap<TenantId, Arc<Semaphore>>>);

impl Streams {
    fn take(&self, tenant: &TenantId) -> Result<OwnedSemaphorePermit, Problem> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = all.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_STREAMS)));
        Arc::clone(places).try_acquire_owned().map_err(|_| {
            Problem::new(Code::RateLimited, format!("at most {MAX_STREAMS} streams of a tenant at a time"))
        })
    }
}

type Chunk = Result<Bytes, Infallible>;

/// A stream of the entries after `after` that a filter takes, for whom the headers name.
pub fn stream(
    app: &App,
    headers: &HeaderMap,
    principal: &Principal,
    after: u64,
    filter: audit::Query,
) -> Result<impl futures_core::Stream<Item = Chunk> + use<>, Problem> {
    let place = app.streams.take(&principal.tenant.id)?;
    let (sender, receiver) = mpsc::channel(4);
    let (app, headers, from) = (app.clone(), headers.clone(), exchange::origin());
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = run(&app, &headers, from, after, &filter, &sender).await {
            // The client learns why when it comes back.
            tracing::debug!(%error, "a stream ends");
        }
    });
    Ok(received(receiver))
}

async fn run(
    app: &App,
    headers: &HeaderMap,
    from: Option<IpAddr>,
    mut after: u64,
    filter: &audit::Query,
    to: &mpsc::Sender<Chunk>,
) -> Result<(), RuntimeError> {
    let mut quiet = QUIET;
    while !app.draining.load(Ordering::Acquire) && !to.is_closed() {
        // Each time: a credential that is revoked or expires sees nothing more.
        let Ok(principal) = auth::again(app, headers, from, Scope::AuditRead) else { return Ok(()) };
        let size = app.runtime.store().head(&principal.tenant.id).await?.size;
        if size > after.saturating_add(1) {
            let (seen, last) = app.runtime.entries_after(&principal, after, PAGE, filter).await?;
            let mut text = Vec::new();
            for (entry, event) in seen {
                // A leaf is canonical JSON, and that is one line.
                let head = format!("id: {}\nevent: {}\ndata: ", entry.index, event.kind().as_str());
                text.extend_from_slice(head.as_bytes());
                text.extend_from_slice(&entry.leaf);
                text.extend_from_slice(b"\n\n");
            }
            after = last;
            if !text.is_empty() {
                quiet = 0;
                if !send(to, text).await {
                    return Ok(());
                }
            }
            continue;
        }
        if quiet >= QUIET {
            quiet = 0;
            // An event without data is none, but its id is where the client goes on from.
            if !send(to, format!(": alive\nid: {after}\n\n").into_bytes()).await {
                return Ok(());
            }
        }
        quiet += 1;
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn send(to: &mpsc::Sender<Chunk>, text: Vec<u8>) -> bool {
    matches!(tokio::time::timeout(STUCK, to.send(Ok(text.into()))).await, Ok(Ok(())))
}

/// A receiver as a stream.
pub fn received<T>(receiver: mpsc::Receiver<T>) -> impl futures_core::Stream<Item = T> + use<T> {
    struct Receiving<T>(mpsc::Receiver<T>);
    impl<T> futures_core::Stream for Receiving<T> {
        type Item = T;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            self.0.poll_recv(cx)
        }
    }
    Receiving(receiver)
}
