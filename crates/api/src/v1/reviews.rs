//! Reviews of access: made, read as JSON, CSV or HTML, compared, signed by two people.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse as _;
use http::{HeaderMap, HeaderValue, header};
use intended_model::entry::Scope;
use intended_model::{Code, CredentialId, Digest, MemberId, Name};
use intended_runtime::review::{Counts, csv, html};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::page::{self, List};
use crate::{Answer, App, Problem, auth, input, json, schema};

pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(make, list))
        .routes(routes!(review))
        .routes(routes!(changes))
        .routes(routes!(sign))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize)]
struct MadeBody {
    counts: Counts,
    digest: Digest,
    index: u64,
    review: Name,
}

/// Makes a review of everything in the tenant.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/access-reviews", tag = "access", params(("tenant" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", description = "an empty object"),
    responses((status = 201, description = "made", body = schema::ReviewMade)))]
async fn make(State(app): State<App>, Path(tenant): Path<String>, headers: HeaderMap, body: Bytes) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let Nothing {} = input::typed(&headers, &body, input::MAX_BODY)?;
    let made = app.runtime.make_review(&principal).await?;
    let (index, made) = (made.index, made.answer);
    json(201, &MadeBody { counts: made.counts, digest: made.digest, index, review: made.review })
}

#[derive(Serialize)]
struct Signature<'s> {
    by: &'s CredentialId,
    member: &'s MemberId,
}
#[derive(Serialize)]
struct Row<'s> {
    by: &'s CredentialId,
    complete: bool,
    digest: Digest,
    index: u64,
    /// The last one, which alone can be signed.
    last: bool,
    review: &'s Name,
    signed: Vec<Signature<'s>>,
}

/// The reviews, oldest first.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/access-reviews", tag = "access", params(("tenant" = String, Path), ("limit" = Option<u32>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "the reviews", body = Vec<schema::ReviewRow>)))]
async fn list(State(app): State<App>, Path(tenant): Path<String>, uri: http::Uri, headers: HeaderMap) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    principal.require_whole(Scope::AccessRead)?;
    let state = principal.tenant.state();
    let last = state.reviews.last().map(|r| &r.id);
    let rows = state.reviews.iter().map(|r| {
        let row = Row {
            by: &r.by,
            complete: r.is_complete(),
            digest: r.digest,
            index: r.index,
            last: last == Some(&r.id),
            review: &r.id,
            signed: r.signed.iter().map(|(member, by)| Signature { by, member }).collect(),
        };
        (format!("{:020}", r.index), row)
    });
    page::answer(List { tenant: &tenant, name: "access-reviews" }, &uri, rows)
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
    Html,
}
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReviewQuery {
    #[serde(default)]
    format: Format,
}

/// The report of a review. As JSON it is canonical, and its SHA-256 the digest in the ledger.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/access-reviews/{review}", tag = "access", params(("tenant" = String, Path), ("review" = String, Path), ("format" = Option<String>, Query, description = "json, csv or html")),
    responses((status = 200, description = "the report", content((schema::ReviewReport = "application/json"), (String = "text/csv"), (String = "text/html"))), (status = 404, description = "there is no such review")))]
async fn review(
    State(app): State<App>,
    Path((tenant, review)): Path<(String, String)>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let query: ReviewQuery = input::query(&uri)?;
    let review = named(&review)?;
    let kept = app.runtime.review(&principal, &review).await?;
    let (kind, ending, body) = match query.format {
        Format::Json => ("application/json", "json", kept.text),
        Format::Csv => ("text/csv; charset=utf-8; header=present", "csv", csv(&kept.report)),
        Format::Html => {
            let signed: Vec<_> = kept.review.signed.iter().map(|(m, by)| (m.to_string(), by.to_string())).collect();
            ("text/html; charset=utf-8", "html", html(&kept.report, &kept.review.digest.to_string(), &signed))
        }
    };
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    let headers = response.headers_mut();
    if let Ok(name) = HeaderValue::try_from(format!("inline; filename=\"access-review-{review}.{ending}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    // Nothing in it is to run, whoever opens it where.
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

fn named(text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|_| Code::NotFound.into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesQuery {
    from: Option<String>,
}

/// How a review differs from the one before, or from another that is named.
#[utoipa::path(get, path = "/v1/tenants/{tenant}/access-reviews/{review}/changes", tag = "access", params(("tenant" = String, Path), ("review" = String, Path), ("from" = Option<String>, Query, description = "the review to compare with")),
    responses((status = 200, description = "the differences", body = schema::ReviewChanges), (status = 404, description = "there is no such review, or none before it")))]
async fn changes(
    State(app): State<App>,
    Path((tenant, review)): Path<(String, String)>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?;
    let query: ChangesQuery = input::query(&uri)?;
    let from = query.from.as_deref().map(named).transpose()?;
    json(200, &app.runtime.review_changes(&principal, &named(&review)?, from.as_ref()).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignBody {
    digest: Digest,
    reason: String,
}
#[derive(Serialize)]
struct Signed {
    /// Two people have signed.
    complete: bool,
    index: u64,
}

/// Signs the last review as the person who calls. Two people sign it.
#[utoipa::path(post, path = "/v1/tenants/{tenant}/access-reviews/{review}/sign", tag = "access", params(("tenant" = String, Path), ("review" = String, Path), ("idempotency-key" = Option<String>, Header)),
    request_body(content_type = "application/json", content = schema::ReviewSignRequest),
    responses((status = 200, description = "signed", body = schema::ReviewSigned), (status = 409, description = "it is not the last one, is of another report, or this person has signed it")))]
async fn sign(
    State(app): State<App>,
    Path((tenant, review)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let principal = auth::tenant(&app, &headers, &tenant)?.once(input::idempotency_key(&headers)?);
    let body: SignBody = input::typed(&headers, &body, input::MAX_BODY)?;
    let signed = app.runtime.sign_review(&principal, &named(&review)?, body.digest, &body.reason).await?;
    json(200, &Signed { complete: signed.answer, index: signed.index })
}
