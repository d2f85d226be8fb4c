//! What is said of a request in logs and traces, and where that comes from.
//!
//! Nothing that a caller wrote is said but ids whose form is checked: the route is the template, never
//! the path, which may hold a token's id or a link; the tenant is the authenticated caller's; no
//! query, no header, no body. Nothing is gathered when neither a line nor a span is wanted.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use intended_model::decision::Outcome;
use intended_model::{Code, EnvironmentId, IntentId};
use intended_runtime::Decided;
use intended_runtime::metrics::Stopwatch;

use crate::auth::Caller;
use crate::exchange;

/// The target of the one line that each request has, at `info`.
pub const ACCESS: &str = "intended::access";

/// Lines that are in no log, because nobody read it in time or it could not be written.
#[derive(Debug, Default)]
pub struct LineCounts(AtomicU64);

impl LineCounts {
    pub fn dropped(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is known of the request at hand.
#[derive(Debug, Clone)]
pub struct Said<'a> {
    pub request_id: &'a str,
    /// 32 hex digits.
    pub trace_id: Option<String>,
    pub tenant: Option<&'a str>,
    pub environment: Option<EnvironmentId>,
    pub intent: Option<IntentId>,
}

/// Says what is known of the request at hand, for a line of the log. Outside one nothing is said.
pub fn said(with: impl FnOnce(&Said<'_>)) {
    exchange::with(|e| {
        let tenant = match e.caller.get() {
            Some(Caller::Tenant(principal)) => Some(principal.tenant.id.as_str()),
            _ => None,
        };
        let decided = e.noted.decided.try_borrow().ok();
        let environment = decided.as_deref().and_then(Option::as_ref).map(|d| d.environment.clone());
        let trace_id = e.trace.map(|t| t.trace());
        let request_id = e.id.to_str().unwrap_or_default();
        with(&Said { request_id, trace_id, tenant, environment, intent: e.noted.intent.get() });
    });
}

/// The decision that a request is about.
#[derive(Debug, Clone)]
struct Made {
    environment: EnvironmentId,
    outcome: Outcome,
    reason: Code,
}

/// What is gathered of a request.
pub(crate) struct Noted {
    /// Whether a line or a span is wanted: else nothing is gathered.
    wanted: bool,
    traced: bool,
    began: Option<Stopwatch>,
    method: &'static str,
    route: OnceCell<MatchedPath>,
    intent: Cell<Option<IntentId>>,
    decided: RefCell<Option<Made>>,
    decisions: Cell<u32>,
    refused: Cell<Option<Code>>,
}

impl Noted {
    pub(crate) fn of(request: &Request, traced: bool) -> Self {
        let wanted = traced || tracing::event_enabled!(target: ACCESS, tracing::Level::INFO);
        Self {
            wanted,
            traced,
            began: wanted.then(Stopwatch::start),
            method: method(request.method()),
            route: OnceCell::new(),
            intent: Cell::new(None),
            decided: RefCell::new(None),
            decisions: Cell::new(0),
            refused: Cell::new(None),
        }
    }
}

/// A method by its name. What is none of these is whatever the caller liked to write.
fn method(method: &http::Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// Which route it is.
pub(crate) fn route(request: &Request) {
    exchange::with(|e| {
        if e.noted.wanted
            && let Some(route) = request.extensions().get::<MatchedPath>()
        {
            let _ = e.noted.route.set(route.clone());
        }
    });
}

/// Which intent it is about.
pub(crate) fn intent(id: IntentId) {
    exchange::with(|e| e.noted.intent.set(Some(id)));
}

/// What was decided. Of several in one request the last one, and how many they are.
pub(crate) fn decided(decided: &Decided) {
    let (input, decision) = (&decided.record.input, &decided.record.decision);
    exchange::with(|e| {
        let noted = &e.noted;
        noted.intent.set(Some(input.id));
        if !noted.wanted {
            return;
        }
        noted.decisions.set(noted.decisions.get().saturating_add(1));
        if let Ok(mut last) = noted.decided.try_borrow_mut() {
            let environment = input.intent.environment.clone();
            *last = Some(Made { environment, outcome: decision.decision, reason: decision.reason });
        }
    });
}

/// Why there is no other answer.
pub(crate) fn refused(code: Code) {
    exchange::with(|e| e.noted.refused.set(Some(code)));
}

/// What a request's span is called, on its answer: a span that has begun is renamed by who began it.
#[derive(Debug, Clone)]
pub struct SpanName(pub String);

/// The answer is there: the line of the log, and what its span says.
pub(crate) fn answered(response: &mut Response) {
    let status = response.status().as_u16();
    exchange::with(|e| {
        let noted = &e.noted;
        if !noted.wanted {
            return;
        }
        let route = noted.route.get().map_or("unmatched", MatchedPath::as_str);
        let took = noted.began.map(|b| b.elapsed()).unwrap_or_default();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let last = noted.decided.try_borrow().ok().and_then(|d| d.clone());
        let several = noted.decisions.get() > 1;
        let refused = noted.refused.get().filter(|_| status >= 400).map(Code::as_str);
        let one = last.as_ref().filter(|_| !several);
        let decision = one.map(|d| d.outcome.as_str());
        let reason = refused.or(one.map(|d| d.reason.as_str()));
        let decisions = several.then_some(noted.decisions.get());
        // Ids of the request, the tenant and the intent come from the request, as on every line.
        tracing::info!(target: ACCESS, method = noted.method, route, status, duration_us = micros, decision, reason, decisions, "request");
        if noted.traced {
            response.extensions_mut().insert(SpanName(format!("{} {route}", noted.method)));
            let span = tracing::Span::current();
            span.record("http.request.method", noted.method);
            span.record("http.route", route);
            span.record("http.response.status_code", i64::from(status));
            if status >= 500 {
                span.record("otel.status_code", "ERROR");
            }
            if let Some(Caller::Tenant(principal)) = e.caller.get() {
                span.record("intended.tenant", principal.tenant.id.as_str());
            }
            if let Some(id) = noted.intent.get().filter(|_| !several) {
                span.record("intended.intent", tracing::field::display(id));
            }
            if let Some(made) = one {
                span.record("intended.environment", made.environment.as_str());
                span.record("intended.decision", made.outcome.as_str());
            }
            if let Some(reason) = reason {
                span.record("intended.reason", reason);
            }
        }
    });
}
