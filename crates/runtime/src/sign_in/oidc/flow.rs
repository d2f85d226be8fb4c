//! How a sign-in with a provider begins and ends. In between a fact holds what only this server knows:
//! the nonce and the verifier, good for ten minutes and once.

use std::net::IpAddr;
use std::sync::Arc;

use intended_model::entry::{IdentityProviderSet, SignInMethod};
use intended_model::{Code, Digest, Name, Timestamp, Value};
use intended_token::base64url;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::http::{ClientAuth, address, encoded, refused, unreached};
use super::id_token::{self, Expected};
use crate::sign_in::{NewSession, Record, Secret, delete, put};
use crate::{Runtime, RuntimeError, Tenant, not_suspended};

const PURPOSE: &str = "oidc-flow";
const GOOD_MS: i64 = 10 * 60_000;

/// A sign-in that was begun.
#[derive(Debug)]
pub struct Begun {
    /// Where the person goes.
    pub authorization_url: String,
    /// What the provider gives back with the code.
    pub state: Secret,
    pub expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flow {
    issuer: Box<str>,
    nonce: String,
    provider: Name,
    redirect_uri: String,
    until: Timestamp,
    verifier: String,
}

/// What of discovery is used.
struct Endpoints {
    authorization: Url,
    token: Url,
    jwks: Url,
    /// Whether the client says who it is in the body.
    post: bool,
}

fn fact(state: &str) -> String {
    format!("px/{}", Digest::of(state.as_bytes()).to_hex())
}

impl Runtime {
    async fn discover(&self, provider: &IdentityProviderSet) -> Result<Endpoints, RuntimeError> {
        let at = format!("{}/.well-known/openid-configuration", provider.issuer.trim_end_matches('/'));
        let reach = self.desk.http.reach();
        // Said as if it did not answer: what is out of reach is nobody's to find out here.
        let url = address(&at, reach).ok_or_else(|| unreached("provider's configuration"))?;
        let found = self.desk.http.get("provider's configuration", url).await?;
        // OpenID Connect Discovery section 4.3: exactly.
        if found.get("issuer").and_then(Value::as_str) != Some(&*provider.issuer) {
            return Err(refused("its configuration is of another issuer"));
        }
        let endpoint = |name: &str| {
            let url = found.get(name).and_then(Value::as_str).and_then(|text| address(text, reach));
            url.ok_or_else(|| refused(format!("its configuration has no `{name}` that may be asked")))
        };
        let methods = found.get("token_endpoint_auth_methods_supported");
        let offers = |name: &str| match methods {
            Some(Value::Array(all)) => all.iter().any(|m| m.as_str() == Some(name)),
            _ => name == "client_secret_basic",
        };
        Ok(Endpoints {
            authorization: endpoint("authorization_endpoint")?,
            token: endpoint("token_endpoint")?,
            jwks: endpoint("jwks_uri")?,
            post: !offers("client_secret_basic") && offers("client_secret_post"),
        })
    }

    /// Whether somebody could begin to sign in with a provider now: its configuration is read, and the
    /// client's secret unsealed.
    pub(crate) async fn try_provider(
        &self,
        tenant: &Tenant,
        provider: &IdentityProviderSet,
    ) -> Result<(), RuntimeError> {
        self.discover(provider).await?;
        self.client_secret(tenant, provider).map(drop)
    }

    fn provider(&self, tenant: &str, provider: &str) -> Result<(Arc<Tenant>, IdentityProviderSet), RuntimeError> {
        let known = intended_model::TenantId::new(tenant).ok().and_then(|id| self.tenant(&id));
        let tenant = known.ok_or(Code::NotFound)?;
        not_suspended(&tenant.state())?;
        let found = tenant.state().providers.get(provider).cloned().ok_or(Code::NotFound)?;
        Ok((tenant, found))
    }

    /// Where a provider sends people back to: a program on their machine, or this server.
    fn redirect(&self, asked: Option<String>) -> Result<String, RuntimeError> {
        let own = format!("{}/console/sign-in", self.issuer().trim_end_matches('/'));
        let Some(asked) = asked else { return Ok(own) };
        // RFC 8252 section 7.3: by address, because a name can be another's.
        let loopback = Url::parse(&asked).is_ok_and(|url| {
            url.scheme() == "http"
                && matches!(url.host_str(), Some("127.0.0.1" | "[::1]"))
                && url.port().is_some()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        if asked == own || (loopback && asked.len() <= 256 && asked.bytes().all(|b| b.is_ascii_graphic())) {
            return Ok(asked);
        }
        let detail = format!("it is http://127.0.0.1:<port>/…, http://[::1]:<port>/… or {own}");
        Err(RuntimeError::at(Code::RequestInvalid, "/redirect_uri", detail))
    }

    /// Begins a sign-in with a provider.
    pub async fn begin_provider(
        &self,
        tenant: &str,
        provider: &str,
        from: Option<IpAddr>,
        redirect_uri: Option<String>,
    ) -> Result<Begun, RuntimeError> {
        let redirect_uri = self.redirect(redirect_uri)?;
        let (tenant, provider) = self.provider(tenant, provider)?;
        self.desk.begins.one_more(tenant.id.as_str(), from, self.now())?;
        let endpoints = self.discover(&provider).await?;
        let (state, nonce) = (base64url(&self.random::<32>()?), base64url(&self.random::<32>()?));
        let verifier = base64url(&self.random::<32>()?);
        let challenge = base64url(Digest::of(verifier.as_bytes()).as_bytes());
        let mut url = endpoints.authorization;
        let query: Vec<String> = url
            .query()
            .map(str::to_owned)
            .into_iter()
            .chain(
                [
                    ("response_type", "code"),
                    ("client_id", &provider.client_id),
                    ("redirect_uri", &redirect_uri),
                    ("scope", "openid profile email groups"),
                    ("state", &state),
                    ("nonce", &nonce),
                    ("code_challenge", &challenge),
                    ("code_challenge_method", "S256"),
                ]
                .map(|(name, value)| format!("{name}={}", encoded(value))),
            )
            .collect();
        url.set_query(Some(&query.join("&")));
        let now = self.now();
        let until = now.plus_millis(GOOD_MS);
        let flow = Flow {
            issuer: provider.issuer.clone(),
            nonce,
            provider: provider.provider.clone(),
            redirect_uri,
            until,
            verifier,
        };
        let sealed = self.seal(&tenant, PURPOSE, &fact(&state), &flow)?;
        let record = Record { writes: vec![put(fact(&state), sealed, Some(until))], ..Record::default() };
        self.try_record(&tenant, &tenant.folded(), now, record).await?.ok_or(Code::Conflict)?;
        Ok(Begun { authorization_url: url.into(), state: Secret::new(state), expires_at: until })
    }

    /// Ends it: with what the provider gave back.
    pub async fn finish_provider(
        &self,
        tenant: &str,
        provider: &str,
        state: &Secret,
        code: &Secret,
    ) -> Result<NewSession, RuntimeError> {
        let (tenant, provider) = self.provider(tenant, provider)?;
        // Nothing is counted: a state is 256 random bits, good once and begun here before, so there is
        // nothing to guess, and what goes wrong after it is not for who came back with it to answer for.
        let key = fact(state.expose());
        let kept = self.fact(&tenant, &key)?.ok_or(Code::SignInState)?;
        let flow: Flow = self.unseal(&tenant, PURPOSE, &key, &kept)?;
        // Once, whatever comes of it.
        let used = Record {
            reads: vec![(key.as_str().into(), kept.version)],
            writes: vec![delete(key.as_str())],
            events: Vec::new(),
        };
        if self.try_record(&tenant, &tenant.folded(), self.now(), used).await?.is_none() {
            return Err(Code::SignInState.into());
        }
        if flow.provider != provider.provider || flow.issuer != provider.issuer || self.now() >= flow.until {
            return Err(Code::SignInState.into());
        }
        let endpoints = self.discover(&provider).await?;
        let auth = match self.client_secret(&tenant, &provider)? {
            None => ClientAuth::Public,
            Some(secret) if endpoints.post => ClientAuth::Post { secret },
            Some(secret) => ClientAuth::Basic { id: provider.client_id.to_string(), secret },
        };
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", &flow.redirect_uri),
            ("code_verifier", &flow.verifier),
        ];
        if !matches!(auth, ClientAuth::Basic { .. }) {
            form.push(("client_id", &provider.client_id));
        }
        let answer = self.desk.http.post("provider's token endpoint", endpoints.token, auth, &form).await?;
        let token = answer.get("id_token").and_then(Value::as_str).ok_or_else(|| refused("it gives no ID token"))?;
        let jwks = self.desk.http.get("provider's key set", endpoints.jwks).await?;
        let keys = id_token::keys(&jwks).map_err(refused)?;
        let expected =
            Expected { issuer: &provider.issuer, client_id: &provider.client_id, nonce: &flow.nonce, now: self.now() };
        let claims = id_token::verify(token, &keys, expected, &provider.groups_claim).map_err(refused)?;
        let (member, basis) = self.member_of(&tenant, &provider, &claims).await?;
        self.start_session(&tenant, &member, SignInMethod::Oidc, &basis).await
    }
}
