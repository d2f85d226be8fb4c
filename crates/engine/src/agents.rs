//! What an agent's registration may say, and what it cannot take back. The administration point
//! refuses by these rules before anything is recorded, and the fold by the same ones after.

use std::sync::Arc;

use intended_model::entry::{AgentSet, AgentState, WorkflowStep};

use crate::access::is_pattern;
use crate::state::{Agent, FoldError, State};

/// Most tools, categories and steps of a workflow; and most tools that one step names on each side.
pub const MAX_PATTERNS: usize = 64;
/// Longest purpose, in characters.
pub const MAX_PURPOSE: usize = 500;
/// Longest owner, in characters: a member's id, or whatever else tells people whom to ask.
pub const MAX_OWNER: usize = 200;

/// A member of a registration that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongAgent {
    /// JSON Pointer (RFC 6901) into the registration.
    pub pointer: String,
    pub message: String,
}

/// Whether a registration keeps to the bounds.
pub fn check(set: &AgentSet) -> Result<(), WrongAgent> {
    let wrong = |pointer: &str, message: String| Err(WrongAgent { pointer: pointer.to_owned(), message });
    let prose = |pointer: &str, text: &str, most: usize| {
        if text.chars().count() > most {
            return wrong(pointer, format!("at most {most} characters"));
        }
        match text.chars().find(|c| intended_model::intent::is_hidden(*c) || (pointer == "/owner" && c.is_control())) {
            None => Ok(()),
            Some(c) => {
                wrong(pointer, format!("the character U+{:04X} is invisible or changes direction", u32::from(c)))
            }
        }
    };
    prose("/purpose", &set.purpose, MAX_PURPOSE)?;
    prose("/owner", &set.owner, MAX_OWNER)?;
    patterns("/tools", &set.tools)?;
    patterns("/categories", &set.categories)?;
    if set.workflow.len() > MAX_PATTERNS {
        return wrong("/workflow", format!("at most {MAX_PATTERNS} steps"));
    }
    for (n, step) in set.workflow.iter().enumerate() {
        let WorkflowStep { action, after, not_after } = step;
        if !is_pattern(action) {
            return Err(no_pattern(format!("/workflow/{n}/action"), action));
        }
        patterns(&format!("/workflow/{n}/after"), after)?;
        patterns(&format!("/workflow/{n}/not_after"), not_after)?;
    }
    Ok(())
}

fn patterns(pointer: &str, patterns: &[Box<str>]) -> Result<(), WrongAgent> {
    if patterns.len() > MAX_PATTERNS {
        return Err(WrongAgent { pointer: pointer.to_owned(), message: format!("at most {MAX_PATTERNS} patterns") });
    }
    match patterns.iter().enumerate().find(|(_, p)| !is_pattern(p)) {
        None => Ok(()),
        Some((n, pattern)) => Err(no_pattern(format!("{pointer}/{n}"), pattern)),
    }
}

fn no_pattern(pointer: String, pattern: &str) -> WrongAgent {
    let shown: String = pattern.chars().take(40).collect();
    let message = format!("`{shown}` is not a pattern: 1 to 128 printable ASCII characters with a `*` at the end only");
    WrongAgent { pointer, message }
}

impl State {
    pub(crate) fn agent_set(&mut self, index: u64, set: &AgentSet) -> Result<(), FoldError> {
        check(set).map_err(FoldError::Agent)?;
        let before = self.agents.get(&set.agent);
        let retired = before.is_some_and(|a| a.state == AgentState::Retired);
        if retired && set.state != AgentState::Retired {
            return Err(FoldError::AgentRetired(set.agent.clone()));
        }
        let mut owned_until = before.map(|a| a.owned_until.clone()).unwrap_or_default();
        if let Some(before) = before.filter(|a| a.owner != set.owner) {
            owned_until.insert(before.owner.clone(), index);
        }
        let agent = Agent {
            categories: set.categories.clone(),
            environments: set.environments.clone(),
            kind: set.kind.clone(),
            owned_until,
            owner: set.owner.clone(),
            purpose: set.purpose.clone(),
            state: set.state,
            teams: set.teams.clone(),
            tools: set.tools.clone(),
            trust: set.trust.min(100),
            workflow: set.workflow.clone(),
        };
        Arc::make_mut(&mut self.agents).insert(set.agent.clone(), Arc::new(agent));
        self.refresh_missing();
        Ok(())
    }
}
