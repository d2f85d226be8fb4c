//! Keys, people, signing in. Whatever is tried is made up: nobody's failures are counted.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use intended_engine::State;
use intended_keyring::totp::{TotpSecret, step};
use intended_keyring::{ApiKey, KeyKind, PasswordHash};
use intended_model::Code;
use intended_model::entry::SignInMethod;

use super::{count, listed};
use crate::RuntimeError;
use crate::capabilities::{Ask, Found, Probed};
use crate::lockout::{FAILURES, Lockout};

/// How long a provider may take. It is asked for people too, and they wait no longer.
const PROVIDER: Duration = Duration::from_secs(3);
/// An address that nobody has (RFC 5737).
const NOBODYS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

pub fn api_keys(ask: &Ask) -> Probed {
    let runtime = ask.runtime();
    let wrong =
        |what: String| Ok(Found::unavailable(what, "take the server out of service: it lets in whom it does not know"));
    let key = ApiKey::generate(runtime.rng(), KeyKind::Live).map_err(RuntimeError::internal)?;
    let tried = |text: &str| runtime.authenticate(text).map_or_else(|e| Some(e.code), |_| None);
    if tried(key.expose()) != Some(Code::CredentialUnknown) {
        return wrong("a key that nobody has is not refused as unknown".to_owned());
    }
    if tried(&format!("{}x", key.expose())) != Some(Code::CredentialMalformed) {
        return wrong("a key with a typing error is not refused as one".to_owned());
    }
    let (state, now) = (ask.state(), ask.now());
    if let Err(error) = state.access(&ask.by.credential, now) {
        return wrong(format!("the caller is let in, and the state says: {error}"));
    }
    let good = |c: &&Arc<intended_engine::Credential>| state.access(&c.id, now).is_ok();
    let environments =
        |c: &&Arc<intended_engine::Credential>| ask.by.sees_all() || c.environments.iter().any(|e| ask.by.sees(e));
    let keys = state.credentials.values().filter(environments).filter(good).count();
    Ok(Found::working(format!("{} good now; an unknown one is refused", count(keys, "key"))))
}

pub fn lockout(ask: &Ask) -> Probed {
    let (list, now) = (Lockout::default(), ask.now());
    let waits = (0..FAILURES).map(|_| list.failed(NOBODYS, now)).take_while(Result::is_ok).count();
    let (wait, most) = (list.failed(NOBODYS, now), usize::try_from(FAILURES).unwrap_or(usize::MAX));
    match wait {
        Err(seconds) if waits + 1 == most => {
            Ok(Found::working(format!("after {FAILURES} failures an address waits {seconds} s")))
        }
        _ => Ok(Found::unavailable(
            format!("after {waits} failures an address does not wait"),
            "limit requests in the proxy in front",
        )),
    }
}

/// Members with a means of signing in, of the tenant.
fn with(state: &State, method: SignInMethod) -> usize {
    state.members.values().filter(|m| m.active && m.sign_in.contains(&method)).count()
}

pub async fn passwords(ask: &Ask) -> Probed {
    let password = zeroize::Zeroizing::new(ask.runtime().random_id()?);
    let runtime = Arc::clone(&ask.runtime);
    // A hash takes a core and 19 MiB: it waits its turn with people who sign in.
    let verified = ask.runtime().hashing(move || {
        let hash = PasswordHash::new(&password, runtime.rng()).map_err(RuntimeError::internal)?;
        Ok::<_, RuntimeError>(hash.verify(&password) && !hash.verify("another password"))
    });
    if !verified.await?? {
        return Ok(Found::unavailable(
            "a password does not verify as it should",
            "have people sign in with an identity provider, or use keys",
        ));
    }
    Ok(match with(&ask.state(), SignInMethod::Password) {
        0 => Found::not_configured(
            "hashes and verifies; nobody has a password",
            "invite somebody: `intended access members invite`",
        ),
        1 => Found::working("hashes and verifies; one member has a password"),
        n => Found::working(format!("hashes and verifies; {n} members have a password")),
    })
}

pub fn authenticators(ask: &Ask) -> Probed {
    let secret = TotpSecret::generate(ask.runtime().rng()).map_err(RuntimeError::internal)?;
    let now = ask.now();
    let code = secret.code(step(now));
    let used = secret.verify(&code, now, None);
    let old = secret.code(step(now) - 100);
    let fresh_only = used.is_some_and(|used| secret.verify(&code, now, Some(used)).is_none());
    // By chance the old one can be that of now: then it says nothing.
    let old_refused = *old == *code || secret.verify(&old, now, used).is_none();
    if !fresh_only || !old_refused {
        return Ok(Found::unavailable(
            "a code is not good once and then no more",
            "have people sign in with an identity provider",
        ));
    }
    Ok(match with(&ask.state(), SignInMethod::Totp) {
        0 => Found::not_configured("a code is good once; nobody has an authenticator", "docs/sign-in.md#what-it-takes"),
        1 => Found::working("a code is good once; one member has an authenticator"),
        n => Found::working(format!("a code is good once; {n} members have an authenticator")),
    })
}

pub async fn identity_providers(ask: &Ask) -> Probed {
    let state = ask.state();
    let active: Vec<_> = state.providers.values().filter(|p| p.active).cloned().collect();
    if active.is_empty() {
        return Ok(Found::not_configured("none is set up", "docs/sign-in.md#identity-providers"));
    }
    let mut asked = tokio::task::JoinSet::new();
    for provider in active {
        let (runtime, tenant) = (Arc::clone(&ask.runtime), Arc::clone(ask.tenant()));
        asked.spawn(async move {
            let answers = tokio::time::timeout(PROVIDER, runtime.try_provider(&tenant, &provider)).await;
            let why = match answers {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    Some(if error.detail.is_empty() { error.code.title().to_owned() } else { error.detail })
                }
                Err(_) => Some(format!("it does not answer within {} s", PROVIDER.as_secs())),
            };
            (provider.provider.to_string(), why)
        });
    }
    let (mut good, mut bad) = (0_usize, Vec::new());
    while let Some(answer) = asked.join_next().await {
        match answer.map_err(RuntimeError::internal)? {
            (_, None) => good += 1,
            // Which ones there are is the whole tenant's.
            (provider, Some(why)) if ask.by.sees_all() => bad.push(format!("`{provider}`: {why}")),
            (_, Some(_)) => bad.push("one does not answer as it should".to_owned()),
        }
    }
    bad.sort();
    if bad.is_empty() {
        return Ok(Found::working(format!("{good} of {good} answer")));
    }
    let what = format!("{good} of {} answer; {}", good + bad.len(), listed(&bad));
    let act = "whoever has a password still comes in; put the provider right: docs/sign-in.md#identity-providers";
    Ok(if good == 0 { Found::unavailable(what, act) } else { Found::degraded(what, act) })
}

pub fn review(ask: &Ask) -> Probed {
    let state = ask.state();
    let Some(last) = state.reviews.last() else {
        return Ok(Found::not_configured("none was made", "make one: `intended access review make`"));
    };
    let complete = state.reviews.iter().filter(|r| r.is_complete()).count();
    if !last.is_complete() {
        return Ok(Found::degraded(
            format!("{} of 2 have signed the newest, at entry {}", last.signed.len(), last.index),
            "read and sign it: `intended access review sign`",
        ));
    }
    Ok(Found::working(format!("{complete} signed by two, the newest at entry {}", last.index)))
}
