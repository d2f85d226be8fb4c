//! The self-test: one fixed intent through the whole pipeline, with a token that is good for nothing.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::{Code, EnvironmentId, synthetic};
use intended_runtime::Submission;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::intents::{DecisionBody, opened, status_of};
use crate::{Answer, App, Problem, auth, input, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(test))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestBody {
    environment: Option<EnvironmentId>,
}

/// Decides the self-test of an environment: authenticated, gated, recorded and signed like any intent,
/// and never counted as one. Verify its token with `class: synthetic`. 200 allow, 403 deny; always the
/// full decision.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/tokens/test", tag = "tokens",
    params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content = schema::TokenTestRequest, description = "where"),
    responses((status = 200, description = "allow, with the token", body = schema::DecisionAnswer),
        (status = 403, description = "deny, as the full decision; or a problem", content((schema::DecisionAnswer = "application/json"), (schema::Problem = "application/problem+json")))))]
async fn test(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let idempotency_key = input::idempotency_key(&headers)?;
    let body: TestBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let environment = body.environment.or_else(|| principal.only_environment().cloned());
    let environment =
        environment.ok_or_else(|| Problem::at(Code::RequestInvalid, "/environment", "name the environment"))?;
    let submission = Submission { intent: synthetic::intent(environment), idempotency_key, audience: None };
    let decided = app.runtime.submit(&principal, submission).await?;
    let body = DecisionBody::new(&tenant, &decided, opened(&decided));
    body.answer(status_of(body.decision), &decided)
}
