//! The HTTP interface: `/v1`, AuthZEN 1.0, health, metrics, OpenAPI.
//!
//! One file per resource. Requests are read strictly ([`input`]), callers are authenticated once
//! ([`auth`]), errors become RFC 9457 problems once ([`problem`]). The OpenAPI document is made from
//! the handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use intended_model::Code;
use intended_runtime::Runtime;
use intended_runtime::spans::TraceCounts;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;

pub mod access_request;
pub mod answers;
pub mod auth;
pub mod authzen;
pub mod exchange;
pub mod input;
pub mod keep;
pub mod logged;
pub mod metrics;
pub mod needs;
pub mod operate;
pub mod origin;
pub mod page;
pub mod problem;
pub mod schema;
mod scraped;
pub mod traceparent;
pub mod v1;
pub mod watch;

pub use problem::Problem;

/// What every handler can reach. Each request copies it several times over: it is one pointer.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl std::ops::Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What all of the application has in common.
#[derive(Clone)]
pub struct Shared {
    pub runtime: Arc<Runtime>,
    /// Set when the server begins to shut down: not ready first, then drained.
    pub draining: Arc<AtomicBool>,
    answers: Arc<answers::Answers>,
    kept: Arc<Keeps>,
    scraped: Arc<scraped::Scraped>,
    streams: Arc<watch::Streams>,
    simulations: Arc<v1::simulations::Jobs>,
    document: Bytes,
    /// Proxies whose word is taken for where a request comes from.
    trusted: Arc<[ipnet::IpNet]>,
    /// Of the traces, where they are exported.
    traces: Option<Arc<TraceCounts>>,
    /// Of the log.
    lines: Arc<logged::LineCounts>,
}

/// What is kept for those who say not who they are.
#[derive(Debug, Default)]
struct Keeps {
    health: keep::Keep,
    /// How the server was when that was last found out, for the page of figures.
    how: Arc<std::sync::Mutex<metrics::How>>,
    metrics: keep::Keep,
}

impl App {
    #[must_use]
    pub fn new(runtime: Arc<Runtime>) -> Self {
        Self(Arc::new(Shared {
            runtime,
            draining: Arc::default(),
            answers: Arc::default(),
            kept: Arc::default(),
            scraped: Arc::default(),
            streams: Arc::default(),
            simulations: Arc::default(),
            document: serde_json::to_vec(&openapi()).unwrap_or_default().into(),
            trusted: Arc::default(),
            traces: None,
            lines: Arc::default(),
        }))
    }
    /// The same but for this.
    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
    /// The same, behind these proxies.
    #[must_use]
    pub fn behind(self, proxies: &[ipnet::IpNet]) -> Self {
        self.with(|shared| shared.trusted = proxies.into())
    }
    /// The same with what becomes of its traces in the metrics.
    #[must_use]
    pub fn traced(self, counts: Arc<TraceCounts>) -> Self {
        self.with(|shared| shared.traces = Some(counts))
    }
    /// The same with what becomes of its log in the metrics.
    #[must_use]
    pub fn logged(self, lines: Arc<logged::LineCounts>) -> Self {
        self.with(|shared| shared.lines = lines)
    }
    /// From here on `/readyz` says no.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.runtime.door().drain();
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Intended",
        description = "Authority runtime for AI agents. No token, no action.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(schema::Problem)),
    security(("bearer" = [])),
    modifiers(&Bearer)
)]
struct Document;

/// How callers say who they are.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("API key").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The routes and their document. There is no other place that a route can come from, so none is
/// without its description.
fn routes() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(v1::router())
        .merge(authzen::router())
        .merge(access_request::router())
        .merge(operate::router())
        .split_for_parts();
    schema::problems(&mut document);
    schema::needs(&mut document);
    (router, document)
}

/// The OpenAPI 3.1 document.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().1
}

/// The whole application.
pub fn router(app: App) -> Router {
    routes()
        .0
        .fallback(|| async { Problem::from(Code::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::from(Code::MethodNotAllowed) })
        // One layer, not one for each thing: every layer copies those below it for each request.
        .layer(axum::middleware::from_fn_with_state(app.clone(), each))
        .with_state(app)
}

/// What is done for every request and its answer, whoever handles it.
async fn each(State(app): State<App>, mut request: Request, next: Next) -> Response {
    // Larger bodies are refused while they are read; what a route takes is said in `input`.
    DefaultBodyLimit::max(input::MAX_POLICY_BODY).apply(&mut request);
    let probe = answers::is_probe(&request);
    let response = exchange::run(&app, request, next).await;
    if !probe {
        app.answers.count(response.status());
    }
    response
}

/// An answer that is not an error.
pub type Answer = Result<Response, Problem>;

pub(crate) fn json<T: serde::Serialize>(status: u16, body: &T) -> Answer {
    let body = serde_json::to_vec(body).map_err(intended_runtime::RuntimeError::internal)?;
    Ok(written(status, body))
}

/// JSON that is written already.
pub(crate) fn written(status: u16, body: Vec<u8>) -> Response {
    let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::OK);
    (status, [(http::header::CONTENT_TYPE, "application/json")], body).into_response()
}
