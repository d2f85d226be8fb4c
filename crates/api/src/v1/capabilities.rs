//! The capability truth matrix: what the product claims, and whether it holds here and now. And what of
//! that only this crate can try: the document, AuthZEN; and by [`watched`] what it is watched by.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Path, State};
use http::HeaderMap;
use intended_engine::{decide, expect};
use intended_model::entry::Scope;
use intended_model::{Code, Intent, Outcome};
use intended_runtime::capabilities::{Area, Edge, EdgeProbe, Found, Probed, Row as Probe, Status};
use intended_runtime::{Principal, RuntimeError};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::watched;
use crate::{Answer, App, Problem, auth, authzen, input, json, needs, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Serialize)]
struct Row {
    capability: &'static str,
    area: &'static str,
    title: &'static str,
    claim: &'static str,
    status: &'static str,
    result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// What the probe does.
    probe: &'static str,
    probed_at: String,
    took_micros: u64,
    docs: &'static str,
    tests: &'static [&'static str],
}

impl From<Probe> for Row {
    fn from(probed: Probe) -> Self {
        let claim = probed.capability.claim();
        Self {
            capability: claim.id,
            area: claim.area.as_str(),
            title: claim.title,
            claim: claim.claim,
            status: probed.found.status.as_str(),
            result: probed.found.result,
            action: probed.found.action,
            probe: claim.probe,
            probed_at: probed.at.to_string(),
            took_micros: u64::try_from(probed.took.as_micros()).unwrap_or(u64::MAX),
            docs: claim.docs,
            tests: claim.tests,
        }
    }
}

#[derive(Serialize)]
struct Summary {
    working: usize,
    not_configured: usize,
    degraded: usize,
    unavailable: usize,
}

#[derive(Serialize)]
struct Body {
    version: &'static str,
    summary: Summary,
    capabilities: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    area: Option<String>,
}

/// What the product claims, whether it holds on this server now, and which tests hold it. Each row is
/// what its live probe found, at most some seconds ago; it says what the credential sees.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/capabilities", tag = "operate", params(("tenant" = String, Path), ("area" = Option<String>, Query, description = "of one area only")),
    responses((status = 200, description = "every capability with what its probe found", body = schema::Capabilities)))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::StatusRead)?;
    let wanted: Wanted = input::query(&uri)?;
    let area = match wanted.area.as_deref() {
        None => None,
        Some(text) => Some(Area::parse(text).ok_or_else(|| {
            let areas: Vec<&str> = Area::ALL.iter().map(|a| a.as_str()).collect();
            Problem::at(Code::RequestInvalid, "/area", format!("one of {}", areas.join(", ")))
        })?),
    };
    let rows = app.runtime.capabilities(&principal, area, Arc::new(AtEdge(app.clone()))).await?;
    let count = |status: Status| rows.iter().filter(|r| r.found.status == status).count();
    let summary = Summary {
        working: count(Status::Working),
        not_configured: count(Status::NotConfigured),
        degraded: count(Status::Degraded),
        unavailable: count(Status::Unavailable),
    };
    let capabilities = rows.into_iter().map(Row::from).collect();
    json(200, &Body { version: env!("CARGO_PKG_VERSION"), summary, capabilities })
}

/// This crate, as far as it is probed.
struct AtEdge(App);

impl Edge for AtEdge {
    fn probe(&self, which: EdgeProbe, by: Principal) -> Pin<Box<dyn Future<Output = Probed> + Send>> {
        let app = self.0.clone();
        Box::pin(async move {
            match which {
                EdgeProbe::Alerts => watched::alerts(&app, &by).await,
                EdgeProbe::AuthZen => authzen_probe(&app, &by),
                EdgeProbe::Logs => Ok(watched::logs()),
                EdgeProbe::Metrics => watched::metrics(&app, &by).await,
                EdgeProbe::OpenApi => document_probe(&app),
                EdgeProbe::Status => super::status::probe(&app, &by).await,
                EdgeProbe::Traces => Ok(watched::traces(&app)),
            }
        })
    }
}

pub(super) const FAULT: &str = "it is a fault of this release: go back to the one before";

/// The document as it is served, against the table that callers are held against.
fn document_probe(app: &App) -> Probed {
    let document: serde_json::Value = serde_json::from_slice(&app.document).map_err(RuntimeError::internal)?;
    let version = document.get("openapi").and_then(serde_json::Value::as_str).unwrap_or_default();
    if !version.starts_with("3.1") {
        return Ok(Found::unavailable("it is no OpenAPI 3.1 document", FAULT));
    }
    let paths = document.get("paths").and_then(serde_json::Value::as_object);
    let described: BTreeSet<(String, String)> = paths
        .into_iter()
        .flatten()
        .flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten().map(|(method, _)| method.to_ascii_uppercase());
            methods.map(|method| (method, path.clone())).collect::<Vec<_>>()
        })
        .collect();
    let held: BTreeSet<(String, String)> = needs::lines().map(|l| (l.method.to_owned(), l.path.to_owned())).collect();
    if let Some((method, path)) = described.symmetric_difference(&held).next() {
        return Ok(Found::unavailable(format!("{method} {path} is in one of document and table only"), FAULT));
    }
    Ok(Found::working(format!("{} routes, each with what it needs", held.len())))
}

/// A request of the standard's form, decided and not recorded.
fn authzen_probe(app: &App, by: &Principal) -> Probed {
    let metadata = serde_json::to_value(authzen::metadata(app)).map_err(RuntimeError::internal)?;
    for (member, path) in [
        ("access_evaluation_endpoint", "/access/v1/evaluation"),
        ("access_evaluations_endpoint", "/access/v1/evaluations"),
        ("access_request_endpoint", "/access/v1/requests"),
    ] {
        let named = metadata.get(member).and_then(serde_json::Value::as_str);
        if named.is_none_or(|named| !named.ends_with(path)) || needs::of("POST", path).is_none() {
            return Ok(Found::unavailable(format!("the metadata's `{member}` is no route of this server"), FAULT));
        }
    }
    let state = by.tenant.state();
    let Some(environment) = by.access.environments().first() else {
        return Ok(Found::not_configured("there is no environment", "make one: docs/api.md#tenants-and-environments"));
    };
    let request = br#"{"subject":{"type":"agent","id":"capability-probe"},"action":{"name":"capability.probe"},"resource":{"type":"capability-probe","id":"1"},"context":{"more":["than","is","needed"]}}"#;
    let intent = Intent::from_value(&intended_model::json::parse(request)?, Some(environment), true)?;
    let asked = expect::input(&state, intent, by.credential.clone(), app.runtime.now());
    let decision = decide(&state, &asked);
    if decision.decision != Outcome::Deny {
        return Ok(Found::unavailable(
            format!("what nobody may do is {}", decision.decision.as_str()),
            "halt the environment now: `intended emergency halt`",
        ));
    }
    Ok(Found::working(format!("read and denied: {}", decision.reason)))
}
