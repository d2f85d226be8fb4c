//! Events over HTTP: a POST of lines for each batch. What answers 2xx has them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use intended_runtime::siem::{Collector, Format, Line, Sending};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Tls, text_of};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `https://…`; `http://` on this machine only.
    pub url: String,
    /// Holds the bearer token. Read for each batch, so that another one can be put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default = "default_timeout")]
    pub timeout_millis: u64,
}

const fn default_timeout() -> u64 {
    10_000
}

pub struct Https {
    client: reqwest::Client,
    url: reqwest::Url,
    token: Option<PathBuf>,
    kind: &'static str,
}

/// Where a collector of the operator's is. Secrets do not go in the clear, and not into `url`.
pub fn place(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).map_err(|e| format!("`url`: {e}"))?;
    let host = url.host_str().unwrap_or_default();
    let here =
        host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback());
    if !(url.scheme() == "https" || (url.scheme() == "http" && here)) {
        return Err("`url` begins with https://; http:// is for this machine only".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("secrets stand in files, not in `url`: see `token_file`".to_owned());
    }
    Ok(url)
}

/// What connects to it. No redirect is followed, no proxy of the environment is used.
pub fn client(dir: &Path, tls: &Tls, timeout_millis: u64) -> Result<reqwest::Client, String> {
    let timeout = Duration::from_millis(timeout_millis.clamp(100, 120_000));
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(timeout)
        .timeout(timeout)
        .user_agent(concat!("intended/", env!("CARGO_PKG_VERSION")));
    let said = |e: reqwest::Error| crate::client::deepest(&e);
    if let Some(path) = &tls.ca_file {
        let pem = text_of(&dir.join(path))?;
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(said)?);
    }
    match (&tls.client_cert_file, &tls.client_key_file) {
        (None, None) => {}
        (Some(cert), Some(key)) => {
            let key = Zeroizing::new(text_of(&dir.join(key))?);
            let pem = Zeroizing::new(format!("{}\n{}", text_of(&dir.join(cert))?, *key));
            client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).map_err(said)?);
        }
        _ => return Err("`client_cert_file` and `client_key_file` belong together".to_owned()),
    }
    client.build().map_err(said)
}

impl Https {
    pub fn new(dir: &Path, config: &Config, format: Format) -> Result<Self, String> {
        let url = place(&config.url)?;
        let client = client(dir, &config.tls, config.timeout_millis)?;
        let token = config.token_file.as_ref().map(|path| dir.join(path));
        if let Some(path) = &token {
            token_of(path)?;
        }
        let kind = if format == Format::Ocsf { "application/x-ndjson" } else { "text/plain; charset=utf-8" };
        Ok(Self { client, url, token, kind })
    }
}

/// What stands in the file, and can stand in a header.
fn token_of(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = Zeroizing::new(text_of(path)?);
    let token = Zeroizing::new(text.trim().to_owned());
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("{}: this is no bearer token", path.display()));
    }
    Ok(token)
}

impl Collector for Https {
    fn send<'a>(&'a mut self, batch: &'a [Line]) -> Sending<'a, Duration> {
        Box::pin(async move {
            let mut body = String::with_capacity(batch.iter().map(|l| l.text.len() + 1).sum());
            for line in batch {
                body.push_str(&line.text);
                body.push('\n');
            }
            let mut request = self.client.post(self.url.clone()).header("content-type", self.kind).body(body);
            if let Some(path) = &self.token {
                // Where it stands is for who operates the server, not for everybody who sees the sink.
                let token = token_of(path).map_err(|error| {
                    tracing::warn!(error, "the bearer token of a collector cannot be read");
                    "its bearer token cannot be read: see the server's log".to_owned()
                })?;
                request = request.bearer_auth(token.as_str());
            }
            let answer = request.send().await.map_err(|e| match e.is_timeout() {
                true => "no answer in time".to_owned(),
                false => crate::client::deepest(&e),
            })?;
            let status = answer.status();
            if !status.is_success() {
                return Err(format!("the collector answered {}", status.as_u16()));
            }
            Ok(Duration::ZERO)
        })
    }
}
