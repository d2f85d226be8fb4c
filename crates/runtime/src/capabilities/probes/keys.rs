//! Keys as they grow old, and keys of one agent. What is rotated and bound is so on a copy of the live
//! state alone, with keys that are thrown away.

use intended_engine::{KeyStatus, State, decide};
use intended_keyring::SigningKey;
use intended_model::decision::{GateName, GateOutcome};
use intended_model::entry::{BODY_VERSION, CredentialCreated, KeyAdded, Scope};
use intended_model::{Code, Digest, EnvironmentId, Event};
use intended_token::Alg;

use super::{MADE_UP, count, credential, gate, input, listed};
use crate::capabilities::{Ask, Found, Probed};
use crate::key_age::Rotation;
use crate::{Runtime, RuntimeError};

fn none() -> Found {
    Found::not_configured("there is no environment", "make one: docs/api.md#tenants-and-environments")
}

/// Adds a key that nobody has to a copy, and says which.
fn rotated(ask: &Ask, copy: &mut State, environment: &EnvironmentId) -> Result<Box<str>, RuntimeError> {
    let key = SigningKey::generate(Alg::EdDSA, ask.runtime().rng()).map_err(RuntimeError::internal)?;
    let jwk = serde_json::to_vec(&key.public_jwk()).map_err(RuntimeError::internal)?;
    let event = Event::KeyAdded(KeyAdded {
        alg: Alg::EdDSA.as_str().into(),
        by: credential()?,
        environment: environment.clone(),
        jwk: intended_model::json::parse(&jwk)?,
        kid: key.kid().into(),
        v: BODY_VERSION,
    });
    copy.apply(u64::MAX, &event)?;
    Ok(key.kid().into())
}

pub async fn rotation(ask: &Ask) -> Probed {
    let state = ask.state();
    let Some(first) = ask.environments(&state).find(|e| e.keys.iter().any(|k| k.status == KeyStatus::Active)) else {
        return Ok(none());
    };
    let wrong = |what: &str| Ok(Found::unavailable(what, "do not rotate a key until it is found out why"));
    let before = first.keys.iter().find(|k| k.status == KeyStatus::Active).map(|k| k.kid.clone()).unwrap_or_default();
    let mut copy = State::clone(&state);
    let published = |copy: &State, kid: &str| -> Result<bool, RuntimeError> {
        Ok(Runtime::key_set(copy, Some(&first.id))?.keys.iter().any(|k| k.kid == kid))
    };
    let next = rotated(ask, &mut copy, &first.id)?;
    if !published(&copy, &next)? || !published(&copy, &before)? {
        return wrong("a rotation takes the key away that tokens under way are verified with");
    }
    let last = rotated(ask, &mut copy, &first.id)?;
    if !published(&copy, &last)? || !published(&copy, &next)? || published(&copy, &before)? {
        return wrong("after two rotations the key from before is still published");
    }
    let (mut ages, mut near, mut overdue, mut policy) = (Vec::new(), Vec::new(), Vec::new(), false);
    for environment in ask.environments(&state) {
        let Some(age) = ask.runtime().key_age(ask.tenant(), &environment.id).await? else { continue };
        let (days, now) = (age.days(ask.now()), ask.now());
        policy |= age.due.is_some();
        ages.push(days);
        match age.rotation(now) {
            Rotation::Fine => {}
            Rotation::Near => near.push(format!("`{}` ({days} days old)", environment.id)),
            Rotation::Overdue => overdue.push(format!("`{}` ({days} days old)", environment.id)),
        }
    }
    let rotate = "rotate it: `intended keys rotate`";
    if !overdue.is_empty() {
        return Ok(Found::degraded(format!("overdue in {}", listed(&overdue)), rotate));
    }
    if !near.is_empty() {
        return Ok(Found::degraded(format!("soon due in {}", listed(&near)), rotate));
    }
    let oldest = ages.iter().max().copied().unwrap_or_default();
    let what = format!("{} active, the oldest {oldest} days old", count(ages.len(), "key"));
    if policy {
        Ok(Found::working(format!("{what}, within the policy")))
    } else {
        Ok(Found::not_configured(
            format!("{what}; no policy says when they are rotated"),
            "set `signing_key_days` in the server's config file",
        ))
    }
}

pub async fn bound(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let Some(environment) = ask.environment(state) else { return Ok(none()) };
        let mut copy = State::clone(state);
        copy.apply(
            u64::MAX,
            &Event::CredentialCreated(CredentialCreated {
                actions: Vec::new(),
                agents: vec![MADE_UP.into()],
                by: ask.by.credential.clone(),
                credential: credential()?,
                environments: vec![environment.clone()],
                expires_at: None,
                hash: Digest::of(MADE_UP.as_bytes()),
                member: None,
                networks: Vec::new(),
                scopes: vec![Scope::IntentSubmit],
                test: false,
                whole: false,
                v: BODY_VERSION,
            }),
        )?;
        let refused = |agent: &str| -> Result<bool, RuntimeError> {
            let decision = decide(&copy, &input(&copy, &environment, agent, MADE_UP, ask.now())?);
            Ok(gate(&decision, GateName::Identity)
                .is_some_and(|g| g.outcome == GateOutcome::Deny && g.code == Code::CredentialAgent))
        };
        let wrong = |what: &str| {
            Ok(Found::unavailable(what, "revoke keys that are bound to agents: `intended access credentials revoke`"))
        };
        if !refused("capability-probe-2")? {
            return wrong("a key of one agent submits for another");
        }
        if refused(MADE_UP)? {
            return wrong("a key of one agent does not submit for that agent");
        }
        if copy.access(&credential()?, ask.now()).is_ok_and(|a| a.narrows_agents(&[])) {
            return wrong("a key of one agent makes a key of any");
        }
        let seen = |c: &intended_engine::Credential| ask.by.sees_all() || c.environments.iter().any(|e| ask.by.sees(e));
        let submits = |c: &intended_engine::Credential| {
            state.access(&c.id, ask.now()).is_ok_and(|a| a.may(Scope::IntentSubmit, None))
        };
        let keys: Vec<_> = state.credentials.values().filter(|c| seen(c) && submits(c)).collect();
        let of_agents = keys.iter().filter(|c| !c.agents.is_empty()).count();
        if of_agents == 0 {
            return Ok(Found::not_configured(
                format!("it denies on a copy, but of {} that submit none is bound", count(keys.len(), "key")),
                "give each agent a key of its own: `agents` in docs/api.md#credentials",
            ));
        }
        Ok(Found::working(format!(
            "{of_agents} of {} that submit are bound; another agent is denied",
            count(keys.len(), "key")
        )))
    })
    .await
}
