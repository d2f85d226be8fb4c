//! What a tenant's breakers have seen, in memory. Fed after a decision has committed, away from what
//! decisions wait for each other in: only the breakers that cover it are looked at, each has locks of
//! its own in several parts, and nothing is allocated once something has been seen before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use intended_engine::State;
use intended_engine::breakers::{Breaker, Instance};
use intended_engine::covers::{Acting, Covers, as_watched};
use intended_model::entry::{BreakerMeasure, BreakerScope};
use intended_model::{EnvironmentId, Name, Timestamp};

use super::ring::reach;
use super::window::{Sample, Window};
use super::written::{Kept, Written};

/// In so many parts are the windows of one breaker locked.
const SHARDS: usize = 16;
/// Most windows in one part that are far from every threshold: of tools that a pattern of the catalogue
/// knows there can be any number, and whoever makes names up must not push out what another has seen.
const MAX_WINDOWS: usize = 1024;
/// Most windows in one part.
const MAX_CLOSE: usize = 4 * MAX_WINDOWS;
/// So many are dropped at once: looking for them costs as much as for one.
const DROPPED: usize = MAX_WINDOWS / 4;
/// From so close to a threshold on, in thousandths, a window is not dropped for another.
const CLOSE: i64 = 250;

type Windows = HashMap<Box<str>, Window>;

/// One breaker's windows: one, or one for each that it watches by itself.
#[derive(Debug)]
struct Watcher {
    name: Name,
    breaker: Breaker,
    shards: [Mutex<Windows>; SHARDS],
}

impl Watcher {
    fn new(name: Name, breaker: Breaker) -> Self {
        Self { name, breaker, shards: Default::default() }
    }

    fn shard(&self, target: &str) -> MutexGuard<'_, Windows> {
        // FNV-1a.
        let hash =
            target.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.shards;
        self.shards.get(at).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn instance(&self, target: &str) -> Instance {
        let target = self.breaker.on.is_each().then(|| target.into());
        Instance { breaker: self.name.clone(), target }
    }

    fn push(&self, target: &str, at: Timestamp, sample: Sample) -> Option<BreakerMeasure> {
        let mut windows = self.shard(target);
        if !windows.contains_key(target) {
            if windows.len() >= MAX_WINDOWS && windows.len().is_multiple_of(DROPPED) {
                make_room(&mut windows, &self.breaker, at);
            }
            windows.insert(target.into(), Window::new(self.breaker.rules.window));
        }
        let window = windows.get_mut(target)?;
        window.push(at, sample);
        window.crossed(&self.breaker.rules, at)
    }

    /// Whether there was something.
    fn clear(&self, target: Option<&str>) -> bool {
        match target {
            Some(target) => self.shard(target).remove(target).is_some(),
            None => {
                let mut cleared = false;
                self.each(|windows| {
                    cleared |= !windows.is_empty();
                    windows.clear();
                });
                cleared
            }
        }
    }

    fn each(&self, mut look: impl FnMut(&mut Windows)) {
        self.shards.iter().for_each(|s| look(&mut s.lock().unwrap_or_else(PoisonError::into_inner)));
    }
}

/// Drops the windows that are the furthest from a threshold, of several the longest idle. What is close to
/// one is kept, up to a bound.
fn make_room(windows: &mut Windows, breaker: &Breaker, now: Timestamp) {
    let full = windows.len() >= MAX_CLOSE;
    let mut places: Vec<(i64, i64, Box<str>)> = windows
        .iter_mut()
        .map(|(target, window)| (window.closeness(&breaker.rules, now), window.last(), target.clone()))
        .filter(|(close, ..)| full || *close < CLOSE)
        .collect();
    places.sort();
    for (_, _, target) in places.into_iter().take(DROPPED) {
        windows.remove(&target);
    }
}

#[derive(Debug, Default)]
struct InEnvironment {
    covers: Covers<Arc<Watcher>>,
    each: Vec<Arc<Watcher>>,
}

/// Which breakers watch what, for one set of definitions.
#[derive(Debug, Default)]
struct Plan {
    /// Of the state that it was made for: a plan is never replaced by an older one.
    control: u64,
    defined: Arc<BTreeMap<Name, Breaker>>,
    watchers: BTreeMap<Name, Arc<Watcher>>,
    environments: HashMap<EnvironmentId, InEnvironment>,
}

/// A threshold that was reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Crossing {
    pub instance: Instance,
    pub environment: EnvironmentId,
    pub measured: BreakerMeasure,
}

/// What happened to whom.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub environment: &'a EnvironmentId,
    pub acting: Acting<'a>,
    pub at: Timestamp,
}

/// The breakers of one tenant, as this node sees them.
#[derive(Default)]
pub struct Monitor {
    plan: ArcSwap<Plan>,
    crossings: Mutex<Vec<Crossing>>,
    waiting: AtomicUsize,
    /// One records at a time.
    pub(super) recording: tokio::sync::Mutex<()>,
    /// One tends what is not closed at a time.
    pub(super) tending: tokio::sync::Mutex<()>,
    pub(super) keeping: tokio::sync::Mutex<super::keep::Keeping>,
    /// What was forgotten and may be written down.
    pub(super) forgotten: Mutex<BTreeSet<Instance>>,
    pub(super) probing: Mutex<HashMap<String, super::probes::Progress>>,
}

impl Monitor {
    fn plan(&self, state: &State) -> arc_swap::Guard<Arc<Plan>> {
        let plan = self.plan.load();
        if Arc::ptr_eq(&plan.defined, &state.breakers.defined) || plan.control > state.control {
            return plan;
        }
        self.plan.rcu(|before| {
            if before.control > state.control {
                return Arc::clone(before);
            }
            let defined = Arc::clone(&state.breakers.defined);
            let mut next = Plan { control: state.control, defined, ..Plan::default() };
            for (name, breaker) in state.breakers.defined.iter().filter(|(_, b)| b.active) {
                let known = before.watchers.get(name).filter(|w| w.breaker == *breaker).cloned();
                let watcher = known.unwrap_or_else(|| Arc::new(Watcher::new(name.clone(), breaker.clone())));
                let within = next.environments.entry(breaker.environment.clone()).or_default();
                if breaker.on.is_each() {
                    within.each.push(Arc::clone(&watcher));
                } else {
                    let target = breaker.on.target.as_deref().unwrap_or_default();
                    within.covers.add(breaker.on.scope, &as_watched(breaker.on.scope, target), Arc::clone(&watcher));
                }
                next.watchers.insert(name.clone(), watcher);
            }
            // What one saw that is another now, it saw with other eyes.
            let same = |(name, w): &(&Name, &Arc<Watcher>)| next.watchers.get(*name).is_some_and(|n| Arc::ptr_eq(n, w));
            for (name, _) in before.watchers.iter().filter(|w| !same(w)) {
                self.forgot(Instance { breaker: name.clone(), target: None });
            }
            Arc::new(next)
        });
        self.plan.load()
    }

    /// Takes in what happened. `sample` says what it is to a breaker's rules.
    pub fn saw(&self, state: &State, seen: Seen<'_>, sample: impl Fn(&Breaker) -> Sample) {
        let plan = self.plan(state);
        let Some(within) = plan.environments.get(seen.environment) else { return };
        let take = |watcher: &Watcher, target: &str| {
            if !state.breakers.standing.is_empty() && state.breakers.standing.contains_key(&watcher.instance(target)) {
                return;
            }
            if let Some(measured) = watcher.push(target, seen.at, sample(&watcher.breaker)) {
                let (instance, environment) = (watcher.instance(target), seen.environment.clone());
                self.reached(Crossing { instance, environment, measured });
            }
        };
        within.covers.covering(&seen.acting, |watcher| take(watcher, ""));
        for watcher in &within.each {
            let scope = watcher.breaker.on.scope;
            // What nobody has registered is denied for that, and is any name at all.
            let known = match scope {
                BreakerScope::Agent => state.agents.contains_key(seen.acting.agent),
                _ => seen.acting.category.is_some(),
            };
            if let Some(target) = seen.acting.text(scope).filter(|_| known) {
                take(watcher, target);
            }
        }
    }

    fn forgot(&self, instance: Instance) {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner).insert(instance);
    }

    fn crossings(&self) -> MutexGuard<'_, Vec<Crossing>> {
        self.crossings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reached(&self, crossing: Crossing) {
        let mut all = self.crossings();
        if !all.iter().any(|c| c.instance == crossing.instance) {
            all.push(crossing);
        }
        self.waiting.store(all.len(), Ordering::Release);
    }

    /// Whether a threshold was reached that is not recorded yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
    /// The first of those.
    pub(super) fn first(&self) -> Option<Crossing> {
        self.crossings().first().cloned()
    }
    /// It is recorded, or is not to be.
    pub(super) fn done(&self, instance: &Instance) {
        let mut all = self.crossings();
        all.retain(|c| c.instance != *instance);
        self.waiting.store(all.len(), Ordering::Release);
    }

    /// Forgets what one has seen: of those it watches, or of all of them.
    pub fn forget(&self, state: &State, instance: &Instance) {
        if let Some(watcher) = self.plan(state).watchers.get(&instance.breaker) {
            // Of one that watches all of it together there is one window, of no target.
            let one = if watcher.breaker.on.is_each() { instance.target.as_deref() } else { Some("") };
            if watcher.clear(one) {
                self.forgot(instance.clone());
            }
        }
    }

    /// Gives `look` every window with what it is of.
    fn each(&self, state: &State, mut look: impl FnMut(&Watcher, &str, &mut Window)) {
        for watcher in self.plan(state).watchers.values() {
            watcher.each(|windows| windows.iter_mut().for_each(|(t, w)| look(watcher, t, w)));
        }
    }

    /// All of what `these` choose is to be written down again.
    pub(super) fn unkeep(&self, state: &State, these: impl Fn(&Name, &str) -> bool) {
        self.each(state, |watcher, target, window| {
            if these(&watcher.name, target) {
                window.unkeep();
            }
        });
    }

    /// What has seen something before a time that is not written down, and whether there is any window.
    pub(super) fn unkept(&self, state: &State, until: i64) -> (bool, Vec<(Name, Box<str>)>) {
        let (mut any, mut unkept) = (false, Vec::new());
        self.each(state, |watcher, target, window| {
            any = true;
            if window.is_unkept(until) {
                unkept.push((watcher.name.clone(), target.into()));
            }
        });
        (any, unkept)
    }

    /// What is to be written down of one window, and how far it looks back: a copy, so that no decision
    /// waits for it to be made a text of. `None` where it is gone by now.
    pub(super) fn keep(&self, state: &State, breaker: &Name, target: &str, until: i64) -> Option<(Written, i64)> {
        let plan = self.plan(state);
        let watcher = plan.watchers.get(breaker)?;
        let written = watcher.shard(target).get_mut(target)?.keep(target, until);
        Some((written, reach(watcher.breaker.rules.window)))
    }

    /// Puts a window there that was written down, if it is of a breaker as there is one. Whether it is.
    pub(super) fn recall(&self, state: &State, breaker: &Name, kept: &Kept) -> bool {
        let plan = self.plan(state);
        let Some(watcher) = plan.watchers.get(breaker) else { return false };
        let Some(window) = Window::recalled(watcher.breaker.rules.window, kept) else { return false };
        watcher.shard(&kept.target).insert(kept.target.clone(), window);
        true
    }

    /// Looks at every window: after a restart, what had been reached and was not recorded is.
    pub fn look(&self, state: &State, now: Timestamp) {
        let plan = self.plan(state);
        for watcher in plan.watchers.values() {
            for shard in &watcher.shards {
                let mut windows = shard.lock().unwrap_or_else(PoisonError::into_inner);
                for (target, window) in windows.iter_mut() {
                    let instance = watcher.instance(target);
                    if !state.breakers.standing.contains_key(&instance)
                        && let Some(measured) = window.crossed(&watcher.breaker.rules, now)
                    {
                        let environment = watcher.breaker.environment.clone();
                        self.reached(Crossing { instance, environment, measured });
                    }
                }
            }
        }
        // What was reached while the past was read again is long over, or is among those above.
        let standing = |c: &Crossing| state.breakers.standing.contains_key(&c.instance);
        let mut all = self.crossings();
        all.retain(|c| !standing(c));
        self.waiting.store(all.len(), Ordering::Release);
    }

    /// Drops what waits to be recorded.
    pub(super) fn calm(&self) {
        self.crossings().clear();
        self.waiting.store(0, Ordering::Release);
    }

    /// How far back the windows reach, in milliseconds.
    #[must_use]
    pub fn reach(state: &State) -> i64 {
        state.breakers.defined.values().filter(|b| b.active).map(|b| reach(b.rules.window)).max().unwrap_or(0)
    }

    /// What each window of a breaker measures, by what it watches.
    #[must_use]
    pub fn measures(&self, state: &State, name: &Name, now: Timestamp) -> BTreeMap<Box<str>, Vec<BreakerMeasure>> {
        let plan = self.plan(state);
        let Some(watcher) = plan.watchers.get(name) else { return BTreeMap::new() };
        let mut out = BTreeMap::new();
        for shard in &watcher.shards {
            let mut windows = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (target, window) in windows.iter_mut() {
                out.insert(target.clone(), window.measure(&watcher.breaker.rules, now).collect());
            }
        }
        out
    }
}
