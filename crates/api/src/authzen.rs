//! OpenID AuthZEN Authorization API 1.0: evaluation, evaluations, discovery.
//!
//! Each evaluation is an intent like any other: decided by the same procedure and recorded. An
//! `allow` answers `true`; everything else, also an escalation, answers `false`, with what it is in
//! the response's context.

use axum::body::Bytes;
use axum::extract::State;
use http::HeaderMap;
use intended_model::decision::Outcome;
use intended_model::json::Object;
use intended_model::{Code, Intent, Value};
use intended_runtime::{Decided, Principal, RuntimeError, Submission};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, App, Problem, auth, input, json};

/// Most evaluations in one request.
pub const MAX_EVALUATIONS: usize = 100;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(evaluation)).routes(routes!(evaluations)).routes(routes!(configuration))
}

#[derive(Serialize)]
#[serde(untagged)]
enum Context {
    Decided {
        id: String,
        decision: Outcome,
        reason: Code,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    },
    /// One that could not be evaluated, in the form of the standard's own examples.
    Failed { error: Failed },
}
#[derive(Serialize)]
struct Failed {
    status: u16,
    code: Code,
    message: String,
}
#[derive(Serialize)]
struct Evaluation {
    decision: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}
#[derive(Serialize)]
struct Evaluations {
    evaluations: Vec<Evaluation>,
}

impl From<&Decided> for Evaluation {
    fn from(d: &Decided) -> Self {
        let context = Context::Decided {
            id: d.record.input.id.to_string(),
            decision: d.record.decision.decision,
            reason: d.record.decision.reason,
            token: d.token.as_ref().map(|t| t.as_str().to_owned()),
        };
        // A modified call is allowed only with other arguments: to a caller who does not read the
        // context, that is a no.
        Self { decision: d.record.decision.decision == Outcome::Allow, context: Some(context) }
    }
}

impl From<&RuntimeError> for Evaluation {
    fn from(error: &RuntimeError) -> Self {
        let message = if error.detail.is_empty() { error.code.title().to_owned() } else { error.detail.clone() };
        let error = Failed { status: error.code.status(), code: error.code, message };
        Self { decision: false, context: Some(Context::Failed { error }) }
    }
}

async fn decide(app: &App, principal: &Principal, value: &Value) -> Result<Decided, RuntimeError> {
    let intent = Intent::from_value(value, principal.only_environment(), true)?;
    app.runtime.submit(principal, Submission { intent, idempotency_key: None, audience: None }).await
}

/// One evaluation (section 6).
#[utoipa::path(post, path = "/access/v1/evaluation", tag = "authzen",
    request_body(content_type = "application/json", description = "subject, action, resource, context"), responses((status = 200, description = "the decision")))]
async fn evaluation(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::principal(&app, &headers)?;
    let value = input::value(&headers, &body, input::MAX_BODY)?;
    json(200, &Evaluation::from(&decide(&app, &principal, &value).await?))
}

/// Several evaluations (section 7): defaults at the top, three semantics.
#[utoipa::path(post, path = "/access/v1/evaluations", tag = "authzen",
    request_body(content_type = "application/json", description = "defaults, evaluations, options"), responses((status = 200, description = "the decisions, in order")))]
async fn evaluations(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::principal(&app, &headers)?;
    let value = input::value(&headers, &body, input::MAX_BODY)?;
    let wrong = |at: &str, message: &str| Problem::at(Code::RequestInvalid, at, message);
    let items = match value.get("evaluations") {
        Some(Value::Array(items)) => items.as_slice(),
        None => &[],
        Some(_) => return Err(wrong("/evaluations", "an array was expected")),
    };
    if items.is_empty() {
        // Without evaluations it is a single one (section 7.1).
        return json(200, &Evaluation::from(&decide(&app, &principal, &value).await?));
    }
    if items.len() > MAX_EVALUATIONS {
        return Err(wrong("/evaluations", &format!("at most {MAX_EVALUATIONS}")));
    }
    // Looked at before any is decided: a batch is taken whole or not at all.
    if let Some(at) = items.iter().position(|item| !matches!(item, Value::Object(_))) {
        return Err(wrong(&format!("/evaluations/{at}"), "an object was expected"));
    }
    let semantic = match value.get("options") {
        None => "execute_all",
        Some(options @ Value::Object(_)) => match options.get("evaluations_semantic") {
            None => "execute_all",
            Some(semantic) => semantic.as_str().unwrap_or_default(),
        },
        Some(_) => return Err(wrong("/options", "an object was expected")),
    };
    let stop = match semantic {
        "execute_all" => None,
        "deny_on_first_deny" => Some(false),
        "permit_on_first_permit" => Some(true),
        _ => return Err(wrong("/options/evaluations_semantic", "unknown semantic")),
    };
    let mut out = Vec::with_capacity(items.len());
    for (number, item) in items.iter().enumerate() {
        let mut merged = Object::new();
        for name in ["subject", "action", "resource", "context"] {
            if let Some(part) = item.get(name).or_else(|| value.get(name)) {
                merged.insert(name, part.clone());
            }
        }
        // Each one counts; the first was counted with the request.
        let admitted = if number == 0 { Ok(()) } else { auth::count(&app, &principal) };
        let decided = match admitted {
            Ok(()) => decide(&app, &principal, &Value::Object(merged)).await,
            Err(error) => Err(error),
        };
        let answer = match decided {
            Ok(decided) => Evaluation::from(&decided),
            // One that cannot be evaluated is denied, and says why; the others go on.
            Err(error) if error.code.status() < 500 => Evaluation::from(&error),
            Err(error) => return Err(error.into()),
        };
        let decision = answer.decision;
        out.push(answer);
        if stop == Some(decision) {
            break;
        }
    }
    json(200, &Evaluations { evaluations: out })
}

#[derive(Serialize)]
struct Configuration {
    policy_decision_point: String,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
}

/// Discovery (section 9).
#[utoipa::path(get, path = "/.well-known/authzen-configuration", tag = "authzen", security(()), responses((status = 200, description = "the endpoints")))]
async fn configuration(State(app): State<App>) -> Answer {
    let base = app.runtime.issuer().trim_end_matches('/').to_owned();
    json(
        200,
        &Configuration {
            access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
            access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
            policy_decision_point: base,
        },
    )
}
