//! What belongs to one request and its answer, whoever handles it: its id and trace, who calls and from
//! where, the caller's quota, and what is said of it in logs and traces ([`crate::logged`]).

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue};
use intended_model::Code;
use intended_runtime::Quota;

use crate::auth::{self, Caller};
use crate::logged::{self, Noted};
use crate::traceparent::{self, TraceParent, Traced};
use crate::{App, Problem};

pub(crate) struct Exchange {
    pub(crate) id: HeaderValue,
    pub(crate) trace: Option<TraceParent>,
    pub(crate) caller: OnceCell<Caller>,
    pub(crate) noted: Noted,
    origin: Cell<Option<IpAddr>>,
    quota: Cell<Option<Quota>>,
}

tokio::task_local! {
    static EXCHANGE: Exchange;
}

/// What is known of the request at hand; `None` outside one.
pub(crate) fn with<R>(look: impl FnOnce(&Exchange) -> R) -> Option<R> {
    EXCHANGE.try_with(look).ok()
}

/// Longest request id that is taken from a client.
const MAX_ID: usize = 128;
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACEPARENT: HeaderName = HeaderName::from_static(traceparent::HEADER);
static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Ids of requests that bring none: the process, then a number.
static PROCESS: LazyLock<String> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "tells processes apart in logs; decides nothing")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{:x}-{:x}", since.map_or(0, |d| d.as_millis()), std::process::id())
});
static NUMBER: AtomicU64 = AtomicU64::new(1);

fn new_id() -> HeaderValue {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    HeaderValue::try_from(format!("{}-{number:x}", *PROCESS)).unwrap_or(HeaderValue::from_static("unknown"))
}

/// The id of the request at hand; `None` outside one.
pub fn request_id() -> Option<String> {
    EXCHANGE.try_with(|e| e.id.to_str().ok().map(str::to_owned)).ok().flatten()
}

/// Notes who calls. It is said once, before anything of the body is read.
pub(crate) fn note_caller(caller: Caller) {
    let _ = EXCHANGE.try_with(|e| e.caller.set(caller));
}

/// Who calls; `None` where nobody had to say so.
pub(crate) fn caller() -> Option<Caller> {
    EXCHANGE.try_with(|e| e.caller.get().cloned()).ok().flatten()
}

pub(crate) fn note_origin(from: Option<IpAddr>) {
    let _ = EXCHANGE.try_with(|e| e.origin.set(from));
}

/// Where the request comes from, as far as that is known.
pub(crate) fn origin() -> Option<IpAddr> {
    EXCHANGE.try_with(|e| e.origin.get()).ok().flatten()
}

/// Notes what is left to the caller, for the answer's headers.
pub fn note_quota(quota: Quota) {
    let _ = EXCHANGE.try_with(|e| e.quota.set(Some(quota)));
}

/// A request id and a trace in and out, the caller's quota, a line in the log where it is wanted, and
/// nothing cached or framed.
pub(crate) async fn run(app: &App, request: Request, next: Next) -> Response {
    let printable = |v: &&HeaderValue| v.len() <= MAX_ID && v.to_str().is_ok();
    let id = request.headers().get(&REQUEST_ID).filter(printable).cloned().unwrap_or_else(new_id);
    // The span of whoever traces this server; else what the caller said, unchanged.
    let traced = request.extensions().get::<Traced>().copied();
    let trace = traced.map(|t| t.0).or_else(|| TraceParent::of(request.headers()));
    let exchange = Exchange {
        id: id.clone(),
        trace,
        caller: OnceCell::new(),
        noted: Noted::of(&request, traced.is_some()),
        origin: Cell::new(None),
        quota: Cell::new(None),
    };
    let (mut response, quota) = EXCHANGE
        .scope(exchange, async {
            // A bug in one request is that request's: it is answered, and the others go on.
            let response = AssertUnwindSafe(auth::before_body(app, request, next)).catch_unwind().await;
            let response = response.unwrap_or_else(|_| Problem::from(Code::Internal).into_response());
            let mut response = named(response).await;
            logged::answered(&mut response);
            (response, EXCHANGE.try_with(|e| e.quota.get()).ok().flatten())
        })
        .await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), id);
    if let Some(trace) = trace.and_then(|t| HeaderValue::try_from(t.to_string()).ok()) {
        headers.insert(TRACEPARENT.clone(), trace);
    }
    if let Some(Quota { limit, remaining, reset_secs }) = quota {
        let policy = HeaderValue::try_from(format!("\"credential\";q={limit};w=1"));
        let left = HeaderValue::try_from(format!("\"credential\";r={remaining};t={reset_secs}"));
        if let (Ok(policy), Ok(left)) = (policy, left) {
            headers.insert(RATE_LIMIT_POLICY.clone(), policy);
            headers.insert(RATE_LIMIT.clone(), left);
        }
    }
    // Unless the answer says for how long it may be kept.
    headers.entry(http::header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Longest text of a refusal that is passed on.
const MAX_DETAIL: usize = 1024;

/// In an answer's extensions: its text is what is meant, whatever its status.
#[derive(Clone, Copy)]
pub(crate) struct AsItIs;

/// A refusal that the web framework made before a handler was reached (a body that is too large, a
/// path that is not UTF-8) says only what in plain text. Here it gets its code like every other.
async fn named(response: Response) -> Response {
    let status = response.status();
    let meant = response.extensions().get::<AsItIs>().is_some();
    if meant || (!status.is_client_error() && !status.is_server_error()) {
        return response;
    }
    let kind = response.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if matches!(kind.split(';').next(), Some("application/json" | "application/problem+json")) {
        return response;
    }
    let code = match status.as_u16() {
        404 => Code::NotFound,
        405 => Code::MethodNotAllowed,
        413 => Code::RequestTooLarge,
        415 => Code::RequestMediaType,
        503 => Code::Overloaded,
        500.. => Code::Internal,
        _ => Code::RequestInvalid,
    };
    let text = axum::body::to_bytes(response.into_body(), MAX_DETAIL).await.unwrap_or_default();
    // What failed inside is for the log.
    let detail = if code == Code::Internal { String::new() } else { String::from_utf8_lossy(&text).into_owned() };
    Problem::new(code, detail).into_response()
}
