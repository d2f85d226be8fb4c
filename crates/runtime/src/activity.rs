//! When agents last asked for something, and where callers last did: what a review of access goes by.
//!
//! It is noted in memory beside the decision and written down as facts now and then, so that a decision
//! costs no second write. A killed server forgets what it had not written yet; nothing is decided by it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use intended_engine::keys;
use intended_model::decision::DecisionRecord;
use intended_model::{Code, CredentialId, EnvironmentId, Event, Timestamp};
use intended_store::{Commit, Write};
use serde::{Deserialize, Serialize};

use crate::audit::{Environments, Reach};
use crate::{Runtime, RuntimeError, Tenant};

/// How many facts go down in one commit.
const PAGE: usize = 500;

/// Where somebody did something, and when last in each environment.
pub type Places = BTreeMap<EnvironmentId, Timestamp>;

/// As it is kept: a name can be longer than a fact's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    name: Box<str>,
    places: Places,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Actor {
    Agent(Box<str>),
    Caller(CredentialId),
}

impl Actor {
    fn key(&self) -> String {
        match self {
            Self::Agent(name) => keys::agent_places(name),
            Self::Caller(credential) => keys::caller_places(credential),
        }
    }
    fn name(&self) -> &str {
        match self {
            Self::Agent(name) => name,
            Self::Caller(credential) => credential.as_str(),
        }
    }
}

/// What this process has noted of one tenant.
#[derive(Debug, Default)]
pub struct Activity(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    agents: HashMap<Box<str>, Places>,
    callers: HashMap<CredentialId, Places>,
    unsaved: HashSet<Actor>,
}

/// Everything that is known of a tenant's.
#[derive(Debug, Default)]
pub struct Activities {
    pub agents: HashMap<Box<str>, Places>,
    pub callers: HashMap<CredentialId, Places>,
    /// Since when it is noted; absent: it is not yet.
    pub since: Option<Timestamp>,
}

impl Activity {
    fn noted<T>(&self, work: impl FnOnce(&mut Noted) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A decision of a registered agent.
    pub(crate) fn decided(&self, record: &DecisionRecord) {
        let input = &record.input;
        let (agent, environment) = (&input.intent.subject.id, &input.intent.environment);
        // Names that nobody registered are anybody's, and endless.
        let known = !record.decision.gates.iter().any(|g| g.code == Code::AgentUnknown)
            && record.decision.reason != Code::EnvironmentUnknown;
        self.noted(|noted| {
            if known {
                let new = note(&mut noted.agents, agent, environment, input.at);
                if new {
                    noted.unsaved.insert(Actor::Agent(agent.clone()));
                }
            }
            if note(&mut noted.callers, &input.credential, environment, input.at) {
                noted.unsaved.insert(Actor::Caller(input.credential.clone()));
            }
        });
    }

    /// Something that a caller did in an environment.
    pub(crate) fn acted(&self, by: &CredentialId, environment: &EnvironmentId, at: Timestamp) {
        self.noted(|noted| {
            if note(&mut noted.callers, by, environment, at) {
                noted.unsaved.insert(Actor::Caller(by.clone()));
            }
        });
    }

    /// A change of the state, where it says which environments it is about.
    pub(crate) fn changed(&self, by: &CredentialId, events: &[Event], at: Timestamp) {
        let reach = Reach::default();
        for event in events {
            if let Environments::These(environments) = reach.of(event) {
                environments.iter().for_each(|e| self.acted(by, e, at));
            }
        }
    }
}

/// Notes it; whether it is news by more than a minute, and worth a write.
fn note<K: Clone + Eq + std::hash::Hash>(
    of: &mut HashMap<K, Places>,
    who: &K,
    environment: &EnvironmentId,
    at: Timestamp,
) -> bool {
    if let Some(last) = of.get_mut(who).and_then(|places| places.get_mut(environment)) {
        let news = at.as_secs().div_euclid(60) > last.as_secs().div_euclid(60);
        *last = at.max(*last);
        return news;
    }
    of.entry(who.clone()).or_default().insert(environment.clone(), at);
    true
}

/// The later of both, place by place.
fn merge(into: &mut Places, from: &Places) {
    for (environment, at) in from {
        let last = into.entry(environment.clone()).or_insert(*at);
        *last = (*last).max(*at);
    }
}

impl Runtime {
    /// Writes down what was noted since the last time. Called by the shell now and then, and at the end.
    pub async fn save_activity(&self) -> Result<(), RuntimeError> {
        for tenant in self.tenants() {
            self.save_activity_of(&tenant).await?;
        }
        Ok(())
    }

    pub(crate) async fn save_activity_of(&self, tenant: &Tenant) -> Result<(), RuntimeError> {
        loop {
            let page: Vec<(Actor, Places)> = tenant.activity.noted(|noted| {
                let some: Vec<Actor> = noted.unsaved.iter().take(PAGE).cloned().collect();
                some.into_iter()
                    .map(|actor| {
                        noted.unsaved.remove(&actor);
                        let places = match &actor {
                            Actor::Agent(name) => noted.agents.get(name),
                            Actor::Caller(credential) => noted.callers.get(credential),
                        };
                        let places = places.cloned().unwrap_or_default();
                        (actor, places)
                    })
                    .collect()
            });
            if page.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.save_page(tenant, &page).await {
                tenant.activity.noted(|noted| noted.unsaved.extend(page.into_iter().map(|(actor, _)| actor)));
                return Err(error);
            }
        }
    }

    async fn save_page(&self, tenant: &Tenant, page: &[(Actor, Places)]) -> Result<(), RuntimeError> {
        let mut writes = Vec::with_capacity(page.len() + 1);
        if self.store().fact_now(&tenant.id, keys::PLACES_SINCE)?.is_none() {
            let first =
                page.iter().flat_map(|(_, places)| places.values()).min().copied().unwrap_or_else(|| self.now());
            let value = first.as_millis().to_string().into_bytes();
            writes.push(Write::Put { key: keys::PLACES_SINCE.into(), value, expires_at: None });
        }
        for (actor, places) in page {
            let key = actor.key();
            let mut places = places.clone();
            // Another node may have noted more.
            if let Some(fact) = self.store().fact_now(&tenant.id, &key)?
                && let Ok(kept) = serde_json::from_slice::<Kept>(&fact.value)
            {
                merge(&mut places, &kept.places);
            }
            let kept = Kept { name: actor.name().into(), places };
            let value = serde_json::to_vec(&kept).map_err(RuntimeError::internal)?;
            writes.push(Write::Put { key: key.into(), value, expires_at: None });
        }
        let now = self.now();
        let (tenant, reads, entries) = (tenant.id.clone(), Vec::new(), Vec::new());
        self.follower.commit(Commit { tenant, now, control_version: None, reads, writes, entries }).await?;
        Ok(())
    }

    /// When a registered agent last asked for something, as far as it was noted.
    pub fn agent_last_used(&self, tenant: &Tenant, agent: &str) -> Result<Option<Timestamp>, RuntimeError> {
        let mut places = tenant.activity.noted(|noted| noted.agents.get(agent).cloned()).unwrap_or_default();
        if let Some(fact) = self.store().fact_now(&tenant.id, &keys::agent_places(agent))? {
            let kept: Kept = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
            merge(&mut places, &kept.places);
        }
        Ok(places.values().max().copied())
    }

    /// Everything that was noted of a tenant.
    pub(crate) async fn activities(&self, tenant: &Tenant) -> Result<Activities, RuntimeError> {
        let mut all = Activities::default();
        if let Some(fact) = self.store().fact_now(&tenant.id, keys::PLACES_SINCE)? {
            let text = String::from_utf8_lossy(&fact.value);
            all.since = text.parse().ok().map(Timestamp::from_millis);
        }
        for prefix in [keys::AGENT_PLACES_PREFIX, keys::CALLER_PLACES_PREFIX] {
            let mut after = String::new();
            loop {
                let page = self.store().facts(&tenant.id, prefix, &after, PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                after.clone_from(last);
                for (_, fact) in page {
                    let kept: Kept = serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?;
                    if prefix == keys::AGENT_PLACES_PREFIX {
                        all.agents.insert(kept.name, kept.places);
                    } else if let Ok(credential) = CredentialId::new(&kept.name) {
                        all.callers.insert(credential, kept.places);
                    }
                }
            }
        }
        tenant.activity.noted(|noted| {
            for (name, places) in &noted.agents {
                merge(all.agents.entry(name.clone()).or_default(), places);
            }
            for (credential, places) in &noted.callers {
                merge(all.callers.entry(credential.clone()).or_default(), places);
            }
        });
        let first = || all.agents.values().chain(all.callers.values()).flat_map(|p| p.values()).min().copied();
        all.since = all.since.or_else(first);
        Ok(all)
    }
}
