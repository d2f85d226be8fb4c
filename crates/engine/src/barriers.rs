//! What stands in the way of actions: holds by people, and breakers that have opened by themselves.
//!
//! A hold covers what a halt of the same words covers, whatever cannot be told apart included: people
//! who stop something mean all of it. A breaker that opened by itself covers what it measures, because
//! what is let through to try it must be what it is about.

use std::collections::{BTreeSet, HashMap};

use intended_model::decision::Classification;
use intended_model::emergency::HaltTarget;
use intended_model::entry::{BreakerHeld, BreakerScope};
use intended_model::{EnvironmentId, Intent, Name};

use crate::breakers::Instance;
use crate::covers::{Acting, Covers, as_watched};
use crate::emergency::{About, Cover};

/// The first decision procedure that looks at it so.
const SINCE: u32 = 3;

/// What stands in the way of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier<'s> {
    Held(&'s Name),
    Open(&'s Instance),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Earlier {
    Held(Name),
    Open(Instance),
}

#[derive(Debug, Clone, Default)]
pub struct Barriers {
    holds: Cover<BTreeSet<Name>>,
    open: HashMap<EnvironmentId, Covers<Instance>>,
    /// All of them as the procedures before the third looked for them: by the very text.
    earlier: HashMap<EnvironmentId, Covers<Earlier>>,
}

impl Barriers {
    pub fn hold(&mut self, held: &BreakerHeld) {
        let name = || held.breaker.clone();
        self.holds.edit(Some(&held.environment), target(held).as_ref(), |names| names.insert(name()));
        let earlier = self.earlier.entry(held.environment.clone()).or_default();
        earlier.add(held.scope, &held.target, Earlier::Held(name()));
    }

    pub fn release(&mut self, held: &BreakerHeld) {
        self.holds.edit(Some(&held.environment), target(held).as_ref(), |names| {
            names.remove(&held.breaker);
            !names.is_empty()
        });
        let is_it = |b: &Earlier| matches!(b, Earlier::Held(name) if *name == held.breaker);
        lift(&mut self.earlier, &held.environment, held.scope, &held.target, is_it);
    }

    pub fn open(&mut self, environment: &EnvironmentId, scope: BreakerScope, target: &str, instance: &Instance) {
        let open = self.open.entry(environment.clone()).or_default();
        open.add(scope, &as_watched(scope, target), instance.clone());
        let earlier = self.earlier.entry(environment.clone()).or_default();
        earlier.add(scope, target, Earlier::Open(instance.clone()));
    }

    pub fn close(&mut self, environment: &EnvironmentId, scope: BreakerScope, target: &str, instance: &Instance) {
        lift(&mut self.open, environment, scope, &as_watched(scope, target), |i| i == instance);
        let is_it = |b: &Earlier| matches!(b, Earlier::Open(i) if i == instance);
        lift(&mut self.earlier, environment, scope, target, is_it);
    }

    /// Gives `found` whatever stands in the way of an action, in no particular order.
    pub fn over<'s>(
        &'s self,
        procedure: u32,
        intent: &Intent,
        classification: &Classification,
        mut found: impl FnMut(Barrier<'s>),
    ) {
        let acting = Acting::by(procedure, intent, classification);
        if procedure < SINCE {
            let earlier = self.earlier.get(&intent.environment);
            earlier.into_iter().for_each(|earlier| {
                earlier.covering(&acting, |barrier| match barrier {
                    Earlier::Held(name) => found(Barrier::Held(name)),
                    Earlier::Open(instance) => found(Barrier::Open(instance)),
                });
            });
            return;
        }
        if let Some(open) = self.open.get(&intent.environment) {
            open.covering(&acting, |instance| found(Barrier::Open(instance)));
        }
        self.holds.covering(&About::of(intent, classification), |names| {
            names.iter().for_each(|name| found(Barrier::Held(name)));
        });
    }
}

/// What a halt of the same words is on; `None`: everything there.
fn target(held: &BreakerHeld) -> Option<HaltTarget> {
    HaltTarget::of(held.scope.as_str(), &held.target)
}

fn lift<T>(
    all: &mut HashMap<EnvironmentId, Covers<T>>,
    environment: &EnvironmentId,
    scope: BreakerScope,
    target: &str,
    which: impl Fn(&T) -> bool,
) {
    if let Some(covers) = all.get_mut(environment) {
        covers.remove(scope, target, which);
        if covers.is_empty() {
            all.remove(environment);
        }
    }
}
