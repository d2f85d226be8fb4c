//! The ledger: query, checkpoint, proofs, export.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::HeaderMap;
use intended_ledger::{ExportTrailer, NodeHash, Receipt};
use intended_model::entry::Scope;
use intended_model::{Code, Kind, Value};
use intended_runtime::verification::{Outcome, Standing, Verified};
use intended_runtime::{Principal, RuntimeError, audit};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::intents::ListQuery;
use crate::page::List;
use crate::{Answer, App, Problem, auth, input, json, schema, watch};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(query))
        .routes(routes!(verification, verify))
        .routes(routes!(events))
        .routes(routes!(checkpoint))
        .routes(routes!(proof))
        .routes(routes!(consistency))
        .routes(routes!(export))
}

#[derive(Serialize)]
struct Row {
    index: u64,
    at: String,
    kind: &'static str,
    entry: Value,
}
#[derive(Serialize)]
struct Body_ {
    entries: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Entries, newest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/audit", tag = "ledger",
    params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query), ("kind" = Option<String>, Query), ("agent" = Option<String>, Query), ("action" = Option<String>, Query), ("decision" = Option<String>, Query), ("class" = Option<String>, Query, description = "`traffic` or `synthetic`"), ("reason" = Option<String>, Query), ("environment" = Option<String>, Query), ("session" = Option<String>, Query), ("intent" = Option<String>, Query), ("credential" = Option<String>, Query), ("since" = Option<i64>, Query), ("until" = Option<i64>, Query)),
    responses((status = 200, description = "a page of entries")))]
async fn query(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AuditRead)?;
    let query: ListQuery = input::query(&uri)?;
    let list = List { tenant: &tenant, name: "audit" };
    let page = app.runtime.query(&principal, &query.into_query(list, None)?).await?;
    let rows = page.entries.into_iter().map(|(e, event)| {
        let entry = intended_model::json::parse_recorded(&e.leaf).map_err(RuntimeError::from)?;
        Ok(Row { index: e.index, at: e.at.to_string(), kind: event.kind().as_str(), entry })
    });
    let entries = rows.collect::<Result<Vec<_>, RuntimeError>>()?;
    json(200, &Body_ { entries, cursor: page.before.map(|at| list.cursor(&at.to_string())) })
}

#[derive(Serialize)]
struct CheckpointBody {
    size: u64,
    root: String,
    checkpoint: String,
    vkey: String,
}

/// The current signed checkpoint.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/audit/checkpoint", tag = "ledger", params(("tenant" = String, Path)),
    responses((status = 200, description = "size, root, signed note, verifier key")))]
async fn checkpoint(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AuditRead)?;
    let (head, note) = app.runtime.head(&principal.tenant).await?;
    let vkey = principal.tenant.state().vkey.to_string();
    json(200, &CheckpointBody { size: head.size, root: head.root.to_string(), checkpoint: note.to_string(), vkey })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofQuery {
    index: u64,
    size: Option<u64>,
}

/// Inclusion in an earlier tree, for a checkpoint that the caller has kept.
#[derive(Serialize)]
struct InclusionBody {
    index: u64,
    size: u64,
    root: String,
    proof: Vec<String>,
    entry: Value,
}

/// A receipt for any entry, against the current checkpoint; with `size`, the bare proof in the tree
/// of that size.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/audit/proof", tag = "ledger", params(("tenant" = String, Path), ("index" = u64, Query), ("size" = Option<u64>, Query)),
    responses((status = 200, description = "the receipt, or index, size, root, proof and entry"), (status = 404, description = "no such entry or size")))]
async fn proof(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AuditRead)?;
    let query: ProofQuery = input::query(&uri)?;
    let (head, note) = app.runtime.head(&principal.tenant).await?;
    let size = query.size.unwrap_or(head.size);
    let (entry, proof) = app.runtime.inclusion(&principal, query.index, size).await?;
    if query.size.is_none() {
        return json(200, &Receipt::new(&entry.leaf, entry.index, &proof, &note).map_err(RuntimeError::internal)?);
    }
    let root = app.runtime.store().root_at(&principal.tenant.id, size).await.map_err(RuntimeError::from)?;
    json(
        200,
        &InclusionBody {
            index: entry.index,
            size,
            root: root.to_base64(),
            proof: proof.iter().map(NodeHash::to_base64).collect(),
            entry: intended_model::json::parse_recorded(&entry.leaf).map_err(RuntimeError::from)?,
        },
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsistencyQuery {
    from: u64,
    to: Option<u64>,
}
#[derive(Serialize)]
struct ConsistencyBody {
    from: u64,
    to: u64,
    proof: Vec<String>,
}

/// That the tree of one size continues the tree of an earlier one.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/audit/consistency", tag = "ledger", params(("tenant" = String, Path), ("from" = u64, Query), ("to" = Option<u64>, Query)),
    responses((status = 200, description = "the proof")))]
async fn consistency(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AuditRead)?;
    let query: ConsistencyQuery = input::query(&uri)?;
    let (to, proof) = app.runtime.consistency(&principal.tenant, query.from, query.to).await?;
    json(200, &ConsistencyBody { from: query.from, to, proof: proof.iter().map(NodeHash::to_base64).collect() })
}

/// The whole ledger as JSON lines, for `intended verify`. Streams; memory does not grow with it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/audit/exports", tag = "ledger", params(("tenant" = String, Path)),
    responses((status = 200, description = "the export", content_type = "application/x-ndjson")))]
async fn export(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    // The whole ledger holds every environment: only a credential for all of them may take it.
    principal.require_whole(Scope::AuditRead)?;
    let header = app.runtime.export_header(&principal).await?;
    let size = header.size;
    let first = header.to_line().map_err(RuntimeError::internal)?;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(4);
    let (runtime, id) = (app.runtime.clone(), principal.tenant.id.clone());
    tokio::spawn(async move {
        let _ = sender.send(Ok(format!("{first}\n").into_bytes())).await;
        let mut next = 0;
        while next < size {
            let limit = usize::try_from(size - next).unwrap_or(usize::MAX).min(256);
            let page = match runtime.store().entries(&id, next, limit).await {
                Ok(page) if !page.is_empty() => page,
                Ok(_) => return drop(sender.send(Err(std::io::Error::other("entries are missing"))).await),
                Err(error) => return drop(sender.send(Err(std::io::Error::other(error))).await),
            };
            next += page.len() as u64;
            let mut chunk = Vec::with_capacity(page.iter().map(|e| e.leaf.len() + 1).sum());
            for entry in page {
                chunk.extend_from_slice(&entry.leaf);
                chunk.push(b'\n');
            }
            if sender.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
        if let Ok(last) = (ExportTrailer { end: true, size }).to_line() {
            let _ = sender.send(Ok(format!("{last}\n").into_bytes())).await;
        }
    });
    let stream = watch::received(receiver);
    Ok(([(http::header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response())
}

#[derive(Serialize)]
struct VerificationBody {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    running_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<VerificationResult>,
}
#[derive(Serialize)]
struct VerificationResult {
    outcome: &'static str,
    size: u64,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decisions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<VerificationFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}
#[derive(Serialize)]
struct VerificationFailure {
    check: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl VerificationResult {
    fn new(v: &Verified, principal: &Principal) -> Self {
        let mut result = Self {
            outcome: "incomplete",
            size: v.size,
            started_at: v.started_at.to_string(),
            finished_at: v.finished_at.to_string(),
            decisions: None,
            root: None,
            failure: None,
            why: None,
        };
        match &v.outcome {
            Outcome::Holds(report) => {
                result.outcome = "holds";
                result.decisions = Some(report.decisions);
                result.root = Some(report.root.clone());
            }
            Outcome::Fails(failure) => {
                result.outcome = "fails";
                // What differs may be of any environment.
                let message = principal.sees_all().then(|| failure.what.clone());
                result.failure =
                    Some(VerificationFailure { check: failure.check.as_str(), index: failure.index, message });
            }
            Outcome::Incomplete(why) => result.why = principal.sees_all().then(|| why.clone()),
        }
        result
    }
}

fn standing(standing: &Standing, principal: &Principal) -> VerificationBody {
    VerificationBody {
        state: if standing.running.is_some() { "running" } else { "idle" },
        running_since: standing.running.map(|since| since.to_string()),
        last: standing.last.as_ref().map(|v| VerificationResult::new(v, principal)),
    }
}

/// What the last verification of the ledger found, and whether one runs.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/audit/verification", tag = "ledger", params(("tenant" = String, Path)),
    responses((status = 200, description = "where it stands", body = schema::Verification)))]
async fn verification(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AuditRead)?;
    json(200, &standing(&app.runtime.verification(&principal.tenant), &principal))
}

/// Verifies the ledger as it is now, in the background: hashes, tree, checkpoints, and every decision
/// made again. One at a time; while one runs this starts no other.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/audit/verification", tag = "ledger", params(("tenant" = String, Path)),
    responses((status = 202, description = "it runs", body = schema::Verification)))]
async fn verify(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    // It reads every environment, and takes the server a while.
    principal.require_whole(Scope::AuditRead)?;
    let since = app.runtime.start_verification(&principal.tenant).await?;
    let now = Standing { running: Some(since), ..app.runtime.verification(&principal.tenant) };
    json(202, &standing(&now, &principal))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    after: Option<u64>,
    kind: Option<String>,
    agent: Option<String>,
    action: Option<String>,
    decision: Option<intended_model::Outcome>,
    class: Option<intended_model::Class>,
    reason: Option<String>,
    environment: Option<String>,
    session: Option<String>,
    intent: Option<String>,
    credential: Option<String>,
}

impl EventsQuery {
    fn filter(self) -> Result<audit::Query, Problem> {
        let reason = self.reason.map(|r| r.parse()).transpose();
        let kind = self
            .kind
            .map(|k| Kind::parse(&k).ok_or_else(|| Problem::at(Code::RequestInvalid, "/kind", "unknown entry kind")));
        Ok(audit::Query {
            kind: kind.transpose()?,
            agent: self.agent,
            tool: self.action,
            decision: self.decision,
            class: self.class,
            reason: reason.map_err(|_| Problem::at(Code::RequestInvalid, "/reason", "unknown code"))?,
            environment: self.environment,
            session: self.session,
            intent: super::intents::intent_of(self.intent.as_deref())?,
            credential: self.credential,
            ..audit::Query::default()
        })
    }
}

/// New entries as server-sent events: `id` is the entry's index, `event` its kind, `data` the entry.
/// After an index, or from now on. Ends when the server stops or the credential does; a client that
/// comes back with `Last-Event-ID` misses nothing. What is filtered out is passed over.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/events", tag = "ledger",
    params(("tenant" = String, Path), ("after" = Option<u64>, Query, description = "a ledger index"), ("kind" = Option<String>, Query), ("agent" = Option<String>, Query), ("action" = Option<String>, Query), ("decision" = Option<String>, Query), ("class" = Option<String>, Query, description = "`traffic` or `synthetic`"), ("reason" = Option<String>, Query), ("environment" = Option<String>, Query), ("session" = Option<String>, Query), ("intent" = Option<String>, Query), ("credential" = Option<String>, Query), ("last-event-id" = Option<u64>, Header)),
    responses((status = 200, description = "events, until one side ends it", content_type = "text/event-stream")))]
async fn events(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.reading(Scope::AuditRead)?;
    let query: EventsQuery = input::query(&uri)?;
    let newest =
        app.runtime.store().head(&principal.tenant.id).await.map_err(RuntimeError::from)?.size.saturating_sub(1);
    // Who comes back asks with the address they came with first: what they have seen since counts.
    let after = match headers.get("last-event-id") {
        Some(id) => {
            let id = id.to_str().ok().and_then(|t| t.parse().ok());
            id.ok_or_else(|| Problem::at(Code::RequestInvalid, "/last-event-id", "a ledger index was expected"))?
        }
        None => query.after.unwrap_or(newest),
    };
    if after > newest {
        let detail = format!("the ledger's newest entry is {newest}: what you have seen is not of this ledger");
        return Err(Problem::at(Code::RequestInvalid, "/after", detail));
    }
    let stream = watch::stream(&app, &headers, &principal, after, query.filter()?)?;
    Ok(([(http::header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response())
}
