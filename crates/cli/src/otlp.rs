//! `[otlp]`: where traces go, over HTTP in protobuf, with the client that everything else uses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use intended_keyring::{RngSource as _, SystemRng};
use intended_telemetry::export::{Failure, Pace, Posting, Transport};
use intended_telemetry::trace::QUEUE;
use intended_telemetry::{Share, Traces};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::siem::https::{client, place};
use crate::siem::{Tls, text_of};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The collector, as `https://collector.acme.example:4318`; `/v1/traces` is added where it is not
    /// there. `http://` on this machine only.
    pub endpoint: String,
    /// Headers for the collector, a `name: value` a line. Read for each batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
    /// Which part of all traces is exported: 0.0 to 1.0.
    #[serde(default = "all")]
    pub sample_ratio: f64,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default = "default_timeout")]
    pub timeout_millis: u64,
    /// Spans that wait for the collector at most; beyond that they are dropped.
    #[serde(default = "default_queue")]
    pub queue: usize,
}

const fn all() -> f64 {
    1.0
}
const fn default_timeout() -> u64 {
    10_000
}
const fn default_queue() -> usize {
    QUEUE
}
/// Longest queue: some hundred megabytes.
const MAX_QUEUE: usize = 262_144;
const PATH: &str = "/v1/traces";
/// Longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// A collector that nothing was sent to yet.
pub struct Collector {
    post: Post,
    share: Share,
    queue: usize,
}

impl Config {
    /// What is wrong in the table is said here, before anything starts.
    pub fn collector(&self, dir: &Path) -> Result<Collector, CliError> {
        let wrong = |what: String| CliError::Usage(format!("[otlp]: {what}"), None);
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(wrong("`sample_ratio` lies within 0.0 to 1.0".to_owned()));
        }
        if !(1..=MAX_QUEUE).contains(&self.queue) {
            return Err(wrong(format!("`queue` lies within 1 to {MAX_QUEUE}")));
        }
        let named = |what: String| wrong(what.replace("`url`", "`endpoint`").replace("token_file", "headers_file"));
        let mut url = place(&self.endpoint).map_err(named)?;
        let path = url.path().trim_end_matches('/').to_owned();
        if !path.ends_with(PATH) {
            url.set_path(&format!("{path}{PATH}"));
        }
        let client = client(dir, &self.tls, self.timeout_millis).map_err(wrong)?;
        let headers = self.headers_file.as_ref().map(|path| dir.join(path));
        if let Some(path) = &headers {
            headers_of(path).map_err(wrong)?;
        }
        // Which traces it takes is for nobody to foresee.
        let mut secret = [0; 32];
        SystemRng::default().fill(&mut secret).map_err(|e| wrong(e.to_string()))?;
        let share = Share::new(self.sample_ratio, secret);
        Ok(Collector { post: Post { client, url, headers }, share, queue: self.queue })
    }
}

impl Collector {
    /// Begins to export; what is answered takes the spans.
    pub fn start(self) -> Traces {
        let host = text_of(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
        let instance = format!("{}/{}", host.trim(), std::process::id());
        Traces::start(self.post, instance, self.share, self.queue, Pace::default())
    }
}

/// Headers of a file. What is wrong is said by its line: what stands there may be secret.
fn headers_of(path: &Path) -> Result<HeaderMap, String> {
    let text = Zeroizing::new(text_of(path)?);
    let mut headers = HeaderMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
        });
        let (name, value) = parsed.ok_or_else(|| format!("{}:{}: no `name: value`", path.display(), at + 1))?;
        headers.append(name, value);
    }
    Ok(headers)
}

struct Post {
    client: reqwest::Client,
    url: reqwest::Url,
    headers: Option<PathBuf>,
}

impl Transport for Post {
    fn post(&self, body: Vec<u8>) -> Posting {
        let request = self.client.post(self.url.clone()).body(body);
        let headers = self.headers.as_deref().map(headers_of).transpose();
        Box::pin(async move {
            let no = |why: String, retry, after| Failure { why, retry, after };
            // The file is being written, say.
            let headers = headers.map_err(|why| no(why, true, None))?.unwrap_or_default();
            let request = request.headers(headers).header("content-type", "application/x-protobuf");
            let lost = |e: reqwest::Error| match e.is_timeout() {
                true => no("no answer in time".to_owned(), true, None),
                false => no(crate::client::deepest(&e), true, None),
            };
            let mut answer = request.send().await.map_err(lost)?;
            let status = answer.status();
            if !status.is_success() {
                let after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
                // The ones that the specification has tried again.
                let retry = matches!(status.as_u16(), 429 | 502 | 503 | 504);
                let why = format!("the collector answered {}", status.as_u16());
                return Err(no(why, retry, after.map(Duration::from_secs)));
            }
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(lost)? {
                if body.len() + chunk.len() > MAX_ANSWER {
                    break;
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_headers_is_said_by_its_line_and_not_by_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headers");
        std::fs::write(&path, "authorization: Bearer planted\n\nx-scope-orgid: acme\n").unwrap();
        let headers = headers_of(&path).unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["x-scope-orgid"], "acme");
        assert!(!format!("{headers:?}").contains("planted"), "{headers:?}");
        std::fs::write(&path, "x: y\nplanted\n").unwrap();
        let why = headers_of(&path).unwrap_err();
        assert!(why.contains("headers:2:") && !why.contains("planted"), "{why}");
    }

    #[test]
    fn the_path_of_traces_is_added_once_and_secrets_in_the_clear_are_refused() {
        let url = |endpoint: &str| {
            let text = format!("endpoint = \"{endpoint}\"");
            let config: Config = toml::from_str(&text).unwrap();
            config.collector(Path::new("/nowhere")).map(|c| c.post.url.to_string()).map_err(|e| e.to_string())
        };
        for (endpoint, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://c.example/otlp/", "https://c.example/otlp/v1/traces"),
            ("https://c.example/v1/traces", "https://c.example/v1/traces"),
        ] {
            assert_eq!(url(endpoint).unwrap(), whole);
        }
        for bad in ["http://collector.example:4318", "https://me:planted@c.example", "grpc://127.0.0.1:4317", "x"] {
            let why = url(bad).unwrap_err();
            assert!(why.contains("endpoint") || why.contains("headers_file"), "{why}");
            assert!(!why.contains("planted"), "{why}");
        }
    }
}
