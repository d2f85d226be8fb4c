//! Requests to identity providers. Only https, or http on this machine; no redirect is followed, no proxy
//! of the environment is used, nothing is waited for or read without bound. Nothing is connected to but
//! what the [`Reach`] allows, whatever a name means at the time: a provider that a tenant names does not
//! make the server a way into the network that it stands in.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use intended_model::{Code, Value};
use reqwest::Url;
use zeroize::Zeroizing;

use crate::RuntimeError;
use crate::sign_in::Secret;
use crate::webhooks::{Reach, Resolver};

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;

/// The client, made when the first provider is asked, and what it may connect to.
#[derive(Default)]
pub(crate) struct Http {
    client: OnceLock<reqwest::Client>,
    reach: OnceLock<Reach>,
}

pub(super) fn refused(detail: impl Into<String>) -> RuntimeError {
    RuntimeError::new(Code::SignInProvider, detail)
}

pub(super) fn unreached(what: &str) -> RuntimeError {
    refused(format!("the {what} cannot be reached"))
}

/// An address that may be asked, as far as it says itself: what its name means is looked at when it is
/// connected to.
pub(crate) fn address(text: &str, reach: &Reach) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    let literal = host.parse::<IpAddr>().ok();
    if literal.is_some_and(|a| !reach.allows(a)) {
        return None;
    }
    let here = host == "localhost" || literal.is_some_and(|a| a.to_canonical().is_loopback());
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
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Resolver(self.reach().clone())))
            .user_agent(concat!("intended/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(RuntimeError::internal)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// What may be connected to: public addresses, until more is said.
    pub(super) fn reach(&self) -> &Reach {
        self.reach.get_or_init(Reach::default)
    }
    /// Says it, once and before the first provider is looked at.
    pub(crate) fn reaches(&self, reach: Reach) {
        let _ = self.reach.set(reach);
    }

    async fn send(&self, what: &str, request: reqwest::RequestBuilder) -> Result<Value, RuntimeError> {
        let answer = request.header("accept", "application/json").send().await;
        // Of an error only that there is one: its text may have the address with what was asked.
        let mut answer = answer.map_err(|e| unreached(what).with_internal(e.without_url()))?;
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
        let reach = Reach::new(["127.0.0.0/8", "::1/128", "10.0.0.0/24"].map(|n| n.parse().unwrap()).into());
        let address = |text: &str| address(text, &reach);
        for good in ["https://id.example", "https://10.0.0.7/realm", "http://127.0.0.1:8080", "http://[::1]:1/x"] {
            assert!(address(good).is_some(), "{good}");
        }
        for bad in [
            "http://id.example",
            "http://10.0.0.7",
            "https://10.0.1.7",
            "https://192.168.0.1",
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

    #[test]
    fn without_the_operators_word_no_address_inside_is_asked() {
        for bad in
            ["http://127.0.0.1:8080", "https://127.0.0.1", "https://[::1]", "https://10.0.0.7", "https://0xa9fea9fe"]
        {
            assert!(address(bad, &Reach::default()).is_none(), "{bad}");
        }
        assert!(address("https://id.example", &Reach::default()).is_some());
    }
}
