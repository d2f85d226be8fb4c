//! Traces over OTLP: what a decision looks like to a collector, and that no decision waits for one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use intended_telemetry::export::{Failure, Pace, Posting, Transport};
use intended_telemetry::{Format, Share, Traces};
use intended_testkit::World;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, PARENT, call, raw};

/// What a collector does with a batch.
#[derive(Clone, Copy, PartialEq)]
pub enum Does {
    Takes,
    /// All but one span.
    TakesMost,
    Refuses,
    IsNotThere,
    NeverAnswers,
}

/// A collector in memory.
#[derive(Clone)]
pub struct Collector {
    pub got: Arc<Mutex<Vec<Vec<u8>>>>,
    does: Arc<Mutex<Does>>,
    asked: Arc<AtomicU32>,
}

impl Collector {
    pub fn that(does: Does) -> Self {
        Self { got: Arc::default(), does: Arc::new(Mutex::new(does)), asked: Arc::default() }
    }
    fn now(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }
    pub fn spans(&self) -> Vec<Span> {
        let got = self.got.lock().unwrap();
        let requests = got.iter().map(|body| ExportTraceServiceRequest::decode(&**body).unwrap());
        requests.flat_map(|r| r.resource_spans).flat_map(|r| r.scope_spans).flat_map(|s| s.spans).collect()
    }
}

impl Transport for Collector {
    fn post(&self, body: Vec<u8>) -> Posting {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let does = *self.does.lock().unwrap();
        let failed = |why: &str, retry| Err(Failure { why: why.to_owned(), retry, after: None });
        let answer = match does {
            Does::Takes | Does::TakesMost => {
                self.got.lock().unwrap().push(body);
                let rejected = ExportTracePartialSuccess { rejected_spans: 1, error_message: String::new() };
                let partial_success = (does == Does::TakesMost).then_some(rejected);
                Ok(ExportTraceServiceResponse { partial_success }.encode_to_vec())
            }
            Does::Refuses => failed("the collector answered 400", false),
            Does::IsNotThere => failed("connection refused", true),
            Does::NeverAnswers => return Box::pin(std::future::pending()),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// Nothing is waited for in these tests but what happens.
pub const PACE: Pace = Pace { linger: Duration::ZERO, backoff: Duration::from_millis(1), attempts: 3 };

struct Traced {
    world: World,
    app: axum::Router,
    key: String,
    traces: Traces,
    collector: Collector,
    _listening: tracing::subscriber::DefaultGuard,
}

/// An application whose traces go to a collector. The runtime has one thread, and that is listened to.
async fn traced(does: Does, ratio: f64, queue: usize) -> Traced {
    let world = World::new().await.unwrap();
    let collector = Collector::that(does);
    let traces = Traces::start(collector.clone(), "here/1".to_owned(), Share::new(ratio, [7; 32]), queue, PACE);
    let subscriber = intended_telemetry::subscriber(Format::Text, "off".into(), std::io::sink(), Some(&traces));
    let listening = tracing::subscriber::set_default(subscriber);
    let app = intended_api::App::new(world.runtime.clone()).traced(traces.counts());
    let app = traces.over(intended_api::router(app));
    let key = world.owner_key.clone();
    Traced { world, app, key, traces, collector, _listening: listening }
}

impl Traced {
    async fn decide(&self, headers: &[(&str, &str)]) -> (u16, Option<String>) {
        let mut request = Request::post(INTENTS)
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.app.clone().oneshot(request.body(Body::from(GOOD)).unwrap()).await.unwrap();
        let parent = answer.headers().get("traceparent").map(|v| v.to_str().unwrap().to_owned());
        (answer.status().as_u16(), parent)
    }
    async fn metric(&self, name: &str) -> u64 {
        let request = Request::get("/metrics").header("authorization", format!("Bearer {}", self.key));
        let answer = self.app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let page = String::from_utf8_lossy(&body).into_owned();
        page.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok()).unwrap_or_else(|| panic!("{name}: {page}"))
    }
}

/// Lets the exporter, which is a task of this thread, do what it can.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("not in time: {what}");
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|a| a.key == name)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(n) => n.to_string(),
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn a_decision_is_a_span_with_its_phases_in_the_trace_that_came_with_the_request() {
    let t = traced(Does::Takes, 1.0, 4096).await;
    let (status, answered) = t.decide(&[("traceparent", PARENT)]).await;
    assert_eq!(status, 200);
    until("all spans are there", || t.collector.spans().len() >= 5).await;
    let spans = t.collector.spans();
    let named = |name: &str| spans.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"));
    let request = named("POST /v1/tenants/{tenant}/intents");
    let decide = named("decide");
    assert_eq!(spans.len(), 5, "{:?}", spans.iter().map(|s| &s.name).collect::<Vec<_>>());
    assert!(spans.iter().all(|s| hex(&s.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(hex(&request.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(decide.parent_span_id, request.span_id);
    for phase in ["evaluate", "commit", "sign"] {
        assert_eq!(named(phase).parent_span_id, decide.span_id, "{phase}");
        let (from, to) = (named(phase).start_time_unix_nano, named(phase).end_time_unix_nano);
        assert!(decide.start_time_unix_nano <= from && from <= to && to <= decide.end_time_unix_nano, "{phase}");
    }
    // The answer names the span that the request was, for whoever asks why it took so long.
    assert_eq!(answered.unwrap(), format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", hex(&request.span_id)));
    let list = call(&t.app, "GET", INTENTS, Some(&t.key), None).await.1;
    let id = list["intents"][0]["id"].as_str().unwrap().to_owned();
    for span in [request, decide] {
        let says = |name: &str| attribute(span, name).unwrap_or_default();
        assert_eq!(says("intended.intent"), id);
        assert_eq!(
            (says("intended.decision"), says("intended.reason")),
            ("allow".to_owned(), "policy.permit".to_owned())
        );
        assert_eq!(
            (says("intended.tenant"), says("intended.environment")),
            ("acme".to_owned(), "production".to_owned())
        );
    }
    assert_eq!(attribute(request, "http.response.status_code").unwrap(), "200");
    assert_eq!(attribute(request, "http.route").unwrap(), "/v1/tenants/{tenant}/intents");
    // Nothing of what was asked for.
    let all = t.collector.got.lock().unwrap().concat();
    let all = String::from_utf8_lossy(&all);
    for content in ["ch_1", "create_refund", "support-agent", "amount"] {
        assert!(!all.contains(content), "{content}");
    }
    assert!(all.contains("service.name"));
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_and_a_denial_says_why() {
    let t = traced(Does::Takes, 1.0, 4096).await;
    let (_, problem) = call(&t.app, "GET", "/v1/tenants/acme/intents/not-an-id", Some(&t.key), None).await;
    assert_eq!(problem["code"], "not_found");
    let (status, _) = raw(&t.app, "POST", INTENTS, Some("int_live_wrong"), Some(GOOD.into()), "application/json").await;
    assert_eq!(status, 401);
    until("both are there", || t.collector.spans().len() >= 2).await;
    let spans = t.collector.spans();
    assert_ne!(spans[0].trace_id, spans[1].trace_id);
    assert!(spans.iter().all(|s| s.parent_span_id.is_empty()));
    assert_eq!(spans[0].name, "GET /v1/tenants/{tenant}/intents/{id}", "the template, not the path");
    assert_eq!(attribute(&spans[0], "intended.reason").unwrap(), "not_found");
    assert_eq!(attribute(&spans[1], "intended.tenant"), None, "nobody was authenticated");
}

#[tokio::test]
async fn a_caller_can_have_less_traced_but_never_more() {
    let t = traced(Does::Takes, 1.0, 4096).await;
    t.decide(&[("traceparent", &PARENT.replace("-01", "-00"))]).await;
    t.decide(&[]).await;
    until("the other is there", || t.collector.spans().len() >= 5).await;
    assert!(t.collector.spans().iter().all(|s| hex(&s.trace_id) != "4bf92f3577b34da6a3ce929d0e0e4736"));
    drop(t);
    let t = traced(Does::Takes, 0.0, 4096).await;
    let (status, answered) = t.decide(&[("traceparent", PARENT)]).await;
    assert_eq!(status, 200);
    assert!(answered.unwrap().ends_with("-00"), "whoever is called with it is told that it is not sampled");
    t.traces.stop(Duration::from_secs(10)).await;
    assert!(t.collector.spans().is_empty());
}

#[tokio::test]
async fn decisions_go_on_while_the_collector_is_down_and_what_is_lost_is_counted() {
    let t = traced(Does::IsNotThere, 1.0, 4096).await;
    for _ in 0..20 {
        assert_eq!(t.decide(&[]).await.0, 200);
    }
    let counts = t.traces.counts();
    until("it has been given up", || counts.read()[1] >= 100).await;
    assert_eq!(counts.read()[0], 0);
    assert!(counts.read()[2] >= 3, "it was tried again: {:?}", counts.read());
    assert!(t.metric("intended_trace_spans_dropped_total ").await >= 100);
    // It comes back by itself.
    t.collector.now(Does::Takes);
    t.decide(&[]).await;
    until("it takes them again", || counts.read()[0] >= 5).await;
    assert_eq!(t.metric("intended_trace_spans_exported_total ").await, t.collector.spans().len() as u64);
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_nobody_up_and_the_queue_has_an_end() {
    let t = traced(Does::NeverAnswers, 1.0, 8).await;
    for _ in 0..20 {
        assert_eq!(t.decide(&[]).await.0, 200);
    }
    let [exported, dropped, _] = t.traces.counts().read();
    // 100 spans; one batch of at most a queue's length is on its way, and a queue's length waits.
    assert_eq!(exported, 0);
    assert!((100 - 4 * 8..100).contains(&dropped), "{dropped}");
    assert!(t.metric("intended_trace_spans_dropped_total ").await >= dropped);
    let size = t.world.runtime.store().head(&t.world.owner.tenant.id).await.unwrap().size;
    assert!(size > 20, "all of it was recorded");
}

#[tokio::test]
async fn what_the_collector_refuses_is_not_tried_again_and_what_it_takes_in_part_is_counted_so() {
    let t = traced(Does::Refuses, 1.0, 4096).await;
    let counts = t.traces.counts();
    t.decide(&[]).await;
    until("it is refused", || counts.read()[1] == 5).await;
    assert_eq!(u64::from(t.collector.asked.load(Ordering::Relaxed)), counts.read()[2], "each batch once");
    t.collector.now(Does::TakesMost);
    let before = t.collector.asked.load(Ordering::Relaxed);
    t.decide(&[]).await;
    until("it takes most", || counts.read()[0] + counts.read()[1] == 10).await;
    let batches = u64::from(t.collector.asked.load(Ordering::Relaxed) - before);
    assert_eq!(counts.read()[1], 5 + batches);
}

#[tokio::test]
async fn what_is_left_at_the_end_is_sent_and_without_an_exporter_there_are_no_spans_nor_their_metrics() {
    let t = traced(Does::Takes, 1.0, 4096).await;
    t.decide(&[]).await;
    let Traced { traces, collector, .. } = t;
    traces.stop(Duration::from_secs(10)).await;
    assert_eq!(collector.spans().len(), 5);
    let (_world, app, key) = crate::http_edge::app().await;
    let request = Request::get("/metrics").header("authorization", format!("Bearer {key}")).body(Body::empty());
    let answer = app.oneshot(request.unwrap()).await.unwrap();
    assert!(!answer.headers().contains_key("traceparent"));
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    assert!(!String::from_utf8_lossy(&body).contains("intended_trace_"));
}

#[tokio::test]
async fn a_trace_is_taken_whole_or_not_at_all_and_its_caller_does_not_choose_which() {
    let t = traced(Does::Takes, 0.5, 4096).await;
    // By their low bytes all of these would be taken.
    let ids: Vec<String> = (1..=12).map(|n| format!("{n:016x}{:016x}", 0)).collect();
    let mut taken = Vec::new();
    for id in ids.iter().chain(&ids) {
        let parent = format!("00-{id}-00f067aa0ba902b7-01");
        let (status, answered) = t.decide(&[("traceparent", &parent)]).await;
        assert_eq!(status, 200);
        // Whoever is called with it goes by the same.
        if answered.unwrap().ends_with("-01") {
            taken.push(id.clone());
        }
    }
    let (first, again) = taken.split_at(taken.len() / 2);
    assert_eq!(first, again, "one answer for a trace, however often it comes");
    assert!(!first.is_empty() && first.len() < ids.len(), "{first:?}");
    t.traces.stop(Duration::from_secs(10)).await;
    let spans = t.collector.spans();
    assert_eq!(spans.len(), taken.len() * 5);
    for id in &ids {
        let of_it = spans.iter().filter(|s| hex(&s.trace_id) == *id).count();
        assert_eq!(of_it, if first.contains(id) { 10 } else { 0 }, "{id}");
    }
}

/// A task that never waits would hold one thread for good; the test looks on from another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exporter_ends_when_nobody_is_left_who_could_stop_it() {
    let collector = Collector::that(Does::Takes);
    let traces = Traces::start(collector.clone(), "here/1".to_owned(), Share::new(1.0, [7; 32]), 4096, PACE);
    let subscriber = intended_telemetry::subscriber(Format::Text, "off".into(), std::io::sink(), Some(&traces));
    // The log has its end of the queue for as long as the process lives.
    let dispatch = tracing::Dispatch::new(subscriber);
    tracing::dispatcher::with_default(&dispatch, || {
        drop(tracing::info_span!(target: intended_runtime::spans::TARGET, "last"));
    });
    drop(traces);
    // What it held, the way to the collector, is let go.
    until("it ends", || Arc::strong_count(&collector.got) == 1).await;
    assert_eq!(collector.spans().len(), 1, "what waited was sent");
    drop(dispatch);
}
