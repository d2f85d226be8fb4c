//! How many breakers are in which state, and to whom they belong, which.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use intended_engine::breakers::{Breakers, Phase};
use intended_runtime::Principal;

/// What a breaker can be, in the order of the numbers that `intended_breaker_state` has for them.
pub const STATES: [&str; 4] = ["closed", "half_open", "open", "held"];
const HALF_OPEN: usize = 1;
const OPEN: usize = 2;
const HELD: usize = 3;

/// Most breakers that are named: there can be thousands. Those that are not closed come first.
const MOST_NAMED: usize = 200;

#[derive(Debug, Default)]
pub struct Counted {
    pub by_state: [u64; STATES.len()],
    /// With their state. Only for whom they belong to.
    pub named: Vec<(String, u64)>,
}

impl Counted {
    /// Counts a tenant's breakers: those of all its environments, or of the ones that a caller sees. A
    /// breaker that watches each by itself is as the worst of what it watches.
    pub fn add(&mut self, breakers: &Breakers, caller: Option<&Principal>) {
        let sees = |environment: &intended_model::EnvironmentId| caller.is_none_or(|c| c.sees(environment));
        let watched = breakers.defined.iter().filter(|(_, b)| b.active && sees(&b.environment));
        let mut all: BTreeMap<_, usize> = watched.map(|(name, _)| (name, 0)).collect();
        for (instance, standing) in &breakers.standing {
            let state = match standing.phase {
                Phase::Open => OPEN,
                Phase::Probing { .. } => HALF_OPEN,
            };
            if let Some(worst) = all.get_mut(&instance.breaker) {
                *worst = state.max(*worst);
            }
        }
        for (name, _) in breakers.held.iter().filter(|(_, held)| sees(&held.environment)) {
            all.insert(name, HELD);
        }
        for state in all.values() {
            if let Some(n) = self.by_state.get_mut(*state) {
                *n += 1;
            }
        }
        if caller.is_some() {
            let mut worst_first: Vec<_> = all.into_iter().collect();
            worst_first.sort_by_key(|(name, state)| (Reverse(*state), *name));
            let named = worst_first.into_iter().take(MOST_NAMED);
            self.named.extend(named.map(|(name, state)| (name.to_string(), state as u64)));
        }
    }
}
