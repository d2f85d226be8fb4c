//! Breakers and holds, on a copy of the live state.

use intended_engine::breakers::Phase;
use intended_engine::{State, decide};
use intended_model::decision::{GateName, GateOutcome, Input};
use intended_model::entry::{
    BODY_VERSION, BreakerClosed, BreakerHeld, BreakerMeasure, BreakerMetric, BreakerOpened, BreakerProbing,
    BreakerReleased, BreakerRules, BreakerScope, BreakerSet, BreakerTarget,
};
use intended_model::{Code, CredentialId, Event, MemberId, Name};

use super::{MADE_UP, credential, gate, input, name, two_tools};
use crate::capabilities::{Ask, Found, Probed};

const HALT: &str = "halt what must stop: `intended emergency halt`; breakers are not to be relied on";

/// Whether the breaker gate denies it.
fn stopped(state: &State, input: &Input) -> bool {
    let decision = decide(state, input);
    gate(&decision, GateName::Breaker).is_some_and(|g| g.outcome == GateOutcome::Deny && g.code == Code::BreakerOpen)
}

fn wrong(what: &str) -> Found {
    Found::unavailable(what, HALT)
}

pub async fn automatic(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let Some(environment) = ask.environment(state) else {
            return Ok(Found::not_configured(
                "there is no environment",
                "make one: docs/api.md#tenants-and-environments",
            ));
        };
        let mut copy = State::clone(state);
        copy.breakers = std::sync::Arc::default();
        let (breaker, at) = (name(MADE_UP)?, ask.now());
        let rules = BreakerRules {
            error_rate_permille: Some(500),
            minimum_calls: 1,
            open_secs: 1,
            probes: 1,
            successes: 1,
            ..BreakerRules::default()
        };
        let (retry_at, window) = (at.plus_secs(1), rules.window);
        let mut question = input(&copy, &environment, MADE_UP, MADE_UP, at)?;
        copy.apply(
            u64::MAX,
            &Event::BreakerSet(BreakerSet {
                active: true,
                breaker: breaker.clone(),
                by: credential()?,
                environment: environment.clone(),
                on: BreakerTarget { scope: BreakerScope::Tenant, target: None },
                rules,
                v: BODY_VERSION,
            }),
        )?;
        if stopped(&copy, &question) {
            return Ok(wrong("a closed breaker denies"));
        }
        let measured =
            BreakerMeasure { calls: 1, metric: BreakerMetric::ErrorRate, threshold: 500, value: 1000, window };
        let opened = Event::BreakerOpened(BreakerOpened {
            at,
            breaker: breaker.clone(),
            environment: environment.clone(),
            measured,
            retry_at,
            target: None,
            v: BODY_VERSION,
        });
        copy.apply(u64::MAX, &opened)?;
        if !stopped(&copy, &question) {
            return Ok(wrong("an open breaker does not deny"));
        }
        if copy.apply(u64::MAX, &opened).is_ok() {
            return Ok(wrong("a breaker opens twice"));
        }
        let probing = |at| {
            Event::BreakerProbing(BreakerProbing {
                at,
                breaker: breaker.clone(),
                environment: environment.clone(),
                target: None,
                v: BODY_VERSION,
            })
        };
        if copy.apply(u64::MAX, &probing(at)).is_ok() {
            return Ok(wrong("a breaker is tried again before its time"));
        }
        copy.apply(u64::MAX, &probing(retry_at))?;
        question.at = retry_at;
        for need in intended_engine::needs(&copy, question.procedure, &question.intent, retry_at).probes {
            question.counters.insert(need.key.into(), 0);
        }
        if stopped(&copy, &question) {
            return Ok(wrong("a half-open breaker lets nothing through"));
        }
        for need in intended_engine::needs(&copy, question.procedure, &question.intent, retry_at).probes {
            question.counters.insert(need.key.into(), need.limit);
        }
        if !stopped(&copy, &question) {
            return Ok(wrong("a half-open breaker lets more through than it says"));
        }
        let closed = BreakerClosed {
            at: retry_at,
            breaker,
            environment,
            succeeded: 1,
            target: None,
            unreported: 0,
            v: BODY_VERSION,
        };
        copy.apply(u64::MAX, &Event::BreakerClosed(closed))?;
        if stopped(&copy, &question) {
            return Ok(wrong("a breaker that has closed denies"));
        }
        Ok(live(ask, state))
    })
    .await
}

/// What the tenant has of them.
fn live(ask: &Ask, state: &State) -> Found {
    let mine = |name: &Name| state.breakers.defined.get(name).is_some_and(|b| b.active && ask.by.sees(&b.environment));
    let all = state.breakers.defined.keys().filter(|name| mine(name)).count();
    let standing: Vec<_> = state.breakers.standing.iter().filter(|(i, _)| mine(&i.breaker)).collect();
    let open = standing.iter().filter(|(_, s)| s.phase == Phase::Open).count();
    if all == 0 {
        return Found::not_configured(
            "a breaker opens and closes on a copy, but none is set",
            "set thresholds: `intended breaker set`",
        );
    }
    Found::working(format!("{all} set, {open} open, {} half-open; opens and closes on a copy", standing.len() - open))
}

pub async fn holds(ask: &Ask) -> Probed {
    ask.aside(|ask, state| {
        let Some(environment) = ask.environment(state) else {
            return Ok(Found::not_configured(
                "there is no environment",
                "make one: docs/api.md#tenants-and-environments",
            ));
        };
        let Some([(tool, _), (other, _)]) = two_tools(state) else {
            return Ok(Found::not_configured("the catalogue has no tools", "see docs/policy.md#the-catalogue"));
        };
        let mut copy = State::clone(state);
        copy.breakers = std::sync::Arc::default();
        let system = intended_model::emergency::connector_of(&tool).map(|c| c.into_owned()).unwrap_or_default();
        let (held, beside) = (
            input(&copy, &environment, MADE_UP, &tool, ask.now())?,
            input(&copy, &environment, MADE_UP, &other, ask.now())?,
        );
        copy.apply(
            u64::MAX,
            &Event::BreakerHeld(BreakerHeld {
                breaker: name(MADE_UP)?,
                by: credential()?,
                environment: environment.clone(),
                reason: "a probe".into(),
                scope: BreakerScope::Connector,
                target: system.into(),
                v: BODY_VERSION,
            }),
        )?;
        if !stopped(&copy, &held) {
            return Ok(wrong("what is held is let through"));
        }
        if stopped(&copy, &beside) {
            return Ok(wrong("a hold denies what it is not about"));
        }
        let release = |by| {
            Ok::<_, crate::RuntimeError>(Event::BreakerReleased(BreakerReleased {
                breaker: name(MADE_UP)?,
                by,
                reason: "a probe".into(),
                v: BODY_VERSION,
            }))
        };
        let person = MemberId::new(MADE_UP).ok().as_ref().and_then(CredentialId::of_member).ok_or(Code::Internal)?;
        copy.apply(u64::MAX, &release(person.clone())?)?;
        if stopped(&copy, &held) {
            return Ok(wrong("what was released is denied"));
        }
        if copy.apply(u64::MAX, &release(person)?).is_ok() {
            return Ok(wrong("a hold is released twice"));
        }
        let now = state.breakers.held.values().filter(|h| ask.by.sees(&h.environment)).count();
        Ok(Found::working(format!("held and released on a copy; {now} held now")))
    })
    .await
}
