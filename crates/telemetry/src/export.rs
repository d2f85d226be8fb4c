//! From the queue to the collector: batches, OTLP in protobuf, a bounded number of attempts.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use intended_runtime::spans::TraceCounts;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use tokio::sync::{mpsc, watch};

/// Most spans of a batch.
const BATCH: usize = 512;

/// What a collector is reached by.
pub trait Transport: Send + Sync + 'static {
    /// Posts an `ExportTraceServiceRequest` in protobuf; answers the body of a 2xx.
    fn post(&self, body: Vec<u8>) -> Posting;
}

pub type Posting = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send>>;

/// A batch was not taken.
#[derive(Debug, Clone)]
pub struct Failure {
    pub why: String,
    /// Whether it may be taken later.
    pub retry: bool,
    /// When the collector wants to be asked again.
    pub after: Option<Duration>,
}

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long a span waits for others to go with it.
    pub linger: Duration,
    /// After the first attempt that failed; twice as long after each further one.
    pub backoff: Duration,
    /// Then the batch is dropped.
    pub attempts: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { linger: Duration::from_secs(1), backoff: Duration::from_millis(500), attempts: 5 }
    }
}

/// The longest that is waited between two attempts, whatever the collector says.
const LONGEST: Duration = Duration::from_secs(30);

pub struct Exporter<T> {
    transport: T,
    resource: ResourceAttributesWithSchema,
    counts: Arc<TraceCounts>,
    pace: Pace,
    /// Whether the last batch was taken: a collector that is down is said once, not with each batch.
    up: bool,
}

impl<T: Transport> Exporter<T> {
    pub fn new(transport: T, resource: &Resource, counts: Arc<TraceCounts>, pace: Pace) -> Self {
        Self { transport, resource: resource.into(), counts, pace, up: true }
    }

    /// Exports until it is told to stop, or nobody is left who could say so, and nothing is left.
    pub async fn run(mut self, mut from: mpsc::Receiver<SpanData>, mut stop: watch::Receiver<bool>) {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                taken = from.recv_many(&mut batch, BATCH) => if taken == 0 { return },
                _ = stop.wait_for(|stop| *stop) => {}
            }
            let stopping = is_over(&stop);
            if !stopping && batch.len() < BATCH {
                tokio::select! {
                    () = tokio::time::sleep(self.pace.linger) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            }
            while batch.len() < BATCH
                && let Ok(span) = from.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                if stopping {
                    return;
                }
                continue;
            }
            self.deliver(batch, &mut stop).await;
        }
    }

    async fn deliver(&mut self, batch: Vec<SpanData>, stop: &mut watch::Receiver<bool>) {
        let spans = batch.len() as u64;
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let mut pause = self.pace.backoff;
        for attempt in 1.. {
            let failure = match self.transport.post(body.clone()).await {
                Ok(answer) => {
                    // It may take only some of them. What it answers beyond that is not needed.
                    let partial = ExportTraceServiceResponse::decode(&*answer).ok().and_then(|a| a.partial_success);
                    let rejected = partial.map_or(0, |p| u64::try_from(p.rejected_spans).unwrap_or(0)).min(spans);
                    self.counts.dropped(rejected);
                    self.counts.exported(spans - rejected);
                    if !std::mem::replace(&mut self.up, true) {
                        tracing::info!("the collector of traces takes them again");
                    }
                    return;
                }
                Err(failure) => failure,
            };
            self.counts.failed();
            if std::mem::replace(&mut self.up, false) {
                tracing::warn!(why = failure.why, "traces are not taken by their collector; decisions go on");
            }
            let stopping = is_over(stop);
            if !failure.retry || attempt >= self.pace.attempts || stopping {
                self.counts.dropped(spans);
                return;
            }
            let wait = failure.after.unwrap_or(pause).min(LONGEST);
            pause = pause.saturating_mul(2);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }
}

/// Whoever could have said so may be gone without a word.
fn is_over(stop: &watch::Receiver<bool>) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}
