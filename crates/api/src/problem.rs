//! RFC 9457 problem documents.

use axum::response::{IntoResponse, Response};
use intended_model::Code;
use intended_runtime::RuntimeError;
use serde::Serialize;

use crate::{exchange, logged};

/// An error as the client sees it.
#[derive(Debug, Clone)]
pub struct Problem(RuntimeError);

impl From<Problem> for RuntimeError {
    fn from(problem: Problem) -> Self {
        problem.0
    }
}

#[derive(Serialize)]
struct Member<'a> {
    pointer: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    code: Code,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    retryable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Member<'a>>,
}

impl Problem {
    #[must_use]
    pub const fn code(&self) -> Code {
        self.0.code
    }
    /// With what the client should know besides.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(RuntimeError::new(code, detail))
    }
    pub fn at(code: Code, pointer: &str, message: impl Into<String>) -> Self {
        Self(RuntimeError::at(code, pointer, message))
    }
}

impl From<RuntimeError> for Problem {
    fn from(error: RuntimeError) -> Self {
        Self(error)
    }
}
impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self(code.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let RuntimeError { code, detail, errors, internal, retry_after } = &self.0;
        if let Some(internal) = internal {
            tracing::error!(%code, error = %internal, "request failed");
        }
        logged::refused(*code);
        let document = Document {
            r#type: match code.as_str().strip_prefix("access_request.") {
                Some(name) => format!("urn:openid:authzen:access-request:error:{name}"),
                None => format!("https://intended.so/errors/{code}"),
            },
            title: code.title(),
            status: code.status(),
            code: *code,
            detail,
            hint: code.hint(),
            request_id: exchange::request_id(),
            retryable: code.retryable(),
            errors: errors
                .iter()
                .map(|m| Member {
                    pointer: &m.pointer,
                    message: &m.message,
                    line: m.position.map(|p| p.0),
                    column: m.position.map(|p| p.1),
                })
                .collect(),
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let status = http::StatusCode::from_u16(code.status()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, [(http::header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if matches!(code.status(), 429 | 503) {
            response.headers_mut().insert(http::header::RETRY_AFTER, retry_after.unwrap_or(1).into());
        }
        if code.status() == 401 {
            let scheme = http::HeaderValue::from_static("Bearer realm=\"intended\"");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
