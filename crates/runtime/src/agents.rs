//! Agents: what they are registered as. Less is said with the same right as more: whoever could only
//! narrow an agent could stop somebody else's.

use intended_model::entry::{AgentSet, AgentState, BODY_VERSION, Scope, WorkflowStep};
use intended_model::{Code, EnvironmentId, Event, Name, synthetic};
use serde::Serialize;

use crate::admin::Change;
use crate::{Principal, Runtime, RuntimeError};

/// An agent's registration. What is `None` stays as it is; of a new agent it is the default.
#[derive(Debug, Clone, Serialize)]
pub struct AgentSpec {
    pub agent: Box<str>,
    pub categories: Option<Vec<Box<str>>>,
    pub environments: Vec<EnvironmentId>,
    pub kind: Option<Box<str>>,
    pub owner: Option<Box<str>>,
    pub purpose: Option<Box<str>>,
    pub state: Option<AgentState>,
    pub teams: Option<Vec<Name>>,
    pub tools: Option<Vec<Box<str>>>,
    pub trust: u8,
    pub workflow: Option<Vec<WorkflowStep>>,
}

impl From<AgentSet> for AgentSpec {
    fn from(set: AgentSet) -> Self {
        Self {
            agent: set.agent,
            categories: Some(set.categories),
            environments: set.environments,
            kind: Some(set.kind),
            owner: Some(set.owner),
            purpose: Some(set.purpose),
            state: Some(set.state),
            teams: Some(set.teams),
            tools: Some(set.tools),
            trust: set.trust,
            workflow: Some(set.workflow),
        }
    }
}

impl Runtime {
    /// Registers an agent or changes its registration.
    pub async fn set_agent(&self, by: &Principal, agent: impl Into<AgentSpec>) -> Result<u64, RuntimeError> {
        let spec: AgentSpec = agent.into();
        let changed = self.change(by, ("agent", &spec), |by, state| {
            by.require(Scope::AccessWrite, None)?;
            let known = state.agents.get(&spec.agent);
            if known.is_none() && synthetic::is_reserved(&spec.agent) {
                let what = "the name is kept for the self-test, or would be taken for it";
                return Err(RuntimeError::at(Code::AgentInvalid, "/agent", what));
            }
            // Where it may act now, and where it may act from now on.
            let now = known.map(|a| a.environments.as_slice()).unwrap_or_default();
            if let Some(environment) =
                now.iter().chain(&spec.environments).find(|e| !by.access.may(Scope::AccessWrite, Some(e)))
            {
                return Err(RuntimeError::at(Code::EnvironmentForbidden, "/environments", format!("`{environment}`")));
            }
            let event = Event::AgentSet(AgentSet {
                agent: spec.agent.clone(),
                by: by.credential.clone(),
                environments: spec.environments.clone(),
                kind: spec.kind.clone().or_else(|| known.map(|a| a.kind.clone())).unwrap_or_else(|| "agent".into()),
                owner: spec.owner.clone().or_else(|| known.map(|a| a.owner.clone())).unwrap_or_default(),
                state: spec.state.or_else(|| known.map(|a| a.state)).unwrap_or(AgentState::Active),
                teams: spec.teams.clone().or_else(|| known.map(|a| a.teams.clone())).unwrap_or_default(),
                trust: spec.trust,
                categories: spec.categories.clone().or_else(|| known.map(|a| a.categories.clone())).unwrap_or_default(),
                purpose: spec.purpose.clone().or_else(|| known.map(|a| a.purpose.clone())).unwrap_or_default(),
                tools: spec.tools.clone().or_else(|| known.map(|a| a.tools.clone())).unwrap_or_default(),
                workflow: spec.workflow.clone().or_else(|| known.map(|a| a.workflow.clone())).unwrap_or_default(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }
}
