//! The HTTP client of the commands.

use std::time::Duration;

use intended_model::ExitCode;
use serde_json::Value;

use crate::args::Global;
use crate::error::{CliError, file};
use crate::output::say;

pub struct Client {
    http: reqwest::Client,
    base: String,
    tenant: String,
    key: Option<String>,
    print_curl: bool,
}

/// An answer.
pub struct Reply {
    pub body: Value,
}

impl Client {
    pub fn new(global: &Global) -> Result<Self, CliError> {
        let key = match (&global.key_file, &global.api_key) {
            (Some(path), _) => Some(std::fs::read_to_string(path).map_err(file(path))?.trim().to_owned()),
            (None, key) => key.clone(),
        };
        Self::with(&global.server, &global.tenant, key, Duration::from_secs(global.timeout), global.print_curl)
    }

    pub fn with(
        server: &str,
        tenant: &str,
        key: Option<String>,
        timeout: Duration,
        print_curl: bool,
    ) -> Result<Self, CliError> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .build()
            .map_err(|e| CliError::Failed(e.to_string(), ExitCode::Usage))?;
        Ok(Self { http, base: server.trim_end_matches('/').to_owned(), tenant: tenant.to_owned(), key, print_curl })
    }

    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> Result<reqwest::Response, CliError> {
        let url = if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            format!("{}/v1/tenants/{}/{path}", self.base, self.tenant)
        };
        if self.print_curl {
            let data = body
                .map(|b| {
                    format!(
                        " -H 'content-type: application/json' -d '{}'",
                        String::from_utf8_lossy(b).replace('\'', "'\\''")
                    )
                })
                .unwrap_or_default();
            let more: String = headers.iter().map(|(name, value)| format!(" -H '{name}: {value}'")).collect();
            say(&format!("curl -X {method} -H \"authorization: Bearer $INTENDED_API_KEY\"{more}{data} '{url}'"));
            return Err(CliError::Failed(String::new(), ExitCode::Ok));
        }
        let mut request = self.http.request(method, url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_vec());
        }
        request.send().await.map_err(|e| CliError::Unreachable { server: self.base.clone(), why: deepest(&e) })
    }

    /// Sends, and reads a JSON answer. A problem is an error; a decision, also a denial, is not.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, CliError> {
        let bytes = body.map(|b| b.to_string().into_bytes());
        self.call_raw(method, path, bytes.as_deref(), headers).await
    }

    /// The same with a body that is sent as it is.
    pub async fn call_raw(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> Result<Reply, CliError> {
        let method = method.parse().unwrap_or(reqwest::Method::GET);
        let response = self.send(method, path, body, headers).await?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").map_or(&[][..], |v| v.as_bytes());
        let (problem, json) = (kind.starts_with(b"application/problem"), kind.starts_with(b"application/json"));
        let bytes = response
            .bytes()
            .await
            .map_err(|e| CliError::Unreachable { server: self.base.clone(), why: deepest(&e) })?;
        let body: Value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        if problem {
            return Err(refused(status, &body));
        }
        if !json || body.is_string() {
            let why = format!("it answers {status} and not as this product does");
            return Err(CliError::Unreachable { server: self.base.clone(), why });
        }
        Ok(Reply { body })
    }

    pub async fn get(&self, path: &str) -> Result<Value, CliError> {
        Ok(self.call("GET", path, None, &[]).await?.body)
    }

    /// An answer as it comes, in chunks.
    pub async fn stream(&self, path: &str) -> Result<reqwest::Response, CliError> {
        let response = self.send(reqwest::Method::POST, path, None, &[]).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap_or_default();
        Err(refused(status, &serde_json::from_slice(&body).unwrap_or_default()))
    }
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

fn refused(status: u16, body: &Value) -> CliError {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut detail = text("detail");
    for error in body.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = format!("\n  {}: {}", part("pointer"), part("message"));
        detail.push_str(&line);
    }
    let exit = match status {
        401 | 403 => ExitCode::Auth,
        400 | 409 | 413 | 415 | 422 => ExitCode::Invalid,
        500.. => ExitCode::Unavailable,
        _ => ExitCode::Usage,
    };
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    CliError::Refused { code: text("code"), title: text("title"), detail, hint: text("hint"), exit }
}
