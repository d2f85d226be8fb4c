//! Whether this server is ready to be relied on: run the check, read what earlier ones said.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use http::HeaderMap;
use intended_engine::State as Tenancy;
use intended_model::EnvironmentId;
use intended_runtime::readiness::history::MAX_PAGE;
use intended_runtime::readiness::{Ask, Bound, Figure, Measurement, Run};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::List;
use crate::{Answer, App, auth, input, json};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(check, list))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    environments: Option<Vec<EnvironmentId>>,
    thresholds: Option<BTreeMap<String, Bound>>,
    round_trip_micros: Option<u64>,
}

/// Two bounds of a figure.
#[derive(Serialize, ToSchema)]
struct Bounds {
    /// Above this it warns.
    warn: u64,
    /// Above this it fails.
    fail: u64,
}

/// What to check. Nothing of it is needed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described; what is read is the strict type beside it")]
struct ReadinessRequest {
    /// Absent: every environment that the credential sees and that is not suspended.
    environments: Option<Vec<String>>,
    /// Stricter thresholds for this run, by name. Looser ones than the server's are refused.
    thresholds: Option<BTreeMap<String, Bounds>>,
    /// How long the way to the server and back takes, as the caller measured it.
    round_trip_micros: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct ReadinessFigure {
    figure: String,
    /// Absent: it is about all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    /// `pass`, `warn` or `fail`.
    verdict: &'static str,
    /// Absent where there is no number, or none came in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<u64>,
    /// `micros`, `seconds` or `days`.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    /// The name of the threshold, as in the server's config file.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<String>,
    /// What it was for this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<Bounds>,
    /// What was measured and how, or what is wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// What to do, where it did not pass.
    #[serde(rename = "do", skip_serializing_if = "String::is_empty")]
    advice: String,
}

/// As bad as its worst figure.
#[derive(Serialize, ToSchema)]
struct ReadinessMeasurement {
    measurement: String,
    /// `pass`, `warn` or `fail`.
    verdict: &'static str,
    figures: Vec<ReadinessFigure>,
}

#[derive(Serialize, ToSchema)]
struct ReadinessRun {
    /// Its number in the history; absent when the store could not keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<u64>,
    at: String,
    /// Who ran it: a member, or a credential.
    by: String,
    node: String,
    version: String,
    /// Whether it was about every environment of the tenant that is not suspended.
    whole: bool,
    environments: Vec<String>,
    /// Whether it was held against stricter thresholds than the server's.
    stricter: bool,
    /// `pass`, `warn` or `fail`: as bad as the worst measurement.
    verdict: &'static str,
    took_micros: u64,
    measurements: Vec<ReadinessMeasurement>,
}

#[derive(Serialize, ToSchema)]
struct ReadinessHistory {
    runs: Vec<ReadinessRun>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

fn figure(figure: Figure) -> ReadinessFigure {
    ReadinessFigure {
        figure: figure.figure.into(),
        environment: figure.environment.map(|e| e.to_string()),
        verdict: figure.verdict.as_str(),
        value: figure.value,
        unit: figure.unit.map(|u| u.as_str()),
        threshold: figure.threshold.map(Into::into),
        bound: figure.bound.map(|b| Bounds { warn: b.warn, fail: b.fail }),
        detail: figure.detail,
        advice: figure.advice,
    }
}

fn measurement(of: Measurement) -> ReadinessMeasurement {
    ReadinessMeasurement {
        measurement: of.measurement.into(),
        verdict: of.verdict.as_str(),
        figures: of.figures.into_iter().map(figure).collect(),
    }
}

fn answer(state: &Tenancy, run: Run) -> ReadinessRun {
    ReadinessRun {
        run: run.run,
        at: run.at.to_string(),
        by: state.person(&run.by).to_string(),
        node: run.node.into(),
        version: run.version.into(),
        whole: run.whole,
        environments: run.environments.iter().map(ToString::to_string).collect(),
        stricter: run.stricter,
        verdict: run.verdict.as_str(),
        took_micros: run.took_micros,
        measurements: run.measurements.into_iter().map(measurement).collect(),
    }
}

/// Runs the readiness check: five measurements, each of figures against thresholds. Live traffic goes
/// on and is not counted with; the run is kept. The answer is 200 whatever it says: `verdict` says it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/readiness", tag = "operate", params(("tenant" = String, Path)),
    request_body(content = ReadinessRequest, description = "what to check; nothing of it is needed"),
    responses((status = 200, description = "what was measured", body = ReadinessRun), (status = 429, description = "other checks of the tenant are running")))]
async fn check(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let body = if body.is_empty() { CheckBody::default() } else { input::typed(&headers, &body, input::MAX_BODY)? };
    let ask = Ask {
        environments: body.environments.unwrap_or_default(),
        stricter: body.thresholds.unwrap_or_default(),
        round_trip_micros: body.round_trip_micros,
    };
    let run = app.runtime.check_readiness(&principal, ask).await?;
    json(200, &answer(&principal.tenant.state(), run))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// The runs that were made, newest first: the last 500 of the tenant, as far as the credential sees what
/// they are about.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/readiness", tag = "operate", params(("tenant" = String, Path), ("limit" = Option<u32>, Query, description = "at most 100"), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the runs", body = ReadinessHistory)))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let query: HistoryQuery = input::query(&uri)?;
    let list = List { tenant: &tenant, name: "readiness" };
    let before = query.cursor.as_deref().map(|cursor| list.index(cursor)).transpose()?;
    let page = app.runtime.readiness_history(&principal, before, query.limit.unwrap_or(MAX_PAGE)).await?;
    let state = principal.tenant.state();
    let runs = page.runs.into_iter().map(|run| answer(&state, run)).collect();
    let cursor = page.before.map(|before| list.cursor(&before.to_string()));
    json(200, &ReadinessHistory { runs, cursor })
}
