//! Circuit breakers, as the fold has them: which there are, which are held by people, which have
//! opened by themselves and how they close.
//!
//! An automatic breaker is closed, open, or half-open (*probing*). What is lawful between them is
//! here, so that the verifier holds it too: it opens with a threshold of its rules that was reached,
//! is tried again not before its time, and closes after so many probes that succeeded, or opens again.
//! The measuring is the runtime's. A hold is a person's: nothing automatic touches it.

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_model::decision::Input;
use intended_model::entry::{
    BreakerClosed, BreakerDefaults, BreakerHeld, BreakerMeasure, BreakerMetric, BreakerOpened, BreakerProbing,
    BreakerReleased, BreakerRules, BreakerScope, BreakerSet, BreakerTarget, BreakerWindow,
};
use intended_model::{Digest, EnvironmentId, Intent, Name, Timestamp};

use crate::barriers::{Barrier, Barriers};
use crate::keys;
use crate::needs::BudgetNeed;
use crate::state::State;

/// Most breakers of one tenant.
pub const MAX_BREAKERS: usize = 10_000;
/// The largest number that the ledger records.
pub const MAX_AMOUNT: i64 = (1 << 53) - 1;
/// How long the count of a half-open breaker's probes is kept. Longer than any of them is half-open.
const PROBES_KEPT_SECS: i64 = 10 * 365 * 86_400;

/// Why an entry about a breaker cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BreakerError {
    #[error("there is no breaker `{0}` in the environment")]
    Unknown(Name),
    #[error("the breaker `{0}` is held already")]
    Held(Name),
    #[error("the breaker `{0}` is not held")]
    NotHeld(Name),
    #[error("`{0}` is the name of a breaker of another environment, or one that is kept for defaults")]
    Reserved(Name),
    #[error("there are {MAX_BREAKERS} breakers already")]
    TooMany,
    #[error("the rules are not valid: {0}")]
    Rules(&'static str),
    #[error("`{0}` cannot be watched: {1}")]
    Target(Box<str>, &'static str),
    #[error("{on} covers nothing: {why}")]
    CoversNothing { on: BreakerTarget, why: String },
    #[error("the breaker `{breaker}` {what}")]
    Transition { breaker: Name, what: &'static str },
}

/// A breaker and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    pub environment: EnvironmentId,
    pub on: BreakerTarget,
    pub rules: BreakerRules,
    /// Somebody has set its thresholds; otherwise it is one that every environment has.
    pub explicit: bool,
    pub active: bool,
}

/// A breaker, and which one of those it watches where it watches each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    pub breaker: Name,
    pub target: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Open,
    /// Half-open, since the entry at this ledger position.
    Probing {
        index: u64,
    },
}

/// A breaker that is not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub phase: Phase,
    /// When it opened.
    pub opened_at: Timestamp,
    pub retry_at: Timestamp,
    /// What opened it: of one that probes opened again, that they failed.
    pub measured: BreakerMeasure,
    /// What opened it at first.
    pub cause: BreakerMetric,
}

/// All breakers of a tenant.
#[derive(Debug, Clone, Default)]
pub struct Breakers {
    /// Those that people hold open.
    pub held: BTreeMap<Name, BreakerHeld>,
    /// Those that open by themselves.
    pub defined: Arc<BTreeMap<Name, Breaker>>,
    /// Those that have, and have not closed.
    pub standing: BTreeMap<Instance, Standing>,
    /// How many of them are half-open.
    probing: usize,
    barriers: Barriers,
}

/// The breakers that an environment has of itself: agents that fail or are mostly denied, and systems
/// that fail, each by itself. Ledgers name what they measured: other defaults get another
/// [`BreakerDefaults`].
#[must_use]
pub fn defaults(environment: &EnvironmentId) -> Vec<(Name, Breaker)> {
    let rules = BreakerRules { error_rate_permille: Some(500), ..BreakerRules::default() };
    [
        ("agents", BreakerScope::Agent, BreakerRules { denial_rate_permille: Some(900), ..rules.clone() }),
        ("connectors", BreakerScope::Connector, rules),
    ]
    .into_iter()
    .filter_map(|(what, scope, rules)| {
        let on = BreakerTarget { scope, target: None };
        let breaker = Breaker { environment: environment.clone(), on, rules, explicit: false, active: true };
        Some((default_name(environment, what)?, breaker))
    })
    .collect()
}

/// `production.agents`; of an environment whose name is too long, its digest instead.
fn default_name(environment: &EnvironmentId, what: &str) -> Option<Name> {
    let hashed = || Digest::of(environment.as_str().as_bytes()).to_hex();
    let short = || hashed().chars().take(16).collect::<String>();
    Name::new(&format!("{environment}.{what}")).or_else(|_| Name::new(&format!("{}.{what}", short()))).ok()
}

/// What a definition or hold may be about.
pub fn check_target(scope: BreakerScope, target: Option<&str>) -> Result<(), BreakerError> {
    let text = target.unwrap_or_default();
    let wrong = |why| Err(BreakerError::Target(text.into(), why));
    match (scope, target) {
        (BreakerScope::Tenant, None | Some("")) => Ok(()),
        (BreakerScope::Tenant, Some(_)) => wrong("`tenant` is everything in the environment and names nothing"),
        (_, None) => Ok(()),
        (_, Some(_)) if text.is_empty() || text.len() > 256 || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) => {
            wrong("1 to 256 printable ASCII characters")
        }
        (scope, Some(_)) if scope.has_patterns() && !crate::access::is_pattern(text) => {
            wrong("a `*` stands at the end only")
        }
        _ => Ok(()),
    }
}

/// Bounds of what opens a breaker.
pub fn check_rules(rules: &BreakerRules) -> Result<(), BreakerError> {
    let ok = |holds: bool, what: &'static str| if holds { Ok(()) } else { Err(BreakerError::Rules(what)) };
    let permille = |n: Option<u32>| n.is_none_or(|n| (1..=1000).contains(&n));
    let any = [BreakerMetric::ErrorRate, BreakerMetric::DenialRate, BreakerMetric::Latency, BreakerMetric::Velocity];
    ok(
        rules.spend.is_some() || any.iter().any(|m| rules.threshold(*m).is_some()),
        "at least one of error_rate_permille, denial_rate_permille, latency_ms, velocity, spend",
    )?;
    ok(
        permille(rules.error_rate_permille) && permille(rules.denial_rate_permille),
        "a rate lies within 1 to 1000 permille",
    )?;
    ok(rules.latency_ms.is_none_or(|n| n >= 1), "latency_ms is at least 1")?;
    ok((1..=10_000).contains(&rules.minimum_calls), "minimum_calls lies within 1 to 10,000")?;
    ok((1..=86_400).contains(&rules.open_secs), "open_secs lies within 1 second to 1 day")?;
    ok((1..=86_400).contains(&rules.probe_timeout_secs), "probe_timeout_secs lies within 1 second to 1 day")?;
    ok((1..=1000).contains(&rules.probes), "probes lies within 1 to 1000")?;
    ok((1..=rules.probes).contains(&rules.successes), "successes lies within 1 to probes")?;
    ok(
        rules.velocity.is_none_or(|n| n >= rules.minimum_calls),
        "velocity is at least minimum_calls: below that it opens nothing",
    )?;
    if let Some(spend) = &rules.spend {
        ok((1..=MAX_AMOUNT).contains(&spend.limit), "spend.limit lies within 1 to 2^53 - 1 hundredths")?;
        ok(!spend.argument.is_empty() && spend.argument.len() <= 128, "spend.argument has 1 to 128 characters")?;
    }
    match rules.window {
        BreakerWindow::Calls(n) => {
            ok((1..=10_000).contains(&n), "window.calls lies within 1 to 10,000")?;
            ok(rules.minimum_calls <= n, "minimum_calls is at most window.calls")?;
            ok(rules.velocity.is_none(), "velocity is a number within a time: it needs window.secs")
        }
        BreakerWindow::Secs(n) => ok((1..=86_400).contains(&n), "window.secs lies within 1 second to 1 day"),
    }
}

fn transition(breaker: &Name, what: &'static str) -> BreakerError {
    BreakerError::Transition { breaker: breaker.clone(), what }
}

impl Breakers {
    /// Nothing held, nothing open.
    pub fn calm(&mut self) {
        self.held.clear();
        self.standing.clear();
        self.barriers = Barriers::default();
        self.probing = 0;
    }

    /// What an environment has of itself, as its settings say.
    pub fn environment_set(&mut self, environment: &EnvironmentId, mode: BreakerDefaults) {
        for (name, breaker) in defaults(environment) {
            match (mode, self.defined.get(&name)) {
                (BreakerDefaults::Defaults, None) => {
                    Arc::make_mut(&mut self.defined).insert(name, breaker);
                }
                (BreakerDefaults::None, Some(known)) if !known.explicit => {
                    self.close_all(&name);
                    Arc::make_mut(&mut self.defined).remove(&name);
                }
                _ => {}
            }
        }
    }

    /// [`Event::BreakerSet`](intended_model::Event::BreakerSet).
    pub fn set(&mut self, e: &BreakerSet) -> Result<(), BreakerError> {
        check_target(e.on.scope, e.on.target.as_deref())?;
        check_rules(&e.rules)?;
        let of_itself = defaults(&e.environment).iter().any(|(name, _)| *name == e.breaker);
        let known = self.defined.get(&e.breaker);
        let kept = [".agents", ".connectors"].iter().any(|end| e.breaker.as_str().ends_with(end));
        if known.is_some_and(|b| b.environment != e.environment) || kept && !of_itself {
            return Err(BreakerError::Reserved(e.breaker.clone()));
        }
        if known.is_none() && !e.active && !of_itself {
            return Err(BreakerError::Unknown(e.breaker.clone()));
        }
        if known.is_none() && self.defined.len() >= MAX_BREAKERS {
            return Err(BreakerError::TooMany);
        }
        self.close_all(&e.breaker);
        let defined = Arc::make_mut(&mut self.defined);
        if e.active || of_itself {
            let breaker = Breaker {
                environment: e.environment.clone(),
                on: e.on.clone(),
                rules: e.rules.clone(),
                explicit: true,
                active: e.active,
            };
            defined.insert(e.breaker.clone(), breaker);
        } else {
            defined.remove(&e.breaker);
        }
        Ok(())
    }

    pub fn hold(&mut self, e: &BreakerHeld) -> Result<(), BreakerError> {
        check_target(e.scope, Some(&e.target))?;
        if self.held.contains_key(&e.breaker) {
            return Err(BreakerError::Held(e.breaker.clone()));
        }
        self.barriers.hold(e);
        self.held.insert(e.breaker.clone(), e.clone());
        Ok(())
    }

    /// [`Event::BreakerReleased`](intended_model::Event::BreakerReleased). What somebody stopped by hand
    /// goes on when a person says so: no automation, however broad its key.
    pub fn release(&mut self, e: &BreakerReleased) -> Result<(), BreakerError> {
        let held = self.held.remove(&e.breaker).ok_or_else(|| BreakerError::NotHeld(e.breaker.clone()))?;
        self.barriers.release(&held);
        Ok(())
    }

    /// It opens: a threshold was reached while it was closed, or a probe failed.
    pub fn opened(&mut self, e: &BreakerOpened) -> Result<(), BreakerError> {
        let wrong = |what| Err(transition(&e.breaker, what));
        let (instance, breaker) = self.instance(&e.breaker, &e.environment, e.target.as_deref())?;
        let (rules, found) = (&breaker.rules, &e.measured);
        if e.retry_at != e.at.plus_secs(i64::from(rules.open_secs)) {
            return wrong("is not to be tried again when its rules say");
        }
        if rules.threshold(found.metric) != Some(found.threshold) || found.window != rules.window {
            return wrong("opened by a threshold that its rules do not have");
        }
        if found.value < found.threshold {
            return wrong("opened below its threshold");
        }
        let before = self.standing.get(&instance).map(|s| s.phase);
        match (before, found.metric) {
            (None, BreakerMetric::Probes) => return wrong("was closed and had no probes"),
            (None, _) if found.calls < u64::from(rules.minimum_calls) => return wrong("opened below minimum_calls"),
            (None, _) => {}
            (Some(Phase::Probing { .. }), BreakerMetric::Probes) => self.probing -= 1,
            (Some(Phase::Probing { .. }), _) => return wrong("is half-open: only probes open it again"),
            (Some(Phase::Open), _) => return wrong("is open already"),
        }
        let cause = self.standing.get(&instance).map_or(found.metric, |before| before.cause);
        let standing =
            Standing { phase: Phase::Open, opened_at: e.at, retry_at: e.retry_at, measured: e.measured, cause };
        if before.is_none() {
            let (scope, target) = watched(&breaker.on, &instance);
            self.barriers.open(&breaker.environment, scope, target, &instance);
        }
        self.standing.insert(instance, standing);
        Ok(())
    }

    /// It was open long enough: from `index` on it is half-open.
    pub fn probing(&mut self, index: u64, e: &BreakerProbing) -> Result<(), BreakerError> {
        let (instance, _) = self.instance(&e.breaker, &e.environment, e.target.as_deref())?;
        let standing = self.standing.get_mut(&instance).filter(|s| s.phase == Phase::Open);
        let standing = standing.ok_or_else(|| transition(&e.breaker, "is not open"))?;
        if e.at < standing.retry_at {
            return Err(transition(&e.breaker, "is not to be tried again yet"));
        }
        standing.phase = Phase::Probing { index };
        self.probing += 1;
        Ok(())
    }

    /// The probes succeeded.
    pub fn closed(&mut self, e: &BreakerClosed) -> Result<(), BreakerError> {
        let (instance, breaker) = self.instance(&e.breaker, &e.environment, e.target.as_deref())?;
        let standing = self.standing.get(&instance).filter(|s| matches!(s.phase, Phase::Probing { .. }));
        let standing = standing.ok_or_else(|| transition(&e.breaker, "is not half-open"))?;
        if e.unreported > 0 && standing.cause.is_about_outcomes() {
            return Err(transition(&e.breaker, "was opened by what came of actions, and does not close without"));
        }
        // Where outcomes are not what it is about, it is enough that so many were allowed and none failed.
        let went_well = e.succeeded.saturating_add(e.unreported);
        if went_well < breaker.rules.successes || went_well > breaker.rules.probes {
            return Err(transition(&e.breaker, "closed with another number of successful probes than it takes"));
        }
        self.close(&instance);
        Ok(())
    }

    fn instance(
        &self,
        name: &Name,
        environment: &EnvironmentId,
        target: Option<&str>,
    ) -> Result<(Instance, Breaker), BreakerError> {
        let breaker = self.defined.get(name).filter(|b| b.active && b.environment == *environment);
        let breaker = breaker.ok_or_else(|| BreakerError::Unknown(name.clone()))?;
        if breaker.on.is_each() != target.is_some() {
            return Err(transition(name, "watches each by itself, or names none"));
        }
        Ok((Instance { breaker: name.clone(), target: target.map(Into::into) }, breaker.clone()))
    }

    fn close(&mut self, instance: &Instance) {
        let Some(standing) = self.standing.remove(instance) else { return };
        self.probing -= usize::from(matches!(standing.phase, Phase::Probing { .. }));
        let Some(breaker) = self.defined.get(&instance.breaker) else { return };
        let (scope, target) = watched(&breaker.on, instance);
        self.barriers.close(&breaker.environment, scope, target, instance);
    }

    fn close_all(&mut self, breaker: &Name) {
        let from = Instance { breaker: breaker.clone(), target: None };
        let of_it = self.standing.range(from..).map(|(i, _)| i).take_while(|i| i.breaker == *breaker);
        for instance in of_it.cloned().collect::<Vec<_>>() {
            self.close(&instance);
        }
    }

    /// The counter of a half-open breaker's probes.
    #[must_use]
    pub fn probes_of(&self, instance: &Instance) -> Option<String> {
        match self.standing.get(instance)?.phase {
            Phase::Probing { index } => Some(keys::probes(&instance.breaker, index)),
            Phase::Open => None,
        }
    }
}

/// What one instance is about.
fn watched<'a>(on: &'a BreakerTarget, instance: &'a Instance) -> (BreakerScope, &'a str) {
    (on.scope, on.target.as_deref().or(instance.target.as_deref()).unwrap_or_default())
}

/// The probes that an intent would be, of each half-open breaker that covers it.
pub(crate) fn probes(state: &State, procedure: u32, intent: &Intent, at: Timestamp) -> Vec<BudgetNeed> {
    let breakers = &state.breakers;
    if breakers.probing == 0 {
        return Vec::new();
    }
    let classification = state.catalogue.classify_by(procedure, &intent.action.name);
    let mut needs = Vec::new();
    breakers.barriers.over(procedure, intent, &classification, |barrier| {
        let Barrier::Open(instance) = barrier else { return };
        let defined = breakers.defined.get(&instance.breaker);
        let Some((key, defined)) = breakers.probes_of(instance).zip(defined) else { return };
        needs.push(BudgetNeed {
            key,
            amount: Some(1),
            limit: i64::from(defined.rules.probes),
            id: instance.breaker.as_str().into(),
            ends: at.plus_secs(PROBES_KEPT_SECS),
        });
    });
    needs.sort_by(|a, b| a.key.cmp(&b.key));
    needs
}

impl Breakers {
    /// The holds, and those that are open or half-open, that cover an intent; each by name.
    #[must_use]
    pub fn over<'s>(&'s self, input: &Input) -> (Vec<&'s BreakerHeld>, Vec<&'s Instance>) {
        let (mut held, mut open) = (Vec::new(), Vec::new());
        self.barriers.over(input.procedure, &input.intent, &input.classification, |barrier| match barrier {
            Barrier::Held(name) => held.extend(self.held.get(name)),
            Barrier::Open(instance) => open.push(instance),
        });
        held.sort_by(|a: &&BreakerHeld, b| a.breaker.cmp(&b.breaker));
        held.dedup_by(|a, b| a.breaker == b.breaker);
        open.sort();
        (held, open)
    }
}

/// What keeps an intent from being allowed: a hold before an open breaker before one whose probes are
/// used up; of several the first by name.
pub(crate) fn barrier(state: &State, input: &Input) -> Option<String> {
    let breakers = &state.breakers;
    let (mut held, mut open): (Option<&BreakerHeld>, Option<(u8, &Instance)>) = (None, None);
    breakers.barriers.over(input.procedure, &input.intent, &input.classification, |barrier| match barrier {
        Barrier::Held(name) => {
            let found = breakers.held.get(name);
            held = match (held, found) {
                (Some(first), Some(found)) if first.breaker <= found.breaker => Some(first),
                (first, found) => found.or(first),
            };
        }
        Barrier::Open(instance) => {
            let Some(standing) = breakers.standing.get(instance) else { return };
            let rank = match standing.phase {
                Phase::Open => 0,
                Phase::Probing { .. } if used_up(breakers, instance, input) => 1,
                Phase::Probing { .. } => return,
            };
            if open.is_none_or(|first| (rank, instance) < first) {
                open = Some((rank, instance));
            }
        }
    });
    if let Some(held) = held {
        return Some(format!("breaker `{}` held on `{}`: {}", held.breaker, held.target, held.reason));
    }
    let (rank, instance) = open?;
    let (standing, breaker) = (breakers.standing.get(instance)?, breakers.defined.get(&instance.breaker)?);
    let on = BreakerTarget { scope: breaker.on.scope, target: Some(watched(&breaker.on, instance).1.into()) };
    let BreakerMeasure { calls, metric, threshold, value, window } = standing.measured;
    let (name, unit) = (metric.as_str(), metric.unit());
    let why = format!("{name} {value} reached {threshold} {unit} ({calls} of {window})");
    Some(if rank == 0 {
        format!("breaker `{}` on {on} is open: {why}; retry at {}", instance.breaker, standing.retry_at)
    } else if input.class.is_synthetic() {
        format!(
            "breaker `{}` on {on} is half-open, and only real calls probe it; it had opened: {why}",
            instance.breaker
        )
    } else {
        format!(
            "breaker `{}` on {on} is half-open and its {} probes are used; it had opened: {why}",
            instance.breaker, breaker.rules.probes
        )
    })
}

/// A probe that was not counted is none.
fn used_up(breakers: &Breakers, instance: &Instance, input: &Input) -> bool {
    let limit = breakers.defined.get(&instance.breaker).map_or(0, |b| i64::from(b.rules.probes));
    let seen = breakers.probes_of(instance).and_then(|key| input.counters.get(key.as_str()).copied());
    seen.is_none_or(|seen| seen >= limit)
}
