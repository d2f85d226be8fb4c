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
    /// Begins to export so large a part of the traces, 1.0 for all. Within the async runtime.
    pub fn start(transport: impl Transport, instance: String, ratio: f64, queue: usize, pace: Pace) -> Self {
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
            .with_sampler(Share(Sampler::TraceIdRatioBased(ratio)))
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

/// Which traces are exported: a share of them, by their ids. A caller who says that a trace is not
/// sampled is believed; who says that it is, is not, because that would let agents decide how much
/// is exported.
#[derive(Debug, Clone)]
struct Share(Sampler);

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
        match parent_span {
            // The same answer for all spans of a request, and never more than its caller wants.
            Some(p) if !p.is_sampled() => {
                Sampler::AlwaysOff.should_sample(parent, trace_id, name, kind, attributes, links)
            }
            Some(p) if !p.is_remote() => {
                Sampler::AlwaysOn.should_sample(parent, trace_id, name, kind, attributes, links)
            }
            _ => self.0.should_sample(parent, trace_id, name, kind, attributes, links),
        }
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
