//! The AuthZEN Access Request and Approval Profile (draft 1): asking people for what was denied.
//!
//! An escalated evaluation is open from the moment it is answered: its `evaluation_id` is the intent,
//! and what the profile calls a task is that intent's approval. So an access request opens nothing by
//! itself; it says that somebody wants it, can give a reason, and is answered with where it stands. When
//! people have approved, the approval is brought to a new evaluation: it applies to exactly what was
//! denied, to whoever asked, while it still stands.

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_model::decision::Outcome;
use intended_model::json::Object;
use intended_model::{Code, Event, Intent, IntentId, Timestamp, Value};
use intended_runtime::escalations::Standing;
use intended_runtime::{Decided, Principal, RuntimeError};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Answer, App, Problem, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(ask)).routes(routes!(status)).routes(routes!(cancel))
}

/// Where access is asked for.
pub fn endpoint(app: &App) -> String {
    format!("{}/access/v1/requests", app.runtime.issuer().trim_end_matches('/'))
}

/// An approval, as it is answered and brought.
#[derive(Serialize)]
pub struct Approval {
    id: String,
    approved_at: String,
    /// Nothing is done with it from then on.
    approved_until: String,
}

impl Approval {
    /// Of a decision that people have approved.
    pub fn of(d: &Decided) -> Option<Self> {
        let input = &d.record.input;
        let grant = d.record.grant.as_ref().filter(|_| !input.approvals.is_empty())?;
        Some(Self {
            id: input.id.to_string(),
            approved_at: d.recorded_at.to_string(),
            approved_until: Timestamp::from_millis(grant.exp.saturating_mul(1000)).to_string(),
        })
    }
}

/// Whether an approval that is brought applies.
pub enum Applies {
    Yes(Box<Decided>),
    /// The profile's reason.
    No(&'static str),
}

/// An evaluation without the approval that it brings, and the approval's id.
pub fn brought(value: &Value) -> Option<(Value, String)> {
    let approval = value.get("context")?.get("approval")?;
    let id = approval.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let without = |object: &Object, name: &str| {
        let mut out = Object::new();
        object.iter().filter(|(n, _)| *n != name).for_each(|(n, v)| out.insert(n, v.clone()));
        out
    };
    let object = value.as_object()?;
    let context = without(value.get("context")?.as_object()?, "approval");
    let mut asked = without(object, "context");
    if context.iter().next().is_some() {
        asked.insert("context", Value::Object(context));
    }
    Some((Value::Object(asked), id))
}

/// Looks whether an approval is of exactly this, for this caller, and still stands.
pub async fn applies(app: &App, principal: &Principal, asked: &Value, id: &str) -> Result<Applies, RuntimeError> {
    let intent = Intent::from_value(asked, principal.only_environment(), true)?;
    let Ok(id) = id.parse::<IntentId>() else { return Ok(Applies::No("approval_unverifiable")) };
    let decided = app.runtime.decision(principal, &id).await?;
    let Some(decided) = decided.filter(|d| d.record.input.credential == principal.credential) else {
        return Ok(Applies::No("approval_unverifiable"));
    };
    if decided.record.input.intent != intent {
        return Ok(Applies::No("out_of_scope"));
    }
    let Some(grant) = decided.record.grant.clone().filter(|_| !decided.record.input.approvals.is_empty()) else {
        return Ok(Applies::No("approval_unverifiable"));
    };
    // An approval is for one run: what was done with it is done.
    let used = app.runtime.is_consumed(&principal.tenant, &grant.jti)?;
    if used || grant.exp <= app.runtime.now().as_secs() {
        return Ok(Applies::No("approval_expired"));
    }
    let decided = app.runtime.with_token(principal, decided)?;
    if decided.token.is_none() {
        // A halt, another policy, a revoked token: approved, and not allowed any more.
        return Ok(Applies::No("policy_denied"));
    }
    Ok(Applies::Yes(Box::new(decided)))
}

#[derive(Deserialize)]
struct Denial {
    evaluation_id: Option<String>,
    expires_at: String,
}

#[derive(Serialize)]
struct Links {
    cancel: String,
}
#[derive(Serialize)]
struct Progress {
    current_step: usize,
    total_steps: usize,
}
#[derive(Serialize)]
struct Task {
    id: String,
    /// `pending`, `approved`, `denied`, `expired` or `cancelled`.
    status: &'static str,
    status_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Links>,
}
#[derive(Serialize)]
struct Completed {
    mode: &'static str,
    approval: Approval,
}
#[derive(Serialize)]
struct TaskBody {
    task: Task,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Completed>,
}

/// The caller's own evaluation that waits or waited for people.
async fn task_of(app: &App, principal: &Principal, id: &str) -> Result<Decided, Problem> {
    let unknown = || Problem::from(Code::RequestUnknown);
    let id: IntentId = id.parse().map_err(|_| unknown())?;
    let decided = app.runtime.decision(principal, &id).await?.ok_or_else(unknown)?;
    let input = &decided.record.input;
    let waits = decided.record.decision.decision == Outcome::Escalate || input.expires_at.is_some();
    if input.credential != principal.credential || !waits {
        return Err(unknown());
    }
    Ok(decided)
}

async fn body(app: &App, principal: &Principal, decided: &Decided) -> Result<TaskBody, Problem> {
    let record = &decided.record;
    let id = record.input.id;
    let status = match app.runtime.standing(principal, record).await? {
        Standing::Open { .. } => "pending",
        Standing::Final if record.decision.decision.permits() => "approved",
        Standing::Final => "denied",
        Standing::TimedOut => "expired",
        Standing::Denied => {
            let entries = app.runtime.evidence(principal, &id).await?;
            let cancelled =
                |e: &Event| matches!(e, Event::EscalationClosed(c) if c.reason == Code::EscalationCancelled);
            if entries.iter().any(|(_, e)| cancelled(e)) { "cancelled" } else { "denied" }
        }
    };
    let place = format!("{}/{id}", endpoint(app));
    let open = status == "pending";
    let progress = if open { app.runtime.approval_steps(principal, &id).await? } else { None };
    let expires_at = record.decision.obligations.expires_at.or(record.input.expires_at);
    let task = Task {
        id: id.to_string(),
        status,
        expires_at: expires_at.map(|t| t.to_string()),
        progress: progress.map(|(done, total)| Progress { current_step: (done + 1).min(total), total_steps: total }),
        links: open.then(|| Links { cancel: format!("{place}/cancel") }),
        status_endpoint: place,
    };
    let result = if status == "approved" { Approval::of(decided) } else { None };
    Ok(TaskBody { task, result: result.map(|approval| Completed { mode: "reevaluate", approval }) })
}

/// Asks people for what was denied.
#[utoipa::path(post, path = "/access/v1/requests", tag = "authzen", params(("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "subject, resource, action, context, denial"),
    responses((status = 201, description = "settled already"), (status = 202, description = "where it stands"), (status = 400, description = "it is not about the denial that it names, or too late")))]
async fn ask(State(app): State<App>, headers: HeaderMap, body_bytes: Bytes) -> Answer {
    let principal = auth::principal(&app, &headers)?;
    let value = input::value(&headers, &body_bytes, input::MAX_BODY)?;
    let key = input::idempotency_key(&headers)?;
    if let Some(key) = &key {
        app.runtime.same_request(&principal, key, &value).await?;
    }
    let binding = |what: &str| Problem::new(Code::RequestBinding, what);
    if value.get("items").is_some() {
        return Err(binding("one thing at a time: `items` is not supported"));
    }
    let denial = value.get("denial").ok_or_else(|| binding("`denial` is missing"))?;
    let denial: Denial = serde_path_to_error::deserialize(denial).map_err(|e| {
        Problem::at(Code::RequestBinding, &format!("/denial{}", input::pointer(e.path())), e.to_string())
    })?;
    let id = denial.evaluation_id.ok_or_else(|| binding("`denial.evaluation_id` is missing"))?;
    let decided = match task_of(&app, &principal, &id).await {
        Ok(decided) => decided,
        Err(problem) if problem.code() == Code::RequestUnknown => {
            return Err(binding("there is no such denied evaluation of yours"));
        }
        Err(other) => return Err(other),
    };
    let denied = &decided.record.input.intent;
    let shown = serde_json::to_value(denied).map_err(RuntimeError::internal)?;
    let sent = serde_json::to_value(&value).map_err(RuntimeError::internal)?;
    for name in ["subject", "resource", "action"] {
        if !same_part(shown.get(name), sent.get(name)) {
            return Err(binding(&format!("`{name}` is not the one that was denied")));
        }
    }
    // What was there is unchanged; what is new says why.
    let context = sent.get("context").and_then(serde_json::Value::as_object);
    let before = shown.get("context").and_then(serde_json::Value::as_object);
    let kept = before.into_iter().flatten().all(|(name, v)| context.and_then(|c| c.get(name)) == Some(v));
    if !kept {
        return Err(binding("`context` has lost or changed a member of the one that was denied"));
    }
    let until = decided.record.decision.obligations.expires_at.or(decided.record.input.expires_at);
    if until.map(|t| t.to_string()).as_deref() != Some(denial.expires_at.as_str()) {
        return Err(binding("`denial.expires_at` is not the time that was answered"));
    }
    if until.is_some_and(|t| app.runtime.now() >= t) {
        return Err(Code::RequestExpired.into());
    }
    let answer = body(&app, &principal, &decided).await?;
    // Why it is wanted, for those who decide.
    if let (true, Some(Value::String(why))) =
        (answer.task.status == "pending", value.get("context").and_then(|c| c.get("business_justification")))
    {
        let said = principal.clone().once(key);
        app.runtime.answer(&said, &decided.record.input.id, why).await?;
    }
    json(if answer.task.status == "pending" { 202 } else { 201 }, &answer)
}

/// Whether two parts of an evaluation are the same; properties that are absent are none.
fn same_part(a: Option<&serde_json::Value>, b: Option<&serde_json::Value>) -> bool {
    let plain = |v: &serde_json::Value| {
        let mut v = v.clone();
        if let Some(o) = v.as_object_mut()
            && o.get("properties").and_then(serde_json::Value::as_object).is_some_and(serde_json::Map::is_empty)
        {
            o.remove("properties");
        }
        v
    };
    a.map(plain) == b.map(plain) && a.is_some()
}

/// Where an access request stands.
#[utoipa::path(get, path = "/access/v1/requests/{id}", tag = "authzen", params(("id" = String, Path)),
    responses((status = 200, description = "the task, and its result when it is approved"), (status = 404, description = "no such access request of the caller's")))]
async fn status(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::principal(&app, &headers)?;
    let decided = task_of(&app, &principal, &id).await?;
    json(200, &body(&app, &principal, &decided).await?)
}

/// Ends an access request that waits.
#[utoipa::path(post, path = "/access/v1/requests/{id}/cancel", tag = "authzen", params(("id" = String, Path)),
    responses((status = 200, description = "cancelled"), (status = 409, description = "it is settled")))]
async fn cancel(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::principal(&app, &headers)?;
    let decided = task_of(&app, &principal, &id).await?;
    app.runtime.cancel(&principal, &decided.record.input.id).await.map_err(|e| match e.code {
        Code::ApprovalClosed => Problem::from(Code::RequestCancelled),
        _ => Problem::from(e),
    })?;
    let decided = task_of(&app, &principal, &id).await?;
    json(200, &body(&app, &principal, &decided).await?)
}
