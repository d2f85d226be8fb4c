//! OpenID AuthZEN Authorization API 1.0: evaluation, evaluations, discovery.
//!
//! Each evaluation is an intent like any other: decided by the same procedure and recorded. An
//! `allow` answers `true`; everything else, also an escalation, answers `false`, with what it is in
//! the response's context.

use std::borrow::Cow;

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

use crate::access_request::{self, Applies, Approval};
use crate::{Answer, App, Problem, auth, input, json, logged};

/// Most evaluations in one request.
pub const MAX_EVALUATIONS: usize = 100;

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(evaluation)).routes(routes!(evaluations)).routes(routes!(configuration))
}

#[derive(Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "one of each answer, made and written")]
enum Context {
    Decided {
        id: String,
        decision: Outcome,
        /// A code; of an approval that does not apply, one of the profile's.
        reason: Cow<'static, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        evaluation_id: String,
        evaluated_at: String,
        /// Present where people can be asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        access_request: Option<Requestable>,
        #[serde(skip_serializing_if = "Option::is_none")]
        approval: Option<Approval>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_action: Option<&'static str>,
    },
    /// One that could not be evaluated, in the form of the standard's own examples.
    Failed { error: Failed },
}
/// That and until when people can be asked (Access Request and Approval Profile).
#[derive(Serialize)]
struct Requestable {
    endpoint: String,
    expires_at: String,
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

impl Evaluation {
    fn of(app: &App, d: &Decided) -> Self {
        logged::decided(d);
        let (input, decision) = (&d.record.input, &d.record.decision);
        // A deferral waits for context, which nobody can approve.
        let asks = decision.obligations.expires_at.filter(|_| decision.decision == Outcome::Escalate);
        let context = Context::Decided {
            id: input.id.to_string(),
            decision: decision.decision,
            reason: decision.reason.as_str().into(),
            token: d.token.as_ref().map(|t| t.as_str().to_owned()),
            evaluation_id: input.id.to_string(),
            evaluated_at: input.at.to_string(),
            access_request: asks
                .map(|at| Requestable { endpoint: access_request::endpoint(app), expires_at: at.to_string() }),
            approval: None,
            next_action: None,
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

/// Evaluates, with an approval that is brought where there is one.
async fn evaluate(app: &App, principal: &Principal, value: &Value) -> Result<Evaluation, RuntimeError> {
    let Some((asked, approval)) = access_request::brought(value) else {
        return Ok(Evaluation::of(app, &decide(app, principal, value).await?));
    };
    let why = match access_request::applies(app, principal, &asked, &approval).await? {
        Applies::Yes(decided) => {
            let mut answer = Evaluation::of(app, &decided);
            let given = Approval::of(&decided);
            if let Some(Context::Decided { approval, .. }) = &mut answer.context {
                *approval = given;
            }
            return Ok(answer);
        }
        Applies::No(why) => why,
    };
    // As if it had not been brought.
    let mut answer = Evaluation::of(app, &decide(app, principal, &asked).await?);
    if let (false, Some(Context::Decided { reason, next_action, access_request, .. })) =
        (answer.decision, &mut answer.context)
    {
        *reason = why.into();
        *next_action = Some(if access_request.is_some() { "request" } else { "none" });
    }
    Ok(answer)
}

/// One evaluation (section 6).
#[utoipa::path(post, path = "/access/v1/evaluation", tag = "authzen",
    request_body(content_type = "application/json", description = "subject, action, resource, context"), responses((status = 200, description = "the decision")))]
async fn evaluation(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::principal(&app, &headers)?;
    let value = input::value(&headers, &body, input::MAX_BODY)?;
    json(200, &evaluate(&app, &principal, &value).await?)
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
        return json(200, &evaluate(&app, &principal, &value).await?);
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
            Ok(()) => evaluate(&app, &principal, &Value::Object(merged)).await,
            Err(error) => Err(error),
        };
        let answer = match decided {
            Ok(answer) => answer,
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

/// Where what is asked for.
#[derive(Serialize)]
pub(crate) struct Configuration {
    policy_decision_point: String,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
    access_request_endpoint: String,
    capabilities: [&'static str; 1],
}

pub(crate) fn metadata(app: &App) -> Configuration {
    let base = app.runtime.issuer().trim_end_matches('/').to_owned();
    Configuration {
        access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
        access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
        access_request_endpoint: access_request::endpoint(app),
        capabilities: ["urn:openid:authzen:capability:access-request"],
        policy_decision_point: base,
    }
}

/// Discovery (section 9).
#[utoipa::path(get, path = "/.well-known/authzen-configuration", tag = "authzen", security(()), responses((status = 200, description = "the endpoints")))]
async fn configuration(State(app): State<App>) -> Answer {
    json(200, &metadata(&app))
}
