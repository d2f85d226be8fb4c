//! Reading bodies strictly.

use axum::body::Bytes;
use http::HeaderMap;
use intended_model::{Code, Value};
use serde::de::DeserializeOwned;

use intended_runtime::pointer_step;

use crate::Problem;

/// Largest body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Largest body of the policy area.
pub const MAX_POLICY_BODY: usize = 1024 * 1024;

/// A strict JSON value.
pub fn value(headers: &HeaderMap, body: &Bytes, max: usize) -> Result<Value, Problem> {
    if body.len() > max {
        return Err(Problem::new(Code::RequestTooLarge, format!("at most {max} bytes")));
    }
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(Code::RequestMediaType.into());
    }
    Ok(intended_model::json::parse(body).map_err(intended_runtime::RuntimeError::from)?)
}

/// A typed body. Unknown members are refused by the types themselves.
pub fn typed<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes, max: usize) -> Result<T, Problem> {
    let value = value(headers, body, max)?;
    serde_path_to_error::deserialize(&value).map_err(|e| {
        let pointer = pointer(e.path());
        let text = e.into_inner().to_string();
        let code = if text.starts_with("unknown field") { Code::RequestUnknownField } else { Code::RequestInvalid };
        Problem::at(code, &pointer, text)
    })
}

/// Where in the body it is (RFC 6901).
pub(crate) fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let segment = |s: &Segment| match s {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => pointer_step(key),
        Segment::Enum { variant } => pointer_step(variant),
        Segment::Unknown => String::new(),
    };
    path.iter().map(segment).collect()
}

/// The idempotency key of a request.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text.is_empty() || text.len() > 128 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Code::IdempotencyKeyInvalid.into());
    }
    Ok(Some(text.into()))
}

/// The query string. Read after the caller is known, so that nobody else learns what a route takes.
pub fn query<T: DeserializeOwned>(uri: &http::Uri) -> Result<T, Problem> {
    let read = axum::extract::Query::<T>::try_from_uri(uri);
    read.map(|axum::extract::Query(query)| query).map_err(|e| Problem::new(Code::RequestInvalid, e.body_text()))
}
