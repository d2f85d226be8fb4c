//! Spans of requests and decisions, for whoever has a collector.
//!
//! A request is a span, a decision in it another, its phases are spans of that. The trace is the one
//! that came in `traceparent`, else a new one. Only spans that are made for it are taken, never what
//! is logged, so that no text of a request can get into them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use intended_api::logged::SpanName;
use intended_api::traceparent::{TraceParent, Traced};
use intended_model::Digest;
use intended_runtime::spans::{TARGET, TraceCounts};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample, Span, SpanData, SpanProcessor,
};
use tokio::sync::mpsc;
use tracing::Instrument as _;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use crate::export::{Exporter, Pace, Transport};

/// How many spans wait for the collector at most. Each is about a kilobyte.
pub const QUEUE: usize = 4096;

/// Traces that go to a collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    counts: Arc<TraceCounts>,
    exporter: tokio::task::JoinHandle<()>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Traces {
    /// Begins to export so large a part of the traces. Within the async runtime.
    pub fn start(transport: impl Transport, instance: String, share: Share, queue: usize, pace: Pace) -> Self {
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "intended"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", instance),
            ])
            .build();
        let counts = Arc::new(TraceCounts::default());
        let (to, from) = mpsc::channel(queue.max(1));
        let (stop, stopping) = tokio::sync::watch::channel(false);
        let exporter = Exporter::new(transport, &resource, Arc::clone(&counts), pace);
        let exporter = tokio::spawn(exporter.run(from, stopping));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(share)
            .with_span_processor(Queue { to, counts: Arc::clone(&counts) })
            .build();
        Self { provider, counts, exporter, stop }
    }

    /// What was sent and what was not, for `/metrics`.
    #[must_use]
    pub fn counts(&self) -> Arc<TraceCounts> {
        Arc::clone(&self.counts)
    }

    pub(crate) fn layer<S: tracing::Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let tracer: SdkTracer = self.provider.tracer("intended");
        let spans = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(spans.with_max_level_hint(LevelFilter::INFO))
    }

    /// The application with a span for each request.
    pub fn over(&self, router: Router) -> Router {
        router.layer(axum::middleware::from_fn(request))
    }

    /// Sends what is left, for so long at most.
    pub async fn stop(self, patience: Duration) {
        let _ = self.stop.send(true);
        let abort = self.exporter.abort_handle();
        if tokio::time::timeout(patience, self.exporter).await.is_err() {
            abort.abort();
        }
    }
}

async fn request(mut request: Request, next: Next) -> Response {
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = Empty,
        http.route = Empty,
        http.response.status_code = Empty,
        intended.tenant = Empty,
        intended.environment = Empty,
        intended.intent = Empty,
        intended.decision = Empty,
        intended.reason = Empty,
    );
    if let Some(parent) = TraceParent::of(request.headers()) {
        let flags = if parent.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let (trace, span_id) = (TraceId::from_bytes(parent.trace_id), SpanId::from_bytes(parent.span_id));
        let parent = SpanContext::new(trace, span_id, flags, true, TraceState::NONE);
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    // From here on it has an id, which goes into the log and into the answer.
    let context = span.context();
    let own = context.span().span_context().clone();
    if own.is_valid() {
        request.extensions_mut().insert(Traced(TraceParent {
            trace_id: own.trace_id().to_bytes(),
            span_id: own.span_id().to_bytes(),
            sampled: own.is_sampled(),
        }));
    }
    let response = next.run(request).instrument(span.clone()).await;
    if let Some(SpanName(name)) = response.extensions().get() {
        context.span().update_name(name.clone());
    }
    // It ends here, when nobody has it any more.
    drop(span);
    response
}

/// Which traces are exported: a share of them, by a hash of their ids that nobody outside can compute.
/// A caller who says that a trace is not sampled is believed; who says that it is, is not, and choosing
/// ids is of no use either, because that would let agents decide how much is exported.
#[derive(Clone)]
pub struct Share {
    ratio: f64,
    secret: [u8; 32],
}

impl Share {
    /// So large a part, 1.0 for all; `secret` is random, and the process' own.
    #[must_use]
    pub const fn new(ratio: f64, secret: [u8; 32]) -> Self {
        Self { ratio, secret }
    }

    /// The same for a trace whenever it comes.
    fn has(&self, trace: TraceId) -> bool {
        let mut keyed = [0; 48];
        for (to, from) in keyed.iter_mut().zip(self.secret.into_iter().chain(trace.to_bytes())) {
            *to = from;
        }
        // 32 bits are exact in a float, below 1.0, and fine enough for any share that is of use.
        let digest = Digest::of(&keyed);
        let point = digest.as_bytes().iter().take(4).fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
        f64::from(point) / (f64::from(u32::MAX) + 1.0) < self.ratio
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Share").field("ratio", &self.ratio).finish_non_exhaustive()
    }
}

impl ShouldSample for Share {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent_span = parent.map(|p| p.span().span_context().clone()).filter(SpanContext::is_valid);
        let sampled = match parent_span {
            // The same answer for all spans of a request, and never more than its caller wants.
            Some(p) if !p.is_sampled() => false,
            Some(p) if !p.is_remote() => true,
            _ => self.has(trace_id),
        };
        let sampler = if sampled { Sampler::AlwaysOn } else { Sampler::AlwaysOff };
        sampler.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

/// Where finished spans wait. When it is full they are dropped, and counted: nobody waits here.
#[derive(Debug)]
struct Queue {
    to: mpsc::Sender<SpanData>,
    counts: Arc<TraceCounts>,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.to.try_send(span).is_err() {
            self.counts.dropped(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    /// A request that came with this trace, from a caller who wants it sampled.
    fn sampled(share: &Share, trace: TraceId) -> bool {
        let parent = SpanContext::new(trace, SpanId::from_bytes([7; 8]), TraceFlags::SAMPLED, true, TraceState::NONE);
        let parent = Context::new().with_remote_span_context(parent);
        let result = share.should_sample(Some(&parent), trace, "request", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    /// Ids whose low bytes are 0: a share by the ids themselves has all of them.
    fn chosen() -> impl Iterator<Item = TraceId> {
        (1..=100_u128).map(|n| TraceId::from_bytes((n << 64).to_be_bytes()))
    }

    #[test]
    fn who_chooses_ids_has_no_more_traced_than_anybody() {
        let by_id = Sampler::TraceIdRatioBased(0.01);
        let plain = |t: TraceId| by_id.should_sample(None, t, "", &SpanKind::Server, &[], &[]).decision;
        assert!(chosen().all(|t| plain(t) == SamplingDecision::RecordAndSample), "these are the ids to choose");
        for secret in 0..20 {
            let share = Share::new(0.01, [secret; 32]);
            let n = chosen().filter(|t| sampled(&share, *t)).count();
            assert!(n <= 6, "{n} of 100 at 0.01");
        }
    }

    #[test]
    fn a_share_is_as_large_as_it_says_and_another_one_with_another_secret() {
        let share = |ratio, secret: u8| {
            let share = Share::new(ratio, [secret; 32]);
            chosen().filter(|t| sampled(&share, *t)).collect::<Vec<_>>()
        };
        assert_eq!((share(0.0, 1).len(), share(1.0, 1).len()), (0, 100));
        let half = share(0.5, 1);
        assert!((30..=70).contains(&half.len()), "{}", half.len());
        assert_ne!(half, share(0.5, 2), "nobody learns from one process what another one takes");
        assert!(!format!("{:?}", Share::new(0.5, [211; 32])).contains("211"));
    }

    #[test]
    fn a_trace_has_one_answer_whoever_begins_it_and_however_often_it_comes() {
        let share = Share::new(0.5, [1; 32]);
        for trace in chosen() {
            let first = sampled(&share, trace);
            assert_eq!(first, sampled(&share.clone(), trace));
            let own = share.should_sample(None, trace, "request", &SpanKind::Server, &[], &[]);
            assert_eq!(first, own.decision == SamplingDecision::RecordAndSample);
        }
    }
}
