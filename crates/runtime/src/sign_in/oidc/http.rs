//! Requests to identity providers. Only https, or http on this machine; no redirect is followed, nothing
//! is waited for or read without bound. An address in a private network is asked all the same: that a
//! provider is there is said by an administrator of the whole tenant, and by nobody else.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use intended_model::{Code, Value};
use reqwest::Url;
use zeroize::Zeroizing;

use crate::RuntimeError;
use crate::sign_in::Secret;

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// The client, made when the first provider is asked.
#[derive(Default)]
pub(crate) struct Http(OnceLock<reqwest::Client>);

pub(super) fn refused(detail: impl Into<String>) -> RuntimeError {
    RuntimeError::new(Code::SignInProvider, detail)
}

/// An address that may be asked.
pub(crate) fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let here = match url.host_str()?.trim_matches(['[', ']']) {
        "localhost" => true,
        host => host.parse::<IpAddr>().is_ok_and(|a| a.to_canonical().is_loopback()),
    };
    let plain = url.username().is_empty() && url.password().is_none();
    (plain && (url.scheme() == "https" || (url.scheme() == "http" && here))).then_some(url)
}

/// How a client says who it is to the token endpoint.
#[derive(Debug)]
pub(super) enum ClientAuth {
    Public,
    Basic { id: String, secret: Secret },
    Post { secret: Secret },
}

impl Http {
    fn client(&self) -> Result<&reqwest::Client, RuntimeError> {
        if let Some(client) = self.0.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("intended/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(RuntimeError::internal)?;
        Ok(self.0.get_or_init(|| client))
    }

    async fn send(&self, what: &str, request: reqwest::RequestBuilder) -> Result<Value, RuntimeError> {
        let answer = request.header("accept", "application/json").send().await;
        // Of an error only that there is one: its text may have the address with what was asked.
        let mut answer =
            answer.map_err(|e| refused(format!("the {what} cannot be reached")).with_internal(e.without_url()))?;
        let status = answer.status();
        if answer.content_length().is_some_and(|n| n > MAX_ANSWER as u64) {
            return Err(refused(format!("the answer of the {what} is too large")));
        }
        let mut body = Zeroizing::new(Vec::new());
        while let Some(part) = answer.chunk().await.map_err(|_| refused(format!("the {what} broke off")))? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(refused(format!("the answer of the {what} is too large")));
            }
            body.extend_from_slice(&part);
        }
        if !status.is_success() {
            return Err(refused(format!("the {what} answers {}", status.as_u16())));
        }
        intended_model::json::parse(&body).map_err(|_| refused(format!("the answer of the {what} is not strict JSON")))
    }

    pub(super) async fn get(&self, what: &str, url: Url) -> Result<Value, RuntimeError> {
        self.send(what, self.client()?.get(url)).await
    }

    pub(super) async fn post(
        &self,
        what: &str,
        url: Url,
        auth: ClientAuth,
        form: &[(&str, &str)],
    ) -> Result<Value, RuntimeError> {
        let mut body = Zeroizing::new(String::new());
        let mut add = |name: &str, value: &str| {
            if !body.is_empty() {
                body.push('&');
            }
            body.push_str(name);
            body.push('=');
            body.push_str(&encoded(value));
        };
        form.iter().for_each(|(name, value)| add(name, value));
        let mut request = self.client()?.post(url).header("content-type", "application/x-www-form-urlencoded");
        match auth {
            ClientAuth::Public => {}
            // RFC 6749 section 2.3.1: both are form-encoded first.
            ClientAuth::Basic { id, secret } => {
                request = request.basic_auth(encoded(&id), Some(encoded(secret.expose())));
            }
            ClientAuth::Post { secret } => add("client_secret", secret.expose()),
        }
        self.send(what, request.body(body.as_bytes().to_vec())).await
    }
}

/// Percent-encodes all but what needs none (RFC 3986 section 2.3).
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_this_machine_is_asked() {
        for good in ["https://id.example", "https://10.0.0.7/realm", "http://127.0.0.1:8080", "http://[::1]:1/x"] {
            assert!(address(good).is_some(), "{good}");
        }
        for bad in [
            "http://id.example",
            "http://10.0.0.7",
            "http://169.254.169.254",
            "file:///etc/passwd",
            "gopher://127.0.0.1",
            "http://127.0.0.1.evil.example",
            "https://user:secret@id.example",
            "https://",
            "id.example",
        ] {
            assert!(address(bad).is_none(), "{bad}");
        }
        // Odd spellings of an address are read as what they are.
        assert!(address("http://2130706433/").is_some() && address("http://0x7f.1/").is_some());
        assert!(address("http://0xa9fea9fe/").is_none(), "169.254.169.254");
    }
}
