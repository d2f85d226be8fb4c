//! What people do with breakers: set their thresholds, hold them open and release them, look at them.

use std::collections::BTreeMap;

use intended_engine::State;
use intended_engine::breakers::{Instance, Phase, check_target};
use intended_model::entry::{
    BODY_VERSION, BreakerHeld, BreakerMeasure, BreakerReleased, BreakerRules, BreakerScope, BreakerSet, BreakerTarget,
    Scope,
};
use intended_model::{Code, CredentialId, EnvironmentId, Event, Name, Timestamp};
use serde::Serialize;

use super::environment_of;
use crate::admin::{Change, Changed};
use crate::{Principal, Runtime, RuntimeError};

/// Most of those that a breaker watches by themselves that are shown.
const MAX_SHOWN: usize = 100;

/// What a breaker is to be. What is `None` stays as it is.
#[derive(Debug, Clone, Serialize)]
pub struct BreakerSpec {
    pub active: bool,
    pub environment: Option<EnvironmentId>,
    pub on: Option<BreakerTarget>,
    pub rules: BreakerRules,
}

/// What is to be held open: what a breaker watches, or what is named.
#[derive(Debug, Clone, Serialize)]
pub struct HoldSpec {
    pub environment: Option<EnvironmentId>,
    pub on: Option<BreakerTarget>,
    pub reason: Box<str>,
}

#[derive(Debug, Clone, Serialize)]
pub struct HoldRow {
    pub hold: Name,
    pub by: CredentialId,
    pub reason: Box<str>,
    pub scope: BreakerScope,
    pub target: Box<str>,
}

/// One of those that a breaker watches each by itself; of any other, the one.
#[derive(Debug, Clone, Serialize)]
pub struct InstanceRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Box<str>>,
    /// `closed`, `open`, `half_open`.
    pub state: &'static str,
    /// Each metric that has a threshold.
    pub measured: Vec<BreakerMeasure>,
    /// What opened it, unless it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_by: Option<BreakerMeasure>,
    /// Milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Of a half-open one, how many it has let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<i64>,
}

/// A breaker as it stands, or a hold on something that none watches.
#[derive(Debug, Clone, Serialize)]
pub struct BreakerRow {
    pub breaker: Name,
    pub environment: EnvironmentId,
    pub on: BreakerTarget,
    /// Somebody has set its thresholds.
    pub explicit: bool,
    pub active: bool,
    /// The worst of: `held`, `open`, `half_open`, `closed`; `off`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<BreakerRules>,
    pub instances: Vec<InstanceRow>,
    pub held: Vec<HoldRow>,
}

impl BreakerRow {
    /// Where it stands in [`Runtime::breakers`].
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} {}", self.environment, self.breaker)
    }
}

impl Runtime {
    /// Sets what opens a breaker and how it closes. It starts closed.
    pub async fn set_breaker(&self, by: &Principal, breaker: Name, spec: BreakerSpec) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("breaker", &breaker, &spec), |by, state| {
            let known = state.breakers.defined.get(&breaker).filter(|b| by.sees(&b.environment));
            let environment = environment_of(by, spec.environment.as_ref(), known.map(|b| &b.environment))?;
            by.require(Scope::EmergencyWrite, Some(&environment))?;
            let on = spec.on.clone().or_else(|| known.map(|b| b.on.clone()));
            if let Some(on) = on.as_ref().filter(|_| spec.active) {
                coverable(state, on)?;
            }
            let event = Event::BreakerSet(BreakerSet {
                active: spec.active,
                breaker: breaker.clone(),
                by: by.credential.clone(),
                environment,
                on: on.ok_or_else(|| RuntimeError::at(Code::RequestInvalid, "/on", "say what it watches"))?,
                rules: spec.rules.clone(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        let index = changed.await?.index;
        // What it saw before it was set anew, it saw with other eyes.
        let state = by.tenant.state();
        by.tenant.breakers.forget(&state, &Instance { breaker, target: None });
        Ok(index)
    }

    /// Holds something open until somebody releases it: what the named breaker watches, or what `on`
    /// names. The answer is the hold's name.
    pub async fn hold_breaker(
        &self,
        by: &Principal,
        breaker: Name,
        spec: HoldSpec,
    ) -> Result<Changed<Name>, RuntimeError> {
        let hex = intended_model::digest::hex(&self.random::<4>()?);
        let fresh = Name::new(&format!("hold-{hex}")).map_err(RuntimeError::internal)?;
        self.change(by, ("breaker.hold", &breaker, &spec), |by, state| {
            let known = state.breakers.defined.get(&breaker).filter(|b| by.sees(&b.environment));
            let environment = environment_of(by, spec.environment.as_ref(), known.map(|b| &b.environment))?;
            by.require(Scope::EmergencyWrite, Some(&environment))?;
            if known.is_some_and(|b| b.environment != environment) {
                return Err(Code::BreakerUnknown.into());
            }
            let on = spec.on.as_ref().or(known.map(|b| &b.on)).ok_or_else(|| {
                RuntimeError::new(
                    Code::BreakerUnknown,
                    format!("`{breaker}`: to hold what no breaker watches, name it"),
                )
            })?;
            if on.is_each() {
                let what =
                    format!("which {} is to be held; the whole environment is what a halt stops", on.scope.as_str());
                return Err(RuntimeError::at(Code::RequestInvalid, "/on/target", what));
            }
            coverable(state, on)?;
            // One of those that a breaker watches, or something else than it does: a hold of its own.
            let own = known.is_none_or(|b| b.on == *on);
            let hold = if own { breaker.clone() } else { fresh.clone() };
            let event = Event::BreakerHeld(BreakerHeld {
                breaker: hold.clone(),
                by: by.credential.clone(),
                environment,
                reason: spec.reason.clone(),
                scope: on.scope,
                target: on.target.clone().unwrap_or_default(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, hold))
        })
        .await
    }

    /// Releases what somebody holds: a person does. What has opened by itself stays as it is.
    pub async fn release_breaker(&self, by: &Principal, hold: Name, reason: &str) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("breaker.release", &hold, reason), |by, state| {
            let held = state.breakers.held.get(&hold).filter(|h| by.sees(&h.environment));
            let held = held.ok_or(Code::BreakerUnknown)?;
            by.require(Scope::EmergencyWrite, Some(&held.environment))?;
            if by.member().is_none() {
                return Err(Code::BreakerPerson.into());
            }
            let event = Event::BreakerReleased(BreakerReleased {
                breaker: hold.clone(),
                by: by.credential.clone(),
                reason: reason.into(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }

    /// The breakers and holds of the environments that the caller sees, by environment and name.
    pub fn breakers(&self, by: &Principal) -> Result<Vec<BreakerRow>, RuntimeError> {
        let (state, now) = (by.tenant.state(), self.now());
        let mut rows = Vec::new();
        for (name, breaker) in state.breakers.defined.iter().filter(|(_, b)| by.sees(&b.environment)) {
            let instances = self.instances(by, &state, name, now)?;
            let worst = |wanted| instances.iter().any(|i| i.state == wanted);
            let held: Vec<HoldRow> = state
                .breakers
                .held
                .values()
                .filter(|h| h.environment == breaker.environment && (h.breaker == *name || covers(&breaker.on, h)))
                .map(hold_row)
                .collect();
            rows.push(BreakerRow {
                breaker: name.clone(),
                environment: breaker.environment.clone(),
                on: breaker.on.clone(),
                explicit: breaker.explicit,
                active: breaker.active,
                state: match (breaker.active, held.is_empty()) {
                    (_, false) => "held",
                    (false, _) => "off",
                    _ if worst("open") => "open",
                    _ if worst("half_open") => "half_open",
                    _ => "closed",
                },
                rules: Some(breaker.rules.clone()),
                instances,
                held,
            });
        }
        for held in state.breakers.held.values().filter(|h| by.sees(&h.environment)) {
            if rows.iter().any(|r| r.held.iter().any(|h| h.hold == held.breaker)) {
                continue;
            }
            rows.push(BreakerRow {
                breaker: held.breaker.clone(),
                environment: held.environment.clone(),
                on: BreakerTarget {
                    scope: held.scope,
                    target: Some(held.target.clone()).filter(|_| held.scope != BreakerScope::Tenant),
                },
                explicit: true,
                active: true,
                state: "held",
                rules: None,
                instances: Vec::new(),
                held: vec![hold_row(held)],
            });
        }
        rows.sort_by_cached_key(BreakerRow::place);
        Ok(rows)
    }

    /// Those that are not closed first, then what was seen of others.
    fn instances(
        &self,
        by: &Principal,
        state: &State,
        name: &Name,
        now: Timestamp,
    ) -> Result<Vec<InstanceRow>, RuntimeError> {
        let mut measures: BTreeMap<Box<str>, Vec<BreakerMeasure>> = by.tenant.breakers.measures(state, name, now);
        let mut rows = Vec::new();
        let from = Instance { breaker: name.clone(), target: None };
        for (instance, standing) in state.breakers.standing.range(from..).take_while(|(i, _)| i.breaker == *name) {
            let probes = match state.breakers.probes_of(instance) {
                Some(key) => Some(self.store().counter_now(&by.tenant.id, &key)?),
                None => None,
            };
            rows.push(InstanceRow {
                measured: measures.remove(instance.target.as_deref().unwrap_or_default()).unwrap_or_default(),
                target: instance.target.clone(),
                state: if standing.phase == Phase::Open { "open" } else { "half_open" },
                opened_by: Some(standing.measured),
                opened_at: Some(standing.opened_at),
                retry_at: Some(standing.retry_at),
                probes,
            });
        }
        for (target, measured) in measures {
            if rows.len() >= MAX_SHOWN {
                break;
            }
            let target = Some(target).filter(|t| !t.is_empty());
            let (opened_by, opened_at, retry_at, probes) = (None, None, None, None);
            rows.push(InstanceRow { target, state: "closed", measured, opened_by, opened_at, retry_at, probes });
        }
        Ok(rows)
    }
}

/// What cannot be watched at all is said first, then what is nothing here.
fn coverable(state: &State, on: &BreakerTarget) -> Result<(), RuntimeError> {
    check_target(on.scope, on.target.as_deref())
        .and_then(|()| intended_engine::coverable::check(state, on))
        .map_err(|error| intended_engine::FoldError::from(error).into())
}

/// Whether a hold is on something that a breaker watches each by itself.
fn covers(on: &BreakerTarget, held: &BreakerHeld) -> bool {
    on.is_each() && on.scope == held.scope
}

fn hold_row(held: &BreakerHeld) -> HoldRow {
    HoldRow {
        hold: held.breaker.clone(),
        by: held.by.clone(),
        reason: held.reason.clone(),
        scope: held.scope,
        target: held.target.clone(),
    }
}
