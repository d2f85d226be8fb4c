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
struct Context {
    id: String,
    decision: Outcome,
    reason: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
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
        let context = Context {
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
    let Some(Value::Array(items)) =
        value.get("evaluations").filter(|v| !matches!(v, Value::Array(items) if items.is_empty()))
    else {
        // Without evaluations it is a single one (section 7.1).
        return json(200, &Evaluation::from(&decide(&app, &principal, &value).await?));
    };
    if items.len() > MAX_EVALUATIONS {
        return Err(Problem::at(Code::RequestInvalid, "/evaluations", format!("at most {MAX_EVALUATIONS}")));
    }
    let semantic = value
        .get("options")
        .and_then(|o| o.get("evaluations_semantic"))
        .and_then(Value::as_str)
        .unwrap_or("execute_all");
    let stop = match semantic {
        "execute_all" => None,
        "deny_on_first_deny" => Some(false),
        "permit_on_first_permit" => Some(true),
        _ => return Err(Problem::at(Code::RequestInvalid, "/options/evaluations_semantic", "unknown semantic")),
    };
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let mut merged = Object::new();
        for name in ["subject", "action", "resource", "context"] {
            if let Some(part) = item.get(name).or_else(|| value.get(name)) {
                merged.insert(name, part.clone());
            }
        }
        let answer = match decide(&app, &principal, &Value::Object(merged)).await {
            Ok(decided) => Evaluation::from(&decided),
            // One that cannot be evaluated is denied; the others go on.
            Err(error) if error.code.status() < 500 => Evaluation { decision: false, context: None },
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
#[utoipa::path(get, path = "/.well-known/authzen-configuration", tag = "authzen", responses((status = 200, description = "the endpoints")))]
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
