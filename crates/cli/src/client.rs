//! The HTTP client of the commands.

use std::time::Duration;

use intended_model::ExitCode;
use serde_json::{Value, json};

use crate::args::Format;
use crate::config::Global;
use crate::error::{CliError, file};
use crate::output::{one, say};

pub struct Client {
    http: reqwest::Client,
    base: String,
    tenant: String,
    key: Option<String>,
    /// For an answer as a whole.
    timeout: Duration,
    print_curl: bool,
    /// Changes are said instead of sent, in this format.
    dry_run: Option<Format>,
}

/// An answer.
pub struct Reply {
    pub body: Value,
    /// How long parts of it took, as the server says (`Server-Timing`), in milliseconds.
    pub timing: Vec<(String, f64)>,
    /// Where the list goes on, if it does: the `Link` header's path.
    next: Option<String>,
}

/// What is asked for at most in one request: the server's own limit.
const PAGE: u64 = 500;

/// A list as far as it was fetched.
pub struct List {
    pub rows: Vec<Value>,
    /// Where to go on, if there may be more.
    pub cursor: Option<String>,
}

impl Client {
    pub fn new(global: &Global) -> Result<Self, CliError> {
        let key = match (&global.key_file, &global.api_key) {
            (Some(path), _) => Some(std::fs::read_to_string(path).map_err(file(path))?.trim().to_owned()),
            (None, key) => key.clone(),
        };
        let mut client = Self::with(&global.server, &global.tenant, key, Duration::from_secs(global.timeout))?;
        client.print_curl = global.print_curl;
        client.dry_run = global.dry_run.then_some(global.output);
        Ok(client)
    }

    pub fn with(server: &str, tenant: &str, key: Option<String>, timeout: Duration) -> Result<Self, CliError> {
        // No limit on the whole: an export takes as long as it takes while something comes.
        let http = reqwest::Client::builder()
            .connect_timeout(timeout)
            .read_timeout(timeout)
            .build()
            .map_err(|e| CliError::Failed(e.to_string(), ExitCode::Usage))?;
        Ok(Self {
            http,
            base: server.trim_end_matches('/').to_owned(),
            tenant: tenant.to_owned(),
            key,
            timeout,
            print_curl: false,
            dry_run: None,
        })
    }

    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            format!("{}/v1/tenants/{}/{path}", self.base, self.tenant)
        }
    }

    /// Whether nothing is sent, only said.
    pub const fn says_only(&self) -> bool {
        self.dry_run.is_some() || self.print_curl
    }

    /// With --dry-run: says what would be sent, and ends there.
    pub fn would(&self, method: &str, path: &str, body: &Value) -> Result<(), CliError> {
        let Some(format) = self.dry_run.filter(|_| !self.print_curl) else { return Ok(()) };
        let url = self.url(path);
        if format == Format::Table {
            say(&format!("dry run: nothing is sent. It would be\n{method} {url}\n{body}"));
        } else {
            one(format, &json!({"dry_run": true, "method": method, "url": url, "body": body}));
        }
        Err(CliError::Done)
    }

    /// Sends something that changes the server's state.
    pub async fn change(&self, path: &str, body: &Value) -> Result<Reply, CliError> {
        self.would("POST", path, body)?;
        self.call("POST", path, Some(body), &[]).await
    }

    /// The same with another method than POST.
    pub async fn change_by(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        self.would(method, path, body.unwrap_or(&Value::Null))?;
        Ok(self.call(method, path, body, &[]).await?.body)
    }

    /// The same for what has been read as `etag`: what has changed since is refused.
    pub async fn change_at(
        &self,
        method: &str,
        path: &str,
        etag: &str,
        body: Option<&Value>,
    ) -> Result<Value, CliError> {
        self.would(method, path, body.unwrap_or(&Value::Null))?;
        Ok(self.call(method, path, body, &[("if-match", etag)]).await?.body)
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&[u8]>,
        headers: &[(&str, &str)],
        whole: Option<Duration>,
    ) -> Result<reqwest::Response, CliError> {
        let url = self.url(path);
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
            return Err(CliError::Done);
        }
        let mut request = self.http.request(method, url);
        if let Some(whole) = whole {
            request = request.timeout(whole);
        }
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
        let response = self.send(method, path, body, headers, Some(self.timeout)).await?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").map_or(&[][..], |v| v.as_bytes());
        let next = response.headers().get("link").and_then(|v| v.to_str().ok()).and_then(next);
        let timing =
            response.headers().get("server-timing").and_then(|v| v.to_str().ok()).map(timing).unwrap_or_default();
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
        Ok(Reply { body, timing, next })
    }

    pub async fn get(&self, path: &str) -> Result<Value, CliError> {
        Ok(self.call("GET", path, None, &[]).await?.body)
    }

    /// A list that stands as an array, whole.
    pub async fn rows(&self, path: &str) -> Result<Vec<Value>, CliError> {
        let (mut rows, mut at) = (Vec::new(), Some(path.to_owned()));
        while let Some(path) = at {
            let reply = self.call("GET", &path, None, &[]).await?;
            if let Value::Array(page) = reply.body {
                rows.extend(page);
            }
            at = reply.next.filter(|next| *next != path);
        }
        Ok(rows)
    }

    /// A list, newest first: page after page until so many are there or the ledger's beginning is reached.
    /// A page may be empty and yet not the last one: the server looks at so many entries at a time.
    pub async fn list(
        &self,
        path: &str,
        filters: &[(&str, Option<String>)],
        member: &str,
        limit: u64,
        mut cursor: Option<String>,
    ) -> Result<List, CliError> {
        let mut rows = Vec::new();
        loop {
            let left = limit.saturating_sub(rows.len() as u64);
            if left == 0 {
                return Ok(List { rows, cursor });
            }
            let mut query = format!("{path}?limit={}", left.min(PAGE));
            let at = [("cursor", cursor.clone())];
            for (name, value) in filters.iter().chain(&at) {
                if let Some(value) = value {
                    query.push_str(&format!("&{name}={}", crate::cmd::encode(value)));
                }
            }
            let mut body = self.get(&query).await?;
            if let Some(Value::Array(page)) = body.get_mut(member).map(Value::take) {
                rows.extend(page);
            }
            // Opaque: whatever it is, it goes back as it came.
            let next = match body.get("cursor") {
                Some(Value::String(text)) => Some(text.clone()),
                Some(Value::Number(number)) => Some(number.to_string()),
                _ => None,
            };
            match next {
                None => return Ok(List { rows, cursor: None }),
                next if next == cursor => {
                    let what = "the server gave the same cursor again: the list would not end".to_owned();
                    return Err(CliError::Failed(what, ExitCode::Unavailable));
                }
                next => cursor = next,
            }
        }
    }

    /// An answer that is text.
    pub async fn text(&self, path: &str) -> Result<String, CliError> {
        let response = self.send(reqwest::Method::GET, path, None, &[], Some(self.timeout)).await?;
        let status = response.status();
        let unreachable = |e: reqwest::Error| CliError::Unreachable { server: self.base.clone(), why: deepest(&e) };
        let text = response.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(text);
        }
        Err(refused(status.as_u16(), &serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Server-sent events, as they come. Nothing limits how long.
    pub async fn events(&self, path: &str, last: Option<u64>) -> Result<reqwest::Response, CliError> {
        let last = last.map(|index| index.to_string());
        let headers: Vec<(&str, &str)> = last.iter().map(|l| ("last-event-id", l.as_str())).collect();
        let response = self.send(reqwest::Method::GET, path, None, &headers, None).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap_or_default();
        Err(refused(status, &serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// An answer as it comes, in chunks.
    pub async fn stream(&self, path: &str) -> Result<reqwest::Response, CliError> {
        let response = self.send(reqwest::Method::POST, path, None, &[], None).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.bytes().await.unwrap_or_default();
        Err(refused(status, &serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// What a `Server-Timing` header says.
fn timing(header: &str) -> Vec<(String, f64)> {
    let one = |part: &str| {
        let (name, took) = part.trim().split_once(";dur=")?;
        Some((name.to_owned(), took.parse().ok()?))
    };
    header.split(',').filter_map(one).collect()
}

/// The path of `<…>; rel="next"`.
fn next(link: &str) -> Option<String> {
    let (path, relation) = link.strip_prefix('<')?.split_once('>')?;
    (relation.contains("rel=\"next\"") && path.starts_with('/')).then(|| path.to_owned())
}

pub fn deepest(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

fn refused(status: u16, body: &Value) -> CliError {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let detail = text("detail");
    let part = |error: &Value, name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let errors = body.get("errors").and_then(Value::as_array).into_iter().flatten();
    let parts = errors.map(|e| (part(e, "pointer"), part(e, "message"))).collect();
    let exit = match status {
        _ if text("code").starts_with("halt.") && text("code") != "halt.unknown" => ExitCode::Halted,
        202 => ExitCode::Pending,
        401 | 403 => ExitCode::Auth,
        400 | 409 | 412 | 413 | 415 | 422 | 428 => ExitCode::Invalid,
        429 | 500.. => ExitCode::Unavailable,
        _ => ExitCode::Usage,
    };
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    CliError::Refused { code: text("code"), title: text("title"), detail, parts, hint: text("hint"), exit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_exit_code_of_what_it_is_about() {
        let exit = |status, code: &str| refused(status, &json!({"code": code})).exit();
        for (status, code, expected) in [
            (403, "halt.tenant", ExitCode::Halted),
            (403, "halt.environment", ExitCode::Halted),
            (404, "halt.unknown", ExitCode::Usage),
            (403, "credential.scope", ExitCode::Auth),
            (429, "rate_limited", ExitCode::Unavailable),
            (503, "not_ready", ExitCode::Unavailable),
            (507, "store.full", ExitCode::Unavailable),
            (422, "pack.invalid", ExitCode::Invalid),
            (412, "draft.stale", ExitCode::Invalid),
            (202, "rollback.people", ExitCode::Pending),
        ] {
            assert_eq!(exit(status, code), expected, "{status} {code}");
        }
    }
}
